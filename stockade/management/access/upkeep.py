"""What becomes due by itself: roles that are over, requests that nobody answered in time, places that deleted accounts or a larger setting leave."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from stockade.audit.log import AuditSink
from stockade.management.access import notices, queue, role_requests, states
from stockade.management.access.states import State
from stockade.settings import Settings
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document


def is_overdue(properties: Any, now: float) -> bool:
    """Say whether an answer was promised by now and nobody has given one. To be put into the queue is an answer."""
    return (
        states.state_of(properties) in states.WAITING and datetime.fromisoformat(properties["dueBy"]).timestamp() <= now
    )


def is_due(settings: Settings, reader: Reader, now: float) -> bool:
    """Say whether `keep_up` would change anything, without a write transaction."""
    return (
        bool(_late(reader, now))
        or role_requests.is_due(reader, now)
        or any(
            int(queue.waiting(reader, *place)[0].body["properties"]["count"])
            <= queue.room(settings, reader, *place, now)
            for place in _queues(reader)
        )
    )


def keep_up(settings: Settings, writer: Writer, audit: AuditSink, now: float) -> None:
    """End what is over, tell operators, once, of each request that is overdue, and move queues up."""
    role_requests.keep_up(settings, writer, audit, now)
    for request in _late(writer, now):
        stored = queue.put(writer, request, dict(request.body["properties"]), {**request.private, "overdueTold": True})
        notices.overdue(writer, settings, stored, now)
    for place in _queues(writer):
        queue.advance(settings, writer, *place, now)


def _late(reader: Reader, now: float) -> list[Document]:
    return [
        one
        for one in reader.list(queue.TYPE)
        if not one.private.get("overdueTold") and is_overdue(one.body["properties"], now)
    ]


def _queues(reader: Reader) -> list[tuple[str, str]]:
    found = [one.body["properties"] for one in reader.list(queue.TYPE)]
    return sorted({(one["kind"], one["location"]) for one in found if states.state_of(one) is State.QUEUED})
