"""Role definitions: Azure's built-in roles, which nobody changes, and custom ones. `plan.py` holds the rules for the latter."""

from __future__ import annotations

from collections.abc import Iterable

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import GUID, ResourceId, scope_chain
from stockade.management.authorization_scopes import ROLE_ASSIGNMENTS, ROLE_DEFINITIONS, role_definition_id, role_id_of
from stockade.management.odata import Term, invalid_filter, parse_filter
from stockade.management.resource_type import Call, Planned, Reply, ResourceType
from stockade.management.resources.role_definitions.plan import assignable_scopes, plan_role, require_everywhere
from stockade.policy.builtin_roles import BuiltInRole, permission_sets, permissions_body, roles
from stockade.policy.snapshot import Entry, RoleDefinition
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json


class RoleDefinitions(ResourceType):
    """Microsoft.Authorization/roleDefinitions. Stored tenant-wide, whatever scope they were addressed through."""

    name = type = ROLE_DEFINITIONS
    methods = frozenset({"GET", "PUT", "DELETE"})
    name_pattern = GUID
    extension = True
    has_etag = has_system_data = False
    replaced_status = 201  # azure-mgmt-authorization takes nothing else as an answer to PUT

    def stored_as(self, resource: ResourceId) -> ResourceId:
        return ResourceId.parse(f"/providers/{ROLE_DEFINITIONS}/{resource.name.lower()}")

    def get(self, call: Call, reader: Reader) -> Document | None:
        built_in = roles().get(call.id.name.lower())
        if built_in is not None:
            return _built_in(built_in)
        document = super().get(call, reader)
        scope = ResourceId.parse(call.id.parent)
        if document is None or call.method == "PUT" or _applies(document, scope) or _applies_below(document, scope):
            return document
        return None

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        text = call.query.get("$filter", "")
        terms = parse_filter(text)
        if any((term.kind, term.name) not in _FILTERS for term in terms):
            raise invalid_filter(text)
        below = any(term.kind == "atscopeandbelow" for term in terms)
        custom = (
            document
            for document in reader.list(self.type)
            if _applies(document, call.id) or (below and _applies_below(document, call.id))
        )
        return [
            document
            for document in (*map(_built_in, roles().values()), *custom)
            if all(_fits(document, term) for term in terms)
        ]

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        if current is not None and call.id.name.lower() in roles():
            message = "Built-in role definitions cannot be changed."
            raise Fault(FaultKind.CONFLICT, message, code="RoleDefinitionCannotBeUpdated")
        return plan_role(call, current, reader)

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        if document.id.rsplit("/", 1)[-1] in roles():
            raise Fault(
                FaultKind.CONFLICT, "Built-in role definitions cannot be deleted.", code="RoleDefinitionCannotBeDeleted"
            )
        require_everywhere(call, assignable_scopes(document), "delete")
        role_id = document.name.lower()
        for assignment in writer.list(ROLE_ASSIGNMENTS):
            if role_id_of(assignment.body["properties"]["roleDefinitionId"]) == role_id:
                message = "There are existing role assignments referencing role; delete them first."
                raise Fault(FaultKind.INVALID, message, code="RoleDefinitionHasAssignments")
        shown = self.render(call, document)
        writer.remove(document)
        return Reply(200, shown)

    def render(self, call: Call, document: Document) -> Json:
        return {**document.body, "id": role_definition_id(call.id, document.name)}

    def compile(self, document: Document) -> Iterable[Entry]:
        properties = document.body["properties"]
        role_id = document.name.lower()
        permissions = permission_sets(properties["permissions"])
        yield ("role", role_id, RoleDefinition(role_id, properties["roleName"], False, permissions))


def role_at(reader: Reader, role_id: str, scope: ResourceId) -> Document | None:
    """Return the role if it can be assigned at a scope."""
    built_in = roles().get(role_id.lower())
    if built_in is not None:
        return _built_in(built_in)
    document = reader.get(f"/providers/{ROLE_DEFINITIONS}/{role_id}")
    return document if document is not None and _applies(document, scope) else None


def _built_in(role: BuiltInRole) -> Document:
    body = {
        "id": f"/providers/{ROLE_DEFINITIONS}/{role.name}",
        "name": role.name,
        "type": ROLE_DEFINITIONS,
        "properties": {
            "roleName": role.role_name,
            "type": "BuiltInRole",
            "description": "",
            "assignableScopes": ["/"],
            "permissions": permissions_body(role),
        },
    }
    return Document(str(body["id"]).lower(), ROLE_DEFINITIONS.lower(), body)


def _applies(document: Document, scope: ResourceId) -> bool:
    """Say whether one of the role's assignable scopes is the scope or lies above it."""
    levels = scope_chain(scope.key)
    return any(place in levels for place in assignable_scopes(document))


def _applies_below(document: Document, scope: ResourceId) -> bool:
    return any(ResourceId.parse(place).within(scope.key) for place in assignable_scopes(document))


_FILTERS = {("eq", "rolename"), ("eq", "type"), ("atscope", ""), ("atscopeandbelow", "")}


def _fits(document: Document, term: Term) -> bool:
    if term.kind != "eq":
        return True
    properties = document.body["properties"]
    shown = properties["roleName"] if term.name == "rolename" else properties["type"]
    return bool(shown.lower() == term.value.lower())


PLUGIN = RoleDefinitions()
