"""The requests of one worker that are under way, and what ends them from outside: a slow sender, a client that has gone, a deadline.

Four times a second all of them are looked at by one timer. A request costs a set entry; only one that lasts longer than a look gets a watch on
its client's connection.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, Protocol, TypeAlias

LOOK_S = 0.25

EndedBy: TypeAlias = Literal["", "slow-body", "disconnect", "deadline"]


class Request(Protocol):
    """What is looked at. Times are the loop's."""

    peer: str
    task: asyncio.Task[Any] | None
    proto: Any
    began: float
    reads_body: bool
    ended_by: EndedBy
    watch: asyncio.Task[None] | None


class Running:
    """Ends requests by cancelling their tasks; `ended_by` says why, and the gateway turns that into a reply."""

    def __init__(self, body_timeout_s: float, request_timeout_s: float) -> None:
        self._body_timeout_s, self._request_timeout_s = body_timeout_s, request_timeout_s
        self._requests: set[Request] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look after a request."""
        self._requests.add(request)
        if self._timer is None:
            self._timer = loop.call_later(LOOK_S, self._look)

    def leave(self, request: Request) -> None:
        """Stop looking after it."""
        self._requests.discard(request)
        if request.watch is not None:
            request.watch.cancel()

    def peers(self) -> frozenset[str]:
        """Return the peers with a request under way. May be asked from another thread."""
        return frozenset(request.peer for request in self._requests.copy())

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for request in tuple(self._requests):
            lasted = now - request.began
            if request.reads_body and lasted >= self._body_timeout_s:
                self._end(request, "slow-body")
            elif lasted >= self._request_timeout_s:
                self._end(request, "deadline")
            elif request.watch is None and not request.reads_body and lasted >= LOOK_S:
                request.watch = loop.create_task(self._disconnected(request))
        self._timer = loop.call_later(LOOK_S, self._look) if self._requests else None

    async def _disconnected(self, request: Request) -> None:
        await request.proto.client_disconnect()
        self._end(request, "disconnect")

    def _end(self, request: Request, reason: EndedBy) -> None:
        if not request.ended_by and request.task is not None and not request.task.done():
            request.ended_by = reason
            request.task.cancel()
