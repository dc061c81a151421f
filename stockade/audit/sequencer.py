"""Gives every record its place: takes in the spools of all processes and appends what is in them to the logs. One per data directory.

Exactly once, whatever is killed when. A batch is written down before it is begun (`sequencer.state`): which bytes of which spools, and how long
each log is before it. After a kill the logs' own lengths say how much of it was done, and the rest of the same lines follows. A log that cannot
be written keeps its batches in the spools, in the order that was written down; the copy (`mirror.py`) goes on meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from stockade.audit import spool_files
from stockade.audit.journal import Journal
from stockade.audit.ledger import PLATFORM_LOG, LogWriter, Placed
from stockade.kernel.faults import Fault

STATE_NAME: Final = "sequencer.state"
LOCK_NAME: Final = "sequencer.lock"
BATCH_BYTES: Final = 8 * 1024 * 1024
LOOK_FOR_ENDED_S: Final = 1.0
"""How often it is looked whether the writer of a spool that was taken in whole is still there."""
DRAFT_LIFE_S: Final = 60.0
PLACES_KEPT: Final = 4096
"""Places that wait to be asked for."""

log = logging.getLogger(__name__)

Range: TypeAlias = tuple[str, int, int]
"""A spool's name, and the bytes from where to where."""


class NotAlone(Exception):
    """Another process takes in the spools of this data directory."""


@dataclass(slots=True)
class _Batch:
    number: int
    ranges: tuple[Range, ...]
    before: dict[str, int]
    lines: dict[str, list[bytes]] | None
    """None when they have to be read again."""
    torn: bool = False
    """Spools of it were removed by somebody else, so that nobody can say which lines these are."""
    places: list[tuple[str, int, str, int]] = field(default_factory=list)
    """Of lines whose place is wanted: spool, offset there, log, number among the log's."""


