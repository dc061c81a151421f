"""Appending to files that outsiders keep: each write whole and synced, in a thread of its own, because a disk that hangs cannot be called back."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stockade.audit.disk import to_disk


class Appender:
    """Does one piece of work on files at a time. What hangs keeps later work out, and keeps nobody from ending the process."""

    def __init__(self) -> None:
        self._under_way: Future[None] | None = None

    async def run(self, work: Callable[[], None], timeout_s: float) -> None:
        """Return when the work is done; OSError as it raised, TimeoutError when it, or what was begun before it, takes longer."""
        async with asyncio.timeout(timeout_s):
            if self._under_way is not None and not self._under_way.done():
                earlier = asyncio.wrap_future(self._under_way)
                await asyncio.wait([earlier])
                earlier.exception()  # it was told to whoever gave up waiting for it, as a timeout
            self._under_way = done = Future[None]()
            done.set_running_or_notify_cancel()  # from here on it cannot be cancelled: it goes on, waited for or not
            threading.Thread(target=_do, args=(work, done), name="audit sink", daemon=True).start()
            await asyncio.wrap_future(done)


def append_durably(path: Path, data: bytes) -> None:
    """Append lines and return when they are on disk; OSError leaves the file as it was.

    The half of a line that a crash has left is ended first, so that it does not swallow the next one.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        view = memoryview(b"\n" + data if torn else data)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
            to_disk(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def path_of(url: str) -> Path:
    """Return the path that a `file:` address names."""
    return Path(unquote(urlsplit(url).path))


def _do(work: Callable[[], None], done: Future[None]) -> None:
    try:
        work()
        done.set_result(None)
    except BaseException as failure:  # noqa: BLE001 - it is told to whoever waits
        done.set_exception(failure)
