"""A WebSocket to an engine. It trusts the engine no more than a connection of `connection.py` does.

Messages are bounded in size and in number of fragments, nothing is compressed, redirects are not followed, and an engine that does not answer
pings is gone. Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.uri import parse_uri

from stockade.egress import dial
from stockade.kernel.faults import Fault, FaultKind
from stockade.upstream.pool import Target

PING_S = 20.0
CLOSE_S = 2.0
"""How long the other side may take to answer a close frame."""
SEND_S = 30.0
"""How long a reader may take to make room for the next message."""
MAX_FRAGMENTS = 4096
"""Fragments of one message: each costs memory however small it is, and empty ones count nothing towards the message's size."""
WRITE_LIMIT = 64 * 1024
QUEUE_FRAMES = 2

QUIET = logging.getLogger("stockade.upstream.websocket.wire")
"""For the library, which would log heads, and the credentials in them, at level debug."""
QUIET.setLevel(logging.CRITICAL + 1)
QUIET.propagate = False


class EngineConnection(ClientConnection):
    """The platform's side. The library leaves it to a server to close the connection, and would wait long for one that does not."""

    def data_received(self, data: bytes) -> None:
        expected = self.protocol.close_expected()
        super().data_received(data)
        if self.protocol.parser_exc is not None:
            self.transport.abort()
        elif self.protocol.close_expected() and not expected:
            self.loop.call_later(CLOSE_S, self.transport.abort)


class TooManyFragments(Exception):
    """A message in more fragments than anybody needs."""


async def receive(connection: Connection) -> str | bytes:
    """Return the next whole message, text or binary; TooManyFragments, or the library's ConnectionClosed."""
    parts: list[str | bytes] = []
    async for part in connection.recv_streaming():
        parts.append(part)
        if len(parts) > MAX_FRAGMENTS:
            raise TooManyFragments
    if len(parts) == 1:
        return parts[0]
    return b"".join(parts) if isinstance(parts[0], bytes) else "".join(parts)  # type: ignore[arg-type]


async def send(connection: Connection, text: str, within_s: float) -> None:
    """Send a text message and wait until there is room for the next; TimeoutError when the reader makes none, or ConnectionClosed."""
    async with asyncio.timeout(within_s):
        await connection.send(text)


async def connect(
    target: Target,
    path: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    max_message_bytes: int,
    timeout_s: float,
) -> ClientConnection:
    """Open a WebSocket below the target's base path, with its credential.

    path: begins with a slash; ASCII, any query already encoded.
    Raises Fault(UNAVAILABLE) when the engine cannot be reached or is busy, Fault(UPSTREAM_FAILED) when it does not agree to talk.
    """
    scheme = "ws" if target.tls is None else "wss"
    uri = parse_uri(f"{scheme}://{target.host_header}{target.base_path}{path}")
    protocol = ClientProtocol(uri, max_size=max_message_bytes, logger=QUIET)

    def make() -> ClientConnection:
        return EngineConnection(
            protocol,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            close_timeout=CLOSE_S,
            max_queue=QUEUE_FRAMES,
            write_limit=WRITE_LIMIT,
        )

    sent = dict(headers)
    if target.credential is not None:
        name, secret = target.credential
        sent[name] = secret.reveal_text()
    connection: ClientConnection | None = None
    try:
        async with asyncio.timeout(timeout_s):
            connection = await _dial(target, make)
            await connection.handshake(sent, None)
    except InvalidStatus as failure:
        _abort(connection)
        raise _refused(failure.response.status_code) from failure
    except (InvalidHandshake, ConnectionClosed, EOFError) as failure:
        _abort(connection)
        raise Fault(FaultKind.UPSTREAM_FAILED, "The model server does not answer as a WebSocket server.") from failure
    except (OSError, TimeoutError, ssl.SSLError) as failure:
        _abort(connection)
        raise Fault(FaultKind.UNAVAILABLE, "The model server cannot be reached.", retry_after_s=2) from failure
    except BaseException:
        _abort(connection)
        raise
    connection.start_keepalive()
    return connection


async def _dial(target: Target, make: Callable[[], ClientConnection]) -> ClientConnection:
    _, connection = await dial.named(make, target.host, target.port, tls=target.tls)
    return connection


def _abort(connection: ClientConnection | None) -> None:
    if connection is not None:
        connection.transport.abort()


def _refused(status: int) -> Fault:
    if status in (401, 403):
        return Fault(
            FaultKind.UPSTREAM_FAILED,
            "The model server refused this platform's own credential; its operator must mend that.",
        )
    if status in (429, 503):
        return Fault(FaultKind.UNAVAILABLE, "The model server is busy.", retry_after_s=2)
    return Fault(FaultKind.UPSTREAM_FAILED, f"The model server refused the WebSocket with status {status}.")
