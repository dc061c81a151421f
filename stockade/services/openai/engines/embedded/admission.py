"""Bound how many requests run and how many wait, so that a busy engine says so instead of falling behind."""

from __future__ import annotations

import asyncio

from stockade.kernel.faults import Fault, FaultKind


class Admission:
    """A fixed number of places to work in, and a short queue for them.

    running:    requests at work at once.
    waiting:    requests that may queue; the next one is refused at once.
    patience_s: how long one of them waits before it is refused.
    """

    def __init__(self, running: int, waiting: int, patience_s: float) -> None:
        self._places = asyncio.Semaphore(running)
        self._waiting = 0
        self._max_waiting = waiting
        self._patience_s = patience_s

    async def enter(self) -> None:
        """Take a place, waiting in the queue if there is room in it; otherwise raise Fault(LIMIT) with a time to come back.

        Whoever entered calls `leave` exactly once, when its work has really ended.
        """
        if self._places.locked() and self._waiting >= self._max_waiting:
            raise self._refusal()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience_s):
                await self._places.acquire()
        except TimeoutError:
            raise self._refusal() from None
        finally:
            self._waiting -= 1

    def leave(self) -> None:
        self._places.release()

    @staticmethod
    def _refusal() -> Fault:
        return Fault(
            FaultKind.LIMIT,
            "The built-in model is busy with other requests. Please retry after 2 seconds.",
            code="engine_overloaded",
            retry_after_s=2,
        )
