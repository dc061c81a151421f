"""What a request carries: checked and completed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management import outbox
from stockade.management.authorization_scopes import role_definition_id, role_id_of
from stockade.management.resource_type import Call
from stockade.management.resources.role_definitions import role_at
from stockade.management.shape import respelled, typed
from stockade.storage.database import Reader
from stockade.storage.documents import Json

MAX_TEXT: Final = 2000
SHORTEST_MINUTES: Final = 5
ASKED: Final = ("roleDefinitionId", "durationMinutes", "reason", "contact")
SERVER: Final = frozenset(
    {
        "approvedat",
        "endsat",
        "history",
        "lapsesat",
        "principalid",
        "requestedat",
        "requestedby",
        "roleassignmentid",
        "scope",
        "status",
    }
)
"""The platform's own, in lower case: members are read in any case, and a `Status` beside `status` would look like one."""


class Asked(Struct):
    """`properties` of a request. roleDefinitionId: a role's id or GUID; roleName: its name instead. contact: an address of e-mail."""

    roleDefinitionId: str | None = None
    roleName: str | None = None
    durationMinutes: int | None = None
    reason: str | None = None
    contact: str | None = None


class Request(Struct):
    """A request as it is PUT."""

    properties: Asked | None = None


class Comment(Struct):
    """The body of actions."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for. role_id: GUID."""

    role_id: str
    role_name: str
    minutes: int
    reason: str
    contact: str
    sent: Json
    """Everything that was sent and is not the platform's own."""


def wanted(call: Call, scope: ResourceId, reader: Reader) -> Wanted:
    """Return what is asked for; Fault(INVALID) naming what is wrong, Fault(NOT_FOUND) for a role that cannot be assigned there."""
    body = respelled(call.body, Request)
    asked = typed(body, Request).properties or Asked()
    sent = {name: value for name, value in (body.get("properties") or {}).items() if name.lower() not in SERVER}
    role_id = _role(call, asked)
    role = role_at(reader, role_id, scope) if role_id else None
    if role is None:
        named = asked.roleDefinitionId or asked.roleName or ""
        if not named:
            raise _invalid("roleName", "'roleName', or 'roleDefinitionId', says which role is asked for.")
        message = f"There is no role '{named[:200]}' that can be assigned at {scope.text}."
        raise Fault(FaultKind.NOT_FOUND, message, code="RoleDefinitionDoesNotExist", target="properties.roleName")
    most = round(call.platform.settings.access.role_max_hours * 60)
    minutes = asked.durationMinutes
    if minutes is None or not SHORTEST_MINUTES <= minutes <= most:
        raise _invalid("durationMinutes", f"'durationMinutes' is a number from {SHORTEST_MINUTES} to {most}.")
    reason = _text(asked.reason or "", "reason")
    if not reason:
        raise _invalid("reason", "'reason' says what the role is for; whoever decides has nothing else to go by.")
    contact = asked.contact or ""
    if contact and not outbox.is_address(contact):
        raise _invalid("contact", "'contact' is one address of e-mail, which hears what becomes of the request.")
    return Wanted(role.name.lower(), str(role.body["properties"]["roleName"]), minutes, reason, contact, sent)


def properties(asked: Wanted, scope: ResourceId, principal_id: str) -> Json:
    """Return what is stored of a request, as it is shown."""
    return {
        **asked.sent,
        "roleDefinitionId": role_definition_id(scope, asked.role_id),
        "roleName": asked.role_name,
        "principalId": principal_id,
        "durationMinutes": asked.minutes,
        "reason": asked.reason,
        "contact": asked.contact,
    }


def comment(call: Call) -> str:
    """Return what an action was sent with."""
    return _text(typed(respelled(call.body, Comment), Comment).reason or "", "reason")


def _role(call: Call, asked: Asked) -> str:
    if asked.roleDefinitionId:
        return role_id_of(asked.roleDefinitionId) or ""
    text = (asked.roleName or "").lower()
    found = [
        role.id
        for key in call.snapshot.keys("role")
        if (role := call.snapshot.only("role", key)) is not None and text in (role.name.lower(), role.id)
    ]
    return str(found[0]) if text and len(found) == 1 else ""


def _text(value: str, target: str) -> str:
    text = value.strip()
    if len(text) > MAX_TEXT or any(not (sign.isprintable() or sign in "\n\t") for sign in text):
        raise _invalid(target, f"'{target}' is text of at most {MAX_TEXT} characters.")
    return text


def _invalid(name: str, message: str) -> Fault:
    return Fault(FaultKind.INVALID, message, code="InvalidRoleRequest", target=f"properties.{name}")
