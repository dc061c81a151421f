"""Time as a value: rules get it as a fact, tests turn it by hand, and a data directory made for rehearsals moves it for all its processes.

Every process takes its clock from `clock_of`. Where the data directory was made with `stockade up --simulation` it holds the file `clock`:
seconds that the processes mapping it are ahead of the machine's clock. TLS certificates are judged by other programs, and have real time.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

CLOCK_FILE: Final = "clock"
SIMULATED_HEADER: Final = "x-stockade-simulated-time"
"""Stands in every reply of a platform whose time can be moved: what time it is there."""
LONGEST_SIMULATION_S: Final = 100 * 366 * 86_400.0
"""How far ahead time can be moved in all: far enough to see everything end, and still a date."""


class Clock(Protocol):
    """Seconds since the epoch, UTC. `now` may jump (an operator set the clock); `monotonic` never runs backwards."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class SimulatedClock:
    """The machine's clock and what it was moved by, in shared memory: every process of the data directory reads the same 8 bytes.

    `monotonic` is the machine's: time limits of what is under way do not pass because somebody moved the calendar.
    """

    def __init__(self, path: Path) -> None:
        """Map the file, which `create` has made. OSError, or ValueError for a file that is none of ours."""
        descriptor = os.open(path, os.O_RDWR)
        try:
            if os.fstat(descriptor).st_size != _OFFSET.size:
                raise ValueError(f"{path} is no clock")
            self._map = mmap.mmap(descriptor, _OFFSET.size)
        finally:
            os.close(descriptor)
        self._cell = memoryview(self._map).cast("d")
        if not 0 <= self._cell[0] <= LONGEST_SIMULATION_S:
            raise ValueError(f"{path} is no clock")

    @classmethod
    def create(cls, path: Path) -> SimulatedClock:
        """Make the file, unless it is there, with time as it is."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls(path)
        try:
            os.write(descriptor, _OFFSET.pack(0.0))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return cls(path)

    @property
    def ahead_s(self) -> float:
        """Seconds ahead of the machine's clock."""
        return self._cell[0]

    def now(self) -> float:
        return time.time() + self._cell[0]

    def monotonic(self) -> float:
        return time.monotonic()

    def advance(self, seconds: float) -> None:
        """Move every process's clock ahead. ValueError for going back, and for more than there is."""
        ahead = self._cell[0] + seconds
        if not (seconds > 0 and ahead <= LONGEST_SIMULATION_S):
            raise ValueError("time moves forward, by a hundred years at most")
        self._set(ahead)

    def reset(self) -> None:
        """Go back to the machine's time. What was dated later keeps its date."""
        self._set(0.0)

    def _set(self, ahead: float) -> None:
        self._cell[0] = ahead  # one aligned store: nobody reads half of it
        self._map.flush()


_OFFSET = struct.Struct("=d")


def clock_of(data_dir: Path) -> SystemClock | SimulatedClock:
    """Return the clock that the processes of a data directory share. The only place that makes one."""
    path = data_dir / CLOCK_FILE
    return SimulatedClock(path) if path.exists() else SystemClock()


class ManualClock:
    """A clock that stands still until told to move."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 1_000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass on both readings."""
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP would; monotonic time does not move."""
        self._now += seconds


def iso(instant: float) -> str:
    """Format an instant as ARM writes it: `2026-11-23T20:06:01.1234567Z` (seven decimals)."""
    moment = datetime.fromtimestamp(instant, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond:06d}0Z"
