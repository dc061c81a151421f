"""Roles for a while: the role assignment that an approved request puts there, and its end.

An ordinary document of Microsoft.Authorization/roleAssignments, marked with its request and its end. What counts of the mark is the private part,
which nobody can send; policy reads it (`policy/rbac.py`), so the role is over by the clock, whenever the document is taken away.
"""

from __future__ import annotations

from typing import Final

import msgspec

from stockade.kernel.clock import iso
from stockade.kernel.resource_id import ResourceId
from stockade.management.authorization_scopes import ROLE_ASSIGNMENTS, role_definition_id, shown_scope
from stockade.storage.database import Writer
from stockade.storage.documents import Document

MARK: Final = "stockade"
"""The member of `properties` that shows it; never taken from a caller."""


class While(msgspec.Struct, frozen=True):
    """From when until when a role is given (epoch seconds), and by which request (its ARM id)."""

    since: float
    until: float
    request: str


def while_of(document: Document) -> While | None:
    """Return for how long a role assignment is; None for one that stays. Raises for one that cannot be read, which is then not in force."""
    written = document.private.get("while")
    return msgspec.convert(written, While) if written is not None else None


def is_over(document: Document, now: float) -> bool:
    """Say whether a role assignment was for a while and that is over."""
    window = while_of(document)
    return window is not None and window.until <= now


def put(
    writer: Writer,
    *,
    name: str,
    scope: ResourceId,
    role_id: str,
    principal_id: str,
    principal_type: str,
    author: str,
    window: While,
) -> Document:
    """Put a role there for a while and return its role assignment. name: a new GUID; scope exists."""
    shown = shown_scope(writer, scope)
    since, until = iso(window.since), iso(window.until)
    properties = {
        "roleDefinitionId": role_definition_id(shown, role_id),
        "principalId": principal_id,
        "principalType": principal_type,
        "scope": shown.text,
        "description": f"For a while, until {until[:19]}Z, by {window.request}",
        "condition": None,
        "conditionVersion": None,
        "createdOn": since,
        "updatedOn": since,
        "createdBy": author,
        "updatedBy": author,
        MARK: {"roleRequest": window.request, "startsAt": since, "endsAt": until},
    }
    place = f"{shown.text.rstrip('/')}/providers/{ROLE_ASSIGNMENTS}/{name}"
    body = {"id": place, "name": name, "type": ROLE_ASSIGNMENTS, "properties": properties}
    return writer.put(
        place,
        ROLE_ASSIGNMENTS,
        body,
        {"while": msgspec.to_builtins(window)},
        subscription=scope.subscription or "",
        resource_group=scope.resource_group or "",
    )
