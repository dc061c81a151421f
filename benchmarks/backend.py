"""The model server behind every contender: OpenAI-shaped, plain HTTP on loopback, and never the slowest part.

It parses with httptools on uvloop and answers from bytes made once, because it shares a core with the load generator and each microsecond
it takes is missing there. nginx with a static answer is cheaper still, but cannot send events one at a time.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import Iterator
from itertools import chain
from typing import cast

import httptools
import uvloop

from benchmarks.workload import EVENTS, MARKER, PACE_S, PACED

_STREAMED = re.compile(rb'"stream"\s*:\s*true')
_PACED = re.compile(rb'"model"\s*:\s*"' + PACED.name.encode() + rb'"')


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def answer() -> bytes:
    """Build the JSON of one chat completion."""
    return _json(
        {
            "id": "chatcmpl-benchmark",
            "object": "chat.completion",
            "created": 1735689600,
            "model": "benchmark",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": f"A {MARKER} does."}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16},
        }
    )


def events() -> Iterator[bytes]:
    """Build the streamed answer's events, the closing `[DONE]` included, each ready to be sent."""
    for number in range(EVENTS):
        # Numbered, since LiteLLM takes a model that repeats itself for broken.
        delta = {"content": f" {MARKER} {number}"}
        choice = {"index": 0, "delta": delta, "finish_reason": "stop" if number == EVENTS - 1 else None}
        chunk = {
            "id": "chatcmpl-benchmark",
            "object": "chat.completion.chunk",
            "created": 1735689600,
            "model": "benchmark",
            "choices": [choice],
        }
        yield b"data: " + _json(chunk) + b"\n\n"
    yield b"data: [DONE]\n\n"


def _plain() -> bytes:
    body = answer()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


_PLAIN = _plain()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
_CHUNKS = [b"%x\r\n%b\r\n" % (len(event), event) for event in events()]


class Backend(asyncio.Protocol):
    """Answer chat completions on one connection, one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        if not _STREAMED.search(body):
            self._transport.write(_PLAIN)
            return
        pause = PACE_S if _PACED.search(body) else 0.0
        self._send(chain((_HEAD,), _CHUNKS, (b"0\r\n\r\n",)), pause)

    def _send(self, pieces: Iterator[bytes], pause: float) -> None:
        # One piece a turn of the loop: pieces written in the same turn would leave in one system call, and not be events.
        piece = next(pieces, None)
        if piece is None or self._transport.is_closing():
            return
        self._transport.write(piece)
        if pause:
            self._loop.call_later(pause, self._send, pieces, pause)
        else:
            self._loop.call_soon(self._send, pieces, pause)


async def serve() -> None:
    """Listen on a free loopback port, print it, and answer until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(Backend, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve())
