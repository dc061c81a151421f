"""What the identity service needs from the rest of the platform."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stockade.audit.log import AuditSink
from stockade.kernel.clock import Clock
from stockade.keys.root import RootKey
from stockade.policy.snapshot import Snapshot
from stockade.settings import Settings
from stockade.storage.database import Database


def _peer(peer: str, forwarded_for: str) -> str:
    return peer


@dataclass(frozen=True, slots=True)
class IdentityServices:
    """Wired by boot.

    snapshot:       returns the current snapshot, every committed change included; it may read the database.
    client_address: the caller's address from the peer's and the `X-Forwarded-For` header (trusted proxies are boot's business).
    """

    settings: Settings
    database: Database
    root_key: RootKey
    audit: AuditSink
    clock: Clock
    snapshot: Callable[[], Snapshot]
    client_address: Callable[[str, str], str] = _peer
