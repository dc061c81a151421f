"""How many E0 accounts a region has room for, and in which order those who wait get them.

Room is counted per kind and region over all subscriptions: accounts that are there (a deleted one too, while it can be restored), and what
approvals still allow. First come, first served, by when they were approved, and nobody overtakes: while the first needs more than
there is, the others wait, or a large request would wait forever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stockade.management.access import notices, states
from stockade.management.access.states import State
from stockade.management.cognitive_services.kinds import ACCOUNTS, CLOSED_SKU
from stockade.settings import Settings
from stockade.storage import documents
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document

TYPE: Final = "Stockade.Access/skuRequests"


def fitting(counts: Sequence[int], room: int) -> int:
    """Return how many of those who wait, from the first on, get what they ask for (`counts`, in order)."""
    for number, count in enumerate(counts):
        room -= count
        if room < 0:
            return number
    return len(counts)


def requests(reader: Reader, kind: str, location: str) -> list[Document]:
    """Return every subscription's requests for a kind in a region."""
    return [
        found
        for found in reader.list(TYPE)
        if (found.body["properties"]["kind"], found.body["properties"]["location"]) == (kind, location)
    ]


def room(settings: Settings, reader: Reader, kind: str, location: str, now: float) -> int:
    """Return for how many more accounts a region has room; negative when the setting was lowered below what is there."""
    live = reader.list(ACCOUNTS)
    deleted = reader.list(ACCOUNTS, state=documents.State.SOFT_DELETED)
    held = [account for account in deleted if account.purge_at is None or account.purge_at > now]
    there: int = sum(
        account.body["sku"]["name"] == CLOSED_SKU
        and account.body["kind"] == kind
        and account.body["location"] == location
        for account in (*live, *held)
    )
    allowed = sum(states.left(found.body["properties"]) for found in requests(reader, kind, location))
    return settings.access.e0_capacity - there - allowed


def waiting(reader: Reader, kind: str, location: str) -> list[Document]:
    """Return who waits for a kind in a region, in order."""
    found = [one for one in requests(reader, kind, location) if states.state_of(one.body["properties"]) is State.QUEUED]
    return sorted(found, key=lambda one: int(one.private["queueNumber"]))


def next_number(reader: Reader) -> int:
    """Return a number behind everybody who waits."""
    return 1 + max((int(found.private.get("queueNumber", 0)) for found in reader.list(TYPE)), default=0)


def advance(settings: Settings, writer: Writer, kind: str, location: str, now: float) -> None:
    """Give those who wait what there is room for now, and tell the others their place."""
    queue = waiting(writer, kind, location)
    if not queue:
        return
    counts = [int(one.body["properties"]["count"]) for one in queue]
    ready = fitting(counts, room(settings, writer, kind, location, now))
    for one in queue[:ready]:
        stored = put(writer, one, states.promoted(one.body["properties"], now))
        notices.came_up(writer, settings, stored, now)
    for position, one in enumerate(queue[ready:], 1):
        before = one.body["properties"].get("queuePosition")
        if before != position:
            stored = put(writer, one, {**one.body["properties"], "queuePosition": position})
            if before is not None:  # who has just been put into the queue is told by who did it
                notices.moved_up(writer, settings, stored, now)


def put(
    writer: Writer, document: Document, properties: documents.Json, private: documents.Json | None = None
) -> Document:
    """Store a request's new properties."""
    body = {**document.body, "properties": properties}
    return writer.put(document.id, document.type, body, private, subscription=document.subscription)
