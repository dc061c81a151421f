"""How long things are kept, and the sweeping up of what is over: expired items, deleted ones, and what a crash has left of writing one.

None of it needs a key. Nobody reads any of it meanwhile: what is due here is hidden from readers already.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from stockade.content.item import Kind
from stockade.content.objects import Bodies
from stockade.content.rows import ContentRows, ItemRow
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Content

DAY_S: Final = 86_400.0
PIECE: Final = 100
"""Items that are swept at once."""
PIECES: Final = 10

log = logging.getLogger(__name__)


def expires_at(kind: Kind, content: Content, now: float) -> float | None:
    """Return until when something of a kind that is made now is kept; None: until somebody deletes it."""
    days = {
        "files": content.files_days,
        "batches": content.batches_days,
        "responses": content.responses_days,
        "completions": content.completions_days,
    }[kind]
    return now + days * DAY_S if days else None


class Sweeper:
    """Finds what is over, and removes it in pieces: runs of rows, `FIRST-LAST-MARK` by their ordinals, so that a piece is named once."""

    def __init__(self, rows: ContentRows, clock: Clock) -> None:
        self._rows, self._clock = rows, clock

    def due(self) -> list[str]:
        """Return the pieces there are now, the oldest rows first. Blocks: for a thread."""
        over = self._rows.over(self._clock.now(), PIECE * PIECES)
        pieces = [over[start : start + PIECE] for start in range(0, len(over), PIECE)]
        return [f"{piece[0].ordinal}-{piece[-1].ordinal}-{piece[0].version[:8]}" for piece in pieces]

    def found(self, piece: str) -> list[ItemRow]:
        """Return what is over of a piece. Blocks: for a thread."""
        first, last, _ = piece.split("-")
        return self._rows.over(self._clock.now(), PIECE * PIECES, first=int(first), last=int(last))

    async def sweep(self, piece: str, bodies: Bodies) -> int:
        """Take what is over of a piece from readers, then from the store, then from the database; return how many items.

        Done twice it is done once. Fault(UNAVAILABLE) when some of it has to be tried again.
        """
        rows = await asyncio.to_thread(self.found, piece)
        await asyncio.to_thread(self._rows.remove, [row.ordinal for row in rows], self._clock.now())
        gone: list[int] = []
        for row in rows:
            try:
                if row.location:
                    await bodies.delete(row.location)
                gone.append(row.ordinal)
            except Fault as fault:
                log.warning("content that is over is still in the store", extra={"reason": fault.kind.value})
        await asyncio.to_thread(self._rows.forget, gone)
        if len(gone) < len(rows):
            raise Fault(FaultKind.UNAVAILABLE, "The store did not remove all that is over.", retry_after_s=60)
        return len(rows)
