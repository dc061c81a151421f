"""How a process's records get to disk: into spool files of its own, so that it waits for no other process.

`record`   queues a line; a thread writes and syncs what is queued several times a second, well within `audit.within_s`.
`commit`   and `durable` wake that thread and wait: one sync serves everybody who waits for it.
`place`    waits for that too, and then asks the audit process (`serve/audit.py`) where the record stands in its log's tree.

Nothing here is ever taken back: what could not be written stays queued, its bounded memory fills, and `healthy` turns false until it can be
written. Lines are made where the record is, because a thread that encodes thousands at once would keep the event loop from running.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from stockade.audit import spool_files, standing
from stockade.audit.asking import ask_place
from stockade.audit.ledger import Placed, log_of
from stockade.kernel.clock import clock_of
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord
from stockade.settings import Settings

QUEUE_LIMIT: Final = 50_000
"""Lines that wait in one process; about 25 MB. Above it the process refuses."""
RESERVE: Final = 10_000
"""Room above the limit for requests that were admitted before it was reached. Refusals get none of it."""
BATCH_BYTES: Final = 4 * 1024 * 1024
FILE_BYTES: Final = 4 * 1024 * 1024
"""Size above which a process begins another file, so that those taken in can be removed; less where the buffer is small."""
FLUSHES: Final = 5
"""How often what is queued is written, per `audit.within_s`."""
LOOK_S: Final = 0.5
"""How often it is looked how full the spools of all processes are, and how the sinks stand."""
WAIT_S: Final = 5.0
"""How long a record that is waited for may take: a disk that hangs does not hang requests."""
STALLED_S: Final = 2.0
"""A write that takes longer counts as failing, until it has ended."""
PLACE_S: Final = 5.0
RETRY_S: Final = 0.5
_BROKEN: Final = frozenset({errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO})
"""What a file does not recover from; another one may be had."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Awaited:
    """A line that somebody waits for. tell: called in the writing thread with None, or with what is in the way."""

    line: bytes
    tell: Callable[[str | None], None]
    file: str = ""
    offset: int = 0


