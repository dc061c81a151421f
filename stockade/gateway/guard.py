"""Ends work that nobody waits for, or that takes too long.

Most replies come before the guard looks for the first time; only then does watching the client's connection cost anything.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

FIRST_LOOK_S = 0.25


class Guard:
    """Cancels the task it was made in when the client disconnects or the deadline passes. `ended_by` says which."""

    __slots__ = ("_deadline_s", "_handle", "_loop", "_proto", "_task", "_watch", "ended_by")

    def __init__(self, proto: Any, deadline_s: float, *, watch_now: bool = False) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._loop = task.get_loop()
        self._proto, self._deadline_s = proto, deadline_s
        self._watch: asyncio.Task[None] | None = None
        self.ended_by: Literal["", "disconnect", "deadline"] = ""
        self._handle = self._loop.call_later(0 if watch_now else FIRST_LOOK_S, self._look)

    def release(self) -> None:
        """Stop watching."""
        self._handle.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _look(self) -> None:
        self._watch = self._loop.create_task(self._disconnected())
        self._handle = self._loop.call_later(max(0.0, self._deadline_s - FIRST_LOOK_S), self._end, "deadline")

    async def _disconnected(self) -> None:
        await self._proto.client_disconnect()
        self._end("disconnect")

    def _end(self, reason: Literal["disconnect", "deadline"]) -> None:
        if not self.ended_by and not self._task.done():
            self.ended_by = reason
            self._task.cancel()
