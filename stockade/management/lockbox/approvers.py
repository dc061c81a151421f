"""Who may approve: Owners of the subscription and holders of `Azure Customer Lockbox Approver for Subscription`, since before the request.

Assigned at the subscription itself: what is inherited from above it does not count, nor does what was assigned later, nor a role for a while
that is over. Membership in groups counts. Nobody approves a request of their own.
Source: contracts, control-plane section 7.2 (customer-lockbox-overview).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import Person, TokenCredential
from stockade.lockbox import workflow
from stockade.lockbox.statement import Approver
from stockade.management.lockbox.documents import Request
from stockade.policy import rbac
from stockade.policy.builtin_roles import LOCKBOX_APPROVER, OWNER
from stockade.policy.snapshot import RoleAssignment, Snapshot

ROLES: Final = frozenset({OWNER, LOCKBOX_APPROVER})
OWN: Final = "OwnLockboxRequest"


def assignments(snapshot: Snapshot, subscription: str, before: float, now: float) -> list[RoleAssignment]:
    """Return the role assignments of a subscription that make approvers: in force now, and made no later than `before`."""
    found: tuple[RoleAssignment, ...] = snapshot.all("assignment", f"/subscriptions/{subscription}".lower())
    return [one for one in found if one.role_id in ROLES and one.made_at <= before and one.in_force(now)]


def require_approver(
    snapshot: Snapshot, credential: TokenCredential, who: Person, request: Request, now: float
) -> None:
    """Raise Fault(AUTHORIZATION_FAILED) for who may not decide on a request, saying why."""
    workflow.require_other(request.course, who, request.name, OWN)
    groups = rbac.identities(snapshot, credential.object_id, credential.groups)
    held = rbac.holders(snapshot, groups)
    found = [one for one in assignments(snapshot, request.subscription, now, now) if one.principal_id in held]
    if any(one.made_at <= request.course.filed_at for one in found):
        return
    message = (
        f"'{who.name}' became an approver after the request was made, and decides on later ones only."
        if found
        else f"'{who.name}' is no approver: it takes the role Owner or `Azure Customer Lockbox Approver for Subscription`, assigned at "
        f"/subscriptions/{request.subscription} itself before the request was made."
    )
    raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="NotAnApprover")


def require_somebody(
    snapshot: Snapshot, subscription: str, signers: Iterable[Approver], threshold: int, operator: Person, now: float
) -> None:
    """Raise Fault(AUTHORIZATION_FAILED) when a request could not be approved by anybody: nobody would be asked.

    signers: the statement's approvers. Somebody counts whose key is there, who has the role, and who is not the operator.
    """
    holding = {one.principal_id for one in assignments(snapshot, subscription, now, now)}
    able = {
        one.principal
        for one in signers
        if one.principal != operator.object_id.lower() and _may_hold(snapshot, one.principal, holding)
    }
    if len(able) >= threshold:
        return
    message = (
        f"It takes {threshold} of the account's approvers, other than you, who are Owner or `Azure Customer Lockbox Approver for Subscription` "
        f"at /subscriptions/{subscription} itself; there are {len(able)}. So nobody could approve, and nothing is asked."
    )
    raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="NoApprover")


def is_signer(snapshot: Snapshot, credential: TokenCredential, signers: Iterable[Approver]) -> bool:
    """Say whether one of the keys is the caller's, or of a group that the caller is in."""
    who = rbac.identities(snapshot, credential.object_id, credential.groups)
    return any(one.principal in who for one in signers)


def passkey(approver: Approver) -> dict[str, Any]:
    """Return what a browser has to know of an approver's passkey to have it sign."""
    assert approver.passkey is not None
    return {
        "key": approver.id,
        "credentialId": approver.passkey.credential_id,
        "rpId": approver.passkey.rp_id,
        "principal": approver.principal,
    }


def _may_hold(snapshot: Snapshot, principal: str, holding: set[str]) -> bool:
    if rbac.holders(snapshot, rbac.identities(snapshot, principal)) & holding:
        return True
    # Groups of a further issuer are in its tokens, not in the directory: who is in them is known when they come.
    known = (snapshot.only("principal", one) for one in holding)
    return any(one is not None and one.enabled and one.type == "Group" and one.issuer is not None for one in known)
