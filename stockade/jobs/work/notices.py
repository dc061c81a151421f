"""Delivers what stands in the outbox (`management/outbox.py`), each attempt a piece of work of its own.

An attempt is a step, so that one that was made is remembered; a kill between the delivery and its remembering makes a second one: at least once,
and receivers can tell by the notice's id. What came of it is noted in the notice, which says when the next one is due, or that it has failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import ClassVar

from stockade.jobs.job import Run, Workplace
from stockade.jobs.notices import mail, webhook
from stockade.jobs.notices.undelivered import Undelivered
from stockade.management import outbox
from stockade.storage.documents import Document

log = logging.getLogger(__name__)

BROKE = "an error that the log tells of"


class Notices:
    """Notices to people and their programs."""

    name: ClassVar[str] = "notices"
    every_s: ClassVar[float] = 5.0
    on_change: ClassVar[bool] = True

    def due(self, place: Workplace) -> Iterable[str]:
        with place.database.read() as reader:
            found = outbox.due(reader, place.clock.now())
        return [f"{document.body['name']}.{document.body['attempts']}" for document in found]

    async def do(self, place: Workplace, run: Run) -> None:
        name, _, attempt = run.piece.partition(".")
        document = await asyncio.to_thread(_read, place, name)
        if document is None:
            return
        if not outbox.is_pending(document):
            await asyncio.to_thread(_forget, place, name)
            return
        if document.body["attempts"] != int(attempt):
            return
        failure = await run.step("deliver", lambda: _attempt(place, document))
        await asyncio.to_thread(_settle, place, name, int(attempt), failure or None)


async def _attempt(place: Workplace, notice: Document) -> str:
    """Deliver; return why not, "" for done. A bug here must not leave a notice that nobody tries again."""
    told, now = place.settings.notices, place.clock.now()
    try:
        if notice.body["to"] == outbox.WEBHOOK:
            await webhook.deliver(told, notice, now)
        else:
            await mail.deliver(told.mail, notice, now)
    except Undelivered as failure:
        return str(failure)
    except Exception:
        log.exception("a notice could not be delivered", extra={"notice": notice.body["name"]})
        return BROKE
    return ""


def _read(place: Workplace, name: str) -> Document | None:
    with place.database.read() as reader:
        return reader.get(outbox.PREFIX + name)


def _settle(place: Workplace, name: str, attempt: int, failure: str | None) -> None:
    with place.database.write() as writer:
        document = outbox.settle(writer, name, attempt, failure, place.clock.now())
    if document is not None and document.body["state"] == outbox.Delivery.FAILED:
        log.error("a notice is given up", extra={"notice": name, "kind": document.body["kind"], "why": failure})


def _forget(place: Workplace, name: str) -> None:
    with place.database.write() as writer:
        outbox.forget_old(writer, name, place.clock.now())


PLUGIN = Notices()