class Spool:
    """The audit sink of one process. `start` and `close` frame its life; without `start` (commands) `commit` writes by itself.

    hide: replaces by keyed hashes what could identify content (`hiding.py`).
    """

    def __init__(self, settings: Settings, hide: Callable[[AuditRecord], AuditRecord] = lambda record: record) -> None:
        bounds = settings.audit
        self._folder, self._socket = spool_files.folder_of(settings.audit_dir), settings.audit_socket
        self._standing, self._clock = standing.Standing(settings.run_dir), clock_of(settings.data_dir)
        self._limit, self._pause_s = bounds.buffer_bytes, bounds.within_s / FLUSHES
        self._file_bytes = min(FILE_BYTES, max(16 * 1024, bounds.buffer_bytes // 32))
        self._hide = hide
        self._encode = msgspec.json.Encoder().encode
        self._queue: deque[bytes | _Awaited] = deque()
        self._lost = 0
        self._writing = threading.Lock()
        self._writes_since = 0.0
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        # What follows is the writer's, below the lock.
        self._names: Iterator[str] = spool_files.names()
        self._name, self._file, self._size = "", -1, 0
        self._rest, self._written = b"", 0
        """What a failed write has left of its lines, and how much of it stands in the file already."""
        self._failed = ""
        self._full = self._nowhere = ""
        self._looked = float("-inf")

    @property
    def healthy(self) -> bool:
        return not self.why

    @property
    def why(self) -> str:
        if self._failed or self._full or self._nowhere:
            return self._failed or self._full or self._nowhere
        if len(self._queue) >= QUEUE_LIMIT:
            return "spool: too many records are waiting to be written"
        if self._writes_since and time.monotonic() - self._writes_since > STALLED_S:
            return "spool: the disk does not answer"
        return ""

    def start(self) -> None:
        with self._writing:
            self._look()  # before anybody is served: what is in the way may be so already
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is queued and stop."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(WAIT_S)
            if self._thread.is_alive():
                log.error(
                    "the audit spool stops with records that the disk has not taken",
                    extra={"records": len(self._queue)},
                )
                return
            self._thread = None
        self.flush()
        with self._writing:
            if self._queue or self._rest:
                log.error(
                    "the audit spool stops with records that could not be written", extra={"records": len(self._queue)}
                )
            self._close_file()

    def record(self, record: AuditRecord) -> None:
        # While nothing can be written everything is refused, and callers who go on asking must fill neither memory nor disk.
        admitted = record.decision == "allow"
        if len(self._queue) >= QUEUE_LIMIT + (RESERVE if admitted else 0) or (self._full and not admitted):
            self._lost += 1
        else:
            self._queue.append(self._line(record, spool_files.PLAIN))

    def commit(self, record: AuditRecord) -> None:
        self._committed(record, spool_files.PLAIN)

    async def durable(self, record: AuditRecord) -> None:
        if self._thread is None:
            await asyncio.to_thread(self.commit, record)
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str | None] = loop.create_future()
        self._await(record, spool_files.PLAIN, _Told(loop, done))
        try:
            async with asyncio.timeout(WAIT_S):
                failure = await done
        except TimeoutError:
            failure = "spool: the disk does not answer"
        if failure is not None:
            raise _unavailable(failure)

    def place(self, record: AuditRecord) -> Placed:
        written = self._committed(record, spool_files.PLACED)
        return ask_place(self._socket, written.file, written.offset, PLACE_S)

    def flush(self) -> None:
        """Write and sync what is queued, in this thread. Never fails: `healthy` says how it went."""
        with self._writing:
            self._look()
            while (self._queue or self._rest) and self._write():
                pass

    def _committed(self, record: AuditRecord, mark: bytes) -> _Awaited:
        done = threading.Event()
        failures: list[str] = []

        def tell(failure: str | None) -> None:
            if failure is not None:
                failures.append(failure)
            done.set()

        awaited = self._await(record, mark, tell)
        if self._thread is None:
            self.flush()
        if not done.wait(WAIT_S):
            raise _unavailable("spool: the disk does not answer")
        if failures:
            raise _unavailable(failures[0])
        return awaited

    def _await(self, record: AuditRecord, mark: bytes, tell: Callable[[str | None], None]) -> _Awaited:
        line = self._line(record, mark)
        if self._full or len(self._queue) >= QUEUE_LIMIT:
            self._lost += 1
            raise _unavailable(self.why or "spool: too many records are waiting to be written")
        awaited = _Awaited(line, tell)
        self._queue.append(awaited)
        self._wake.set()
        return awaited

    def _line(self, record: AuditRecord, mark: bytes) -> bytes:
        try:
            record = self._hide(record)
            return b"%s%s\n" % (_head(mark, record.resource), self._encode(record))
        except (
            UnicodeEncodeError
        ):  # a lone surrogate in what a caller sent; escaped it is still JSON, and still evidence
            data = json.dumps(msgspec.to_builtins(record), separators=(",", ":")).encode()
            return b"%s%s\n" % (_head(mark, record.resource), data)

    def _run(self) -> None:
        while not self._stopping:
            if self._failed:
                time.sleep(RETRY_S)
            else:
                self._wake.wait(self._pause_s)
            self._wake.clear()
            try:
                self.flush()
            except Exception:  # whatever it is, this thread must outlive it and the process must hear of it
                log.exception("the audit spool failed")
                self._failed = "spool: an internal error"

    # The writer, below the lock.

    def _write(self) -> bool:
        """Write and sync one batch; False when it failed. Whoever waits is told either way."""
        batch, waiting = self._take()
        self._writes_since = time.monotonic()
        try:
            try:
                self._open()
                offset = self._size + len(self._rest) - self._written
                for one in waiting:
                    one.file, one.offset = self._name, offset + one.offset
            finally:
                self._rest += batch  # whatever happens, it is written when it can be
            self._write_rest()
            os.fdatasync(self._file)
        except OSError as failure:
            self._fail(failure)
            # Nobody is kept waiting for the next try: of those whose lines are still queued some would be served then, and all know now.
            _tell([*waiting, *(one for one in tuple(self._queue) if isinstance(one, _Awaited))], self._failed)
            return False
        finally:
            self._writes_since = 0.0
        _tell(waiting, None)
        if self._failed:
            log.warning("audit records can be written again")
            self._failed = ""
        if self._lost and not self._full:
            self._own_up()
        return True

    def _take(self) -> tuple[bytes, list[_Awaited]]:
        """Return the lines of a batch, and who waits for which of them, with offsets in the batch. After a failure what failed comes first."""
        lines: list[bytes] = []
        waiting: list[_Awaited] = []
        size = 0
        while self._queue and size < BATCH_BYTES and not self._rest:
            one = self._queue.popleft()
            if isinstance(one, _Awaited):
                one.offset = size
                waiting.append(one)
                one = one.line
            lines.append(one)
            size += len(one)
        return b"".join(lines), waiting

    def _write_rest(self) -> None:
        view = memoryview(self._rest)
        while self._written < len(view):
            count = os.write(self._file, view[self._written :])
            self._written += count
            self._size += count
        view.release()
        self._rest, self._written = b"", 0

    def _open(self) -> None:
        """Have a file to write to: the present one, or the next when that is large, gone or broken."""
        if self._file >= 0:
            gone = os.fstat(self._file).st_nlink == 0
            if gone:
                log.error("a spool of the audit log was removed while it was written to", extra={"file": self._name})
            if not gone and not (self._size >= self._file_bytes and not self._written):
                return
            self._close_file()
        name = next(self._names)
        self._file, self._name, self._size = spool_files.create(self._folder, name), name, 0

    def _close_file(self) -> None:
        """Let go of the file; whoever takes spools in removes it. A line that was begun in it is written anew, whole."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._rest, self._written = self._rest[self._rest.rfind(b"\n", 0, self._written) + 1 :], 0

    def _fail(self, failure: OSError) -> None:
        text = f"spool: {failure.strerror or type(failure).__name__}"
        if text != self._failed:
            log.error("audit records cannot be written; requests are refused until they can: %s", text)
        self._failed = text
        if failure.errno in _BROKEN:
            self._close_file()

    def _own_up(self) -> None:
        """Put into the log how many refusals could not be recorded."""
        lost, self._lost = self._lost, 0
        log.warning("refusals were not recorded because too many records were waiting", extra={"refusals": lost})
        self.record(
            AuditRecord(
                time=self._clock.now(),
                id=new_guid(),
                category="Audit",
                phase="outcome",
                operation="Stockade.Audit/refusals/omit",
                resource="/providers/Stockade.Audit",
                outcome="success",
                because={"count": str(lost)},
            )
        )

    def _look(self) -> None:
        """See how full the spools of all processes are, and how those who take them in stand. Twice a second at most."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        try:
            held = sum(one.size for one in spool_files.found(self._folder))
        except OSError as failure:
            self._fail(failure)
            return
        before = self._full or self._nowhere
        self._full = "spool: the buffer is full" if held >= self._limit else ""
        self._nowhere = self._standing.nowhere()
        trouble = self._full or self._nowhere
        if trouble and trouble != before:
            log.error("no more audit records are taken; requests are refused until they can be: %s", trouble)
        elif before and not trouble:
            log.warning("audit records are taken again")


@lru_cache(4096)
def _head(mark: bytes, resource: str) -> bytes:
    return spool_files.head(mark, log_of(resource))


class _Told:
    """Tells a request on an event loop; all of one loop are told with one call, see `_tell`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[str | None]) -> None:
        self.loop, self.done = loop, done

    def __call__(self, failure: str | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(_settle, [self.done], failure)


def _tell(waiting: list[_Awaited], failure: str | None) -> None:
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[asyncio.Future[str | None]]] = defaultdict(list)
    for one in waiting:
        if isinstance(one.tell, _Told):
            by_loop[one.tell.loop].append(one.tell.done)
        else:
            one.tell(failure)
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, futures, failure)


def _settle(futures: list[asyncio.Future[str | None]], failure: str | None) -> None:
    for done in futures:
        if not done.done():  # its request was cancelled meanwhile
            done.set_result(failure)


def _unavailable(failure: str) -> Fault:
    return Fault(
        FaultKind.UNAVAILABLE, f"The audit log cannot be written ({failure}), so nothing was done.", retry_after_s=5
    )
