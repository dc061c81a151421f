"""Is there such an operation? Asked after the credential, so that only callers whose credential held may learn it."""

from __future__ import annotations

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import Snapshot

NAME = "operation"
POINT: Point = "head"
CONTROL: Control | None = None


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse method and path that no service of the account's kind knows."""
    if facts.operation is None or facts.account is None:
        because = {"path": facts.path, "method": facts.method}
        return Deny(NAME, Fault(FaultKind.NOT_FOUND, "Resource not found"), because)
    return None
