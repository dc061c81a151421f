"""What the caller may do at a scope: `{scope}/providers/Microsoft.Authorization/permissions`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stockade.kernel.resource_id import scope_chain
from stockade.management.resource_type import Call, Plugin, Route, bodies
from stockade.policy import rbac
from stockade.policy.snapshot import Permission
from stockade.storage.database import Reader
from stockade.storage.documents import Json


class Permissions(Plugin):
    """Microsoft.Authorization/permissions."""

    name = "Microsoft.Authorization/permissions"

    @property
    def routes(self) -> Sequence[Route]:
        template = "/{scope}/providers/Microsoft.Authorization/permissions"
        return (Route("GET", template, "Microsoft.Authorization/permissions/read", _list),)


def _list(call: Call, reader: Reader) -> Json:
    return bodies(
        {
            "actions": list(permission.actions),
            "notActions": list(permission.not_actions),
            "dataActions": list(permission.data_actions),
            "notDataActions": list(permission.not_data_actions),
        }
        for permission in dict.fromkeys(_held(call))
    )


def _held(call: Call) -> Iterator[Permission]:
    """Yield the permission sets of every role the caller holds at the scope or above. Deny assignments are listed on their own."""
    who = rbac.holders(call.snapshot, rbac.identities(call.snapshot, call.credential.object_id, call.credential.groups))
    for level in scope_chain(call.id.key):
        for assignment in call.snapshot.all("assignment", level):
            role = call.snapshot.only("role", assignment.role_id)
            if assignment.principal_id in who and role is not None and assignment.in_force(call.now):
                yield from role.permissions


PLUGIN = Permissions()
