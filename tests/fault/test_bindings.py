"""A process that binds a customer's key, follows a rotation, leaves it or destroys it is killed before everything that reaches beyond it.

Each time all is as it was, or all is done; the data keys open as the account says.
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
        [sys.executable, "-m", "tests.factories.killed_bindings"],
        cwd=tmp_path_factory.mktemp("bindings"),
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {action: list(group) for action, group in groupby(lines, lambda line: str(line["action"]))}


@pytest.mark.parametrize("action", ["bind", "rewrap", "leave", "purge"])
def test_killed_anywhere_it_is_done_or_not_begun(kills: dict[str, list[Any]], action: str) -> None:
    *killed, finished = kills[action]
    assert len(killed) >= 2, "before the broker and before the commit"
    for line in killed:
        assert line["after"] == line["before"], f"killed before step {line['step']}"
    assert finished["finished"]
    assert finished["after"] != finished["before"]


def test_what_is_done_is_what_was_asked_for(kills: dict[str, list[Any]]) -> None:
    after = {action: lines[-1]["after"] for action, lines in kills.items()}
    assert after["bind"]["bound"]
    assert after["rewrap"]["wrapped"] != after["bind"]["wrapped"]
    assert after["leave"]["wrapped"] == [""]
    assert after["purge"] == {"state": "gone", "keys": 0, "receipts": 1}
