"""Can the key on which the account's stored content depends be used? Also asked again for requests under way, which it then cuts.

Source: choices.md ("Customer's key unavailable"): deployed custom models are stopped too, where Azure lets them go on.
"""

from __future__ import annotations

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.customer_key import unavailable
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import Snapshot

NAME = "customer-key"
POINT: Point = "head"
CONTROL: Control | None = None


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse what reads or writes stored content, and by default everything else, while the customer's key does not serve."""
    account, operation = facts.account, facts.operation
    if account is None or operation is None or account.customer_key is None:
        return None
    key = account.customer_key
    if operation.stores != "customer-content" and not key.guards_stateless:
        return None
    found = unavailable(snapshot, account.id, key, facts.now)
    if found is None:
        return None
    message = f"The customer-managed key of this resource cannot be used: {found.message}"
    because = {
        "problem": found.problem,
        "vault": key.vault_uri,
        "key": key.key_name,
        "keyVersion": key.key_version or "newest",
    }
    return Deny(NAME, Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, message, details={"problem": found.problem}), because)
