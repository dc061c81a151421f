"""From documents to a snapshot: deterministic, and independent of the order in which documents are seen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from stockade.policy.snapshot import Entry, Snapshot
from stockade.storage.documents import Document, State

Compile: TypeAlias = Callable[[Document], Iterable[Entry]]
"""What one document type adds to the snapshot. Pure; a document it cannot read raises."""

log = logging.getLogger(__name__)


class Compiler:
    """Knows, per document type, how to turn a document into entries. Types it does not know add nothing."""

    def __init__(self, types: Mapping[str, Compile]) -> None:
        self._types = {name.lower(): compile_ for name, compile_ in types.items()}

    def entries(self, document: Document) -> tuple[Entry, ...]:
        """Return the document's entries; none unless it is live.

        A document that does not compile adds nothing, which denies whatever it would have allowed, and says so in the log.
        """
        compile_ = self._types.get(document.type)
        if compile_ is None or document.state is not State.LIVE:
            return ()
        try:
            entries = tuple(compile_(document))
            hash(
                tuple((index, key) for index, key, _ in entries)
            )  # a key that no index can hold is found here, not by every request
            return entries
        except Exception:
            log.exception("document does not compile and is not in force", extra={"document": document.id})
            return ()

    def apply(self, snapshot: Snapshot, generation: int, documents: Iterable[Document]) -> Snapshot:
        """Return the snapshot that follows when these documents have changed."""
        return snapshot.with_changes(generation, {document.id: self.entries(document) for document in documents})
