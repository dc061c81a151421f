"""Keyed hashes for what could identify content: HMAC-SHA-256 with a key of its own, so that equal values can be found and none be read.

Hosts of URIs are what a record has of a body. They stand in `because` and `reported` of the outbound rule and the output filter, and in `fetched`.
Whoever has the platform's keys can look for a known host: `stockade audit hash HOST`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from stockade.kernel.faults import Fault
from stockade.kernel.record import AuditRecord
from stockade.kernel.secret import Secret

PURPOSE: Final = "audit-hash/1"
PREFIX: Final = "hmac:"
DIGITS: Final = 32
HIDDEN: Final = frozenset({"host"})
"""Members of `because` and `reported` that come out of a body."""
UNKNOWN: Final = PREFIX + "unknown"
"""What stands there when the key cannot be had: the platform is sealed. Never the value."""


def keyed_hash(key: Secret, value: str) -> str:
    """Return what stands for a value in records: `hmac:` and 32 hexadecimal digits, half of the HMAC. Case makes no difference."""
    digest = hmac.new(key.reveal(), value.lower().encode("utf-8", "surrogatepass"), hashlib.sha256)
    return PREFIX + digest.hexdigest()[:DIGITS]


class Hiding:
    """Puts keyed hashes into records. derive: gives a purpose's key, Fault when it cannot be had; set once there is somebody to ask."""

    def __init__(self, derive: Callable[[str], Secret] | None = None) -> None:
        self.derive = derive

    def __call__(self, record: AuditRecord) -> AuditRecord:
        because, reported, fetched = record.because, record.reported, record.fetched
        if because is None and reported is None and fetched is None:
            return record
        if fetched:
            fetched = [replace(one, host=self._hash(one.host)) for one in fetched]
        return replace(
            record,
            because=self._members(because) if because is not None else None,
            reported=[self._members(one) for one in reported] if reported is not None else None,
            fetched=fetched,
        )

    def _members(self, members: Mapping[str, str]) -> dict[str, str]:
        return {name: self._hash(value) if name in HIDDEN else value for name, value in members.items()}

    def _hash(self, value: str) -> str:
        if not value or value.startswith(PREFIX):
            return value
        try:
            return keyed_hash(self.derive(PURPOSE), value) if self.derive is not None else UNKNOWN
        except Fault:
            return UNKNOWN
