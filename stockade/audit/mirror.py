"""The second sink: a plain copy of all logs in one file, `audit.jsonl`, rotated by size, for whoever wants to read or ship it as it is.

It takes what the sequencer hands it, record by record, and may be ahead of a log that cannot be written; what it missed while it could not be
written itself, it gets from the logs. It runs in a thread of its own, so that a disk that hangs (another machine's, say) holds up nobody.

Nothing is in it twice: `mirror.state` says how long the file was when which records were in it, and what a kill has left beyond that is cut off
and written again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stockade.audit.journal import Journal
from stockade.audit.ledger import LogReader
from stockade.kernel.faults import Fault

FILE_NAME: Final = "audit.jsonl"
STATE_NAME: Final = "mirror.state"
HELD_BYTES: Final = 16 * 1024 * 1024
"""What is handed over waits in memory up to here; above it the logs are read instead."""
WRITE_BYTES: Final = 1024 * 1024
RETRY_S: Final = 0.5
CLOSE_S: Final = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Handed:
    log: str
    index: int
    lines: Sequence[bytes]
    size: int


class Mirror:
    """Writes the copy. `hand` is for the sequencer's thread; everything else for the one that writes.

    open_log: returns a reader of a log, and must be safe beside the log's writer. names: which logs there are.
    """

    def __init__(
        self,
        folder: Path,
        state_folder: Path,
        open_log: Callable[[str], LogReader],
        names: Callable[[], Iterable[str]],
        *,
        rotate_bytes: int,
        keep_files: int,
    ) -> None:
        self._path, self._rotate_bytes, self._keep_files = folder / FILE_NAME, rotate_bytes, keep_files
        self._open_log, self._names = open_log, names
        self._readers: dict[str, LogReader] = {}
        self._journal = Journal(state_folder / STATE_NAME)
        self._at: dict[str, int] = {}
        self._handed: deque[_Handed] = deque()
        self._held = 0
        self._hand_lock = threading.Lock()
        self._behind = True
        self._ready = False
        self._failed = ""
        self._inode = -1
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def why(self) -> str:
        """What is in the way; "" while it can be written."""
        return self._failed

    @property
    def ready(self) -> bool:
        """Whether `open` has been done."""
        return self._ready

    def start(self, ends: Mapping[str, int]) -> None:
        """Begin to write, in a thread. ends: see `open`."""
        self._thread = threading.Thread(target=self._run, args=(ends,), name="audit-mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is there, and stop. What cannot be written is written at the next start."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def hand(self, name: str, index: int, lines: Sequence[bytes]) -> None:
        """Take records of a log from an index on. Never waits."""
        size = sum(map(len, lines))
        with self._hand_lock:
            if self._held + size > HELD_BYTES:
                self._handed.clear()
                self._held, self._behind = 0, True
            else:
                self._handed.append(_Handed(name, index, lines, size))
                self._held += size
        self._wake.set()

    def open(self, ends: Mapping[str, int]) -> None:
        """Read the state and cut off what goes beyond it. OSError when the folder or the state cannot be had.

        ends: per log the index that comes next, where that is beyond the log's own end: so a log that was begun anew is not taken for known.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        size, self._inode = -1, -1
        self._at = {}
        for entry in self._journal.read():
            self._at.update(entry["at"])
            size, self._inode = entry["size"], entry["file"]
        for name, index in self._at.items():
            with contextlib.suppress(OSError, Fault):  # out of reach; what it holds is known well enough
                self._at[name] = min(index, max(ends.get(name, 0), self._reader(name).size))
        with contextlib.suppress(FileNotFoundError):
            found = self._path.stat()
            if found.st_ino == self._inode and found.st_size > size:
                os.truncate(self._path, size)
        self._ready = True

    def write_out(self) -> bool:
        """Write what was handed over and what is missing; False when something is left, because of a failure or because a log has it not yet."""
        try:
            while self._from_hand():
                pass
            if self._behind:
                self._behind = False
                for name in self._names():
                    while self._from_log(name, None):
                        pass
        except OSError as failure:
            text = failure.strerror or type(failure).__name__
            if text != self._failed:
                log.error("the copy of the audit log cannot be written; it will be caught up with: %s", text)  # noqa: TRY400 - the disk's
            self._failed, self._behind = text, True
            return False
        if self._failed:
            log.warning("the copy of the audit log can be written again")
            self._failed = ""
        return not self._behind and not self._handed

    def _run(self, ends: Mapping[str, int]) -> None:
        while True:
            last = self._stop.is_set()
            try:
                if not self._ready:
                    self.open(ends)
                done = self.write_out()
            except OSError as failure:
                self._failed, done = failure.strerror or type(failure).__name__, False
            except Exception:
                log.exception("the copy of the audit log failed")
                self._failed, done = "an internal error", False
            if last:
                return
            if self._failed:
                self._stop.wait(RETRY_S)
            else:
                self._wake.wait(None if done else RETRY_S)
            self._wake.clear()

    def _from_hand(self) -> bool:
        """Write a piece of what was handed over; False when nothing of it can be written now."""
        pieces: list[bytes] = []
        at: dict[str, int] = {}
        size = taken = 0
        while taken < len(self._handed) and size < WRITE_BYTES:
            one = self._handed[taken]
            have = at.get(one.log, self._at.get(one.log, 0))
            if one.index > have:
                if pieces:
                    break  # first what can be written
                if not self._from_log(one.log, one.index):
                    self._behind = True
                    return False
                return True
            missing = one.lines[have - one.index :]
            if missing:
                pieces += missing
                at[one.log] = one.index + len(one.lines)
                size += one.size
            taken += 1
        if pieces:
            self._append(pieces, at)
        with self._hand_lock:
            for _ in range(min(taken, len(self._handed))):
                self._held -= self._handed.popleft().size
        return taken > 0

    def _from_log(self, name: str, end: int | None) -> bool:
        """Write a piece of what is missing of a log; False when nothing was."""
        pieces: list[bytes] = []
        size = index = 0
        try:
            reader = self._reader(name)
            start = max(self._at.get(name, 0), reader.first)
            stop = reader.size if end is None else min(end, reader.size)
            for index, line in reader.records(start, stop) if start < stop else ():  # noqa: B007 - how far it went
                pieces.append(line)
                size += len(line)
                if size >= WRITE_BYTES:
                    break
        except (OSError, Fault):
            self._behind = True  # a log that cannot be read is not this sink's failure; later, then
        if pieces:
            self._append(pieces, {name: index + 1})
        return bool(pieces)

    def _reader(self, name: str) -> LogReader:
        found = self._readers.get(name)
        if found is None:
            found = self._readers[name] = self._open_log(name)
        return found

    def _append(self, lines: list[bytes], at: dict[str, int]) -> None:
        """Append all of it or none, and remember it."""
        data = b"\n".join(lines) + b"\n"
        self._rotate_if_full()
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            start = os.lseek(file, 0, os.SEEK_END)
            if start and os.pread(file, 1, start - 1) != b"\n":
                data = b"\n" + data  # what a process of an older version has left
            inode = os.fstat(file).st_ino
            if inode != self._inode:
                self._journal.append({"file": inode, "size": start, "at": {}})
                self._inode = inode
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(file, view) :]
                os.fdatasync(file)
                self._remember({"file": inode, "size": start + len(data), "at": at})
            except OSError:
                os.ftruncate(file, start)
                raise
        finally:
            os.close(file)
        self._at.update(at)

    def _remember(self, entry: dict[str, object]) -> None:
        if self._journal.large:
            self._journal.replace([{**entry, "at": {**self._at, **entry["at"]}}])  # type: ignore[dict-item]
        else:
            self._journal.append(
                entry, sync=False
            )  # an older one is as good: what is beyond it is cut off and written again

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
