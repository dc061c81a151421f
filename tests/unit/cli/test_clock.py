"""`stockade clock`: periods as people write them, and only where time may be moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stockade.cli import outcome
from stockade.cli.root import run
from stockade.kernel.clock import CLOCK_FILE, SimulatedClock
from stockade.settings import Settings
from stockade.storage.database import Database
from tests.factories.audit import read_back

DAY = 86_400


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STOCKADE_DATA_DIR", str(tmp_path))
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    database.migrate()
    database.close()
    return tmp_path


@pytest.mark.parametrize(
    ("period", "seconds"),
    [("4d", 4 * DAY), ("3h", 3 * 3600), ("90m", 5400), ("1d12h", 1.5 * DAY), ("1d1h1m1s", DAY + 3661), ("2D", 2 * DAY)],
)
def test_periods(folder: Path, period: str, seconds: float) -> None:
    clock = SimulatedClock.create(folder / CLOCK_FILE)
    assert run(["clock", "advance", period]) == outcome.OK
    assert clock.ahead_s == seconds


@pytest.mark.parametrize("period", ["", "4", "d", "-4d", "4d 3h", "1.5d", "3h4d", "soon"])
def test_what_is_no_period_moves_nothing(folder: Path, period: str) -> None:
    clock = SimulatedClock.create(folder / CLOCK_FILE)
    assert run(["clock", "advance", "--", period]) == outcome.USAGE
    assert clock.ahead_s == 0


def test_moving_is_recorded_and_everybody_looks_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SimulatedClock.create(folder / CLOCK_FILE)
    database = Database(f"sqlite:///{folder / 'stockade.db'}")
    with database.read() as reader:
        before = reader.generation()
    assert run(["clock", "advance", "4d", "--format", "json"]) == outcome.OK
    shown = json.loads(capsys.readouterr().out)
    assert (shown["simulated"], shown["aheadSeconds"]) == (True, 4 * DAY)
    assert run(["clock", "reset"]) == outcome.OK
    with database.read() as reader:
        assert reader.generation() == before + 2
    database.close()
    records = read_back(Settings(data_dir=folder))
    assert [record["resource"] for record in records] == [
        "/providers/Stockade.Platform/clock (advance 4d)",
        "/providers/Stockade.Platform/clock (reset)",
    ]


def test_time_moves_without_a_database_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = SimulatedClock.create(folder / CLOCK_FILE)
    (folder / "stockade.db").unlink()
    assert run(["clock", "advance", "1d"]) == outcome.OK
    assert clock.ahead_s == DAY
    assert "database cannot be reached" in capsys.readouterr().err


def test_time_is_not_moved_out_of_the_calendar(folder: Path) -> None:
    clock = SimulatedClock.create(folder / CLOCK_FILE)
    assert run(["clock", "advance", "999999d"]) == outcome.INVALID
    assert clock.ahead_s == 0


@pytest.mark.parametrize("command", [["advance", "4d"], ["reset"]], ids=["advance", "reset"])
def test_elsewhere_time_stays_what_it_is(folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["clock", *command]) == outcome.CONFLICT
    assert "was not made for rehearsals" in capsys.readouterr().err
    assert not (folder / CLOCK_FILE).exists()
    assert run(["clock", "show"]) == outcome.OK
    assert "cannot be moved" in capsys.readouterr().out
