"""Nothing else in the project says yes or no.

`decide(snapshot, facts, point)` walks the rules in the documented order and returns the first refusal. It is pure: time, addresses,
counters and credentials arrive as facts. Two points: `head` before the body is read, `body` after. A rule that raises refuses.
"""

from __future__ import annotations

import logging

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Allow, Deny, Verdict
from stockade.policy.facts import Facts, Point, Rule
from stockade.policy.rules import ORDER
from stockade.policy.snapshot import Snapshot

log = logging.getLogger(__name__)


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
