"""A log in memory: `LogReader` without a disk, for what reads logs. Its tree is the RFC's definition, recursive and slow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

import msgspec

from stockade.kernel.record import AuditRecord


class MemoryLog:
    """`LogReader`; `add` and `prune` are the tests'."""

    def __init__(self, name: str, records: Sequence[AuditRecord | bytes] = ()) -> None:
        self.name, self.first = name, 0
        self.lines: list[bytes] = []
        self.add(*records)

    def add(self, *records: AuditRecord | bytes) -> None:
        self.lines += [one if isinstance(one, bytes) else msgspec.json.encode(one) for one in records]

    def prune(self, before: int) -> None:
        self.first = before

    @property
    def size(self) -> int:
        return len(self.lines)

    def records(self, start: int, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        for place in range(max(start, self.first), self.size if end is None else min(end, self.size)):
            yield place, self.lines[place]

    def root(self, size: int | None = None) -> bytes:
        return _root(self._leaves(self.size if size is None else size))

    def inclusion(self, index: int, size: int) -> list[bytes]:
        return _path(index, self._leaves(size))

    def consistency(self, first: int, second: int) -> list[bytes]:
        return [] if first == second else _subproof(first, self._leaves(second), whole=True)

    def _leaves(self, size: int) -> list[bytes]:
        if not 0 <= size <= self.size:
            raise ValueError(size)
        return [sha256(b"\0" + line).digest() for line in self.lines[:size]]


def _split(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    middle = _split(len(leaves))
    return sha256(b"\1" + _root(leaves[:middle]) + _root(leaves[middle:])).digest()


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    if index < middle:
        return [*_path(index, leaves[:middle]), _root(leaves[middle:])]
    return [*_path(index - middle, leaves[middle:]), _root(leaves[:middle])]


def _subproof(first: int, leaves: list[bytes], *, whole: bool) -> list[bytes]:
    if first == len(leaves):
        return [] if whole else [_root(leaves)]
    middle = _split(len(leaves))
    if first <= middle:
        return [*_subproof(first, leaves[:middle], whole=whole), _root(leaves[middle:])]
    return [*_subproof(first - middle, leaves[middle:], whole=False), _root(leaves[:middle])]
