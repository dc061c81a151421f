"""Calls per minute, counted across all worker processes without locks.

A memory-mapped table: one row per document ordinal, one column per worker process. A cell packs the minute it counts (upper 32 bits) and
the count. Only its own worker writes a cell; everyone sums the row. Rows beyond the table share (ordinal modulo rows), which errs to refusing.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path

ROWS = 65_536
COLUMNS = 32
"""Twice the largest number of workers: old and new ones overlap while certificates are reloaded."""


class RateCounters:
    """One process's view of the table, holding one column for its life."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        size = (ROWS * COLUMNS + 1) * 8
        descriptor = os.open(directory / "calls", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Held while a column is claimed: two workers raising the number of columns at once would lose one of them.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_size < size:
                os.ftruncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
            self._cells = memoryview(self._map).cast("Q")
            self._column = self._claim(directory)
        finally:
            fcntl.flock(
                descriptor, fcntl.LOCK_UN
            )  # closing alone would not: the mapping keeps the open file, and with it the lock
            os.close(descriptor)

    def used(self, ordinal: int, minute: int) -> int:
        """Return the calls counted in this minute by all workers."""
        cells, start = self._cells, (ordinal % ROWS) * COLUMNS + 1
        if cells[0] == 1:
            cell = cells[start]
            return cell & 0xFFFFFFFF if cell >> 32 == minute else 0
        return sum(cell & 0xFFFFFFFF for cell in cells[start : start + cells[0]] if cell >> 32 == minute)

    def count(self, ordinal: int, minute: int) -> None:
        """Add one call."""
        index = (ordinal % ROWS) * COLUMNS + 1 + self._column
        cell = self._cells[index]
        self._cells[index] = cell + 1 if cell >> 32 == minute else (minute << 32) + 1

    def _claim(self, directory: Path) -> int:
        for column in range(COLUMNS):
            descriptor = os.open(directory / f"column-{column}", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            self._held = descriptor  # released by the system when the process ends, however it ends
            if self._cells[0] <= column:
                self._cells[0] = column + 1
            return column
        raise RuntimeError(f"more than {COLUMNS} worker processes")
