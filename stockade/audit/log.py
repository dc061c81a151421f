"""The audit log: JSON lines in `audit/audit.jsonl`, rotated by size, written by every process of the platform.

Two ways in. `record` is for the data plane: it queues and returns at once, and a thread of its own writes batches; when the queue is full,
or writing has failed, `healthy` turns false and the gateway refuses rather than act unrecorded. `commit` is for management: it returns only
when the record is on disk, so that an intent is there before the change it announces.
Writers of several processes share one file: each batch is one append under an advisory lock, which also guards rotation.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from stockade.audit.ledger import Placed, log_of
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import AuditRecord

QUEUE_LIMIT = 50_000
"""Records waiting in one process; about 25 MB. Above it the data plane refuses."""
RESERVE = 10_000
"""Room above the limit for requests that were admitted before it was reached. Refusals get none of it."""
FLUSH_INTERVAL_S = 0.2
BATCH = 2_000
FILE_NAME = "audit.jsonl"

log = logging.getLogger(__name__)


class AuditSink(Protocol):
    """Where records go."""

    @property
    def healthy(self) -> bool:
        """False when records cannot be taken; then nothing may be done that would need one."""
        ...

    def record(self, record: AuditRecord) -> None:
        """Take a record without waiting."""
        ...

    def commit(self, record: AuditRecord) -> None:
        """Take a record and return when it is durable; Fault(UNAVAILABLE) otherwise."""
        ...

    async def durable(self, record: AuditRecord) -> None:
        """Do the same on an event loop: records of many requests share one write. For refused and privileged ones, before the reply."""
        ...

    def place(self, record: AuditRecord) -> Placed:
        """Take a record and return where it stands in its log's tree; Fault(UNAVAILABLE) otherwise. For operators' reads, before the first byte."""
        ...


class AuditLog:
    """The sink that writes JSON lines. `start` and `close` frame its life; `close` writes everything that was taken."""

    def __init__(self, directory: Path, *, rotate_bytes: int = 64 * 1024 * 1024, keep_files: int = 20) -> None:
        self._path = directory / FILE_NAME
        self._lock_path = directory / "lock"
        self._rotate_bytes, self._keep_files = rotate_bytes, keep_files
        self._queue: deque[AuditRecord] = deque()
        self._encode = msgspec.json.Encoder()
        self._wake = threading.Event()
        self._stopping = False
        self._failed = False
        self._unwritten = 0
        self._thread: threading.Thread | None = None
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def healthy(self) -> bool:
        return not self._failed and len(self._queue) < QUEUE_LIMIT

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is queued and stop."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._drain()
        if self._queue:
            log.error("the audit log stops with records that could not be written", extra={"records": len(self._queue)})

    def record(self, record: AuditRecord) -> None:
        # While nothing can be written everything is refused, and callers who go on asking must not fill the memory.
        if len(self._queue) >= QUEUE_LIMIT + (RESERVE if record.decision == "allow" else 0):
            self._unwritten += 1
        else:
            self._queue.append(record)

    def commit(self, record: AuditRecord) -> None:
        try:
            self._append([record], durable=True)
        except OSError as failure:
            raise Fault(
                FaultKind.UNAVAILABLE, "The audit log cannot be written, so nothing was changed.", retry_after_s=5
            ) from failure

    async def durable(self, record: AuditRecord) -> None:
        await asyncio.to_thread(self.commit, record)

    def place(self, record: AuditRecord) -> Placed:
        self.commit(record)
        return Placed(log_of(record.resource), -1, b"")

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(FLUSH_INTERVAL_S)
            self._drain()

    def _drain(self) -> None:
        while self._queue:
            batch = [self._queue[index] for index in range(min(BATCH, len(self._queue)))]
            try:
                self._append(batch, durable=False)
            except Exception:  # whatever it is, this thread must outlive it and the data plane must hear of it
                if not self._failed:
                    log.exception("the audit log cannot be written; requests are refused until it can")
                self._failed = True
                return
            for _ in batch:
                self._queue.popleft()
            if self._failed:
                log.warning("the audit log can be written again")
            if self._unwritten:
                lost, self._unwritten = self._unwritten, 0
                log.warning(
                    "refusals were not recorded because too many records were waiting", extra={"refusals": lost}
                )
            self._failed = False

    def _append(self, records: Sequence[AuditRecord], *, durable: bool) -> None:
        data = b"".join(self._line(record) for record in records)
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._rotate_if_full()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                _write_whole(descriptor, data)
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        finally:
            os.close(lock)

    def _line(self, record: AuditRecord) -> bytes:
        try:
            return self._encode.encode(record) + b"\n"
        except (
            UnicodeEncodeError
        ):  # a lone surrogate in what a caller sent; escaped it is still JSON, and still evidence
            return json.dumps(msgspec.to_builtins(record), separators=(",", ":")).encode() + b"\n"

    def _rotate_if_full(self) -> None:
        try:
            if self._path.stat().st_size < self._rotate_bytes:
                return
        except FileNotFoundError:
            return
        numbers = sorted(_number(path) for path in self._path.parent.glob("audit-" + "[0-9]" * 8 + ".jsonl"))
        self._path.rename(self._path.with_name(f"audit-{(numbers[-1] if numbers else 0) + 1:08d}.jsonl"))
        for number in numbers[: max(0, len(numbers) + 1 - self._keep_files)]:
            self._path.with_name(f"audit-{number:08d}.jsonl").unlink(missing_ok=True)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("audit-"))


def _write_whole(descriptor: int, data: bytes) -> None:
    """Append all of it or none: a half-written line (full disk) is cut off again, and one that a killed process left is ended."""
    start = os.lseek(descriptor, 0, os.SEEK_END)
    if start and os.pread(descriptor, 1, start - 1) != b"\n":
        data = b"\n" + data
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.ftruncate(descriptor, start)
        raise
