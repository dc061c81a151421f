"""Notices on their way to people: written in the transaction that made them true, delivered by `jobs/work/notices.py`, at least once.

One document per notice and place it goes to, so that one place which does not answer keeps nothing from another. What is told to whom is its
own package's business (`access/notices.py`). A notice that could not be delivered stays as `Failed`, with what was answered last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from stockade.kernel.clock import iso
from stockade.kernel.ids import new_guid
from stockade.settings import Settings
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

TYPE: Final = "stockade.access/notices"
PREFIX: Final = "/providers/stockade.access/notices/"
MAX_ATTEMPTS: Final = 12
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 6 * 3600.0
"""Twelve attempts with pauses that grow threefold: a day and three hours in all."""
KEEP_DAYS: Final = 30
"""How long it is shown that a notice was delivered, or could not be."""
MAX_TOLD: Final = 20
WEBHOOK: Final = "webhook"
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,188}[A-Za-z0-9])?")


class Delivery(StrEnum):
    """What became of a notice."""

    PENDING = "Pending"
    DELIVERED = "Delivered"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to be told.

    kind:    what happened, `skuRequest.approved`. subject: the ARM id it is about.
    title:   one line; text: plain text under it. data: what a program needs to know, JSON.
    to:      addresses of e-mail. operators: tell those that the settings name too. The webhook gets everything.
    """

    kind: str
    subject: str
    title: str
    text: str
    data: Mapping[str, Any]
    to: tuple[str, ...] = ()
    operators: bool = False
    subscription: str = field(default="", kw_only=True)


def is_address(text: str) -> bool:
    """Say whether this is an address that mail can be sent to: nothing that could end a header or name a second recipient."""
    return _ADDRESS.fullmatch(text) is not None and ".." not in text


def post(writer: Writer, settings: Settings, notice: Notice, now: float) -> None:
    """Put a notice into the outbox for everyone it is for. Nobody: nothing is written."""
    told = settings.notices
    mailed = (*notice.to, *(told.operators if notice.operators else ()))
    places = [f"mailto:{address}" for address in dict.fromkeys(mailed)][:MAX_TOLD] if told.mail.host else []
    places += [WEBHOOK] if told.webhook else []
    shared = new_guid()
    for place in places:
        name = new_guid()
        body = {
            "name": name,
            "notice": shared,
            "kind": notice.kind,
            "subject": notice.subject,
            "title": notice.title,
            "text": notice.text,
            "data": dict(notice.data),
            "to": place,
            "createdAt": iso(now),
            "state": Delivery.PENDING.value,
            "attempts": 0,
            "notBefore": now,
            "lastError": "",
        }
        writer.put(PREFIX + name, TYPE, body, subscription=notice.subscription)


def due(reader: Reader, now: float) -> list[Document]:
    """Return what is to be delivered now, or has been there for longer than it is shown."""
    found = reader.list(TYPE)
    return [one for one in found if (is_pending(one) and one.body["notBefore"] <= now) or _is_old(one, now)]


def told_today(reader: Reader, subscription: str, now: float) -> int:
    """Return how many notices a subscription has caused within a day."""
    return sum(one.created_at > now - 86_400 for one in reader.list(TYPE, subscription=subscription))


def is_pending(document: Document) -> bool:
    """Say whether a notice is still to be delivered."""
    return str(document.body["state"]) == Delivery.PENDING


def settle(writer: Writer, name: str, attempt: int, failure: str | None, now: float) -> Document | None:
    """Note what became of an attempt; None when it was noted before. failure: what was answered, without anything secret."""
    document = writer.get(PREFIX + name)
    if document is None or not is_pending(document) or document.body["attempts"] != attempt:
        return None
    body: Json = {**document.body, "attempts": attempt + 1, "lastError": (failure or "")[:500], "settledAt": iso(now)}
    if failure is None:
        body["state"] = Delivery.DELIVERED.value
    elif attempt + 1 >= MAX_ATTEMPTS:
        body["state"] = Delivery.FAILED.value
    else:
        body["notBefore"] = now + pause_s(attempt)
    return writer.put(document.id, TYPE, body, subscription=document.subscription)


def forget_old(writer: Writer, name: str, now: float) -> bool:
    """Remove a notice that has been shown for long enough; say whether it was."""
    document = writer.get(PREFIX + name)
    if document is None or not _is_old(document, now):
        return False
    writer.remove(document)
    return True


def pause_s(attempt: int) -> float:
    """Return how long to wait after the so-manieth attempt, counted from 0."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 3**attempt))


def _is_old(document: Document, now: float) -> bool:
    return not is_pending(document) and document.updated_at + KEEP_DAYS * 86_400 <= now
