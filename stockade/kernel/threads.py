"""Run blocking calls off the event loop, a few at once, with a bound on how many may wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread

from stockade.kernel.faults import Fault, FaultKind

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class BoundedThreads:
    """A place in a short queue for every call; above `waiting` calls under way the answer is Fault(UNAVAILABLE) at once."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._limiter = CapacityLimiter(threads)
        self._waiting = waiting
        self._under_way = 0

    async def run(self, call: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Return what the call returns."""
        if self._under_way >= self._waiting:
            raise Fault(FaultKind.UNAVAILABLE, "Too many requests at once; try again.", retry_after_s=1)
        self._under_way += 1
        try:
            return await to_thread.run_sync(call, *arguments, limiter=self._limiter)
        finally:
            self._under_way -= 1
