"""How a log lies on disk, and reading it: `audit/logs/<name>/`, which one process writes and any number read.

    0000000000000000.jsonl   a segment: the records from the index in its name on, one line each
    0000000000000000.ends    where each of its lines ends (eight bytes, little-endian), so that a record is found by its index
    hashes                   every complete node of the tree, in the order in which they came about (`tree.position`); never shortened
    size                     how many records count, and the root over them; twice, see below

Records, ends and hashes are written and synced before `size` says that they count. It has two places: the first is synced and is what the writer
opens with; the second, written only then, is what readers go by. Whatever lies behind is a torn tail, and the writer cuts it off when it opens.
What counts and does not add up is Fault(UNAVAILABLE): nothing is rebuilt, because that is what somebody would want who has changed it.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, pairwise
from pathlib import Path
from typing import Final, NoReturn

from stockade.audit import tree
from stockade.kernel.faults import Fault, FaultKind

READ_AT_ONCE: Final = 1024
"""Records that are read at once, and at most so many bytes of them, or a single one:"""
READ_BYTES: Final = 4 * 1024 * 1024
SEGMENT: Final = re.compile(r"([0-9]{16})\.jsonl")
END: Final = 8
STATE: Final = struct.Struct("<Q32s24s")
PLACE: Final = 512
"""How far the two places in `size` are apart: a sector, which is written whole or not at all."""


@dataclass(frozen=True, slots=True)
class State:
    """How many records count, and the root over them."""

    size: int = 0
    root: bytes = tree.EMPTY

    def packed(self) -> bytes:
        return STATE.pack(self.size, self.root, self._check())

    @classmethod
    def read(cls, data: bytes) -> State | None:
        if len(data) != STATE.size:
            return None
        size, root, check = STATE.unpack(data)
        found = cls(size, root)
        return found if found._check() == check else None

    def _check(self) -> bytes:
        return sha256(b"stockade log size 1" + self.size.to_bytes(8, "little") + self.root).digest()[:24]


class Reader:
    """Reads a log. Keeps no files open; safe in any number of threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        self._listed: tuple[tuple[int, ...], int] = ((), 0)
        """The segments, and how many records there were for certain when they were listed."""

    @property
    def size(self) -> int:
        return self._state().size

    @property
    def first(self) -> int:
        size = self.size
        firsts = self.list_segments(size)
        return min(firsts[0], size) if firsts else size

    def records(self, start: int, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield what is still kept of it; the index says what is not."""
        size = self.size
        end = size if end is None else min(end, size)
        start = max(start, 0)
        while start < end:
            first, stop = self._segment(start, size)
            start, stop = max(start, first), min(stop, end)
            if start >= end:
                return
            with ExitStack() as closing:
                try:
                    ends, lines = (closing.enter_context(path.open("rb")) for path in self._paths(first))
                except FileNotFoundError:  # retention has removed it since it was listed
                    self._listed = ((), 0)
                    if first in self.list_segments(size):
                        self._damaged(f"{self._paths(first)[0].name} is missing")
                    continue
                while start < stop:
                    found = self._lines(ends.fileno(), lines.fileno(), first, start, stop)
                    yield from enumerate(found, start)
                    start += len(found)

    def written(self) -> tuple[int, bytes]:
        """Return how many records there are, and what the root over them was when the last of them was written."""
        state = self._state()
        return state.size, state.root

    def root(self, size: int | None = None) -> bytes:
        wanted = self._known(size)
        with self._nodes() as node:
            return tree.root(wanted, node)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        with self._nodes() as node:
            return tree.inclusion(index, self._known(size), node)

    def consistency(self, first: int, second: int) -> list[bytes]:
        with self._nodes() as node:
            return tree.consistency(first, self._known(second), node)

    def subtrees(self, size: int) -> list[bytes]:
        """Return the hashes of the complete subtrees that make up the first `size` records, the largest first."""
        wanted = self._known(size)
        with self._nodes() as node:
            return [node(level, index) for level, index in tree.peaks(0, wanted)]

    def hashes(self, start: int, end: int) -> bytes:
        """Return the hashes that are written down for some records: each leaf, and behind it the nodes it completes."""
        begin, stop = tree.hashes_of(start), tree.hashes_of(self._known(end))
        try:
            with (self.folder / "hashes").open("rb") as file:
                file.seek(tree.HASH * begin)
                found = file.read(tree.HASH * (stop - begin))
        except FileNotFoundError:
            found = b""
        if len(found) != tree.HASH * (stop - begin):
            self._damaged("hashes are missing")
        return found

    def _known(self, size: int | None) -> int:
        known = self.size
        if size is None:
            return known
        if not 0 <= size <= known:
            raise ValueError(f"the log {self.name} has {known} records, not {size}")
        return size

    def _state(self) -> State:
        try:
            with (self.folder / "size").open("rb") as file:
                data = file.read(2 * PLACE)
        except FileNotFoundError:
            if (self.folder / "hashes").exists():
                self._damaged("`size` is missing")
            return State()
        shown, synced = State.read(data[PLACE : PLACE + STATE.size]), State.read(data[: STATE.size])
        if shown is None and synced is None and data:
            self._damaged("`size` is not readable")
        return shown or synced or State()

    def list_segments(self, size: int) -> tuple[int, ...]:
        """List the segments anew; size: how many records there are at least."""
        try:
            found = [SEGMENT.fullmatch(path.name) for path in self.folder.iterdir()]
            firsts = tuple(sorted(int(name[1]) for name in found if name is not None))
        except FileNotFoundError:
            firsts = ()
        self._listed = (firsts, size)
        return firsts

    def _segment(self, index: int, size: int) -> tuple[int, int]:
        """Return where the segment begins and ends that holds a record, or the first one behind it that is kept."""
        if index >= self._listed[1]:
            self.list_segments(size)
        firsts, known = self._listed
        if not firsts:
            self._damaged("no records are there")
        at = max(bisect_right(firsts, index) - 1, 0)
        return firsts[at], firsts[at + 1] if at + 1 < len(firsts) else known

    def _paths(self, first: int) -> tuple[Path, Path]:
        """Return the files of a segment: ends, lines."""
        return self.folder / f"{first:016d}.ends", self.folder / f"{first:016d}.jsonl"

    def _lines(self, ends: int, lines: int, first: int, start: int, stop: int) -> list[bytes]:
        """Return some of a segment's lines, from a record on: at least one, and not all at once."""
        count = min(stop - start, READ_AT_ONCE)
        at = END * (start - first)
        begin = int.from_bytes(os.pread(ends, END, at - END), "little") if at else 0
        packed = os.pread(ends, END * count, at)
        if len(packed) != END * count:
            self._damaged(f"it is not known where record {start} ends")
        found = struct.unpack(f"<{count}Q", packed)
        if any(one >= other for one, other in pairwise(chain((begin,), found))):
            self._damaged(f"records end before they begin, near {start}")
        found = found[: max(1, bisect_right(found, begin + READ_BYTES))]
        data = os.pread(lines, found[-1] - begin, begin) if found[-1] <= os.fstat(lines).st_size else b""
        if len(data) != found[-1] - begin or any(data[end - begin - 1] != 0x0A for end in found):
            self._damaged(f"lines are missing, near record {start}")
        return [data[one - begin : other - begin - 1] for one, other in pairwise(chain((begin,), found))]

    @contextmanager
    def _nodes(self) -> Iterator[tree.Node]:
        try:
            descriptor = os.open(self.folder / "hashes", os.O_RDONLY)
        except FileNotFoundError:
            if self.size:
                self._damaged("`hashes` is missing")
            yield lambda _, __: b""  # no records, no nodes
            return
        try:
            yield lambda level, index: self._node(descriptor, level, index)
        finally:
            os.close(descriptor)

    def _node(self, descriptor: int, level: int, index: int) -> bytes:
        found = os.pread(descriptor, tree.HASH, tree.HASH * tree.position(level, index))
        if len(found) != tree.HASH:
            self._damaged("hashes are missing")
        return found

    def _damaged(self, what: str) -> NoReturn:
        raise Fault(
            FaultKind.UNAVAILABLE, f"The audit log {self.name} is damaged: {what}. `stockade audit verify` says more."
        )
