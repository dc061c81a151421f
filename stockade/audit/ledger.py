"""A tamper-evident log, as everybody sees it: records in an order, a Merkle tree over them (RFC 9162 section 2), heads signed from time to time.

There is one log per subscription, which is whose records they are, and one for everything that is nobody's (`platform`). One process writes
(`serve/audit.py`); others read the same folders, `<data dir>/audit/logs/<name>/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

PLATFORM_LOG: Final = "platform"
ROLLED_BACK: Final = "RolledBack"
"""Code of the Fault that says that a log has fewer records than were signed, or than a witness has seen."""
FORKED: Final = "Forked"
"""Code of the Fault that says that a log has other records than a witness has seen."""
_SUBSCRIPTION: Final = re.compile(r"/subscriptions/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/|$)", re.IGNORECASE)


def log_of(resource: str) -> str:
    """Return the name of the log that a record about a resource belongs to: the subscription's GUID in lower case, or `platform`."""
    found = _SUBSCRIPTION.match(resource)
    return found.group(1).lower() if found is not None else PLATFORM_LOG


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a record stands for good: the log's name, its index there (from 0), and its leaf hash, SHA-256(0x00 || line)."""

    log: str
    index: int
    leaf: bytes


class LogReader(Protocol):
    """Reads one log. Safe beside the writer: what it shows is complete, and never more than has been synced."""

    name: str

    @property
    def size(self) -> int:
        """How many records there are, those included that retention has removed."""
        ...

    @property
    def first(self) -> int:
        """The index of the oldest record that is still kept; hashes of all are."""
        ...

    def records(self, start: int, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield index and line (JSON, without its newline) from start to before end, as far as they are still kept."""
        ...

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the tree of the first `size` records. ValueError beyond the end."""
        ...

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the path that proves a record at an index to be in the tree of a size (RFC 9162 section 2.1.3)."""
        ...

    def consistency(self, first: int, second: int) -> list[bytes]:
        """Return what proves the tree of one size to continue the tree of a smaller one (RFC 9162 section 2.1.4)."""
        ...


class LogWriter(LogReader, Protocol):
    """Writes one log. One per log and machine."""

    def append(self, lines: Sequence[bytes]) -> int:
        """Add records and return the first one's index; OSError leaves the log as it was. Not durable before `sync`.

        ValueError for a record that is not one line.
        """
        ...

    def sync(self) -> None:
        """Return when everything appended is on disk, and show it to readers. OSError: the log is as it was at the last `sync`.

        What was appended since then is forgotten and has to be appended again: after a failed sync nobody knows what the disk has of it.
        """
        ...

    def prune(self, before: int) -> None:
        """Remove the records below an index, exactly those; their hashes stay. ValueError beyond the end."""
        ...
