"""Processes that do jobs, killed: what they had begun is taken up, by themselves or by another node, and no remembered step is done twice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.factories.databases import PostgreSQL
from tests.factories.job_process import STEPS
from tests.live import wait_for
from tests.outside import ROOT

PIECES = 60
Start = Callable[[str, str], "subprocess.Popen[bytes]"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    file = tmp_path / "out"
    file.touch()
    return file


@pytest.fixture
def start(tmp_path: Path, out: Path) -> Iterator[Start]:
    """Start a node on a database; it is ended with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start_one(url: str, node: str) -> subprocess.Popen[bytes]:
        folder = tmp_path / node
        folder.mkdir(exist_ok=True)
        arguments = (url, str(folder), node, str(out), str(PIECES))
        with (tmp_path / f"{node}.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.factories.job_process", *arguments]
            processes.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.wait()


def done(out: Path) -> Counter[tuple[str, str]]:
    """Return how often each step of each piece was done."""
    return Counter((piece, step) for piece, step, _ in (line.split() for line in out.read_text().splitlines()))


def by(out: Path) -> set[str]:
    return {line.split()[2] for line in out.read_text().splitlines()}


def all_done(out: Path) -> bool:
    return len(done(out)) == PIECES * STEPS


def check(out: Path, kills: int, at_a_time: int = 2) -> None:
    """Only a step whose result a kill kept from being remembered may have been done twice."""
    twice = {step: times for step, times in done(out).items() if times > 1}
    assert len(twice) <= kills * at_a_time, twice
    assert all(times <= 1 + kills for times in twice.values()), twice


@pytest.mark.postgresql
def test_nodes_share_the_work_and_take_over_from_one_that_is_killed(
    start: Start, out: Path, postgresql: PostgreSQL, migrated_postgresql: str
) -> None:
    url = postgresql.create(template=migrated_postgresql)
    first = start(url, "first")
    wait_for(lambda: done(out), "the first node works")
    second = start(url, "second")
    wait_for(lambda: by(out) == {"first", "second"}, "both nodes work")
    first.kill()
    first.wait()
    wait_for(lambda: all_done(out), "everything is done", 60)
    check(out, kills=1)

    # A node that loses its connection, and with it its place, does not go on beside whoever takes over.
    postgresql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7263113"
    )
    assert second.wait(20) != 0
