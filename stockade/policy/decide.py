"""Nothing else in the project says yes or no.

`decide(snapshot, facts, point)` walks the rules in the documented order and returns the first refusal. It is pure: time, addresses, counters
and credentials arrive as facts. Two points: `head` before the body is read, `body` after. A rule that raises refuses.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation
from stockade.kernel.principal import Credential
from stockade.kernel.verdict import Allow, Deny, Verdict
from stockade.policy.rules import ORDER
from stockade.policy.snapshot import AccountPolicy, DeploymentPolicy, Snapshot

Point: TypeAlias = Literal["head", "body"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Facts:
    """Everything a decision may depend on, gathered before it is taken. `head` facts first; the rest is filled in for `body`."""

    now: float
    address: str
    """The client's address as worked out by the gateway, e.g. `203.0.113.7` or `2001:db8::1`."""
    account: AccountPolicy | None
    regional: bool
    """The request came by the regional endpoint: only a key names the account."""
    credential: Credential | None
    operation: Operation | None
    path: str
    method: str
    deployment: DeploymentPolicy | None = None
    calls_this_minute: int = 0
    deployment_calls_this_minute: int = 0
    seconds_to_next_minute: float = 60.0


class Rule(Protocol):
    """One check. Pure: no clock, no I/O."""

    NAME: str
    POINT: Point

    def decide(self, snapshot: Snapshot, facts: Facts) -> Deny | None: ...


_RULES: dict[Point, tuple[Rule, ...]] = {
    "head": tuple(rule for rule in ORDER if rule.POINT == "head"),
    "body": tuple(rule for rule in ORDER if rule.POINT == "body"),
}


def decide(snapshot: Snapshot, facts: Facts, point: Point) -> Verdict:
    """Return Allow, or the Deny of the first rule of this point that refuses."""
    for rule in _RULES[point]:
        try:
            denied = rule.decide(snapshot, facts)
        except Exception:
            log.exception("a rule failed and the request was refused", extra={"rule": rule.NAME})
            return Deny(rule.NAME, Fault(FaultKind.INTERNAL, "The request could not be decided on and was refused."))
        if denied is not None:
            return denied
    return Allow()
