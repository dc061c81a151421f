"""The one place where a request changes: recorded, told, taken from the broker where it is over, and stored, in one transaction.

When something is over here the broker is told in the same breath, and what was signed for it opens nothing any more. Where the broker cannot be
reached nothing can be opened either; it is told later, and until then the status is Azure's word for that (Denying, Revoking, Completing).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

import msgspec

from stockade.kernel.faults import Fault
from stockade.lockbox.workflow import OPEN, Course, Status
from stockade.management.lockbox import documents, events, notices
from stockade.management.lockbox.documents import Kept, Request
from stockade.management.lockbox.events import Desk
from stockade.storage.database import Writer

_UNTOLD: Final = {
    Status.DENIED: Status.DENYING,
    Status.REVOKED: Status.REVOKING,
    Status.COMPLETED: Status.COMPLETING,
}

log = logging.getLogger(__name__)


def filed(desk: Desk, writer: Writer, request: Request) -> Request:
    """Store a new request."""
    return _stored(desk, writer, request, steps=0)


def moved(desk: Desk, writer: Writer, request: Request, course: Course, kept: Kept | None = None) -> Request:
    """Store what has become of a request. kept: what else has changed of it."""
    after = replace(request, course=course, kept=kept if kept is not None else request.kept)
    return _stored(desk, writer, after, steps=len(request.course.history))


def _stored(desk: Desk, writer: Writer, request: Request, steps: int) -> Request:
    if request.course.status not in OPEN and not request.kept.told:
        request = replace(request, kept=msgspec.structs.replace(request.kept, told=_tell(desk, request)))
    for step in request.course.history[steps:]:
        events.record(desk, request, step)
        notices.step(desk, writer, request, step)
    documents.put(writer, request)
    return request


def shown_status(request: Request) -> Status:
    """Return where a request stands, as customers see it."""
    status = request.course.status
    return status if request.kept.told else _UNTOLD.get(status, status)


def _tell(desk: Desk, request: Request) -> bool:
    try:
        desk.platform.broker.revoke_access(request.name)
    except Fault as fault:
        log.warning("the key broker has not heard that a Lockbox request is over, and will later: %s", fault)
        return False
    return True
