"""How fast a client takes what it downloads.

The server (Granian) queues what it is given without a bound, so whoever gives it a large file has to look how much of that the client has taken,
or all of it would lie in memory. The kernel knows: what the peer of a connection has acknowledged. Everything that is sent on one connection
is counted together, so HTTP/2 makes no difference. Source: Linux `struct tcp_info` (linux/tcp.h), `tcpi_bytes_acked`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final

from stockade.gateway.idle import accepted, peer_of

WINDOW_BYTES: Final = 2 * 1024 * 1024
"""What may lie between us and a client: in the server's queue, in the kernel, on the way."""
LOOK_S: Final = 0.004
_ACKED, _INFO_BYTES = 120, 128


class Pace:
    """The downloads of one process. Where the kernel tells nothing (no Linux), nobody waits."""

    def __init__(self) -> None:
        self._connections: dict[str, _Connection] = {}

    def enter(self, peer: str, port: int) -> Paced:
        """Begin to look after a download. port: of ours that the client has connected to."""
        connection = self._connections.get(peer)
        if connection is None:
            connection = self._connections[peer] = _Connection(_socket_of(peer, port))
        connection.downloads += 1
        return Paced(self, peer, connection)

    def leave(self, peer: str, connection: _Connection) -> None:
        """Stop looking after it."""
        connection.downloads -= 1
        if not connection.downloads:
            del self._connections[peer]
            connection.close()


class Paced:
    """One download."""

    def __init__(self, pace: Pace, peer: str, connection: _Connection) -> None:
        self._pace, self._peer, self._connection = pace, peer, connection

    async def room(self, size: int) -> None:
        """Wait until the client has taken enough for `size` more bytes to be given to the server, and count them as given."""
        while self._connection.under_way() > WINDOW_BYTES:  # noqa: ASYNC110 - the kernel has no event for it
            await asyncio.sleep(LOOK_S)
        self._connection.given += size

    def cut(self) -> None:
        """Have what the client has not taken yet thrown away when the server closes the connection, instead of delivered to the end.

        Megabytes may lie in the kernel's buffers, which a slow client would go on reading long after it may not. Of HTTP/2 whatever else is
        on that connection ends with it.
        """
        self._connection.linger_no_more()

    def leave(self) -> None:
        """End it."""
        self._pace.leave(self._peer, self._connection)


class _Connection:
    def __init__(self, found: socket.socket | None) -> None:
        self._socket, self.downloads, self.given = found, 0, 0
        self._began = _acknowledged(found)

    def under_way(self) -> int:
        """Return how many of the given bytes the client has not taken."""
        acknowledged = _acknowledged(self._socket)
        if acknowledged is None or self._began is None:
            return 0
        taken = acknowledged - self._began
        # TLS and HTTP add to what goes over the wire, and so may other replies: what has been taken can be more than what was given.
        self.given = max(self.given, taken)
        return self.given - taken

    def linger_no_more(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _socket_of(peer: str, port: int) -> socket.socket | None:
    found = None
    for connection in accepted(port):
        if found is None and peer_of(connection) == peer:
            found = connection
        else:
            connection.close()
    return found


def _acknowledged(connection: socket.socket | None) -> int | None:
    if connection is None:
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        return int(struct.unpack_from("Q", info, _ACKED)[0])
    except (OSError, struct.error):
        return None
