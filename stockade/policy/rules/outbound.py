"""A request to a restricted account carries only URIs whose hosts are on its list.

The host is named in the refusal, never the rest of the URI: the rest may be the secret. Source: choices.md (row "URI not allowed").
"""

from __future__ import annotations

import re

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import Snapshot

NAME = "outbound"
POINT: Point = "body"

_LAST_NAME = re.compile(r"([^.\[\]]+)(?:\[\d+\])*$")


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse the first URI that the account's list does not allow."""
    account = facts.account
    if account is None or account.outbound is None:
        return None
    for path, uri in facts.uris:
        host = account.outbound.refused_host(uri)
        if host is not None:
            found = _LAST_NAME.search(path)
            parameter = found[1] if found is not None else path
            named = f"The hostname '{host}'" if host else "The value, which cannot be read as a URI,"
            message = (
                f"Outbound network access is restricted. {named} for parameter '{parameter}' "
                "is not in the allowed FQDN list for this resource."
            )
            because = {"path": path, "host": host, "allowedEntries": len(account.outbound.entries)}
            return Deny(NAME, Fault(FaultKind.OUTBOUND_DENIED, message, target=path), because)
    return None
