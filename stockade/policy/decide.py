"""Nothing else in the project says yes or no.

`decide(snapshot, facts, point)` walks the rules in the documented order and returns the first refusal. It is pure: time, addresses,
counters and credentials arrive as facts. Two points: `head` before the body is read, `body` after. A rule that raises refuses, whatever the
mode of its control.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

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


_ALLOW: Final = Allow()


def decide(snapshot: Snapshot, facts: Facts, point: Point) -> Verdict:
    """Return Allow, or the Deny of the first rule of this point that refuses and is enforced.

    A rule whose control the account has in `report` refuses nothing: what it would have refused stands in the verdict's `reported`. One in `off`
    is not asked.
    """
    reported: tuple[Deny, ...] = ()
    modes = facts.account.modes if facts.account is not None else None
    for rule in _RULES[point]:
        mode = modes.get(rule.CONTROL, "enforce") if modes and rule.CONTROL is not None else "enforce"
        if mode == "off":
            continue
        try:
            denied = rule.decide(snapshot, facts)
        except Exception:
            log.exception("a rule failed and the request was refused", extra={"rule": rule.NAME})
            fault = Fault(FaultKind.INTERNAL, "The request could not be decided on and was refused.")
            return Deny(rule.NAME, fault, reported=reported)
        if denied is None:
            continue
        if mode == "enforce":
            return replace(denied, reported=reported) if reported else denied
        reported = (*reported, denied)
    return Allow(reported) if reported else _ALLOW
