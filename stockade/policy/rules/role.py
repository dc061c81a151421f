"""May this principal do this operation? Keys carry every data action, tokens need a role.

Source: contracts, control-plane section 4 and choices.md (row "Token without the data action").
"""

from __future__ import annotations

from stockade.kernel.clock import iso
from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation
from stockade.kernel.principal import TokenCredential
from stockade.kernel.verdict import Deny
from stockade.policy import rbac
from stockade.policy.facts import Facts, Point
from stockade.policy.snapshot import AccountPolicy, RoleAssignment, Snapshot

NAME = "role"
POINT: Point = "head"
CONTROL: Control | None = Control.RBAC

DATA_ACTION_PREFIX = "Microsoft.CognitiveServices/accounts/"


def decide(snapshot: Snapshot, facts: Facts) -> Deny | None:
    """Refuse a token whose principal lacks the operation's data action on the account."""
    operation, account, credential = facts.operation, facts.account, facts.credential
    if operation is None or account is None or operation.data_action is None:
        return None
    if not isinstance(credential, TokenCredential):
        return None
    action = DATA_ACTION_PREFIX + operation.data_action
    match rbac.check(snapshot, credential.object_id, credential.groups, action, account.id, now=facts.now, data=True):
        case rbac.Granted():
            return None
        case rbac.Refused(deny=deny, ended=ended):
            denied = deny.name if deny is not None else None
            return _refuse(snapshot, operation, account, credential, denied, ended)


def _refuse(
    snapshot: Snapshot,
    operation: Operation,
    account: AccountPolicy,
    token: TokenCredential,
    deny: str | None,
    ended: RoleAssignment | None,
) -> Deny:
    action = DATA_ACTION_PREFIX + str(operation.data_action)
    message = (
        f"The principal `{token.object_id}` lacks the required data action `{action}` to perform "
        f"`{operation.method} {operation.path}` operation."
    )
    because = {"principal": token.object_id, "dataAction": action, "scope": account.arm_id}
    if deny is not None:
        message += f" The deny assignment '{deny}' blocks it."
        because["denyAssignment"] = deny
    else:
        if ended is not None:
            message += f" {rbac.ended_text(snapshot, ended)}"
            because["roleEnded"], because["roleRequest"] = iso(ended.until), ended.request
        role = rbac.smallest_role(snapshot, action, data=True)
        if role is not None:
            message += f" Assign the role '{role.name}' at scope `{account.arm_id}` or above."
            because["smallestRole"] = role.name
    return Deny(NAME, Fault(FaultKind.PERMISSION_DENIED, message, details={"dataAction": action}), because)
