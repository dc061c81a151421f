"""A request to a restricted account carries only URIs whose hosts are on its list.

The host is named in the refusal, never the rest of the URI: the rest may be the secret. Source: choices.md (row "URI not allowed").
"""

from __future__ import annotations

import re

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import Snapshot

NAME = "outbound"
POINT: Point = "body"
CONTROL: Control | None = Control.DLP
EGRESS = "egress"
"""Stands for a rule's name where the platform would not go for content: an inside address, another scheme, too many redirects (`egress/`)."""

_LAST_NAME = re.compile(r"([^.\[\]]+)(?:\[\d+\])*$")


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse the first URI that the account's list does not allow."""
    account = facts.account
    if account is None or account.outbound is None:
        return None
    for found in facts.uris:
        refused = account.outbound.refuse(found)
        if refused is not None:
            last = _LAST_NAME.search(found.path)
            parameter = last[1] if last is not None else found.path
            named = f"The hostname '{refused.host}'" if refused.host else "The value, which cannot be read as a URI,"
            said = "is not in the allowed FQDN list for this resource."
            if refused.detail:
                named = f"The URI with the hostname '{refused.host}'" if refused.host else "The URI"
                said = f"is refused: {refused.detail}."
            message = f"Outbound network access is restricted. {named} for parameter '{parameter}' {said}"
            because = {
                "path": found.path,
                "host": refused.host,
                "why": refused.reason,
                "allowedEntries": len(account.outbound.allowed.entries),
            }
            return Deny(NAME, Fault(FaultKind.OUTBOUND_DENIED, message, target=found.path), because)
    return None
