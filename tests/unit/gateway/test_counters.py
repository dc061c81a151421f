"""Calls per minute, counted across worker processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stockade.gateway import counters as counters_module
from stockade.gateway.counters import ROWS, RateCounters

COUNT = """
import sys
from pathlib import Path
from stockade.gateway.counters import RateCounters
mine = RateCounters(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(500):
    mine.count(7, 100)
print(mine.used(7, 100), flush=True)
sys.stdin.readline()
"""


def test_calls_are_counted_per_ordinal_and_minute(tmp_path: Path) -> None:
    counters = RateCounters(tmp_path)
    for _ in range(3):
        counters.count(1, 100)
    counters.count(2, 100)
    assert [counters.used(1, 100), counters.used(2, 100), counters.used(1, 101), counters.used(3, 100)] == [3, 1, 0, 0]
    counters.count(1, 101)
    assert [counters.used(1, 101), counters.used(1, 100)] == [1, 0]


def test_last_row_and_first_row_do_not_touch(tmp_path: Path) -> None:
    one, two = RateCounters(tmp_path), RateCounters(tmp_path)
    for counters in (one, two):
        counters.count(ROWS - 1, 5)
        counters.count(0, 5)
    assert [one.used(ROWS - 1, 5), two.used(0, 5), one.used(1, 5)] == [2, 2, 0]
    one.count(ROWS, 5)
    assert one.used(0, 5) == 3, "beyond the table rows are shared, which errs to refusing"


def test_processes_that_start_at_once_lose_no_count(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    children = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)], **pipes) for _ in range(5)]  # type: ignore[call-overload]
    for child in children:
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.stdin.write(b"go\n")
        child.stdin.flush()
    for child in children:
        child.stdout.readline()
    reader = RateCounters(tmp_path)
    assert reader.used(7, 100) == 2500
    for child in children:
        child.communicate(b"end\n", timeout=30)
    assert reader.used(7, 100) == 2500, "calls of a worker that has ended still count"


def test_column_of_a_worker_that_ended_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters_module, "COLUMNS", 2)
    first, second = RateCounters(tmp_path), RateCounters(tmp_path)
    assert {first._column, second._column} == {0, 1}
    with pytest.raises(RuntimeError, match="more than 2"):
        RateCounters(tmp_path)
    code = "import sys; from pathlib import Path; from stockade.gateway.counters import RateCounters; print(RateCounters(Path(sys.argv[1]))._column)"
    seen = {
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True).stdout
        for _ in range(2)
    }
    assert seen == {b"2\n"}, "each in turn, once the other has gone"
