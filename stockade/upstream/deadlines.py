"""Time limits by the thousand, with one timer between them.

A timer of the event loop costs 1.7 microseconds to set and cancel, and a request needs three: for its body, its engine and its client. Here
a limit is an entry in a dictionary, and one timer looks them through four times a second, only while there are any. Limits are late by up to
`TICK_S`, which none of them minds.

Whoever needs the loop keeps it: `asyncio.get_running_loop` and `current_task` ask the system for the process's number each time (Python 3.11),
which costs more than everything else here together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

TICK_S = 0.25


class Deadlines:
    """The limits of one event loop."""

    __slots__ = ("_due", "_last", "_timer", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._due: dict[int, tuple[float, Callable[..., object], tuple[Any, ...]]] = {}
        self._last = 0
        self._timer: asyncio.TimerHandle | None = None

    def after(self, seconds: float, callback: Callable[..., object], *arguments: Any) -> int:
        """Call back once the time is over, unless cancelled before. Returns the number to cancel by."""
        self._last = number = self._last + 1
        self._due[number] = (self.loop.time() + seconds, callback, arguments)
        if self._timer is None:
            self._timer = self.loop.call_later(TICK_S, self._look)
        return number

    def cancel(self, number: int) -> None:
        """Forget a limit; one that is over or forgotten already is no error."""
        self._due.pop(number, None)

    def _look(self) -> None:
        now = self.loop.time()
        over = [number for number, (due, _, _) in self._due.items() if due <= now]
        self._timer = self.loop.call_later(TICK_S, self._look) if len(over) < len(self._due) else None
        for number in over:
            entry = self._due.pop(number, None)  # one callback may have cancelled the next
            if entry is not None:
                entry[1](*entry[2])
