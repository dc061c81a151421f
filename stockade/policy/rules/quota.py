"""An account, and a deployment, has so many calls a minute.

Source: choices.md (row 429) and contracts, data-plane section 2 (rate limit row).
"""

from __future__ import annotations

import math

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import Snapshot

NAME = "quota"
POINT: Point = "body"
CONTROL: Control | None = None


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse a call above the SKU's or the deployment's calls per minute; the message says when to come back."""
    account, deployment = facts.account, facts.deployment
    if account is None or facts.operation is None:
        return None
    limit, used, whose = account.calls_per_minute, facts.calls_this_minute, f"{account.kind} {account.sku} pricing tier"
    of_deployment = deployment.calls_per_minute if deployment is not None else None
    if deployment is not None and of_deployment is not None and facts.deployment_calls_this_minute >= of_deployment:
        limit, used, whose = of_deployment, facts.deployment_calls_this_minute, f"deployment '{deployment.name}'"
    if limit is None or used < limit:
        return None
    wait_s = max(1, min(60, math.ceil(facts.seconds_to_next_minute)))
    message = (
        f"Requests to the {facts.operation.name} Operation have exceeded call rate limit of your current {whose}. "
        f"Please retry after {wait_s} second{'s' if wait_s != 1 else ''}."
    )
    fault = Fault(FaultKind.LIMIT, message, retry_after_s=float(wait_s), details={"limit": limit})
    return Deny(NAME, fault, {"limit": limit, "used": used})
