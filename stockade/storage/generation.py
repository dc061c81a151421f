"""The number that tells every process of this machine that policy has changed.

Eight bytes of a memory-mapped file, written by whoever commits, right after the commit, and
read by every data-plane worker at every request for about 0.1 microseconds. The database's own counter is the truth; this file is rebuilt
from it at start, so a crash between a commit and its publication cannot leave a worker behind once the platform answers again.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

GENERATION_FILE: Final = "generation"
"""Its name in the run folder."""


class Generation(Protocol):
    """What says that policy has changed."""

    @property
    def value(self) -> int:
        """The newest generation that is known of; Fault(UNAVAILABLE) when it cannot be read."""
        ...

    def restart(self, generation: int) -> None: ...
    def publish(self, generation: int) -> None: ...


class GenerationCell:
    """A shared 64-bit counter. `value` is one aligned load."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < 8:
                os.ftruncate(descriptor, 8)
            self._map = mmap.mmap(descriptor, 8)
        finally:
            os.close(descriptor)
        self._cell = memoryview(self._map).cast("Q")

    @property
    def value(self) -> int:
        return self._cell[0]

    def restart(self, generation: int) -> None:
        """Set the counter to the database's own, also backwards.

        After a backup was restored the file is ahead of the documents, and publications of newer commits would be ignored.
        """
        self._cell[0] = generation

    def publish(self, generation: int) -> None:
        """Raise the counter; a smaller number is ignored, so that late publications of earlier commits do no harm."""
        if generation > self._cell[0]:
            self._cell[0] = generation


class AskedGeneration:
    """The database's own number, asked for each time: for a process that cannot share memory with those that write.

    read: returns it; Fault(UNAVAILABLE) when the database cannot be reached.
    """

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read

    @property
    def value(self) -> int:
        return self._read()

    def restart(self, generation: int) -> None:
        """Have nothing to set: the database is the truth."""

    def publish(self, generation: int) -> None:
        """Have nobody to tell: the others ask the database now and then."""
