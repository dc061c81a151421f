"""The decision server beside Envoy: the least that checks a key in Python, so that the comparison does it no injustice.

One set of key digests, one look-up, 200 or 401; httptools on uvloop, no framework. Envoy asks it about every request (ext_authz over
HTTP).
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from pathlib import Path
from typing import cast

import httptools
import uvloop

_YES = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_NO = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"


class Decision(asyncio.Protocol):
    """Answer one connection of Envoy's."""

    def __init__(self, digests: frozenset[bytes]) -> None:
        self._digests = digests
        self._parser = httptools.HttpRequestParser(self)
        self._key = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._key = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"api-key":
            self._key = value

    def on_message_complete(self) -> None:
        known = hashlib.sha256(self._key).digest() in self._digests
        self._transport.write(_YES if known else _NO)


async def serve(port: int, digests: frozenset[bytes]) -> None:
    """Listen on a loopback port and decide by the SHA-256 digests of the known keys, until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(lambda: Decision(digests), "127.0.0.1", port)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    known = frozenset(hashlib.sha256(key).digest() for key in Path(sys.argv[2]).read_bytes().split())
    uvloop.run(serve(int(sys.argv[1]), known))
