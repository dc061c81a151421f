"""Deny assignments: what nobody, or nobody but some, may do at a scope, whatever roles say. Written since 2024-07-01-preview."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import EVERYONE
from stockade.kernel.resource_id import GUID, ResourceId, is_guid
from stockade.management.authorization_scopes import (
    DENY_ASSIGNMENTS,
    at_above_or_below,
    at_or_above,
    authorship,
    shown_scope,
)
from stockade.management.odata import invalid_filter, parse_filter
from stockade.management.permission_wire import checked_permissions
from stockade.management.resource_type import Call, Planned, ResourceType
from stockade.policy.builtin_roles import permission_sets
from stockade.policy.snapshot import DenyAssignment, Entry
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

MAX_PRINCIPALS = 500


class DenyAssignments(ResourceType):
    """Microsoft.Authorization/denyAssignments."""

    name = type = DENY_ASSIGNMENTS
    methods = frozenset({"GET", "PUT", "DELETE"})
    name_pattern = GUID
    extension = True
    has_etag = has_system_data = False

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        text = call.query.get("$filter", "")
        terms = {(term.kind, term.name): term.value for term in parse_filter(text)}
        at_scope = terms.pop(("atscope", ""), None) is not None
        principal, named = terms.pop(("eq", "principalid"), None), terms.pop(("eq", "denyassignmentname"), None)
        if terms:
            raise invalid_filter(text)
        found = (at_or_above if at_scope else at_above_or_below)(reader, DENY_ASSIGNMENTS.lower(), call.id)
        return [
            document
            for document in found
            if (principal is None or principal.lower() in _ids(document.body["properties"]["principals"]))
            and (named is None or str(document.body["properties"]["denyAssignmentName"]).lower() == named.lower())
        ]

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        given = call.body.get("properties", {})
        if not isinstance(given, Mapping):
            raise _invalid("The properties are an object.", "properties")
        name, description = given.get("denyAssignmentName"), given.get("description") or ""
        if not isinstance(name, str) or not name.strip() or len(name) > 256 or not isinstance(description, str):
            raise _invalid(
                "The deny assignment needs a denyAssignmentName of at most 256 characters.", "denyAssignmentName"
            )
        principals = _principals(call, given.get("principals"), "principals", reader)
        excluded = _principals(call, given.get("excludePrincipals") or [], "excludePrincipals", reader)
        if not principals:
            raise _invalid("The deny assignment needs at least one principal.", "principals")
        if EVERYONE in _ids(principals) and not excluded:
            # Nobody could ever take such a one away again.
            raise _invalid("A deny assignment for everyone needs at least one excluded principal.", "excludePrincipals")
        if given.get("condition"):
            raise _invalid("Conditions are not evaluated here, so they are not accepted.", "condition")
        only_here = given.get("doNotApplyToChildScopes", False)
        if not isinstance(only_here, bool):
            raise _invalid("doNotApplyToChildScopes is true or false.", "doNotApplyToChildScopes")
        earlier = dict(current.body["properties"]) if current is not None else {}
        properties = {
            **given,
            "denyAssignmentName": name,
            "description": description,
            "permissions": checked_permissions(given.get("permissions")),
            "scope": shown_scope(reader, ResourceId.parse(call.id.parent)).text,
            "doNotApplyToChildScopes": only_here,
            "principals": principals,
            "excludePrincipals": excluded,
            "isSystemProtected": False,
            **authorship(iso(call.now), call.credential.object_id, earlier),
        }
        return Planned({"properties": properties})

    def compile(self, document: Document) -> Iterable[Entry]:
        properties = document.body["properties"]
        scope = ResourceId.parse(document.id).parent
        deny = DenyAssignment(
            id=document.id,
            name=properties["denyAssignmentName"],
            scope=scope,
            permissions=permission_sets(properties["permissions"]),
            principals=_ids(properties["principals"]),
            excluded=_ids(properties["excludePrincipals"]),
            this_scope_only=properties["doNotApplyToChildScopes"],
        )
        yield ("deny", scope, deny)


def _principals(call: Call, value: Any, target: str, reader: Reader) -> list[Json]:
    if (
        not isinstance(value, list)
        or len(value) > MAX_PRINCIPALS
        or not all(isinstance(item, Mapping) for item in value)
    ):
        raise _invalid(f"'{target}' is a list of at most {MAX_PRINCIPALS} objects with an id.", target)
    return [_principal(call, item.get("id"), target, reader) for item in value]


def _principal(call: Call, value: Any, target: str, reader: Reader) -> Json:
    if not isinstance(value, str) or not is_guid(value):
        raise _invalid(f"Every one of '{target}' has an id, a GUID.", target)
    if value == EVERYONE:
        return {"id": EVERYONE, "type": "SystemDefined"}
    found = call.platform.directory.get(reader, value)
    if found is not None:
        return {"id": found.object_id, "type": found.type}
    if call.platform.directory.group(reader, value) is not None:
        return {"id": value.lower(), "type": "Group"}
    message = f"Principal {value.replace('-', '')} does not exist in the directory {call.platform.tenant_id}."
    raise Fault(FaultKind.INVALID, message, code="PrincipalNotFound", target=target)


def _ids(principals: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(str(principal["id"]).lower() for principal in principals)


def _invalid(message: str, target: str) -> Fault:
    return Fault(FaultKind.INVALID, message, code="InvalidDenyAssignment", target=target)


PLUGIN = DenyAssignments()
