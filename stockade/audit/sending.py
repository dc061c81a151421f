"""Everything that leaves the audit process: sinks' records and witnesses' heads, in a thread and event loop of their own.

Whoever writes the log says `wake` and waits for nobody; a sink that is slow, hangs or is gone keeps neither the log nor another sink waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Sequence
from typing import Final

from stockade.audit.delivery import Delivery, Surroundings
from stockade.audit.witnesses import Witnessing
from stockade.settings import Sink

HELD_RECORDS: Final = 1_000_000
"""How many records of a log retention leaves for a sink that has not got them."""
START_S, END_S = 5.0, 5.0

log = logging.getLogger(__name__)


class Sending:
    """`start` and `close` frame its life. Nothing is lost by ending it: it goes on from the cursors."""

    def __init__(self, sinks: Sequence[Sink], around: Surroundings, witnessing: Witnessing | None = None) -> None:
        self._around, self._witnessing = around, witnessing
        self._deliveries = [Delivery(one, around) for one in sinks]
        self._everything = frozenset(one.name for one in sinks if one.everything)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit sending", daemon=True)

    @property
    def problem(self) -> str:
        """Say why this platform is not healthy (a log that witnesses contradict); "" when it is."""
        return self._witnessing.problem if self._witnessing is not None else ""

    @property
    def held(self) -> bool:
        """Say whether the logs were held to what witnesses have."""
        return self._witnessing is None or self._witnessing.checked.is_set()

    def start(self) -> None:
        """Begin; return when `close` can end it. Nothing is waited for: `held` says when something is known of the logs."""
        self._thread.start()
        self._begun.wait(START_S)

    def close(self) -> None:
        """Stop, in the middle of what is under way if need be."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(END_S)

    def wake(self) -> None:
        """Say that a log has grown. From any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(self._wake)

    def prunable(self, name: str, before: int) -> int:
        """Return below which index a log may be pruned, where retention would remove everything below `before`.

        What a sink has not got yet stays, up to HELD_RECORDS; then it goes, and the sink's state says how many it missed.
        """
        routes = self._around.routes()
        lowest, whose = before, ""
        for one in self._deliveries:
            wanted = one.state.name in self._everything or name in routes.logs(one.state.name)
            place = one.state.logs.get(name)
            reached = place.next if place is not None else 0
            if wanted and reached < lowest:
                lowest, whose = reached, one.state.name
        if not whose:
            return before
        kept = max(lowest, before - HELD_RECORDS)
        about = {"log": name, "sink": whose, "records": before - kept, "lost": kept - lowest}
        if kept > lowest:
            log.error("retention removes audit records that a sink has not got", extra=about)
        else:
            log.warning("retention leaves audit records that a sink has not got yet", extra=about)
        return kept

    def _wake(self) -> None:
        for one in self._deliveries:
            one.wanted.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except Exception:
            log.exception("audit records are not sent on any more")

    async def _all(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun.set()
        tasks = [asyncio.create_task(one.run()) for one in self._deliveries]
        if self._witnessing is not None:
            tasks.append(asyncio.create_task(self._witnessing.run()))
        await self._over.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
