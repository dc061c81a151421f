"""Closes connections on which nothing happens.

The server's own timer runs from a connection's first byte to the end of its head. A client that connects and says nothing, stops within its TLS
handshake, or sends half an HTTP/2 preface would hold its place for ever, and a worker has only so many. So a thread of each worker looks at
its own accepted sockets: no data in either direction for the limit, and no request of that peer under way, and the socket is shut down.
The kernel keeps the times. Source: Linux `struct tcp_info` (linux/tcp.h), `tcpi_last_data_sent` and `tcpi_last_data_recv`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Container, Iterator
from pathlib import Path

LOOKS_PER_LIMIT = 4
_SENT, _RECEIVED = 44, 52
_INFO_BYTES = 104

log = logging.getLogger(__name__)


class IdleConnections:
    """Looks after the connections that this process has accepted on one port. Does nothing where there is no Linux to ask.

    busy: returns the peers (`127.0.0.1:50123`, `[::1]:50123`) with a request under way.
    """

    def __init__(self, port: int, limit_s: float, busy: Callable[[], Container[str]]) -> None:
        self._port, self._limit_s, self._busy = port, limit_s, busy
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if hasattr(socket, "TCP_INFO") and Path("/proc/self/fd").is_dir():
            self._thread = threading.Thread(target=self._run, name="idle-connections", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._limit_s / LOOKS_PER_LIMIT):
            try:
                self.look()
            except Exception:
                log.exception("looking for idle connections failed and will be tried again")

    def look(self) -> int:
        """Shut down what is idle now; return how many."""
        ended = 0
        for connection in accepted(self._port):
            with connection:
                # First how long it has been still, then whether anyone works for it: in the other order a request could slip between.
                if self._still_s(connection) < self._limit_s or peer_of(connection) in self._busy():
                    continue
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                    ended += 1
        return ended

    def _still_s(self, connection: socket.socket) -> float:
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
            sent_ms, received_ms = struct.unpack_from("I", info, _SENT)[0], struct.unpack_from("I", info, _RECEIVED)[0]
        except (OSError, struct.error):
            return 0.0
        return float(min(sent_ms, received_ms)) / 1000


def accepted(port: int) -> Iterator[socket.socket]:
    """Yield this process's connections on one of its ports, each a duplicate that the caller closes; none where there is no Linux to ask."""
    folder = Path("/proc/self/fd")
    if not hasattr(socket, "TCP_INFO") or not folder.is_dir():
        return
    for number in [int(path.name) for path in folder.iterdir()]:
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            # A duplicate: all that is asked and done below concerns one socket, whatever becomes of the number meanwhile.
            found = socket.socket(fileno=os.dup(number))
        except OSError:
            continue
        try:
            ours = found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port
            found.getpeername()
        except OSError:
            ours = False
        if ours:
            yield found
        else:
            found.close()


def peer_of(connection: socket.socket) -> str:
    """Return a connection's other end, as the server names it (`127.0.0.1:50123`, `[::1]:50123`); "" when it is gone."""
    try:
        host, port = connection.getpeername()[:2]
    except OSError:
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
