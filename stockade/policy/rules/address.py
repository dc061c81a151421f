"""Is there an account at this address? One answer whether or not the name was ever used.

On the listener of a private endpoint there is one account, the connection's own, by its subdomain; all others are answered for as if they did
not exist. That holds whatever the mode of any control: it says which account is there, not who may reach it.
"""

from __future__ import annotations

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import Snapshot

NAME = "address"
POINT: Point = "head"
CONTROL: Control | None = None

NETWORK_DENIED = "Access denied due to Virtual Network/Firewall rules."


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse a host or path that names no account. On the regional endpoint the key names it, so the credential rule answers.

    Source for private endpoints and the regional one: contracts, control-plane section 8 (clients have to use the custom subdomain).
    """
    if facts.private_endpoint is not None:
        connection = snapshot.only("private-endpoint-connection", facts.private_endpoint)
        account = None if facts.regional else facts.account
        if connection is None or account is None or account.id != connection.account_id:
            because = {"privateEndpoint": facts.private_endpoint}
            return Deny(NAME, Fault(FaultKind.NOT_FOUND, "Resource not found"), because)
        if connection.status != "Approved":  # an approval is no rule that could be tried in `report`
            because = {"privateEndpoint": facts.private_endpoint, "status": connection.status}
            return Deny(NAME, Fault(FaultKind.NETWORK_DENIED, NETWORK_DENIED), because)
    elif facts.account is None and not facts.regional:
        return Deny(NAME, Fault(FaultKind.NOT_FOUND, "Resource not found"))
    return None
