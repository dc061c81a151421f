"""Removes what has expired, what was deleted while the store did not answer, and what a killed process left of writing something."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import ClassVar

from stockade.content.objects import open_bodies
from stockade.content.retention import Sweeper
from stockade.content.rows import ContentRows
from stockade.jobs.job import Run, Workplace

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
        """Remove a piece."""
        count = await Sweeper(ContentRows(place.database), place.clock).sweep(run.piece, open_bodies(place.settings))
        log.info("content that was over has been removed", extra={"items": count})


PLUGIN = Retention()
