"""Is there an account at this address? One answer whether or not the name was ever used."""

from __future__ import annotations

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import Snapshot

NAME = "address"
POINT: Point = "head"
CONTROL: Control | None = None


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse a host or path that names no account. On the regional endpoint the key names it, so the credential rule answers."""
    if facts.account is None and not facts.regional:
        return Deny(NAME, Fault(FaultKind.NOT_FOUND, "Resource not found"))
    return None
