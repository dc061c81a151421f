"""The runner on the real library: once and only once, again later, never twice what was remembered; on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stockade.jobs import durable as durable_module
from stockade.jobs import runner as runner_module
from stockade.jobs.durable import Durable
from stockade.jobs.job import Run, Work, Workplace
from stockade.jobs.nodes import Nodes
from stockade.jobs.runner import Runner
from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.database import Database
from tests.factories.jobs import workplace


class Trial:
    """Work whose pieces do what a test says."""

    name: ClassVar[str] = "trial"
    every_s: ClassVar[float] = 0.05
    on_change: ClassVar[bool] = True

    def __init__(self, do: Callable[[Run], Awaitable[None]], *pieces: str) -> None:
        self._do, self.pieces = do, list(pieces)
        self._asked = threading.Semaphore(0)

    def due(self, place: Workplace) -> Iterable[str]:
        self._asked.release()
        return self.pieces

    async def asked(self, times: int) -> None:
        """Return when it has been asked so often what is due, from now on."""
        while self._asked.acquire(blocking=False):
            continue
        for _ in range(times):
            await asyncio.to_thread(self._asked.acquire)

    async def do(self, place: Workplace, run: Run) -> None:
        await self._do(run)


class Generation:
    """Stands for the shared number."""

    value = 0


@pytest.fixture
def either(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def database(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Database]:
    shutil.copy(migrated_sqlite, tmp_path / "stockade.db")
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    yield database
    database.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "LOOK_S", 0.02)
    monkeypatch.setattr(runner_module, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(durable_module, "POLL_S", 0.01)


@asynccontextmanager
async def running(
    work: Work,
    tmp_path: Path,
    database: Database,
    node: str = "one",
    clock: Any = None,
    generation: Any = Generation,
    beside: tuple[Work, ...] = (),
) -> AsyncIterator[Runner]:
    """Run work in this process until the block ends."""
    place = workplace(tmp_path, database, clock=clock)
    durable, nodes = Durable(database, tmp_path, node), Nodes(database, node, look_s=0.1)
    runner = Runner(place, [work, *beside], durable, nodes, lambda: generation.value)
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop))
    try:
        await asyncio.sleep(0)
        yield runner
    finally:
        stop.set()
        try:
            await asyncio.wait_for(task, 20)
        finally:
            nodes.leave()
            await durable.close()


async def test_each_piece_is_done_once_however_often_it_is_named(tmp_path: Path, database: Database) -> None:
    done: list[str] = []
    both = asyncio.Event()

    async def do(run: Run) -> None:
        done.append(run.piece)
        if len(done) == 2:
            both.set()

    work = Trial(do, "a", "b")
    async with running(work, tmp_path, database):
        await asyncio.wait_for(both.wait(), 10)
        await work.asked(3)
    assert sorted(done) == ["a", "b"]


async def test_what_a_step_answered_is_not_done_again_after_the_process_has_ended(
    tmp_path: Path, either: Database
) -> None:
    first: list[str] = []
    stuck, ended = asyncio.Event(), asyncio.Event()

    async def until_killed(run: Run) -> None:
        assert await run.step("one", lambda: note(first, "one", {"lines": 7})) == {"lines": 7}
        stuck.set()
        await asyncio.Event().wait()

    async with running(Trial(until_killed, "a"), tmp_path, either):
        await asyncio.wait_for(stuck.wait(), 10)

    second: list[str] = []

    async def to_the_end(run: Run) -> None:
        # In another order: what is remembered is found by its name.
        await run.step("zero", lambda: note(second, "zero", None))
        assert await run.step("one", lambda: note(second, "one", None)) == {"lines": 7}
        await run.step("two", lambda: note(second, "two", None))
        ended.set()

    async with running(Trial(to_the_end), tmp_path, either):
        await asyncio.wait_for(ended.wait(), 15)
    assert (first, second) == (["one"], ["zero", "two"])


async def test_what_may_pass_is_tried_again_with_growing_pauses(tmp_path: Path, database: Database) -> None:
    attempts: list[float] = []
    steps: list[str] = []
    ended = asyncio.Event()

    async def do(run: Run) -> None:
        attempts.append(asyncio.get_running_loop().time())
        await run.step("kept", lambda: note(steps, "kept", 1))
        if len(attempts) < 4:
            raise Fault(FaultKind.UPSTREAM_FAILED, "not now")
        ended.set()

    class Unmoved(Trial):
        on_change = False

    class Moving(ManualClock):
        def monotonic(self) -> float:
            return asyncio.get_running_loop().time()

    async with running(Unmoved(do, "a"), tmp_path, database, clock=Moving()):
        await asyncio.wait_for(ended.wait(), 10)
    pauses = [after - before for before, after in itertools.pairwise(attempts)]
    assert len(pauses) == 3
    assert pauses[0] >= 0.05
    assert pauses[2] >= 0.1  # the first attempt made progress, so the pauses begin anew with the second
    assert steps == ["kept"]


async def test_a_clock_that_jumps_makes_nobody_wait_longer(tmp_path: Path, database: Database) -> None:
    clock = RealTime()
    attempts: list[str] = []
    ended = asyncio.Event()

    async def do(run: Run) -> None:
        attempts.append(run.piece)
        if len(attempts) == 1:
            clock.offset = -24 * 3600
            raise Fault(FaultKind.LIMIT, "not now", retry_after_s=0.2)
        ended.set()

    async with running(Trial(do, "a"), tmp_path, database, clock=clock):
        await asyncio.wait_for(ended.wait(), 10)
    assert attempts == ["a", "a"]


async def test_a_changed_policy_ends_a_pause(tmp_path: Path, database: Database) -> None:
    attempts: list[str] = []
    first, ended = asyncio.Event(), asyncio.Event()
    generation = Generation()

    async def do(run: Run) -> None:
        attempts.append(run.piece)
        if len(attempts) == 1:
            first.set()
            raise Fault(FaultKind.UNAVAILABLE, "not now", retry_after_s=200)
        ended.set()

    async with running(Trial(do, "a"), tmp_path, database, clock=RealTime(), generation=generation):
        await asyncio.wait_for(first.wait(), 10)
        while not ended.is_set():
            generation.value += 1
            await asyncio.sleep(0.05)
    assert attempts == ["a", "a"]


@pytest.mark.parametrize(
    ("failure", "said"),
    [(Fault(FaultKind.NOT_FOUND, "no such file"), "NotFound"), (RuntimeError("a bug"), "Bug")],
    ids=["refused", "bug"],
)
async def test_what_cannot_pass_fails_once_and_is_logged(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture, failure: Exception, said: str
) -> None:
    attempts: list[str] = []
    failed = asyncio.Event()

    async def do(run: Run) -> None:
        attempts.append(run.piece)
        failed.set()
        raise failure

    work = Trial(do, "a")
    async with running(work, tmp_path, database):
        await asyncio.wait_for(failed.wait(), 10)
        await work.asked(3)
    assert attempts == ["a"]
    assert [record.__dict__["reason"] for record in caplog.records if record.message == "a job failed"] == [said]


async def test_no_more_at_a_time_than_the_settings_say_and_what_waits_takes_no_room(
    tmp_path: Path, database: Database
) -> None:
    under_way: set[str] = set()
    most, finished = 0, asyncio.Event()
    done: list[str] = []

    async def do(run: Run) -> None:
        nonlocal most
        if run.piece.startswith("revoked"):
            raise Fault(FaultKind.UNAVAILABLE, "the key is away", retry_after_s=100)
        under_way.add(run.piece)
        most = max(most, len(under_way))
        await asyncio.sleep(0.02)
        under_way.discard(run.piece)
        done.append(run.piece)
        if len(done) == 6:
            finished.set()

    pieces = [*(f"revoked{n}" for n in range(4)), *(f"p{n}" for n in range(6))]
    async with running(Trial(do, *pieces), tmp_path, database, clock=RealTime()):
        await asyncio.wait_for(finished.wait(), 15)
    assert most == 2


async def test_long_work_of_one_kind_keeps_no_other_waiting(tmp_path: Path, database: Database) -> None:
    begun, release, told = asyncio.Semaphore(0), asyncio.Event(), asyncio.Event()

    class Batches(Trial):
        name = "batches"

    async def long(run: Run) -> None:
        begun.release()
        await release.wait()

    async def short(run: Run) -> None:
        if run.piece == "n5":
            told.set()

    notices = Trial(short)
    async with running(Batches(long, "b1", "b2", "b3"), tmp_path, database, beside=(notices,)):
        for _ in range(2):
            await asyncio.wait_for(begun.acquire(), 10)
        notices.pieces += [f"n{number}" for number in range(6)]
        await asyncio.wait_for(told.wait(), 10)
        assert begun.locked(), "the third batch waits for the first two"
        release.set()
        await asyncio.wait_for(begun.acquire(), 10)


async def test_nothing_of_the_library_speaks_outside_our_log_or_keeps_what_was_raised(
    tmp_path: Path, either: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    failed = asyncio.Event()

    async def do(run: Run) -> None:
        async def says_content() -> None:
            failed.set()
            raise Fault(FaultKind.INVALID, "line 1: canary-4711")

        await run.step("one", says_content)

    async with running(Trial(do, "a"), tmp_path, either):
        await asyncio.wait_for(failed.wait(), 10)
        await asyncio.sleep(0.1)
    assert logging.getLogger("dbos").propagate
    assert capfd.readouterr().err == ""
    if either.is_sqlite:
        kept = _bytes_of(tmp_path)
        assert b"trial/a" in kept
        assert b"canary" not in kept
        assert (tmp_path / durable_module.FILE).stat().st_mode & 0o077 == 0


class RealTime:
    """The machine's clock, moved."""

    offset = 0.0

    def now(self) -> float:
        return asyncio.get_running_loop().time() + 1_800_000_000 + self.offset

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


async def note(into: list[str], name: str, result: Any) -> Any:
    into.append(name)
    return result


def _bytes_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("jobs.db*"))
