"""The requests of one worker that are under way, and what ends them from outside.

A slow client, a client that has gone, a deadline, and a policy that would no longer admit them.

Four times a second all of them are looked at by one timer. A request costs a set entry; only one that lasts longer than a look gets a watch on
its client's connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from stockade.kernel.faults import Fault
from stockade.kernel.verdict import Deny
from stockade.policy.snapshot import Snapshot

LOOK_S = 0.25

EndedBy: TypeAlias = Literal["", "slow-client", "disconnect", "deadline", "policy"]

log = logging.getLogger(__name__)


class Request(Protocol):
    """What is looked at. Times are the loop's."""

    peer: str
    task: asyncio.Task[Any] | None
    proto: Any
    began: float
    client_due: float | None
    """When its client has to have sent, or taken, what is waited for; None while nothing is."""
    ended_by: EndedBy
    watch: asyncio.Task[None] | None
    longest_s: float | None
    """How long it may take; None: as long as any other. A WebSocket session lasts longer, and notices itself that its client has gone."""
    snapshot: Snapshot | None
    denied: Deny | None

    @property
    def clocked(self) -> bool:
        """Whether it is admitted may change with the time alone, without a change of policy."""
        ...


R = TypeVar("R", bound=Request)


class Running(Generic[R]):
    """Ends requests by cancelling their tasks; `ended_by` says why, and the gateway turns that into a reply.

    policy: returns the snapshot in force. again: returns why a request would not be admitted under it, None when it would.
    """

    def __init__(
        self,
        request_timeout_s: float,
        policy: Callable[[], Snapshot],
        again: Callable[[R, Snapshot], Deny | None],
    ) -> None:
        self._request_timeout_s = request_timeout_s
        self._policy, self._again = policy, again
        self._requests: set[R] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, request: R, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look after a request."""
        self._requests.add(request)
        if self._timer is None:
            self._timer = loop.call_later(LOOK_S, self._look)

    def leave(self, request: R) -> None:
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
        snapshot = self._in_force()
        for request in tuple(self._requests):
            if snapshot is not None and (request.snapshot is not snapshot or request.clocked):
                self._judge(request, snapshot)
            lasted = now - request.began
            if request.client_due is not None and now >= request.client_due:
                self._end(request, "slow-client")
            elif lasted >= (self._request_timeout_s if request.longest_s is None else request.longest_s):
                self._end(request, "deadline")
            elif (
                request.watch is None and request.longest_s is None and request.client_due is None and lasted >= LOOK_S
            ):
                request.watch = loop.create_task(self._disconnected(request))
        self._timer = loop.call_later(LOOK_S, self._look) if self._requests else None

    def _in_force(self) -> Snapshot | None:
        try:
            return self._policy()
        except Fault:
            return None  # new requests are refused while policy cannot be read; what was admitted under the last one goes on

    def _judge(self, request: R, snapshot: Snapshot) -> None:
        if request.snapshot is None:
            return  # not admitted yet
        try:
            denied = self._again(request, snapshot)
        except Exception:
            log.exception("a request under way could not be decided on again")
            return
        if denied is None:
            request.snapshot = snapshot
        elif not request.ended_by:
            request.denied = denied
            self._end(request, "policy")

    async def _disconnected(self, request: R) -> None:
        await request.proto.client_disconnect()
        self._end(request, "disconnect")

    def _end(self, request: R, reason: EndedBy) -> None:
        if not request.ended_by and request.task is not None and not request.task.done():
            request.ended_by = reason
            request.task.cancel()
