"""How role definitions, role assignments and deny assignments stand to scopes: at one, above it, below it."""

from __future__ import annotations

from collections.abc import Iterator

from stockade.kernel.resource_id import ResourceId, scope_chain
from stockade.management.resource_type import display_id
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

ROLE_DEFINITIONS = "Microsoft.Authorization/roleDefinitions"
ROLE_ASSIGNMENTS = "Microsoft.Authorization/roleAssignments"
DENY_ASSIGNMENTS = "Microsoft.Authorization/denyAssignments"


def shown_scope(reader: Reader, scope: ResourceId) -> ResourceId:
    """Return a scope in the spelling it was created with, whatever the caller's."""
    document = reader.get(scope.key)
    return ResourceId.parse(display_id(document)) if document is not None else scope


def role_definition_id(scope: ResourceId, role_id: str) -> str:
    """Return a role's id as it is shown at a scope: with the scope's subscription, because `az` compares these ids as text."""
    prefix = f"/subscriptions/{scope.subscription}" if scope.subscription is not None else ""
    return f"{prefix}/providers/{ROLE_DEFINITIONS}/{role_id}"


def role_id_of(text: str) -> str | None:
    """Return the GUID of a role definition's id in whatever form, also bare; None when it is not one."""
    parts = text.strip("/").lower().split("/")
    if len(parts) > 1 and parts[-3:-1] != ROLE_DEFINITIONS.lower().split("/"):
        return None
    return parts[-1] or None


def at_or_above(reader: Reader, kind: str, scope: ResourceId) -> Iterator[Document]:
    """Yield the assignments of one kind at a scope and at every scope it inherits from."""
    for level in scope_chain(scope.key):
        yield from reader.list(kind, under=f"{level.rstrip('/')}/providers/{kind}")


def at_above_or_below(reader: Reader, kind: str, scope: ResourceId) -> Iterator[Document]:
    """Yield the assignments of one kind at, above and below a scope, each once."""
    if scope.key == "/":
        yield from reader.list(kind)
        return
    for level in scope_chain(scope.key)[1:]:
        yield from reader.list(kind, under=f"{level.rstrip('/')}/providers/{kind}")
    yield from reader.list(kind, under=scope.key)


def authorship(call_time: str, author: str, before: Json) -> Json:
    """Return who wrote an authorization object and when, as its properties show it. before: its earlier properties."""
    return {
        "createdOn": before.get("createdOn", call_time),
        "updatedOn": call_time,
        "createdBy": before.get("createdBy", author),
        "updatedBy": author,
    }
