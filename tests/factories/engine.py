"""An engine that answers exactly the bytes a test tells it to, over a real socket on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from stockade.upstream.pool import Target

Conversation = Callable[["Peer"], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
        }

    @property
    def line(self) -> str:
        return self.head.decode("latin-1").split("\r\n", 1)[0]


@dataclass
class Peer:
    """The engine's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    engine: Engine

    async def request(self) -> Request:
        """Read one request; IncompleteReadError when the other side closes instead."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        request = Request(head, b"")
        length = int(request.headers.get("content-length", "0"))
        request = Request(head, await self.reader.readexactly(length))
        self.engine.requests.append(request)
        return request

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> None:
        """Wait until the other side has closed the connection, whatever it still sends."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass
        self.engine.seen_closed.set()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with a TCP reset instead of an end of stream."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Engine:
    """What has happened so far."""

    port: int = 0
    unix_socket: str | None = None
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    seen_closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", self.port, unix_socket=self.unix_socket)


@contextlib.asynccontextmanager
async def engine(
    *conversations: Conversation, tls: ssl.SSLContext | None = None, unix_socket: Path | None = None, port: int = 0
) -> AsyncIterator[Engine]:
    """Serve the first connection with the first conversation and so on; the last one serves all that follow."""
    running = Engine(unix_socket=str(unix_socket) if unix_socket else None)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = conversations[min(running.connections, len(conversations) - 1)]
        running.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await conversation(Peer(reader, writer, running))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    if unix_socket is not None:
        server = await asyncio.start_unix_server(serve, unix_socket)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls, backlog=512)
        running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def reply(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a reply with a declared length."""
    lines = (b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes, headers: bytes = b"", end: bytes = b"0\r\n\r\n") -> bytes:
    """Return a reply in chunked transfer coding."""
    body = b"".join(b"%x\r\n" % len(chunk) + chunk + b"\r\n" for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" + headers + b"\r\n" + body + end


def answers(*replies: bytes) -> Conversation:
    """Return a conversation that answers each request with the next of the replies (the last one for ever)."""

    async def talk(peer: Peer) -> None:
        count = 0
        while True:
            await peer.request()
            await peer.send(replies[min(count, len(replies) - 1)])
            count += 1

    return talk


def says_and_closes(*pieces: bytes) -> Conversation:
    """Return a conversation that takes one request, sends these bytes and closes."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.send(piece)

    return talk
