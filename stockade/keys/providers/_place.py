"""What providers that are elsewhere have in common: their maker's library, their credential, and an end to every call."""

from __future__ import annotations

import importlib
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.settings import Provider

T = TypeVar("T")

WORKERS: Final = 4
"""Calls at a time to one provider."""
WAITING: Final = 16
"""Calls that wait for one of those to end; all others are told that the provider cannot be used when their time is up."""


def library(module: str, extra: str) -> ModuleType:
    """Import a maker's library, which is installed by an extra of ours; Fault(UNAVAILABLE) that says which."""
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        message = f"The Python package of {module} is not installed: pip install 'stockade[{extra}]' installs it."
        raise Fault(FaultKind.UNAVAILABLE, message) from missing


def credential(place: Provider) -> Secret | None:
    """Return the PIN, token or secret that the settings name, without white space at its ends; None where they name none.

    Fault(UNAVAILABLE) where they name one that is not there, or is empty.
    """
    if place.credential_env:
        value = os.environ.get(place.credential_env, "")
    elif place.credential_file:
        try:
            value = Path(place.credential_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as failure:
            raise Fault(
                FaultKind.UNAVAILABLE, f"The credential of the key provider {place.name} cannot be read."
            ) from failure
    else:
        return None
    if not value.strip():
        raise Fault(FaultKind.UNAVAILABLE, f"The credential of the key provider {place.name} is empty.")
    return Secret(value.strip())


def unavailable(name: str) -> Fault:
    """Return what is said when a provider does not answer; what exactly happened is its cause."""
    return Fault(FaultKind.UNAVAILABLE, f"The key provider {name} cannot be used now.", retry_after_s=1)


class Workers:
    """A few threads that make the calls to one provider, so that whoever calls can stop waiting.

    A call that never returns takes its thread with it; when all are gone, the provider is unavailable until one comes back.
    """

    def __init__(self, name: str, timeout_s: float, *, count: int = WORKERS) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._count = count
        self._waiting: queue.Queue[tuple[Callable[[], Any], Future[Any]] | None] = queue.Queue(WAITING)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def run(self, call: Callable[[], T]) -> T:
        """Return what the call returns, or raise what it raises; Fault(UNAVAILABLE) when the time is up."""
        until = time.monotonic() + self._timeout_s
        done: Future[T] = Future()
        self._start()
        try:
            self._waiting.put((call, done), timeout=self._timeout_s)
            return done.result(max(0.0, until - time.monotonic()))
        except (queue.Full, TimeoutError, CancelledError) as late:
            done.cancel()
            raise unavailable(self._name) from late

    def close(self) -> None:
        """Let the threads end. Calls that are under way end by themselves, those that wait with a fault."""
        with self._lock:
            self._closed = True
        try:
            while True:
                waiting = self._waiting.get_nowait()
                if waiting is not None:
                    waiting[1].cancel()
        except queue.Empty:
            pass
        for _ in range(len(self._threads)):
            self._waiting.put_nowait(None)

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                raise unavailable(self._name)
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name=f"key provider {self._name}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self) -> None:
        while (asked := self._waiting.get()) is not None:
            call, done = asked
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(call())
            except BaseException as failure:  # noqa: BLE001 (it is the caller's)
                done.set_exception(failure)
            del call, done, asked
