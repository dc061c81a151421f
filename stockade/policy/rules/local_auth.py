"""An account may take identities only: `disableLocalAuth`.

Source: choices.md (row "Key while `disableLocalAuth`").
"""

from __future__ import annotations

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import KeyCredential
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import Snapshot

NAME = "local-auth"
POINT: Point = "head"
CONTROL: Control | None = Control.LOCAL_AUTH

LOCAL_AUTH_DISABLED = "Key based authentication is disabled for this resource."


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse a key, which the credential rule has found to be the account's own, where the account takes none."""
    account, credential = facts.account, facts.credential
    if account is None or account.local_auth or not isinstance(credential, KeyCredential):
        return None
    if facts.operation is not None and facts.operation.data_action is None:
        return None
    because = {"slot": credential.slot, "disableLocalAuth": "true"}
    return Deny(NAME, Fault(FaultKind.LOCAL_AUTH_DISABLED, LOCAL_AUTH_DISABLED), because)
