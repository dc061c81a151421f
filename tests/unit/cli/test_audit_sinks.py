"""Tests of `stockade audit sinks` and `accept-rollback`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from stockade.audit.delivery import LogPlace, SinkState
from stockade.audit.witnesses import (
    ACCEPTED_FILE,
    STATE_FILE,
    Accepted,
    Contradiction,
    WitnessesState,
    WitnessPlace,
    WitnessState,
)
from stockade.cli.root import app
from stockade.kernel.faults import Fault
from stockade.settings import DATA_DIR_VARIABLE

LOG = "11111111-1111-4111-8111-111111111111"
SETTINGS = """
[[audit.sinks]]
name = "siem"
type = "http"
url = "https://siem.example/in?token=hidden"
everything = true
[[audit.sinks]]
name = "files"
type = "file"
url = "file:///var/log/stockade"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory whose audit process has been at work."""
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "settings.toml").write_text(SETTINGS)
    made = tmp_path / "audit" / "delivery"
    made.mkdir(parents=True)
    state = SinkState("siem", "http", "", logs={LOG: LogPlace(3, 10, missed=2)}, delivered=3)
    state.last_error, state.failing_since = "https://siem.example answered with status 503", 1_800_000_000.0
    (made / "siem.json").write_bytes(msgspec.json.encode(state))
    witness = WitnessState("file:///mnt/heads", {LOG: WitnessPlace(9, 4.0)}, last_success=1_800_000_000.0)
    wrong = Contradiction(LOG, "file:///mnt/heads", 9, "00", 3)
    (made / STATE_FILE).write_bytes(msgspec.json.encode(WitnessesState([witness], [wrong])))
    return made


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["audit", *arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def refused(*arguments: str) -> str:
    fault = CliRunner().invoke(app, ["audit", *arguments]).exception
    assert isinstance(fault, Fault)
    return fault.message


def test_the_table_says_how_each_stands(folder: Path) -> None:
    said = run("sinks")
    siem, files, witness = said.splitlines()[1:4]
    assert siem.split("  ")[0] == "siem"
    for part in (
        "http (everything)",
        "failing since 2027-01-15",
        " 3 ",
        " 7 ",
        "never",
        "503",
        "2 records were removed",
    ):
        assert part in siem
    assert "nothing sent yet" in files
    assert "ok" in witness
    assert "2027-01-15 08:00:00" in witness
    assert f"NOT HEALTHY: the log {LOG} has 3 records; file:///mnt/heads has pinned 9 records of it" in said
    assert "hidden" not in said


def test_programs_read_json(folder: Path) -> None:
    found = json.loads(run("sinks", "--format", "json"))
    assert [(one["name"], one["behind"], one["delivered"]) for one in found["sinks"]] == [
        ("siem", 7, 3),
        ("files", 0, 0),
    ]
    assert found["witnesses"][0]["logs"][LOG]["size"] == 9
    assert found["contradictions"][0]["found"] == 3


def test_accepting_says_what_and_why(folder: Path) -> None:
    said = run("accept-rollback", "--reason", "restored from Sunday's backup")
    assert f"Accepted: the log {LOG} has 3 records" in said
    kept = msgspec.json.decode((folder / ACCEPTED_FILE).read_bytes(), type=Accepted)
    assert kept.reason == "restored from Sunday's backup"
    assert kept.who
    assert [one.log for one in kept.contradictions] == [LOG]


def test_there_has_to_be_something_to_accept_and_a_reason(folder: Path) -> None:
    assert "Say why" in refused("accept-rollback", "--reason", "  ")
    (folder / STATE_FILE).unlink()
    assert "No witness contradicts" in refused("accept-rollback", "--reason", "x")
