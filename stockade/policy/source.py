"""Keeps a process's snapshot in step with the documents: the one place where policy is read from storage."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from stockade.policy.compile import Compiler
from stockade.policy.snapshot import Entry, Snapshot
from stockade.storage.database import Database
from stockade.storage.generation import Generation

BASE_OWNER = "base"


class SnapshotSource:
    """Hands out the current snapshot, catching up first when anything has been committed since the last call.

    base: entries that come with the software rather than from documents (the built-in roles).
    """

    def __init__(self, database: Database, compiler: Compiler, cell: Generation, base: Iterable[Entry] = ()) -> None:
        self._database, self._compiler, self._cell = database, compiler, cell
        self._base = self._snapshot = Snapshot().with_changes(0, {BASE_OWNER: tuple(base)})
        self._seen = -1
        self._lock = threading.Lock()

    def known(self) -> Snapshot | None:
        """Return the snapshot when nothing was published since it was made, without reading anything; None when `current` has to be asked."""
        return self._snapshot if self._cell.value == self._seen else None

    def current(self) -> Snapshot:
        """Return a snapshot that includes every commit published before this call.

        Raises Fault(UNAVAILABLE) when the documents cannot be read: an old snapshot is never used once a newer one is known to exist.
        """
        if self._cell.value == self._seen:
            return self._snapshot
        with self._lock:
            published = self._cell.value
            if published != self._seen:
                with self._database.read() as reader:
                    generation = reader.generation()
                    # A database older than what is known was restored from a backup: begin again.
                    known = self._snapshot if self._snapshot.generation <= generation else self._base
                    self._snapshot = self._compiler.apply(known, generation, reader.changed_since(known.generation))
                self._seen = published
            return self._snapshot
