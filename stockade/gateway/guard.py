"""Ends work that nobody waits for, or that takes too long.

Most replies come before the guard looks for the first time; only then does watching the client's connection cost anything.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from stockade.upstream.deadlines import TICK_S, deadlines

FIRST_LOOK_S = TICK_S


class Guard:
    """Cancels the task it was made in when the client disconnects or the deadline passes. `ended_by` says which."""

    __slots__ = ("_deadline_s", "_deadlines", "_number", "_proto", "_task", "_watch", "ended_by")

    def __init__(
        self, proto: Any, deadline_s: float, *, task: asyncio.Task[Any] | None = None, watch_now: bool = False
    ) -> None:
        task = task or asyncio.current_task()
        assert task is not None
        self._task = task
        self._proto, self._deadline_s = proto, deadline_s
        self._watch: asyncio.Task[None] | None = None
        self.ended_by: Literal["", "disconnect", "deadline"] = ""
        self._deadlines = deadlines()
        if watch_now:
            self._look()
        else:
            self._number = self._deadlines.after(FIRST_LOOK_S, self._look)

    def release(self) -> None:
        """Stop watching."""
        self._deadlines.cancel(self._number)
        if self._watch is not None:
            self._watch.cancel()

    def _look(self) -> None:
        self._watch = self._deadlines.loop.create_task(self._disconnected())
        self._number = self._deadlines.after(max(0.0, self._deadline_s - FIRST_LOOK_S), self._end, "deadline")

    async def _disconnected(self) -> None:
        await self._proto.client_disconnect()
        self._end("disconnect")

    def _end(self, reason: Literal["disconnect", "deadline"]) -> None:
        if not self.ended_by and not self._task.done():
            self.ended_by = reason
            self._task.cancel()
