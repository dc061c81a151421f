"""Writing a log: batches are appended, synced, and then count. `reading.py` says how it lies on disk."""

from __future__ import annotations

import fcntl
import logging
import os
import struct
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from threading import RLock
from typing import Final

from stockade.audit import tree
from stockade.audit.disk import sync_folder, to_disk, write_at
from stockade.audit.heads import Heads
from stockade.audit.reading import END, PLACE, SEGMENT, STATE, Reader, State
from stockade.kernel.faults import Fault, FaultKind

SEGMENT_BYTES: Final = 64 * 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Files:
    """What a writer has open. old: segments that are full and not synced yet."""

    size: int
    hashes: int
    ends: int
    lines: int
    old: list[int] = field(default_factory=list)

    def close(self) -> None:
        for descriptor in (*self.old, self.lines, self.ends, self.hashes, self.size):
            os.close(descriptor)


class Writer(Reader):
    """Writes a log, alone: Fault(CONFLICT) while another process does. Its files are opened when they are needed and can be let go between.

    OSError from `append` leaves the log as it was before; from `sync`, as it was at the last `sync`: what was appended since has to be again.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        super().__init__(folder)
        self._segment_bytes = segment_bytes
        self._lock = RLock()
        self._files: _Files | None = None
        self._synced = State()
        self._tree = tree.Growing()
        self._begins = 0
        """The first record of the segment that is written now."""
        self._bytes = 0
        """Of that segment."""
        self._names_changed = False

    @property
    def is_open(self) -> bool:
        return self._files is not None

    def open(self) -> None:
        """Open what is not open, and cut off what does not count. Fault(UNAVAILABLE) for damage, Fault(CONFLICT), OSError."""
        with self._lock:
            self._opened()

    def close(self) -> None:
        """Let go of the files, and of what was not synced."""
        with self._lock:
            files, self._files = self._files, None
            if files is not None:
                files.close()

    def rest(self) -> bool:
        """Let go of the files, unless something has not been synced or somebody is writing. Says whether none are open."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._files is not None and self._tree.size == self._synced.size:
                self.close()
            return self._files is None
        finally:
            self._lock.release()

    def append(self, lines: Sequence[bytes]) -> int:
        data = b"\n".join(lines) + b"\n"
        if data.count(b"\n") != len(lines):
            if not lines:
                with self._lock:
                    self._opened()
                    return self._tree.size
            raise ValueError("a record is one line")
        with self._lock:
            files = self._opened()
            if self._bytes >= self._segment_bytes:
                self._next_segment(files)
            before, grown = self._tree.size, self._tree.copy()
            ends_at, hashes_at = END * (before - self._begins), tree.HASH * tree.hashes_of(before)
            hashes = grown.append(lines)
            ends = list(accumulate([len(line) + 1 for line in lines], initial=self._bytes))[1:]
            try:
                write_at(files.lines, data, self._bytes)
                write_at(files.ends, struct.pack(f"<{len(ends)}Q", *ends), ends_at)
                write_at(files.hashes, b"".join(hashes), hashes_at)
            except OSError:
                # Whatever is left of it lies behind what counts, and is written over; but a full disk wants its room back.
                for descriptor, length in (
                    (files.lines, self._bytes),
                    (files.ends, ends_at),
                    (files.hashes, hashes_at),
                ):
                    with suppress(OSError):
                        os.ftruncate(descriptor, length)
                raise
            self._tree, self._bytes = grown, self._bytes + len(data)
            return before

    def sync(self) -> None:
        with self._lock:
            files = self._opened()
            if self._tree.size == self._synced.size:
                return
            state = State(self._tree.size, self._tree.root())
            try:
                for descriptor in (*files.old, files.lines, files.ends, files.hashes):
                    to_disk(descriptor)
                if self._names_changed:
                    sync_folder(self.folder)
                write_at(files.size, state.packed(), 0)
                to_disk(files.size)
            except OSError:
                self._go_back(files)
                raise
            self._synced, self._names_changed = state, False
            while files.old:
                os.close(files.old.pop())
            with suppress(OSError):  # it is on disk; readers see it with the next one
                write_at(files.size, state.packed(), PLACE)

    def prune(self, before: int) -> None:
        """Remove the records below an index, exactly those: of a segment that goes on behind it the rest is copied first."""
        with self._lock:
            self.sync()
            files = self._opened()
            if not 0 <= before <= self._synced.size:
                raise ValueError(f"the log {self.name} has {self._synced.size} records, not {before}")
            firsts = self.list_segments(self._synced.size)
            kept = bisect_right(firsts, before) - 1
            if kept < 0 or (kept == 0 and firsts[0] == before):
                return
            for first in firsts[:kept]:
                self._remove(first)
            if firsts[kept] < before:
                stop = firsts[kept + 1] if kept + 1 < len(firsts) else self._synced.size
                self._copy_rest(firsts[kept], before, stop)
                self._remove(firsts[kept])
                if firsts[kept] == self._begins:
                    files.close()
                    self._files = None
                    self._opened()
            self.list_segments(self._synced.size)

    def _state(self) -> State:
        return self._synced if self._files is not None else super()._state()

    def _opened(self) -> _Files:
        if self._files is None:
            self._files = self._open()
        return self._files

    def _open(self) -> _Files:
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as undo:

            def opened(path: Path) -> int:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                undo.callback(os.close, descriptor)
                return descriptor

            size = opened(self.folder / "size")
            try:
                fcntl.flock(size, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as failure:
                message = f"Another process writes the audit log {self.name}."
                raise Fault(FaultKind.CONFLICT, message) from failure
            state = self._read_size(size)
            head = Heads(self.folder).newest()
            if head is not None and head.head.size > state.size:
                self._damaged(f"it has {state.size} records, and a tree head of {head.head.size}")
            firsts = self._whole(state)
            self._begins = firsts[-1] if firsts else 0
            hashes, (ends, lines) = opened(self.folder / "hashes"), map(opened, self._paths(self._begins))
            self._tree = self._grown(hashes, state)
            self._bytes = self._end(hashes, ends, lines, state.size)
            os.ftruncate(hashes, tree.HASH * tree.hashes_of(state.size))
            os.ftruncate(ends, END * (state.size - self._begins))
            os.ftruncate(lines, self._bytes)
            write_at(size, state.packed() + bytes(PLACE - STATE.size) + state.packed(), 0)
            self._synced, self._names_changed = state, True
            undo.pop_all()
        return _Files(size, hashes, ends, lines)

    def _read_size(self, descriptor: int) -> State:
        """Return what counts. Where there is nothing yet, say so durably before there is anything."""
        data = os.pread(descriptor, 2 * PLACE, 0)
        found = [State.read(data[at : at + STATE.size]) for at in (0, PLACE)]
        known = [state for state in found if state is not None]
        if known:
            if len(known) == 1:
                message = "a place in the audit log's `size` is not readable; the other one is used"
                log.error(message, extra={"log": self.name, "records": known[0].size})
            return max(known, key=lambda state: state.size)
        if any(path.name == "hashes" or SEGMENT.fullmatch(path.name) for path in self.folder.iterdir()):
            self._damaged("`size` is not readable")
        empty = State()
        write_at(descriptor, empty.packed() + bytes(PLACE - STATE.size) + empty.packed(), 0)
        to_disk(descriptor)
        sync_folder(self.folder)
        sync_folder(self.folder.parent)
        return empty

    def _whole(self, state: State) -> list[int]:
        """Return the segments that count, having removed those that do not and what an interrupted change has left."""
        listed = self.list_segments(state.size)
        firsts = [first for first in listed if first <= state.size]
        if state.size and not firsts:
            self._damaged("no records are there")
        for one, other in pairwise(firsts):
            ends = self._paths(one)[0]
            if not ends.exists() or ends.stat().st_size < END * (other - one):
                self._damaged(f"the records from {one} to {other} are not all there")
        for first in listed[len(firsts) :]:
            self._remove(first)
        used = {self._paths(first)[0] for first in firsts}
        for path in self.folder.iterdir():
            if path.suffix == ".new" or (path.suffix == ".ends" and path not in used):
                path.unlink()
        return firsts

    def _grown(self, hashes: int, state: State) -> tree.Growing:
        """Return the tree as the hashes have it, which has to be what was synced."""
        subtrees = (self._node(hashes, level, index) for level, index in tree.peaks(0, state.size))
        found = tree.Growing(state.size, subtrees)
        if found.root() != state.root:
            self._damaged("its hashes are not those that were written")
        return found

    def _end(self, hashes: int, ends: int, lines: int, size: int) -> int:
        """Return where what counts of the newest segment ends; its last line has to be the one that the tree has."""
        if size == self._begins:
            return 0
        line = self._lines(ends, lines, self._begins, size - 1, size)[0]
        if tree.leaf_hash(line) != self._node(hashes, 0, size - 1):
            self._damaged(f"record {size - 1} is not the one that was written")
        return int.from_bytes(os.pread(ends, END, END * (size - 1 - self._begins)), "little")

    def _next_segment(self, files: _Files) -> None:
        paths = self._paths(self._tree.size)
        with ExitStack() as undo:
            made = []
            for path in paths:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                undo.callback(path.unlink, missing_ok=True)
                undo.callback(os.close, descriptor)
                made.append(descriptor)
            undo.pop_all()
        files.old += [files.lines, files.ends]
        files.ends, files.lines = made
        self._begins, self._bytes, self._names_changed = self._tree.size, 0, True

    def _go_back(self, files: _Files) -> None:
        """Return to what was synced last. After a failed sync nobody knows what of the rest the disk has, so that none of it counts."""
        with suppress(OSError):
            write_at(files.size, self._synced.packed(), 0)
        files.close()
        self._files = None
        with suppress(OSError, Fault):
            self._opened()

    def _copy_rest(self, first: int, begin: int, stop: int) -> None:
        """Make a segment of the records of another one from `begin` on."""
        paths = [path.with_name(f"{path.name}.new") for path in self._paths(begin)]
        with ExitStack() as undo:
            for path in paths:
                undo.callback(path.unlink, missing_ok=True)
            self._copy(first, begin, stop, paths)
            for path in paths:  # the ends first: a segment is there when its lines are
                path.rename(path.with_suffix(""))
                sync_folder(self.folder)

    def _copy(self, first: int, begin: int, stop: int, paths: Sequence[Path]) -> None:
        with ExitStack() as closing:
            old_ends, old_lines = (closing.enter_context(path.open("rb")) for path in self._paths(first))
            ends, lines = (closing.enter_context(open(path, "wb", opener=_private)) for path in paths)
            end = 0
            while begin < stop:
                found = self._lines(old_ends.fileno(), old_lines.fileno(), first, begin, stop)
                lines.write(b"".join(line + b"\n" for line in found))
                for line in found:
                    end += len(line) + 1
                    ends.write(end.to_bytes(END, "little"))
                begin += len(found)
            for file in (ends, lines):
                file.flush()
                to_disk(file.fileno())

    def _remove(self, first: int) -> None:
        """Remove a segment; not its lines without its ends, and not a later one without this, whatever the disk remembers of it."""
        ends, lines = self._paths(first)
        lines.unlink(missing_ok=True)
        sync_folder(self.folder)
        ends.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
