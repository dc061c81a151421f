"""The key broker, asked over its socket from threads. `keys/broker_async.py` does it from an event loop.

Every call has a deadline. A broker that is not there, or ends in the middle, is Fault(UNAVAILABLE) with a second to wait; the next call connects
anew, so that everybody recovers by themselves once it is back.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import broker_wire as wire
from stockade.keys.broker_calls import BrokerCalls

TIMEOUT_S: Final = 15.0
"""For one call; longer than any provider's own limit by default."""
IDLE: Final = 16
"""Connections kept open by one client."""
SOCKET_VARIABLE: Final = "STOCKADE_BROKER"
"""Names the socket in the environment of every process below the supervisor."""


class BrokerClient(BrokerCalls):
    """Asks from threads, each call on a connection of its own while it lasts."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._idle: deque[socket.socket] = deque()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def _ask(self, call: wire.Call, wanted: Any) -> Any:
        message, deadline = wire.frame(call), time.monotonic() + self._timeout_s
        try:
            connection = self._connection()
            try:
                connection.settimeout(self._timeout_s)
                connection.sendall(message)
                length = wire.length_of(_exactly(connection, wire.HEADER, deadline))
                answer = _exactly(connection, length, deadline)
            except BaseException:
                connection.close()
                raise
        except (OSError, EOFError, ValueError) as failure:
            raise unreachable() from failure
        with self._lock:
            if len(self._idle) < IDLE:
                self._idle.append(connection)
            else:
                connection.close()
        return result_of(answer, wanted)

    def _connection(self) -> socket.socket:
        """Return a connection that nobody uses, or a new one. What can be read from an idle one is its end."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                break
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            if not poll.poll(0):
                return connection
            connection.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._timeout_s)
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        return connection


def _exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < count:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def result_of(answer: bytes, wanted: Any) -> Any:
    """Return what an answer says; raises the broker's own Fault, and Fault(UNAVAILABLE) for what is no answer."""
    try:
        return wire.read_answer(answer, wanted)
    except ValueError as failure:
        raise unreachable() from failure


def unreachable() -> Fault:
    """Return what a caller is told while there is no broker."""
    return Fault(FaultKind.UNAVAILABLE, "The key broker cannot be reached.", retry_after_s=1)
