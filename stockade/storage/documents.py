"""The document: the one shape in which resources, principals, keys and settings are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]


class State(StrEnum):
    """Whether a document is there."""

    LIVE = "live"
    SOFT_DELETED = "softDeleted"
    """Deleted, restorable until `purge_at`, its name still taken. Not in force: compiles to nothing."""
    GONE = "gone"
    """Removed. The row stays as a marker, so that every process learns of the removal; body and private part are emptied."""


@dataclass(frozen=True, slots=True)
class Document:
    """One stored document.

    id:         lower-case ARM id (or an id of ours below `/providers/Stockade.*`); the identity.
    type:       lower-case type, e.g. `microsoft.cognitiveservices/accounts`.
    body:       what clients may see. Read-only by convention: derive a new one, never change it in place.
    private:    what no client sees: digests, sealed secrets, counters.
    ordinal:    small number that stays with the row for its life; indexes the shared rate counters.
    purge_at:   epoch seconds, for soft-deleted documents.
    """

    id: str
    type: str
    body: Mapping[str, Any]
    private: Mapping[str, Any] = field(default_factory=dict)
    state: State = State.LIVE
    etag: str = ""
    generation: int = 0
    ordinal: int = 0
    subscription: str = ""
    resource_group: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    purge_at: float | None = None

    @property
    def name(self) -> str:
        return str(self.body.get("name") or self.id.rsplit("/", 1)[-1])
