"""What becomes due by itself: requests that lapse, access that is over, and telling the broker of what it has not heard.

None of it waits for this: whoever looks at a request sees it as it stands at that moment. This writes it down, and tells people.
"""

from __future__ import annotations

from typing import Final

from stockade.lockbox.workflow import OPEN
from stockade.management.lockbox import documents
from stockade.management.lockbox.documents import Request
from stockade.management.lockbox.events import Desk
from stockade.management.lockbox.moving import moved
from stockade.management.resource_type import Platform
from stockade.storage.database import Reader, Writer

KEEP_S: Final = 400 * 86_400.0
"""How long requests that are over are shown; the log has them for as long as it is kept."""


def is_due(reader: Reader, now: float) -> bool:
    """Say whether `keep_up` would change anything, without a write transaction."""
    return any(_is_due(one, now) for one in documents.every(reader))


def keep_up(platform: Platform, writer: Writer, now: float) -> None:
    """Note what is due."""
    for request in documents.every(writer):
        if _is_old(request, now):
            documents.remove(writer, request)
        elif _is_due(request, now):
            moved(Desk.of_clock(platform, now), writer, request, request.at(now).course)


def _is_due(request: Request, now: float) -> bool:
    over = request.course.status not in OPEN
    return request.at(now) != request or (over and not request.kept.told) or _is_old(request, now)


def _is_old(request: Request, now: float) -> bool:
    return request.course.status not in OPEN and request.course.history[-1].at + KEEP_S <= now
