"""May this caller do this ARM action here? Asked of the snapshot alone, before storage is touched, so that a refusal reveals nothing."""

from __future__ import annotations

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.kernel.resource_id import scope_chain
from stockade.policy import rbac
from stockade.policy.snapshot import RoleAssignment, Snapshot
from stockade.storage.documents import Json


def granted(snapshot: Snapshot, credential: TokenCredential, permission: str, scope: str, *, now: float) -> bool:
    """Say whether the caller has an ARM action at a scope (lower-case id)."""
    access = rbac.check(snapshot, credential.object_id, credential.groups, permission, scope, now=now)
    return isinstance(access, rbac.Granted)


def access_below(snapshot: Snapshot, credential: TokenCredential, scope: str, *, now: float) -> bool:
    """Say whether the caller has a role at the scope, at one above it or anywhere below it."""
    above = scope_chain(scope)
    prefix = scope.rstrip("/") + "/"

    def compute() -> tuple[RoleAssignment, ...]:
        who = rbac.holders(snapshot, rbac.identities(snapshot, credential.object_id, credential.groups))
        places = (key for key in snapshot.keys("assignment") if key in above or str(key).startswith(prefix))
        return tuple(one for place in places for one in snapshot.all("assignment", place) if one.principal_id in who)

    found: tuple[RoleAssignment, ...] = snapshot.remembered(
        ("access-below", credential.object_id, credential.groups, scope), compute
    )
    return any(one.in_force(now) for one in found)


def authorise(
    snapshot: Snapshot,
    credential: TokenCredential,
    permission: str,
    scope: str,
    shown: str,
    decision_id: str,
    *,
    now: float,
    data: bool = False,
) -> str:
    """Return what admitted the caller, for the audit record; Fault(AUTHORIZATION_FAILED) naming what is missing and what would help.

    shown: the scope as the message names it. data: the permission is a data action.
    """
    match rbac.check(snapshot, credential.object_id, credential.groups, permission, scope, now=now, data=data):
        case rbac.Granted(assignment=assignment, role_name=role_name):
            return f"{role_name} at {assignment.scope}"
        case rbac.Refused(deny=deny, ended=ended):
            denied = deny.name if deny is not None else None
            raise refusal(snapshot, credential, permission, shown, decision_id, denied, ended, data=data)


def require_no_denial(
    snapshot: Snapshot,
    credential: TokenCredential,
    permission: str,
    scope: str,
    shown: str,
    decision_id: str,
    *,
    now: float,
) -> None:
    """Raise Fault(AUTHORIZATION_FAILED) when a deny assignment takes an ARM action at a scope."""
    match rbac.check(snapshot, credential.object_id, credential.groups, permission, scope, now=now):
        case rbac.Refused(deny=deny) if deny is not None:
            raise refusal(snapshot, credential, permission, shown, decision_id, deny.name)


def refusal(
    snapshot: Snapshot,
    credential: TokenCredential,
    permission: str,
    shown: str,
    decision_id: str,
    deny: str | None = None,
    ended: RoleAssignment | None = None,
    *,
    data: bool = False,
) -> Fault:
    """Return the 403 in Azure's words, with the way out and the decision's id behind them."""
    information: Json = {"decisionId": decision_id, "action": permission, "scope": shown}
    client = f"The client '{credential.app_id or credential.object_id}' with object id '{credential.object_id}'"
    what = f"perform action '{permission}' over scope '{shown}'"
    message = f"{client} does not have authorization to {what} or the scope is invalid."
    if deny is not None:
        message = f"{client} does not have authorization to {what}: the deny assignment '{deny}' blocks it."
        information["denyAssignment"] = deny
    else:
        if ended is not None:
            message += f" {rbac.ended_text(snapshot, ended)}"
            information["roleEnded"], information["roleRequest"] = iso(ended.until), ended.request
        role = rbac.smallest_role(snapshot, permission, data=data)
        if role is not None:
            message += f" The role '{role.name}' assigned there or above would allow it."
            information["smallestRole"] = role.name
    message += f" Decision: {decision_id}."
    details = {"additionalInfo": information, "principal": credential.object_id, "application": credential.app_id or ""}
    return Fault(FaultKind.AUTHORIZATION_FAILED, message, details=details)
