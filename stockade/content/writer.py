"""Which process is writing something, so that what a dead one left is known from what another one is still at."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path


def this_process() -> str:
    """Return a name for this process that no other has: the boot, the pid namespace, the pid, and when it started."""
    return _named(os.getpid())


def here() -> str:
    """Return what the names of all processes begin with that this one can see; "" where the system does not tell."""
    return _place()


def has_ended(writer: str) -> bool:
    """Tell whether a process is certainly no more; False for those of other machines and containers, of which nothing is known."""
    place = _place()
    if not place or not writer.startswith(place):
        return False
    pid, _, started = writer.removeprefix(place).partition("@")
    return not pid.isdigit() or _started(int(pid)) != started


@lru_cache(maxsize=4)
def _named(pid: int) -> str:
    place = _place()
    return f"{place}{pid}@{_started(pid)}" if place else ""


@lru_cache(maxsize=1)
def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}/"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; "" when there is none such."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
