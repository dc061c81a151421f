"""The machine goes down before everything that a step of Lockbox does beyond the process: request, approval, reading, revoking, lapsing.

Each time the database is as it was, or as a step that was done left it; what has been taken away stays so; every step that is stored is in the
log; and the customer's own calls open what the account keeps.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby
from typing import Any

import pytest

from tests.outside import ROOT


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.factories.killed_lockbox"],
        cwd=tmp_path_factory.mktemp("lockbox"),
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {action: list(group) for action, group in groupby(lines, lambda line: str(line["action"]))}


ENDS = {
    "protect": ("sequence", 1),
    "file": ("status", "Pending"),
    "approve": ("status", "Approved"),
    "read": ("used", True),
    "revoke": ("status", "Revoked"),
    "expire": ("status", "Expired"),
}


@pytest.mark.parametrize("action", ENDS)
def test_killed_anywhere_nothing_is_half_done(kills: dict[str, list[Any]], action: str) -> None:
    *killed, finished = kills[action]
    assert len(killed) >= 3, "before the record, before the broker and before the commit"
    for line in kills[action]:
        after = line["after"]
        assert after["own"], f"the customer reads no more after step {line['step']}"
        assert after["recorded"], f"a step is stored and in no log after step {line['step']}"
        assert not after["told"] or after["revoked"], "told is what the broker has on disk"
    name, value = ENDS[action]
    assert finished["finished"]
    assert finished["after"][name] == value
    if action != "read":
        states = [{**line["after"], "revoked": False} for line in killed]
        assert all(
            one in ({**finished["before"], "revoked": False}, {**finished["after"], "revoked": False}) for one in states
        )
        assert states[0] == {**finished["before"], "revoked": False}


def test_the_broker_forgets_access_before_anybody_is_told_that_it_is_over(kills: dict[str, list[Any]]) -> None:
    for action in ("revoke", "expire"):
        lines = kills[action]
        assert lines[-1]["after"]["revoked"]
        known = [line for line in lines if line["after"]["revoked"]]
        assert known[0]["after"]["status"] == lines[0]["before"]["status"], (
            "right before the commit the broker knows already"
        )


def test_what_the_broker_has_forgotten_is_signed_for_once_more(kills: dict[str, list[Any]]) -> None:
    seen = [line["after"]["status"] for line in kills["read"]]
    assert set(seen) == {"Approved", "Pending"}
    assert "Pending" in seen, "each kill has ended the broker's process, and with it what was granted"