class Sequencer:
    """Takes in spools. Everything but `placed` is for one thread.

    open_log: returns a log's writer, whatever a kill has left of it put right; asked for each batch, so that it may let go of files between.
    known:    whether there is such a subscription; records about others go to the platform's log, so that nobody makes logs by asking for
              resources that are not there.
    hand:     gets what is taken in, in order.
    """

    def __init__(
        self,
        audit_dir: Path,
        open_log: Callable[[str], LogWriter],
        *,
        known: Callable[[str], bool] = lambda _: True,
        hand: Callable[[str, int, Sequence[bytes]], None] = lambda _name, _index, _lines: None,
    ) -> None:
        self._audit_dir, self._folder = audit_dir, spool_files.folder_of(audit_dir)
        self._open_log, self._known, self._hand = open_log, known, hand
        self._journal = Journal(audit_dir / STATE_NAME)
        self._lock = -1
        self._next: dict[str, int] = {}
        """Per log the index that comes next, what is still to be appended counted. Written down, so that it is known of a log out of reach too."""
        self._cursor: dict[str, int] = {}
        self._pending: list[_Batch] = []
        self._number = self._done = self._done_noted = 0
        self._failed = ""
        self._grown: set[str] = set()
        self._looked = 0.0
        self._places: OrderedDict[tuple[str, int], Placed] = OrderedDict()
        self._placing = threading.Condition()
        self._waiting = 0

    @property
    def why(self) -> str:
        """What keeps the logs from being written; "" while they can be."""
        return self._failed

    @property
    def waiting(self) -> int:
        """Bytes in the spools that were not in the logs when it was last looked."""
        return self._waiting

    def grown(self) -> set[str]:
        """Return the logs that were appended to since this was asked last."""
        found, self._grown = self._grown, set()
        return found

    @property
    def ends(self) -> Mapping[str, int]:
        """Per log the index that comes next once everything that was taken in is appended."""
        return self._next

    def open(self, wait_s: float = 0.0) -> None:
        """Be the one that takes in, and find out how far the last one came; NotAlone, OSError. What was under way is gone on with by `take_in`."""
        self._audit_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + wait_s
        lock = os.open(self._audit_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise NotAlone("another process takes in the audit records of this data directory") from None
                    time.sleep(0.05)
            self._resume(self._journal.read())
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def close(self) -> None:
        """Let another one take in."""
        self._journal.close()
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def take_in(self) -> int:
        """Take in what the spools hold, and return how many records were appended to the logs. Failures are `why`, and are tried again next time."""
        count, more = 0, True
        failure: OSError | Fault | None = None
        while more or (self._pending and failure is None):
            try:
                count += self._append_pending()
            except (OSError, Fault) as caught:
                failure = caught  # what comes now waits behind it, and goes to the copy meanwhile
            try:
                more = more and self._take_batch()
            except (OSError, Fault) as caught:
                failure, more = failure or caught, False
        now = time.monotonic()
        if now - self._looked >= LOOK_FOR_ENDED_S:
            self._looked = now
            try:
                self._remove_ended()
            except OSError as caught:
                failure = failure or caught
        if failure is not None:
            self._fail(failure)
        elif self._failed:
            log.warning("the audit logs can be written again")
            self._failed = ""
        return count

    def placed(self, file: str, offset: int, timeout_s: float) -> Placed | None:
        """Return where a record stands whose place was wanted, once it does; None when it does not in time. Safe in any thread."""
        with self._placing:
            self._placing.wait_for(lambda: (file, offset) in self._places, timeout_s)
            return self._places.get((file, offset))

    def _resume(self, entries: Iterable[dict[str, Any]]) -> None:
        found: dict[int, _Batch] = {}
        for entry in entries:
            self._done = max(self._done, entry["done"])
            self._cursor.update(entry.get("cursor", {}))
            self._next.update(entry.get("after", {}))
            if "batch" in entry:
                ranges = tuple((str(name), int(start), int(end)) for name, start, end in entry["take"])
                found[entry["batch"]] = _Batch(entry["batch"], ranges, entry["before"], None)
                self._cursor.update({name: end for name, _, end in ranges})
        batches = list(found.values())
        self._done_noted = self._done
        self._number = max([self._done, *(batch.number for batch in batches)])
        self._pending = [batch for batch in batches if batch.number > self._done]
        for batch in self._pending:
            lines = self._lines_of(batch)
            for name, taken in lines.items() if not batch.torn else ():
                self._hand(name, batch.before[name], taken)

    # Taking in

    def _take_batch(self) -> bool:
        """Write down and read one batch, if there is one; say whether there may be another."""
        ranges: list[Range] = []
        data: list[tuple[str, int, bytes]] = []
        size = self._waiting = 0
        more = False
        for one in spool_files.found(self._folder):
            start = self._cursor.get(one.name, 0)
            end = min(one.size, start + BATCH_BYTES - size)
            self._waiting += max(0, one.size - start)
            more = more or end < one.size
            if end <= start:
                continue
            piece = self._read(one.name, start, end)
            piece = piece[: piece.rfind(b"\n") + 1]
            if piece:
                ranges.append((one.name, start, start + len(piece)))
                data.append((one.name, start, piece))
                size += len(piece)
        if not ranges:
            return False
        lines, places = self._sort(data, None)
        before = {name: self._end(name) for name in lines}
        after = {name: before[name] + len(taken) for name, taken in lines.items()}
        batch = _Batch(self._number + 1, tuple(ranges), before, lines, places=places)
        self._journal.append({**self._entry(batch), "after": after})
        self._number, self._done_noted = batch.number, self._done
        self._pending.append(batch)
        for name, start, end in ranges:
            assert self._cursor.get(name, 0) == start
            self._cursor[name] = end
        self._next.update(after)
        for name, taken in lines.items():
            self._hand(name, before[name], taken)
        return more

    def _sort(
        self, data: Iterable[tuple[str, int, bytes]], names: Mapping[str, int] | None
    ) -> tuple[dict[str, list[bytes]], list[tuple[str, int, str, int]]]:
        """Return lines by log, and of those whose place is wanted: spool, offset there, log, number among the log's.

        names: the logs of a batch that was written down; what went to the platform's log then does so again.
        """
        lines: dict[str, list[bytes]] = {}
        places: list[tuple[str, int, str, int]] = []
        plain: dict[bytes, list[bytes]] = {}
        """Where lines go that begin so and want no place: nearly all, thousands at a time."""
        for file, start, piece in data:
            offset = start
            for line in piece.split(b"\n")[:-1]:
                head, _, record = line.partition(b" ")
                of_log = plain.get(head)
                if of_log is None:
                    read = spool_files.read_head(head)
                    if read is None or not record:
                        log.error("something in a spool is no audit record", extra={"file": file, "offset": offset})
                        offset += len(line) + 1
                        continue
                    wanted, name = read
                    if name != PLATFORM_LOG and not (name in names if names is not None else self._has_log(name)):
                        name = PLATFORM_LOG
                    of_log = lines.setdefault(name, [])
                    if wanted:
                        places.append((file, offset, name, len(of_log)))
                    else:
                        plain[head] = of_log
                of_log.append(record)
                offset += len(line) + 1
        return lines, places

    def _has_log(self, name: str) -> bool:
        return name in self._next or self._known(name)

    def _end(self, name: str) -> int:
        if name not in self._next:
            self._next[name] = self._open_log(name).size
        return self._next[name]

    def _read(self, name: str, start: int, end: int) -> bytes:
        try:
            file = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(file, end - start, start)
        finally:
            os.close(file)

    def _lines_of(self, batch: _Batch) -> dict[str, list[bytes]]:
        if batch.lines is None:
            data = [(name, start, self._read(name, start, end)) for name, start, end in batch.ranges]
            if any(
                len(piece) != end - start for (_, start, end), (_, _, piece) in zip(batch.ranges, data, strict=True)
            ):
                log.error(
                    "spools of the audit log were removed before they were taken in", extra={"batch": batch.number}
                )
                batch.torn = True
            batch.lines, batch.places = self._sort(data, batch.before)
        return batch.lines

    # Appending

    def _append_pending(self) -> int:
        count = 0
        while self._pending:
            batch = self._pending[0]
            try:
                count += self._append(batch)
            except (OSError, Fault):
                batch.lines = None  # they are in the spools
                raise
            self._pending.pop(0)
            self._done = batch.number
        return count

    def _append(self, batch: _Batch) -> int:
        count = 0
        for name, lines in self._lines_of(batch).items():
            ledger = self._open_log(name)
            have = ledger.size - batch.before[name]
            if have < 0:
                log.error("a log is shorter than it was", extra={"log": name, "missing": -have})
                batch.before[name] = ledger.size
                self._journal.append(self._entry(batch))  # or a kill would have it appended twice
                have = 0
            missing = lines[have:] if not have or not batch.torn else []
            if missing:
                ledger.append(missing)
                self._grown.add(name)
                count += len(missing)
            ledger.sync()
            if not any(name in other.before for other in self._pending[1:]):
                self._next[name] = ledger.size
        if batch.places:
            self._tell_places(batch)
        return count

    def _tell_places(self, batch: _Batch) -> None:
        lines = self._lines_of(batch)
        with self._placing:
            for file, offset, name, number in batch.places:
                leaf = hashlib.sha256(b"\0" + lines[name][number]).digest()
                self._places[file, offset] = Placed(name, batch.before[name] + number, leaf)
            while len(self._places) > PLACES_KEPT:
                self._places.popitem(last=False)
            self._placing.notify_all()

    def _fail(self, failure: OSError | Fault) -> None:
        text = failure.message if isinstance(failure, Fault) else failure.strerror or type(failure).__name__
        if text != self._failed:
            log.error("the audit logs cannot be written; records stay in the spools until they can: %s", text)
        self._failed = text

    # What has been taken in

    def _remove_ended(self) -> None:
        held = {name for batch in self._pending for name, _, _ in batch.ranges}
        removed = False
        for one in spool_files.found(self._folder):
            start, path = self._cursor.get(one.name, 0), self._folder / one.name
            if one.name in held or (not one.ended and not spool_files.has_ended(path)):
                continue
            if one.size > start and b"\n" in self._read(one.name, start, one.size):
                continue  # taken in next time
            if path.stat().st_size != one.size:
                continue  # its writer wrote once more before it ended
            if one.size > start:
                log.warning("a record that a process was cut off in was dropped", extra={"bytes": one.size - start})
            if self._done_noted != self._done:
                # Else a kill would have the batch looked at once more, with its spools gone.
                self._journal.append({"done": self._done})
                self._done_noted = self._done
            path.unlink(missing_ok=True)
            removed = True
        if removed or self._journal.large:
            self._tidy(removed=removed)

    def _tidy(self, *, removed: bool) -> None:
        with contextlib.suppress(FileNotFoundError):
            if removed:
                spool_files.sync_folder(self._folder)
            names = {path.name for path in self._folder.iterdir()}
            self._cursor = {name: end for name, end in self._cursor.items() if name in names}
            for name in names:
                if name.startswith(".") and time.time() - (self._folder / name).stat().st_mtime > DRAFT_LIFE_S:
                    (self._folder / name).unlink(missing_ok=True)
        if self._journal.large:
            whole: list[dict[str, Any]] = [{"cursor": self._cursor, "after": self._next, "done": self._done}]
            self._journal.replace([*whole, *(self._entry(batch) for batch in self._pending)])

    def _entry(self, batch: _Batch) -> dict[str, Any]:
        return {"batch": batch.number, "done": self._done, "take": batch.ranges, "before": batch.before}
