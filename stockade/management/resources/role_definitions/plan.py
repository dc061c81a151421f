"""The rules for custom roles. Source: contracts, control-plane section 4.1 (custom roles) and Azure's "custom roles" limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management import authorization
from stockade.management.authorization_scopes import ROLE_ASSIGNMENTS, ROLE_DEFINITIONS, authorship, role_id_of
from stockade.management.permission_wire import checked_permissions
from stockade.management.resource_type import Call, Planned
from stockade.policy.builtin_roles import roles
from stockade.storage.database import Reader
from stockade.storage.documents import Document

MAX_CUSTOM_ROLES = 5000
MAX_SCOPES = 2000
_MANAGEMENT_GROUP = "/providers/microsoft.management/managementgroups/"


def plan_role(call: Call, current: Document | None, reader: Reader) -> Planned:
    """Check a custom role; Fault for everything Azure refuses."""
    body = dict(call.body)
    properties = body.get("properties", {})
    if not isinstance(properties, Mapping):
        raise _invalid("The properties are an object.", "InvalidRequestContent", "properties")
    role_name, description = properties.get("roleName"), properties.get("description") or ""
    if not isinstance(role_name, str) or not role_name.strip() or len(role_name) > 512:
        raise _invalid("The role needs a roleName of at most 512 characters.", "InvalidRoleDefinitionName", "roleName")
    if not isinstance(description, str) or len(description) > 2048:
        raise _invalid("The description has at most 2048 characters.", "InvalidRequestContent", "description")
    permissions = checked_permissions(properties.get("permissions"))
    scopes = _checked_scopes(properties.get("assignableScopes"), reader)
    data = any(permission["dataActions"] or permission["notDataActions"] for permission in permissions)
    if data and any(scope.key.startswith(_MANAGEMENT_GROUP) for scope in scopes):
        message = "A role with dataActions cannot be assignable at a management group."
        raise _invalid(message, "InvalidDataActionsForManagementGroup", "assignableScopes")
    before = assignable_scopes(current) if current is not None else ()
    # Of the old scopes too: else a role could be taken over by naming it from a scope where one may write.
    require_everywhere(call, {*before, *(scope.key for scope in scopes)}, "write")
    _check_others(call, current, role_name, reader)
    _check_in_use(current, scopes, reader)
    earlier = dict(current.body["properties"]) if current is not None else {}
    planned = {
        **properties,
        "roleName": role_name,
        "type": "CustomRole",
        "description": description,
        "permissions": permissions,
        "assignableScopes": [scope.text for scope in scopes],
        **authorship(iso(call.now), call.credential.object_id, earlier),
    }
    return Planned({**body, "properties": planned})


def assignable_scopes(document: Document) -> tuple[str, ...]:
    """Return a role's assignable scopes in lower case."""
    return tuple(ResourceId.parse(text).key for text in document.body["properties"]["assignableScopes"])


def require_everywhere(call: Call, scopes: Iterable[str], verb: str) -> None:
    """Check that the caller may write or delete roles at every scope the role is about."""
    permission = f"{ROLE_DEFINITIONS}/{verb}"
    for scope in sorted(scopes):
        authorization.authorise(
            call.snapshot, call.credential, permission, scope, scope, call.decision_id, now=call.now
        )


def _checked_scopes(value: Any, reader: Reader) -> list[ResourceId]:
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= MAX_SCOPES
        or not all(isinstance(text, str) for text in value)
    ):
        raise _invalid(
            "The role needs between 1 and 2000 assignableScopes.", "InvalidAssignableScopes", "assignableScopes"
        )
    scopes = list({(scope := ResourceId.parse(text)).key: scope for text in value}.values())
    groups = [scope for scope in scopes if scope.key.startswith(_MANAGEMENT_GROUP)]
    if len(groups) > 1:
        raise _invalid("A role can name one management group only.", "InvalidAssignableScopes", "assignableScopes")
    for scope in scopes:
        if scope in groups:
            continue
        if scope.subscription is None or scope.type is not None:
            message = f"'{scope.text}' is not a subscription, resource group or management group."
            raise _invalid(message, "InvalidAssignableScopes", "assignableScopes")
        if reader.get(scope.key) is None:
            raise _invalid(
                f"The assignable scope '{scope.text}' was not found.", "InvalidAssignableScopes", "assignableScopes"
            )
    return scopes


def _check_others(call: Call, current: Document | None, role_name: str, reader: Reader) -> None:
    others = [document for document in reader.list(ROLE_DEFINITIONS) if current is None or document.id != current.id]
    if current is None and len(others) >= MAX_CUSTOM_ROLES:
        message = f"No more than {MAX_CUSTOM_ROLES} custom roles can be made in a tenant."
        raise _invalid(message, "RoleDefinitionLimitExceeded")
    taken = {str(document.body["properties"]["roleName"]).lower() for document in others}
    if role_name.lower() in taken | {role.role_name.lower() for role in roles().values()}:
        message = f"A role definition with the name '{role_name}' exists already."
        raise Fault(FaultKind.CONFLICT, message, code="RoleDefinitionWithSameNameExists", target="roleName")


def _check_in_use(current: Document | None, scopes: list[ResourceId], reader: Reader) -> None:
    """Refuse to take a scope from a role that is assigned there."""
    if current is None:
        return
    role_id = current.name.lower()
    for assignment in reader.list(ROLE_ASSIGNMENTS):
        properties = assignment.body["properties"]
        if role_id_of(properties["roleDefinitionId"]) != role_id:
            continue
        place = ResourceId.parse(properties["scope"])
        if not any(place.within(scope.key) for scope in scopes):
            message = f"The role is assigned at '{place.text}', which is no longer among its assignableScopes."
            raise _invalid(message, "RoleDefinitionHasAssignments", "assignableScopes")


def _invalid(message: str, code: str, target: str | None = None) -> Fault:
    return Fault(FaultKind.INVALID, message, code=code, target=target)
