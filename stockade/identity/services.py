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


@dataclass(frozen=True, slots=True)
class IdentityServices:
    """Wired by boot.py. `snapshot` returns the current snapshot, every committed change included; it may read the database."""

    settings: Settings
    database: Database
    root_key: RootKey
    audit: AuditSink
    clock: Clock
    snapshot: Callable[[], Snapshot]
