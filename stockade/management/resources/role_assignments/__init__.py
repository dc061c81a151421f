"""Role assignments: who has which role at which scope. Below any scope that exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import GUID, ResourceId, is_guid
from stockade.management.access import role_requests
from stockade.management.access.roles import MARK, is_over, while_of
from stockade.management.authorization_scopes import (
    ROLE_ASSIGNMENTS,
    at_above_or_below,
    at_or_above,
    authorship,
    role_definition_id,
    role_id_of,
    shown_scope,
)
from stockade.management.odata import invalid_filter, parse_filter
from stockade.management.resource_type import Call, Planned, Reply, ResourceType
from stockade.management.resources.role_definitions import role_at
from stockade.policy import rbac
from stockade.policy.builtin_roles import OWNER
from stockade.policy.snapshot import Entry, RoleAssignment
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document


class RoleAssignments(ResourceType):
    """Microsoft.Authorization/roleAssignments."""

    name = type = ROLE_ASSIGNMENTS
    methods = frozenset({"GET", "PUT", "DELETE"})
    name_pattern = GUID
    extension = True
    has_etag = has_system_data = False

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        text = call.query.get("$filter", "")
        terms = {(term.kind, term.name): term.value for term in parse_filter(text)}
        at_scope = terms.pop(("atscope", ""), None) is not None
        principal, assigned = terms.pop(("eq", "principalid"), None), terms.pop(("assignedto", ""), None)
        if terms or (principal is not None and (at_scope or assigned is not None)):
            raise invalid_filter(text)
        found = (at_or_above if at_scope else at_above_or_below)(reader, ROLE_ASSIGNMENTS.lower(), call.id)
        if principal is not None:
            wanted = frozenset({principal.lower()})
        elif assigned is not None:
            wanted = rbac.identities(call.snapshot, assigned)
        else:
            return (item for item in found if not is_over(item, call.now))
        return (
            item for item in found if item.body["properties"]["principalId"] in wanted and not is_over(item, call.now)
        )

    def get(self, call: Call, reader: Reader) -> Document | None:
        found = super().get(call, reader)
        return None if found is not None and is_over(found, call.now) else found

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        given = call.body.get("properties", {})
        if not isinstance(given, Mapping):
            raise _invalid("The properties are an object.", "InvalidRequestContent", "properties")
        _check_condition(given)
        if current is not None and while_of(current) is not None:
            message = "The role is given for a while, by a role request, and is changed by another one. Revoke that one to take it away."
            raise Fault(FaultKind.CONFLICT, message, code="RoleAssignmentOfRequest")
        scope = shown_scope(reader, ResourceId.parse(call.id.parent))
        role_id = role_id_of(_text(given, "roleDefinitionId"))
        principal_id = _text(given, "principalId").lower()
        principal_type = _principal_type(call, principal_id, reader)
        role = role_at(reader, role_id, scope) if role_id is not None else None
        if role is None or role_id is None:
            message = f"The specified role definition with ID '{role_id or ''}' does not exist."
            raise Fault(FaultKind.NOT_FOUND, message, code="RoleDefinitionDoesNotExist", target="roleDefinitionId")
        earlier = dict(current.body["properties"]) if current is not None else {}
        _check_others(call, current, role_id, principal_id, reader)
        properties = {
            **{name: value for name, value in given.items() if name.lower() != MARK},
            "roleDefinitionId": role_definition_id(scope, role.name),
            "principalId": principal_id,
            # The directory's word, not the caller's: older SDKs send "User" whenever it was left out.
            "principalType": principal_type,
            "scope": scope.text,
            "condition": None,
            "conditionVersion": None,
            **authorship(iso(call.now), call.credential.object_id, earlier),
        }
        # Also where one for a while had this name and is over: what was said of that one is not said of this.
        return Planned({"properties": properties}, {})

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        if while_of(document) is None:
            _keep_an_owner(call, writer, document)
        writer.remove(document)
        role_requests.ended_elsewhere(call, writer, document)
        return Reply(200, dict(document.body))

    def compile(self, document: Document) -> Iterable[Entry]:
        properties = document.body["properties"]
        scope = ResourceId.parse(document.id).parent
        role_id = role_id_of(properties["roleDefinitionId"]) or ""
        principal_id, made_at = str(properties["principalId"]).lower(), document.created_at
        window = while_of(document)
        if window is None:
            yield ("assignment", scope, RoleAssignment(document.id, scope, role_id, principal_id, made_at=made_at))
        else:
            made = RoleAssignment(
                document.id, scope, role_id, principal_id, window.since, window.until, made_at, window.request
            )
            yield ("assignment", scope, made)


def _check_condition(given: Mapping[str, Any]) -> None:
    if given.get("condition"):
        # Stored but not evaluated, a condition would grant more than it says.
        message = "Conditions on role assignments are not evaluated here, so they are not accepted."
        raise _invalid(message, "ConditionNotSupported", "condition")


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise _invalid(f"The property '{name}' is required.", "InvalidCreateRoleAssignmentRequest", name)
    return value


def _principal_type(call: Call, principal_id: str, reader: Reader) -> str:
    """Return the type the directory has for a principal; Fault(INVALID) when it knows none, also when the caller named a type."""
    directory = call.platform.directory
    if not is_guid(principal_id):
        raise _invalid(f"The principal id '{principal_id[:80]}' is not a GUID.", "InvalidPrincipalId", "principalId")
    principal = directory.get(reader, principal_id)
    if principal is not None:
        return principal.type
    if directory.group(reader, principal_id) is not None:
        return "Group"
    message = f"Principal {principal_id.replace('-', '')} does not exist in the directory {call.platform.tenant_id}."
    owner = directory.by_app_id(reader, principal_id)
    if owner is not None:
        message += (
            f" It is the application id of '{owner.display_name}'; assign the role to its object id, {owner.object_id}."
        )
    raise _invalid(message, "PrincipalNotFound", "principalId")


def _check_others(call: Call, current: Document | None, role_id: str, principal_id: str, reader: Reader) -> None:
    scope = ResourceId.parse(call.id.parent).key
    wanted = (scope, role_id.lower(), principal_id)
    if current is not None:
        if _tuple(current) != wanted:
            raise _update_not_permitted()
        return
    for other in reader.list(ROLE_ASSIGNMENTS):
        if is_over(other, call.now):
            continue
        if other.name.lower() == call.id.name.lower():
            raise _update_not_permitted()  # one name, one assignment, in the whole tenant
        # One for a while does not stand for one that stays: `az` takes this refusal for success.
        if _tuple(other) == wanted and while_of(other) is None:
            message = f"The role assignment already exists. The ID of the existing role assignment is {other.name.replace('-', '')}."
            raise Fault(FaultKind.CONFLICT, message, code="RoleAssignmentExists")


def _tuple(document: Document) -> tuple[str, str | None, str]:
    properties = document.body["properties"]
    return ResourceId.parse(document.id).parent, role_id_of(properties["roleDefinitionId"]), properties["principalId"]


def _keep_an_owner(call: Call, writer: Writer, document: Document) -> None:
    """Refuse to remove the last Owner of a subscription: nobody could assign roles there any more."""
    scope, role_id, _ = _tuple(document)
    if (
        role_id != OWNER
        or ResourceId.parse(scope).resource_group is not None
        or ResourceId.parse(scope).type is not None
    ):
        return
    if scope == "/":
        return
    directory = call.platform.directory
    for other in at_or_above(writer, ROLE_ASSIGNMENTS.lower(), ResourceId.parse(scope)):
        _, other_role, principal_id = _tuple(other)
        if other.id == document.id or other_role != OWNER or while_of(other) is not None:
            continue
        principal = directory.get(writer, principal_id)
        if (principal is not None and principal.enabled) or directory.group(writer, principal_id) is not None:
            return
    message = "Cannot delete the last RBAC admin assignment: a subscription keeps at least one Owner."
    raise Fault(FaultKind.CONFLICT, message, code="CannotDeleteLastRbacAdminAssignment")


def _update_not_permitted() -> Fault:
    message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
    return Fault(FaultKind.INVALID, message, code="RoleAssignmentUpdateNotPermitted")


def _invalid(message: str, code: str, target: str | None = None) -> Fault:
    return Fault(FaultKind.INVALID, message, code=code, target=target)


PLUGIN = RoleAssignments()
