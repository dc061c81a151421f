"""What all lists of kept things have in common: how they are paged, and how one thing of them is named."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from stockade.content.item import AccountContent, Item, Kind, Order
from stockade.kernel.faults import Fault, FaultKind
from stockade.services.service import Call

AT_A_TIME: Final = 100
DAY_S: Final = 24 * 3600
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted."""

    after: str | None
    limit: int
    order: Order


def read_page(query: Mapping[str, str], *, default: int, maximum: int, order: Order = "desc") -> Page:
    """Return what the query says; Fault(INVALID) for what it cannot say. A limit above `maximum` is that: `has_more` says the rest."""
    text = query.get("limit", "")
    if text and not (text.isascii() and text.isdigit() and 0 < len(text) < 9 and int(text) > 0):
        raise Fault(FaultKind.INVALID, "The parameter 'limit' must be a number above 0.", target="limit")
    wanted = query.get("order", order)
    if wanted not in ("asc", "desc"):
        raise Fault(FaultKind.INVALID, "The parameter 'order' can only be 'asc' or 'desc'.", target="order")
    return Page(query.get("after") or None, min(int(text or default), maximum), cast("Order", wanted))


async def collect(
    content: AccountContent, kind: Kind, page: Page, fits: Callable[[Item], bool] = lambda _: True
) -> tuple[list[Item], bool]:
    """Return the page's items that fit, and whether there are more."""
    found: list[Item] = []
    after = page.after
    while True:
        some = await content.find(kind, after=after, limit=AT_A_TIME, order=page.order)
        for item in some:
            if fits(item):
                if len(found) == page.limit:
                    return found, True
                found.append(item)
        if len(some) < AT_A_TIME:
            return found, False
        after = some[-1].id


def cut(data: Sequence[dict[str, Any]], page: Page) -> tuple[list[dict[str, Any]], bool]:
    """Return the page of a list that is there whole, in ascending order, and whether there is more."""
    rows = list(data) if page.order == "asc" else list(reversed(data))
    if page.after is not None:
        places = [number for number, row in enumerate(rows) if row.get("id") == page.after]
        if not places:
            raise Fault(FaultKind.INVALID, "There is nothing of that id to go on after.", target="after")
        rows = rows[places[0] + 1 :]
    return rows[: page.limit], len(rows) > page.limit


def listing(data: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """Return a list as the wire has it."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess."""
    return f"{prefix}{secrets.token_hex(16)}"


def can_keep(call: Call) -> bool:
    """Say whether there is anybody to keep something for this call: there is not for the lines of a batch."""
    return call.content is not None or call.opens is not None


def content_of(call: Call) -> AccountContent:
    """Return what the account keeps; Fault(UNAVAILABLE) where this process keeps nothing."""
    if call.content is None and call.opens is not None:
        call.opens()
    if call.content is None:
        raise Fault(FaultKind.UNAVAILABLE, "This process of the platform keeps no content.")
    return call.content


async def one(call: Call, kind: Kind, item_id: str, what: str) -> Item:
    """Return a kept thing; Fault(NOT_FOUND) in the words of who asks. what: as callers know its kind, `File`."""
    missing = Fault(FaultKind.NOT_FOUND, f"No such {what} object: {item_id[:80]}", target="id")
    if not _ID.fullmatch(item_id):
        raise missing
    try:
        return await content_of(call).get(kind, item_id)
    except Fault as fault:
        if fault.kind is FaultKind.NOT_FOUND:
            raise missing from fault
        raise


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    """Yield a body that is there whole."""
    yield data


async def whole_body(content: AccountContent, item: Item) -> bytes:
    """Return the body of something small."""
    return b"".join([piece async for piece in content.read(item)])
