"""How long a log's records are kept: what the subscription says, else the platform's settings. Asked by whatever prunes logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stockade.policy.snapshot import Snapshot

INDEX: Final = "audit-retention"
FOR_GOOD: Final = 0
"""Days that mean: nothing is removed."""


@dataclass(frozen=True, slots=True)
class AuditRetention:
    """What a subscription says. Index "audit-retention", by the subscription's GUID in lower case.

    days: kept from `since` on (epoch seconds); until then `before` days are.
    """

    days: int
    before: int
    since: float

    def in_force(self, now: float) -> int:
        """Return the days records are kept now."""
        return self.days if now >= self.since else self.before


def is_shorter(days: int, than: int) -> bool:
    """Say whether fewer records are kept."""
    return days != FOR_GOOD and (than == FOR_GOOD or days < than)


def keep_days(snapshot: Snapshot, log: str, otherwise: int, now: float) -> int:
    """Return how many days a log's records are kept, 0 for good. otherwise: what the settings say (`audit.keep_days`)."""
    found: AuditRetention | None = snapshot.only(INDEX, log)
    return found.in_force(now) if found is not None else otherwise
