"""Removes what has expired, what was deleted while the store did not answer, and what a killed process left of writing something."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

from stockade.content.objects import open_bodies
from stockade.content.retention import Sweeper
from stockade.content.rows import ContentRows
from stockade.jobs.job import Run, Workplace
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord

log = logging.getLogger(__name__)


class Retention:
    """Pieces are `content/retention.py`'s. Done twice they are done once, so there are no steps to remember."""

    name: ClassVar[str] = "retention"
    every_s: ClassVar[float] = 60.0
    on_change: ClassVar[bool] = False

    def due(self, place: Workplace) -> Iterable[str]:
        """Return what is over, in pieces of a hundred items."""
        return Sweeper(ContentRows(place.database), place.clock).due()

    async def do(self, place: Workplace, run: Run) -> None:
        """Remove a piece. What has expired is announced in the audit log first, by account: nobody asked for that."""
        sweeper = Sweeper(ContentRows(place.database), place.clock)
        expired: dict[str, Counter[str]] = {}
        for row in await asyncio.to_thread(sweeper.found, run.piece):
            if row.state == "live":
                expired.setdefault(row.account, Counter())[row.kind] += 1
        for account, kinds in sorted(expired.items()):
            because = {kind: str(count) for kind, count in sorted(kinds.items())}
            await asyncio.to_thread(place.audit.commit, _record(place.clock.now(), account, because))
        count = await sweeper.sweep(run.piece, open_bodies(place.settings))
        log.info("content that was over has been removed", extra={"items": count})


def _record(now: float, account: str, because: dict[str, str]) -> AuditRecord:
    return AuditRecord(
        time=now,
        id=new_guid(),
        category="Audit",
        phase="intent",
        operation="Stockade.Content/expired/delete",
        resource=account,
        because=because,
    )


PLUGIN = Retention()
