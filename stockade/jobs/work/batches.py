"""Azure OpenAI's batches: each line of a file answered once, within the day, and kept as soon as it is.

What is answered is kept in parts, sealed things of the account beside the batch; the files that the caller gets are put together from them.
That is what makes a killed process harmless: lines that stand in a part are not asked again, and of a line that two processes have answered,
because one was thought dead, the first answer counts. Everything here is the account's, on the grant that the batch was started with.

Without the account's key nothing can be read or written: the job is put off until policy changes or its pause is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, ClassVar, Final

from stockade.content.item import AccountContent, Item
from stockade.content.job_grants import HeldGrant
from stockade.jobs.batch_answers import Answered, Parts, expired_row, row_of, unanswered_row
from stockade.jobs.batch_lines import LineError, check, lines, read_line
from stockade.jobs.batch_requests import AccountGoneError, LineRequests, WaitError
from stockade.jobs.job import AGAIN, Run, Workplace
from stockade.kernel.evidence import JobGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation
from stockade.services.openai import pages
from stockade.services.openai.batches import DATA_ACTION, ENDED, KIND

NEW_S: Final = 60.0
"""A job may be found a moment before its batch is there."""
LOOK_S: Final = 0.5
"""How often it is looked whether the batch is cancelled and the clock has passed its end."""
KEEP_S: Final = 2.0
KEEP_LINES: Final = 64
KEEP_BYTES: Final = 4 * 1024 * 1024
"""What is answered is kept after so long, so many lines or bytes, whichever comes first."""
GRACE_S: Final = 2.0
"""What is under way when a batch is cancelled or its time is over may take so long to end."""
TRIES: Final = 8
"""Of one line, when its engine fails; a minute apart at most."""
LONGEST_PAUSE_S: Final = 60.0
UPDATE_TRIES: Final = 20
ENVELOPE_BYTES: Final = 4096
"""What a line has beside its body."""
INPUT_GONE: Final = "The input file is gone."
_GOING_ON: Final = frozenset({"validating", "in_progress", "finalizing"})

log = logging.getLogger(__name__)


class Batches:
    """The batches of every account."""

    name: ClassVar[str] = "batches"
    every_s: ClassVar[float] = 1.0
    on_change: ClassVar[bool] = True

    def __init__(self) -> None:
        self._requests: LineRequests | None = None

    def due(self, place: Workplace) -> Iterable[str]:
        return place.grants.due(KIND)

    async def do(self, place: Workplace, run: Run) -> None:
        """Bring one batch to its end."""
        held = await asyncio.to_thread(place.grants.get, KIND, run.piece)
        if held is None:
            return
        if self._requests is None:
            self._requests = LineRequests(place)
        batch = _Batch(place, self._requests, held, run)
        try:
            await batch.do()
        except AccountGoneError:
            log.info("a batch ends with its account", extra={"batch": run.piece})
        except Fault as fault:
            match fault.kind:
                case kind if kind in AGAIN:
                    raise
                case FaultKind.CUSTOMER_KEY_UNAVAILABLE:
                    raise Fault(FaultKind.UNAVAILABLE, fault.message) from fault
                case FaultKind.UNAUTHENTICATED | FaultKind.PERMISSION_DENIED | FaultKind.LOCKBOX_DENIED:
                    log.warning("a batch's grant no longer holds", extra={"batch": run.piece, "fault": fault.message})
                case FaultKind.NOT_FOUND:
                    if place.clock.now() - held.created_at < NEW_S:
                        raise Fault(FaultKind.UNAVAILABLE, "The batch is not there yet.") from fault
                    log.info("a batch is not there any more", extra={"batch": run.piece})
                case _:
                    await self._give_up(place, batch)
                    raise
        except Exception:
            await self._give_up(place, batch)
            raise
        await asyncio.to_thread(place.grants.drop, KIND, run.piece)

    async def _give_up(self, place: Workplace, batch: _Batch) -> None:
        """Say so where that can be said, and do not come back."""
        with contextlib.suppress(Exception):
            await batch.fail("InternalServerError", "The batch could not be done.")
        await asyncio.to_thread(place.grants.drop, KIND, batch.id)


class _Batch:
    """One run of one batch."""

    def __init__(self, place: Workplace, requests: LineRequests, held: HeldGrant, run: Run) -> None:
        self._place, self._requests, self._run = place, requests, run
        self.id, self._account = run.piece, held.account_id
        self._content: AccountContent = place.open_content(
            held.account_id, JobGrant(held.grant), DATA_ACTION, f"jobs {KIND}"
        )
        self._now = place.clock.now
        self._parts = Parts(self._content, self.id, expires_at=held.expires_at)
        self._stop, self._full = asyncio.Event(), asyncio.Event()
        self._reason = ""
        """Why no more lines are begun: `cancelled`, `expired`, or `failed` when the input file was deleted."""
        self._failure: BaseException | None = None
        self._told = 0

    async def do(self) -> None:
        _, account = self._requests.account(self._account)
        item = await self._content.get(KIND, self.id)
        if item.status not in ENDED:
            if not account.keeps_content:
                item = await self.fail("ContentStorageDisabled", "The resource keeps no content any more.")
            else:
                item = await self._go_on(item)
        await self._parts.remove()
        log.info("a batch has ended", extra={"batch": self.id, "status": item.status})

    async def _go_on(self, item: Item) -> Item:
        try:
            operation = self._requests.operation(str(item.metadata["endpoint"]))
        except Fault as fault:
            return await self.fail("invalid_request", fault.message)
        file = await self._input(item)
        if "total" not in item.metadata.get("counts", {}):
            if file is None:
                return await self.fail("invalid_request", INPUT_GONE)
            item = await self._check(item, file, operation)
            if item.status in ENDED:
                return item
        await self._parts.load(int(item.metadata["last_line"]))
        if "files" not in item.metadata:
            if file is None:
                self._reason = "failed"
            else:
                await self._answer(item, file, operation)
            item = await self._decide_files()
        return await self._finish(item, file, operation)

    async def _input(self, item: Item) -> Item | None:
        """Return the input file; None when somebody has deleted it."""
        try:
            return await self._content.get("files", str(item.metadata["input_file_id"]))
        except Fault as fault:
            if fault.kind is not FaultKind.NOT_FOUND:
                raise
            return None

    # Before: is the file what it should be?

    async def _check(self, item: Item, file: Item, operation: Operation) -> Item:
        snapshot, _ = self._requests.account(self._account)
        found = await check(
            lines(self._content.read(file), _longest(operation)),
            str(item.metadata["endpoint"]),
            lambda name: snapshot.only("deployment", (self._account, name.lower())) is not None,
            self._place.settings.jobs.max_batch_lines,
        )
        if found.errors:
            return await self._update({"errors": found.errors, "failed_at": self._now()}, "failed")
        changes = {
            "counts": {"total": found.total, "completed": 0, "failed": 0},
            "last_line": found.last,
            "model": found.model,
            "in_progress_at": self._now(),
        }
        await self._tell(f"checked {found.total}")
        return await self._update(changes, "in_progress")

    # The lines.

    async def _answer(self, item: Item, file: Item, operation: Operation) -> None:
        """Answer every line that is not answered yet, until there is none, or the batch is cancelled, or its time is over."""
        total = int(item.metadata["counts"]["total"])
        await self._look(float(item.metadata["expires_at"]))
        beside = [
            asyncio.create_task(self._watch(float(item.metadata["expires_at"]))),
            asyncio.create_task(self._keep_now_and_then(total)),
        ]
        under_way: set[asyncio.Task[None]] = set()
        room = asyncio.Semaphore(self._place.settings.jobs.lines_at_a_time)
        try:
            async with contextlib.aclosing(lines(self._content.read(file), _longest(operation))) as found:  # type: ignore[type-var]
                async for number, data in found:
                    if self._parts.has(number):
                        continue
                    await self._first(room.acquire())
                    if self._stop.is_set():
                        break
                    task = asyncio.create_task(self._line(number, data, operation, room))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
            if under_way:
                ends = asyncio.create_task(self._stop.wait())
                last = asyncio.create_task(_all(under_way))
                await asyncio.wait([ends, last], return_when=asyncio.FIRST_COMPLETED)
                ends.cancel()
                if not last.done() and self._failure is None:
                    await asyncio.wait([last], timeout=GRACE_S)
                last.cancel()
        except Fault as fault:
            if fault.kind is not FaultKind.NOT_FOUND:
                raise
            self._reason = "failed"  # the input file was deleted; what is answered is there to be had
        except asyncio.CancelledError:  # the process ends: what has been answered need not be asked again
            with contextlib.suppress(Exception):
                await self._keep(total, tell=False)
            raise
        finally:
            for task in (*beside, *under_way):
                task.cancel()
            await asyncio.gather(*beside, *under_way, return_exceptions=True)
        if self._failure is not None:
            with contextlib.suppress(Fault):  # it may be what failed
                await self._keep(total)
            raise self._failure
        await self._keep(total)
        if not self._reason and self._parts.done < total:
            raise RuntimeError("a line was lost")

    async def _line(self, number: int, data: bytes, operation: Operation, room: asyncio.Semaphore) -> None:
        try:
            answered = await self._answered(number, data, operation)
            if answered is not None:
                self._parts.add(answered)
                if self._parts.waiting_lines >= KEEP_LINES or self._parts.waiting_bytes >= KEEP_BYTES:
                    self._full.set()
        except Exception as failure:  # noqa: BLE001 - raised where the lines are
            self._failure = self._failure or failure
            self._stop.set()
        finally:
            room.release()

    async def _answered(self, number: int, data: bytes, operation: Operation) -> Answered | None:
        """Return what becomes of a line; None when there is no more time for it."""
        line = read_line(data)
        body, tries = bytes(line.body), 0
        while True:
            try:
                answer = await self._requests.answer(self._account, self.id, operation, body)
                return row_of(number, line.custom_id, answer)
            except WaitError as wait:
                seconds = wait.seconds
                if wait.reply is not None:
                    tries += 1
                    if tries >= TRIES:
                        if wait.fault is not None:
                            return unanswered_row(number, line.custom_id, wait.fault)
                        return row_of(number, line.custom_id, wait.reply)
                    seconds = min(max(seconds, 2.0 ** (tries - 1)), LONGEST_PAUSE_S)
            await _until(self._stop, seconds)
            if self._stop.is_set():
                return None

    async def _first(self, wanted: Any) -> None:
        """Wait for something, or until no more lines are to be begun."""
        task, stopped = asyncio.ensure_future(wanted), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()

    async def _watch(self, expires_at: float) -> None:
        try:
            while not self._stop.is_set():
                await asyncio.sleep(LOOK_S)
                await self._look(expires_at)
        except Exception as failure:  # noqa: BLE001 - raised where the lines are
            self._failure = self._failure or failure
            self._stop.set()

    async def _look(self, expires_at: float) -> None:
        self._requests.account(self._account)
        item = await self._content.get(KIND, self.id)
        if item.status == "cancelling":
            self._reason = "cancelled"
        elif self._now() >= expires_at:
            self._reason = "expired"
        if self._reason:
            self._stop.set()

    async def _keep_now_and_then(self, total: int) -> None:
        try:
            while True:
                await _until(self._full, KEEP_S)
                self._full.clear()
                await self._keep(total)
        except Exception as failure:  # noqa: BLE001 - raised where the lines are
            self._failure = self._failure or failure
            self._stop.set()

    async def _keep(self, total: int, *, tell: bool = True) -> None:
        """Keep what is answered, and say how far the batch is. tell: for operators too, which is a step."""
        if not await self._parts.keep():
            return
        await self._update({"counts": {"total": total, **self._parts.counts()}, **self._parts.usage()}, "in_progress")
        tenth = self._parts.done * 10 // max(total, 1)
        if tell and tenth > self._told:
            self._told = tenth
            await self._tell(f"answered {tenth}0 %")

    # After: the files.

    async def _decide_files(self) -> Item:
        """Say which files there will be, before the first of them is begun."""
        files = {"output": pages.new_id("file-"), "error": pages.new_id("file-")}
        changes: dict[str, Any] = {"files": files, "ended_as": self._reason or "completed"}
        if not self._reason:
            changes["finalizing_at"] = self._now()
        if self._reason == "failed":
            changes["errors"] = [LineError("invalid_request", INPUT_GONE).told(None)]
        return await self._update(changes, "finalizing" if not self._reason else None)

    async def _finish(self, item: Item, file: Item | None, operation: Operation) -> Item:
        ended_as = str(item.metadata["ended_as"])
        counts = self._parts.counts()
        total = int(item.metadata["counts"]["total"])
        left = total - self._parts.done if ended_as == "expired" and file is not None else 0
        ids: dict[str, str | None] = {"output_file_id": None, "error_file_id": None}
        if counts["completed"]:
            ids["output_file_id"] = await self._file(item, "output", self._parts.rows("O"))
        if counts["failed"] or left:
            rows = _joined(self._parts.rows("E"), self._expired(file, operation) if left and file is not None else None)
            ids["error_file_id"] = await self._file(item, "error", rows)
        changes = {"counts": {"total": total, **counts}, **self._parts.usage(), **ids, f"{ended_as}_at": self._now()}
        return await self._update(changes, ended_as)

    async def _file(self, item: Item, which: str, rows: AsyncIterator[bytes]) -> str:
        file_id = str(item.metadata["files"][which])
        after_s = item.metadata.get("output_expires_after_s") or self._place.settings.content.files_days * 86_400
        expires_at = self._now() + float(after_s) if after_s else None
        metadata = {"filename": f"{self.id}_{which}.jsonl", "purpose": "batch_output"}
        try:
            await self._content.create("files", file_id, metadata, rows, status="processed", expires_at=expires_at)
        except Fault as fault:
            if fault.kind is not FaultKind.CONFLICT:
                raise
            try:
                await self._content.get("files", file_id)  # it was there already when the process before ended
            except Fault as missing:
                if missing.kind is not FaultKind.NOT_FOUND:
                    raise
                # Begun and never finished: what is left of it is swept up, and its name is not free before.
                await self._update({"files": {**item.metadata["files"], which: pages.new_id("file-")}}, None)
                raise Fault(FaultKind.UNAVAILABLE, "A file of the batch has to be written anew.") from missing
        return file_id

    async def _expired(self, file: Item, operation: Operation) -> AsyncIterator[bytes]:
        async for number, data in lines(self._content.read(file), _longest(operation)):
            if not self._parts.has(number):
                yield expired_row(read_line(data).custom_id)

    async def fail(self, code: str, message: str) -> Item:
        error = LineError(code, message).told(None)
        return await self._update({"errors": [error], "failed_at": self._now()}, "failed")

    async def _update(self, changes: Mapping[str, Any], status: str | None) -> Item:
        """Change the batch, whoever changes it too: one that is being cancelled stays so until that is done."""
        for _ in range(UPDATE_TRIES):
            item = await self._content.get(KIND, self.id)
            wanted = None if item.status == "cancelling" and status in _GOING_ON else status
            try:
                return await self._content.update(item, metadata={**item.metadata, **changes}, status=wanted)
            except Fault as fault:
                if fault.kind is not FaultKind.CONFLICT:
                    raise
        raise Fault(FaultKind.UNAVAILABLE, "The batch is changing too fast.")

    async def _tell(self, what: str) -> None:
        """Leave word of how far the job is, for `stockade jobs show`."""

        async def nothing() -> None:
            return None

        await self._run.step(what, nothing)


async def _until(event: asyncio.Event, seconds: float) -> None:
    # Not `wait_for`: on Python 3.11 that may lose a cancellation which comes with the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _all(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.wait(list(tasks))


def _longest(operation: Operation) -> int:
    return operation.max_body_bytes + ENVELOPE_BYTES


async def _joined(first: AsyncIterator[bytes], then: AsyncIterator[bytes] | None) -> AsyncIterator[bytes]:
    async for row in first:
        yield row
    if then is not None:
        async for row in then:
            yield row


PLUGIN = Batches()
