"""A running gateway connects to nobody but its engine, its name server and what a list allows, whatever requests carry.

`tests/docs/test_one_way_out.py` asks the source.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.outside import ROOT

LIMIT_S = 110


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the interpreter saw while every operation ran with hostile bodies."""
    folder = tmp_path_factory.mktemp("watched")
    done = subprocess.run(
        [sys.executable, "-m", "tests.factories.watched", str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_only_the_one_way_out_connects_and_only_where_it_may(watched: dict[str, Any]) -> None:
    connects = {(one["from"], one["to"]) for one in watched["seen"] if one["event"] == "socket.connect"}
    assert connects == {("egress/dial.py", f"({to},)") for to in watched["allowed"]["egress/dial.py"]}


def test_only_name_servers_are_sent_to_and_nothing_else_leaves(watched: dict[str, Any]) -> None:
    others = {(one["event"], one["from"], one["to"]) for one in watched["seen"] if one["event"] != "socket.connect"}
    names = {("socket.sendto", "dns", f"({to},)") for to in watched["allowed"]["dns"]}
    # The test's own name server answers in the same process.
    assert {one for one in others if not one[1].startswith("tests/")} == names


def test_no_name_but_the_listed_one_is_asked_for(watched: dict[str, Any]) -> None:
    assert watched["allowed"]["names"] == ["listed.example"]


def test_nobody_comes_to_the_canary(watched: dict[str, Any]) -> None:
    assert watched["canary"] == []


def test_the_operations_were_really_served(watched: dict[str, Any]) -> None:
    """Otherwise nothing was tried."""
    statuses = watched["statuses"]
    assert {"200", "400"} <= set(statuses["openai.ChatCompletions_Create"])
    assert watched["fetched"] > 0
    served = [name for name, found in statuses.items() if "200" in found]
    assert len(served) > len(statuses) * 0.8, sorted(set(statuses) - set(served))
