"""Asks each kind of work what is due, starts it, and tries again later what could not be done.

A piece is begun by whichever node has room first and finds nobody else has begun it; it waits its turn in memory, so that nodes share what there
is. While it waits to be tried again it takes no room. Pauses grow, are remembered, and follow the clock, not a sleep: neither a restart nor a
clock that jumps makes anything wait for longer than its pause. Work that is `on_change` does not sit a pause out once policy has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from stockade.jobs.durable import Durable, Memory, Superseded, workflow_id
from stockade.jobs.job import AGAIN, Work, Workplace
from stockade.jobs.nodes import Nodes
from stockade.kernel.faults import Fault
from stockade.kernel.shelf import Shelf

T = TypeVar("T")

SHELF: Final = "stockade.jobs.work"
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
LOOK_S: Final = 0.5
"""How often it is looked whether policy has changed, and the clock."""
MAX_WAITING: Final = 1000
"""Pieces of one kind that wait in memory; what is not taken in is due again."""
MAX_IN_HAND: Final = 256
"""Pieces of one kind begun here and not ended, those that are to be tried again included."""
REMEMBERED_ENDED: Final = 10_000
KEEP_ENDED_S: Final = 7 * 24 * 3600.0
"""How long it is known how a piece ended. One that failed and is still due after that is tried once more."""
UPKEEP_S: Final = 600.0
PAUSE: Final = "pause"

log = logging.getLogger(__name__)


def shelf() -> list[Work]:
    """Return every kind of work there is."""
    return list(Shelf.load(SHELF, Work))  # type: ignore[type-abstract]


class Runner:
    """The jobs of one node. Built and run in one loop, on which all work runs."""

    def __init__(
        self,
        place: Workplace,
        kinds: Iterable[Work],
        durable: Durable,
        nodes: Nodes,
        generation: Callable[[], int],
    ) -> None:
        self._place, self._durable, self._nodes, self._generation = place, durable, nodes, generation
        self._kinds = {kind.name: kind for kind in kinds}
        self._waiting: dict[str, OrderedDict[str, None]] = {name: OrderedDict() for name in self._kinds}
        self._in_hand: dict[str, set[str]] = {name: set() for name in self._kinds}
        self._ended: OrderedDict[str, None] = OrderedDict()
        # Each kind has its own, so that batches of hours keep no notice and no re-wrapping waiting.
        self._slots = {name: asyncio.Semaphore(place.settings.jobs.concurrency) for name in self._kinds}
        self._with_slot: set[str] = set()
        self._silent: set[str] = set()
        self._offered = asyncio.Event()
        self._changed = asyncio.Event()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> bool:
        """Work until told to stop, then let the steps under way end, and work keep what it has; False when the drain time was not enough.

        Fault(UNAVAILABLE) when the state of jobs cannot be opened, or when this node has lost its place and others may take over its pieces.
        """
        await asyncio.to_thread(self._nodes.enter)
        self._durable.open(self._do)
        tasks = [asyncio.create_task(self._ask(kind)) for kind in self._kinds.values()]
        tasks += [asyncio.create_task(one()) for one in (self._start, self._watch_policy, self._keep_up)]
        tasks.append(asyncio.create_task(self._nodes.watch(self._durable)))
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # none of them ends by itself: this raises what ended it
        finally:
            self._stopping = True
            for task in (stopped, *tasks):
                task.cancel()
            await asyncio.gather(stopped, *tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(self._place.settings.limits.drain_timeout_s):
                await self._idle.wait()
                await self._durable.interrupt()
        except TimeoutError:
            return False
        return True

    # What is due.

    async def _ask(self, kind: Work) -> None:
        while True:
            changed = self._changed
            try:
                due = await asyncio.to_thread(lambda: list(itertools.islice(kind.due(self._place), MAX_WAITING)))
            except Exception as failure:  # noqa: BLE001 - the database may be away for a while; what is due stays due
                self._not_found_out(kind.name, failure)
            else:
                self._silent.discard(kind.name)
                self._offer(kind.name, due)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(kind.every_s):
                    await (changed if kind.on_change else asyncio.Event()).wait()

    def _not_found_out(self, name: str, failure: Exception) -> None:
        """Say so once, not with every question."""
        if name in self._silent:
            return
        self._silent.add(name)
        if isinstance(failure, Fault):
            log.warning("what is due cannot be found out", extra={"work": name, "reason": failure.kind.value})
        else:
            log.error("what is due cannot be found out", extra={"work": name}, exc_info=failure)

    def _offer(self, name: str, pieces: list[str]) -> None:
        waiting, in_hand = self._waiting[name], self._in_hand[name]
        for piece in pieces:
            if piece in waiting or piece in in_hand or workflow_id(name, piece) in self._ended:
                continue
            if len(waiting) >= MAX_WAITING:
                break
            waiting[piece] = None
        if waiting:
            self._offered.set()

    async def _start(self) -> None:
        while True:
            await self._offered.wait()
            taken = self._next()
            if taken is None:
                self._offered.clear()
                continue
            name, piece = taken
            await self._slots[name].acquire()  # there is one: `_next` has looked
            own = workflow_id(name, piece)
            self._with_slot.add(own)
            try:
                begun = await self._durable.start(name, piece)
            except Exception:
                log.exception("a piece of work could not be begun", extra={"job": own})  # and is due again
                begun = False
            else:
                if not begun:
                    self._note_ended(own)
            if not begun and own in self._with_slot:
                self._with_slot.discard(own)
                self._free(name)
            if begun:
                log.info("a job begins", extra={"job": own})

    def _next(self) -> tuple[str, str] | None:
        """Take a piece from the kind that has least in hand, of those that have a slot."""
        for name in sorted(self._waiting, key=lambda name: len(self._in_hand[name])):
            if self._waiting[name] and len(self._in_hand[name]) < MAX_IN_HAND and not self._slots[name].locked():
                piece, _ = self._waiting[name].popitem(last=False)
                return name, piece
        return None

    # One piece.

    async def _do(self, name: str, piece: str, memory: Memory) -> dict[str, str]:
        """Do a piece to its end, as the workflow that it is."""
        own = workflow_id(name, piece)
        has_slot = own in self._with_slot
        self._with_slot.discard(own)
        in_hand = self._in_hand.setdefault(name, set())
        in_hand.add(piece)
        try:
            kind = self._kinds.get(name)
            if kind is None:
                return self._failed(own, "NoSuchWork")
            return await self._until_done(kind, own, piece, memory, has_slot=has_slot)
        finally:
            in_hand.discard(piece)
            self._note_ended(own)
            self._offered.set()

    async def _until_done(self, kind: Work, own: str, piece: str, memory: Memory, *, has_slot: bool) -> dict[str, str]:
        run = _Run(piece, memory, self)
        while True:
            if not has_slot:
                await self._sit_out(kind, memory)
                await self._slots[kind.name].acquire()
            has_slot = False
            run.progress = False
            try:
                await kind.do(self._place, run)
            except Superseded:
                log.warning("a job is done elsewhere now", extra={"job": own})
                raise
            except Fault as fault:
                if fault.kind not in AGAIN:
                    return self._failed(own, fault.kind.value, fault)
                await self._put_off(own, memory, fault, progress=run.progress)
            except Exception as failure:  # noqa: BLE001 - a bug of one kind of work must not be the others'
                return self._failed(own, "Bug", failure)
            else:
                log.info("a job is done", extra={"job": own})
                return {"ended": "done"}
            finally:
                self._free(kind.name)

    def _free(self, name: str) -> None:
        self._slots[name].release()
        self._offered.set()

    async def _put_off(self, own: str, memory: Memory, fault: Fault, *, progress: bool) -> None:
        """Remember when a piece is to be tried again."""
        before = memory.get(PAUSE)
        attempts = 1 if progress or before is None else int(before["attempts"]) + 1
        pause = min(FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 16), LONGEST_PAUSE_S)
        pause = min(max(pause, fault.retry_after_s or 0.0), LONGEST_PAUSE_S)
        note: dict[str, object] = {
            "attempts": attempts,
            "until": self._place.clock.now() + pause,
            "pause": pause,
            "why": fault.kind.value,
        }

        async def noted() -> dict[str, object]:
            return note

        await memory.step(PAUSE, noted)
        extra = {"job": own, "reason": fault.kind.value, "fault": fault.message, "attempts": attempts, "pause_s": pause}
        log.log(logging.INFO if attempts == 1 else logging.WARNING, "a job is put off", extra=extra)

    async def _sit_out(self, kind: Work, memory: Memory) -> None:
        note = memory.get(PAUSE)
        if note is None:
            return
        clock, changed = self._place.clock, self._changed
        began = clock.monotonic()
        while clock.now() < note["until"] and (waited := clock.monotonic() - began) < note["pause"]:
            if kind.on_change and changed.is_set() and waited >= FIRST_PAUSE_S:
                return
            await asyncio.sleep(LOOK_S)

    def _failed(self, own: str, why: str, failure: Exception | None = None) -> dict[str, str]:
        unexpected = failure is not None and not isinstance(failure, Fault)
        reason = failure.message if isinstance(failure, Fault) else ""
        extra = {"job": own, "reason": why, "fault": reason}
        log.error("a job failed", extra=extra, exc_info=failure if unexpected else None)
        return {"ended": "failed", "why": why}

    def _note_ended(self, own: str) -> None:
        self._ended[own] = None
        while len(self._ended) > REMEMBERED_ENDED:
            self._ended.popitem(last=False)

    async def enter_step(self) -> None:
        """Begin a step; when the process is ending, never: what has not begun is for the next one."""
        if self._stopping:
            await asyncio.Event().wait()
        self._busy += 1
        self._idle.clear()

    def leave_step(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self._idle.set()

    # Upkeep.

    async def _watch_policy(self) -> None:
        seen = self._generation()
        while True:
            await asyncio.sleep(LOOK_S)
            generation = self._generation()
            if generation != seen:
                seen = generation
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_S)
            try:
                while await self._durable.forget(self._place.clock.now() - KEEP_ENDED_S):
                    self._ended.clear()
            except Exception:
                log.exception("ended jobs could not be forgotten and will be tried again")


class _Run:
    """`Run` for one workflow."""

    def __init__(self, piece: str, memory: Memory, runner: Runner) -> None:
        self.piece, self._memory, self._runner = piece, memory, runner
        self.progress = False

    async def step(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        if name in self._memory:
            remembered: T = self._memory.get(name)
            return remembered
        await self._runner.enter_step()
        try:
            result = await self._memory.step(name, do)
        finally:
            self._runner.leave_step()
        self.progress = True
        return result
