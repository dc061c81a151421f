"""The credential must prove who is asking.

Source: choices.md (credential rows) and contracts, data-plane sections 1.3 and 2.
"""

from __future__ import annotations

from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import KeyCredential, RejectedCredential, TokenCredential
from stockade.kernel.verdict import Deny
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import Snapshot

NAME = "credential"
POINT: Point = "head"
CONTROL: Control | None = None

UNAUTHORIZED = "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired."
KEY_REJECTED = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active "
    "subscription and use a correct regional API endpoint for your resource."
)
SUBDOMAIN_REQUIRED = "Please provide a custom subdomain for token authentication, otherwise API key is required."
SEVERAL = "The request carries more than one credential and they disagree. Send exactly one."


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse a missing, unknown or unfit credential."""
    operation, account = facts.operation, facts.account
    if operation is not None and operation.data_action is None and account is not None:
        return None
    match facts.credential:
        case KeyCredential(account_id=account_id):
            if account is None or account_id != account.id:
                return _deny(FaultKind.KEY_REJECTED, KEY_REJECTED, reason="key_of_another_account")
            return None
        case TokenCredential() as token:
            if facts.regional or account is None or account.subdomain is None:
                return _deny(FaultKind.SUBDOMAIN_REQUIRED, SUBDOMAIN_REQUIRED, principal=token.object_id)
            if token.tenant_id != account.tenant_id:
                return _deny(FaultKind.UNAUTHENTICATED, UNAUTHORIZED, reason="wrong_tenant", tenant=token.tenant_id)
            return None
        case RejectedCredential(form="key", reason=reason):
            return _deny(FaultKind.KEY_REJECTED, KEY_REJECTED, reason=reason)
        case RejectedCredential(form="several"):
            return _deny(FaultKind.CONFLICTING_CREDENTIALS, SEVERAL, reason="several_credentials")
        case RejectedCredential(form="token", reason=reason):
            return _deny(FaultKind.UNAUTHENTICATED, UNAUTHORIZED, reason=reason)
    return _deny(FaultKind.UNAUTHENTICATED, UNAUTHORIZED, reason="no_credential")


def _deny(kind: FaultKind, message: str, **because: str) -> Deny:
    return Deny(NAME, Fault(kind, message), because)
