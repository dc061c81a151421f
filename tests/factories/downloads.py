"""Downloads of a kept file that are read no faster than a slow client does, so that they are still under way when something happens."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field

from tests.factories.streams import PATIENCE_S, workers_of
from tests.live import Live

PIECE = 16 * 1024
PAUSE_S = 0.02
BUFFER = 32 * 1024
"""Of the client's socket: what lies there is not what the server still sends."""


@dataclass
class Download:
    """One download under way. `ended_at`: the monotonic time at which nothing came any more; `whole` when all of it had come."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    size: int
    received: int = 0
    ended_at: float = 0.0
    _end: asyncio.Event = field(default_factory=asyncio.Event)
    _reading: asyncio.Task[None] | None = None

    @property
    def own_port(self) -> int:
        return int(self.writer.get_extra_info("sockname")[1])

    @property
    def whole(self) -> bool:
        return self.received >= self.size

    def watch(self) -> None:
        self._reading = asyncio.create_task(self._read())

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._end.wait()

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self.writer.transport.abort()

    async def _read(self) -> None:
        with suppress(OSError, ssl.SSLError):
            while self.received < self.size and (data := await self.reader.read(PIECE)):
                self.received += len(data)
                await asyncio.sleep(PAUSE_S)
        self.ended_at = time.monotonic()
        self._end.set()


@dataclass(frozen=True)
class DownloadTarget:
    """A file of an account of a live server, and the key that reads it."""

    live: Live
    name: str
    key: str
    file_id: str
    size: int

    async def open(self) -> Download:
        """Begin a download and return it once its first bytes have come."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.live.ports[0]))
        context = ssl.create_default_context(cafile=self.live.ca)
        reader, writer = await asyncio.open_connection(
            sock=connection, ssl=context, server_hostname="localhost", limit=PIECE
        )
        path = f"/{self.name}/openai/files/{self.file_id}/content?api-version=2025-03-01-preview"
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\napi-key: {self.key}\r\n\r\n".encode())
        found = Download(reader, writer, self.size)
        async with asyncio.timeout(PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            found.received += len(await reader.read(PIECE))
        found.watch()
        return found

    async def open_on_every_worker(self, workers: frozenset[int], each: int = 1) -> list[Download]:
        """Begin downloads until every worker has at least so many of them."""
        found: list[Download] = []
        held: dict[int, int] = {}
        while len(held) < len(workers) or min(held.values()) < each:
            assert len(found) < 64, f"64 connections did not reach every worker: {held}"
            found.append(await self.open())
            (worker,) = workers_of([found[-1]], workers)
            held[worker] = held.get(worker, 0) + 1
        return found


def upload(live: Live, name: str, key: str, size: int) -> str:
    """Keep a file of so many bytes; return its id."""
    mark = "mark"
    head = (
        f'--{mark}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    ).encode()
    tail = f"\r\n--{mark}--\r\n".encode()
    connection = http.client.HTTPSConnection("localhost", live.ports[0], context=live.trust(), timeout=60)
    try:
        connection.putrequest("POST", f"/{name}/openai/files?api-version=2025-03-01-preview")
        for header, value in (
            ("api-key", key),
            ("content-type", f"multipart/form-data; boundary={mark}"),
            ("content-length", str(len(head) + size + len(tail))),
        ):
            connection.putheader(header, value)
        connection.endheaders()
        connection.send(head)
        piece = b'{"a":"' + b"x" * 1015 + b'"}\n'
        left = size
        while left > 0:
            connection.send((piece * 64)[: min(left, 64 * len(piece))])
            left -= 64 * len(piece)
        connection.send(tail)
        reply = connection.getresponse()
        body = reply.read()
        assert reply.status == 200, body
        return str(json.loads(body)["id"])
    finally:
        connection.close()
