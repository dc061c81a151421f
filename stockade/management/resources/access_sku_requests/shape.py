"""What a request carries: checked, completed, and as GET shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import Person
from stockade.management import outbox
from stockade.management.access import business_days, states, upkeep
from stockade.management.cognitive_services.kinds import CLOSED_SKU, KINDS
from stockade.management.locations import GLOBAL, accepted, normalised
from stockade.management.resource_type import Call
from stockade.management.shape import respelled, typed
from stockade.storage.documents import Json

MAX_TEXT: Final = 2000
MAX_COUNT: Final = 100
ASKED: Final = ("kind", "sku", "location", "reason", "contact", "count")
"""What the requester says; the rest is the platform's."""
SERVER: Final = frozenset(
    {"accounts", "dueby", "history", "overdue", "queueposition", "remaining", "requestedby", "state", "submittedat"}
)
"""The platform's own, in lower case: members are read in any case, and a `State` beside `state` would look like one."""


class Asked(Struct):
    """`properties` of a request."""

    kind: str | None = None
    sku: str | None = None
    location: str | None = None
    reason: str | None = None
    contact: str | None = None
    count: int | None = None


class Request(Struct):
    """A request as it is PUT."""

    properties: Asked | None = None


class Comment(Struct):
    """The body of actions."""

    comment: str | None = None


def wanted(call: Call) -> Json:
    """Return the properties sent, checked, without the platform's own; Fault(INVALID) naming what is wrong."""
    body = respelled(call.body, Request)
    asked = typed(body, Request).properties or Asked()
    kind = KINDS.get((asked.kind or "").lower())
    strict = call.platform.settings.strict_parity
    offered = [one.name for one in KINDS.values() if any(sku.needs_approval for sku in one.offered(strict=strict))]
    if kind is None or kind.name not in offered:
        raise _invalid("kind", f"'kind' is one of: {', '.join(offered)}.")
    if (asked.sku or CLOSED_SKU).upper() != CLOSED_SKU:
        raise _invalid("sku", f"Only the SKU {CLOSED_SKU} has to be asked for.")
    places = (*accepted(call.platform.settings), *((GLOBAL,) if kind.anywhere else ()))
    location = normalised(asked.location or "")
    if location not in places:
        raise _invalid("location", f"'location' is one of: {', '.join(places)}.")
    reason = _text(asked.reason or "", "reason")
    if not reason:
        raise _invalid("reason", "'reason' says what the accounts are for; whoever decides has nothing else to go by.")
    if not outbox.is_address(asked.contact or ""):
        raise _invalid("contact", "'contact' is one address of e-mail, which hears what becomes of the request.")
    count, most = 1 if asked.count is None else asked.count, call.platform.settings.access.e0_capacity
    if not 1 <= count <= MAX_COUNT or count > most:
        raise _invalid("count", f"'count' is a number of accounts, from 1 to {min(MAX_COUNT, most)}.")
    sent = {name: value for name, value in (body.get("properties") or {}).items() if name.lower() not in SERVER}
    checked = {"kind": kind.name, "sku": CLOSED_SKU, "location": location}
    return {**sent, **checked, "reason": reason, "contact": asked.contact, "count": count}


def new_request(call: Call, asked: Mapping[str, Any], who: Person) -> Json:
    """Return the properties of a request that is made now, with the day by which an answer is promised."""
    access = call.platform.settings.access
    due_by = business_days.end_of_day_after(call.now, access.answer_days[1], access.holidays)
    return states.submitted(asked, call.now, who, due_by)


def shown(properties: Mapping[str, Any], now: float) -> Json:
    """Return the properties as GET shows them, with what follows from the time."""
    return {**properties, "overdue": upkeep.is_overdue(properties, now), "remaining": states.left(properties)}


def comment(call: Call) -> str:
    """Return what an action was sent with."""
    return _text(typed(respelled(call.body, Comment), Comment).comment or "", "comment")


def _text(value: str, target: str) -> str:
    text = value.strip()
    if len(text) > MAX_TEXT or any(not (sign.isprintable() or sign in "\n\t") for sign in text):
        raise _invalid(target, f"'{target}' is text of at most {MAX_TEXT} characters.")
    return text


def _invalid(name: str, message: str) -> Fault:
    return Fault(FaultKind.INVALID, message, code="InvalidSkuRequest", target=f"properties.{name}")
