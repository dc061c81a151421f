"""Who may have data keys made, and wrapped otherwise than they are: whoever may write the account or encryption scope that they belong to.

Without a caller a data key that is stored is wrapped as its document says now, and in no other way. So whoever has taken over a process cannot
have one wrapped without the customer's key: nobody's word is taken for what is bound.
"""

from __future__ import annotations

from typing import Final

from stockade.broker.customer_keys import customer_key, parts_of
from stockade.kernel.evidence import ArmToken, Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.keys.broker import Binding, WrappedDataKey
from stockade.keys.stored import data_keys_of
from stockade.policy import rbac
from stockade.policy.snapshot import AccountPolicy, CustomerKey, EncryptionScopePolicy, Snapshot
from stockade.storage.documents import Document

ACCOUNT_WRITE: Final = "Microsoft.CognitiveServices/accounts/write"
SCOPE_WRITE: Final = "Microsoft.CognitiveServices/accounts/encryptionScopes/write"
_SCOPES: Final = "/encryptionscopes/"


def arm_token(evidence: Evidence) -> ArmToken:
    """Return what was shown to ARM; Fault(UNAUTHENTICATED) for everything else."""
    if not isinstance(evidence, ArmToken):
        raise Fault(FaultKind.UNAUTHENTICATED, "Data keys are made and bound on what was shown to ARM only.")
    return evidence


def check_write(snapshot: Snapshot, owner_id: str, caller: TokenCredential, now: float) -> None:
    """Raise Fault(PERMISSION_DENIED) unless ARM's caller may write what data keys belong to. owner_id: lower case; it need not exist yet."""
    action = SCOPE_WRITE if _SCOPES in owner_id else ACCOUNT_WRITE
    access = rbac.check(snapshot, caller.object_id, caller.groups, action, owner_id, now=now)
    if not isinstance(access, rbac.Granted):
        message = f"The principal `{caller.object_id}` lacks the action `{action}`, without which no data key is made or bound."
        raise Fault(FaultKind.PERMISSION_DENIED, message)


def check_kept(
    snapshot: Snapshot, document: Document | None, held: WrappedDataKey, before: Binding | None, after: Binding | None
) -> None:
    """Raise Fault(PERMISSION_DENIED) unless a data key is stored, and is to be wrapped with nothing but what its document binds.

    document: of the account or encryption scope; None where there is none.
    """
    if document is None or held not in data_keys_of(document.private):
        raise Fault(FaultKind.PERMISSION_DENIED, "Nobody asks for it, and no resource has such a data key.")
    key = _bound(snapshot, document.id)
    bound = _named(key)
    if _named(_policy(before)) != bound or _named(_policy(after)) != bound or not _wrapped_with(held, key):
        message = "Nobody asks for it, and the resource binds another key than the data key is to be wrapped with."
        raise Fault(FaultKind.PERMISSION_DENIED, message)


def _bound(snapshot: Snapshot, owner_id: str) -> CustomerKey | None:
    """Return the customer's key that is bound; None for the platform alone. Fault(PERMISSION_DENIED) where policy does not know it for sure."""
    found: AccountPolicy | EncryptionScopePolicy | None
    if _SCOPES in owner_id:
        found = snapshot.only("encryption-scope", owner_id)
        unsure = found is None and snapshot.only("customer-key", owner_id) is not None
    else:
        found = snapshot.only("account", owner_id)
        unsure = found is None
    if unsure:
        raise Fault(FaultKind.PERMISSION_DENIED, "Nobody asks for it, and it is not known which key is bound.")
    return found.customer_key if found is not None else None


def _wrapped_with(held: WrappedDataKey, key: CustomerKey | None) -> bool:
    """Say whether some version of a key is around a data key. Where it is another key's, whoever changed the document did so without a caller."""
    if key is None or not held.customer:
        return key is None and not held.customer
    vault_uri, name, _ = parts_of(held.customer)
    return (vault_uri, name.lower()) == (key.vault_uri, key.key_name.lower())


def _policy(binding: Binding | None) -> CustomerKey | None:
    return customer_key(binding) if binding is not None else None


def _named(key: CustomerKey | None) -> tuple[str, ...]:
    return (key.vault_uri, key.key_name, key.key_version, key.principal_id) if key is not None else ()
