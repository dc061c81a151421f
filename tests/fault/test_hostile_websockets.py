"""WebSocket callers that mean harm or are broken: what they send is bounded, and everybody else is served on.

Frames are made by hand where no client would send them. Source of what is wrong with each: RFC 6455, the section named.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import resource
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stockade.settings import Limits
from tests.factories.realtime import RealtimeServer
from tests.factories.websocket import PATIENCE_S, REALTIME, Sessions, end, event, sessions

KiB, MiB = 1024, 1024 * 1024
LIMIT = 256 * KiB
LIMITS = Limits(websocket_message_bytes=LIMIT, header_timeout_s=1.0)
FIN, TEXT, BINARY, CONTINUATION, CLOSE, PING = 0x80, 0x1, 0x2, 0x0, 0x8, 0x9


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Sessions]:
    async with sessions(tmp_path, limits=LIMITS) as found:
        yield found
        # Whatever has been done to it, it serves.
        async with found.session() as connection:
            await connection.send('{"type":"response.create"}')
            assert (await event(connection))["type"] == "response.output_text.delta"


def frame(first: int, payload: bytes = b"", *, claimed: int | None = None, masked: bool = True) -> bytes:
    """Return a client's frame. claimed: the length its head says, where that is not the payload's."""
    size = len(payload) if claimed is None else claimed
    mask = 0x80 if masked else 0
    head = bytes([first])
    if size < 126:
        head += bytes([mask | size])
    elif size < 65_536:
        head += bytes([mask | 126]) + struct.pack("!H", size)
    else:
        head += bytes([mask | 127]) + struct.pack("!Q", size)
    return head + (b"\0\0\0\0" if masked else b"") + payload


class Wire:
    """A caller's end, as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> tuple[int | None, bytes]:
        """Read to the end; return the code of the close frame, if one came, and everything that did."""
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    part = await self.reader.read(65_536)
                except (ConnectionError, ssl.SSLError):
                    break
                if not part:
                    break
                data += part
        self.writer.transport.abort()
        for position, size in _frames(data):
            if data[position] == FIN | CLOSE and size >= 2:
                at = position + 2
                return int.from_bytes(data[at : at + 2], "big"), data
        return None, data


def _frames(data: bytes) -> list[tuple[int, int]]:
    found, position = [], 0
    while position + 2 <= len(data):
        size, head = data[position + 1] & 0x7F, 2
        if size == 126:
            size, head = int.from_bytes(data[position + 2 : position + 4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[position + 2 : position + 10], "big"), 10
        found.append((position, size))
        position += head + size
    return found


def opening(running: Sessions, *lines: str, below: str = REALTIME, upgrade: bool = True) -> bytes:
    head = [f"GET {running.account.path(below)} HTTP/1.1", "Host: localhost", f"api-key: {running.account.key}"]
    if upgrade:
        head += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        head += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    return "\r\n".join((*head, *lines)).encode() + b"\r\n\r\n"


async def dial(running: Sessions) -> Wire:
    return Wire(*await asyncio.open_connection("127.0.0.1", running.port, ssl=running.tls, server_hostname="localhost"))


async def opened(running: Sessions) -> Wire:
    wire = await dial(running)
    await wire.send(opening(running))
    head = await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Extensions" not in head
    return wire


def memory_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MiB


# Frames.


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(FIN | TEXT, b"x", claimed=LIMIT + 1), 1009, id="too large, by its head alone"),
        pytest.param(frame(FIN | TEXT, b"", claimed=2**62), 1009, id="larger than any memory"),
        pytest.param(frame(FIN | TEXT, b"\xff\xfe"), 1007, id="no UTF-8 (8.1)"),
        pytest.param(frame(TEXT, b"\xe2\x82") + frame(FIN | CONTINUATION, b"("), 1007, id="no UTF-8 across fragments"),
        pytest.param(frame(FIN | BINARY, b"{}"), 1003, id="binary"),
        pytest.param(frame(FIN | TEXT, b"{}", masked=False), 1002, id="unmasked (5.1)"),
        pytest.param(frame(FIN | 0x40 | TEXT, b"{}"), 1002, id="compressed, though nobody agreed to it (5.2)"),
        pytest.param(frame(FIN | 0x3, b"{}"), 1002, id="unknown opcode (5.2)"),
        pytest.param(frame(FIN | CONTINUATION, b"{}"), 1002, id="continues nothing (5.4)"),
        pytest.param(frame(TEXT, b"{") + frame(FIN | TEXT, b"}"), 1002, id="a message inside another (5.4)"),
        pytest.param(frame(FIN | PING, b"x" * 126), 1002, id="overlong ping (5.5)"),
        pytest.param(frame(PING, b"x"), 1002, id="fragmented ping (5.5)"),
        pytest.param(frame(FIN | CLOSE, b"\x03"), 1002, id="half a close code (5.5.1)"),
        pytest.param(frame(FIN | CLOSE, b"\x03\xee"), 1002, id="a close code that is never sent (7.4.1)"),
    ],
)
async def test_frame_that_breaks_the_protocol_ends_the_session_and_reaches_no_engine(
    running: Sessions, sent: bytes, code: int
) -> None:
    wire = await opened(running)
    await wire.send(sent)
    assert (await wire.closed())[0] == code
    assert running.engine.messages == []
    (record,) = await running.recorded()
    assert record["outcome"].startswith("failed:")


async def test_message_as_large_as_allowed_passes_and_one_byte_more_does_not(running: Sessions) -> None:
    rest = len('{"type":"input_audio_buffer.append","audio":""}')
    for extra, code in ((0, None), (1, 1009)):
        async with running.session() as connection:
            await connection.send('{"type":"input_audio_buffer.append","audio":"%s"}' % ("A" * (LIMIT - rest + extra)))
            if code is None:
                await connection.send('{"type":"response.create"}')
                assert (await event(connection))["type"] == "response.output_text.delta"
            else:
                assert (await end(connection))[1] == code
    assert len(running.engine.messages[0]) == LIMIT


async def test_message_in_fragments_is_one_message(running: Sessions) -> None:
    wire = await opened(running)
    text = json.dumps({"type": "response.create", "note": "x" * 1000}).encode()
    parts = [text[at : at + 10] for at in range(0, len(text), 10)]
    data = frame(TEXT, parts[0]) + b"".join(frame(CONTINUATION, part) for part in parts[1:]) + frame(FIN | CONTINUATION)
    await wire.send(data)
    await asyncio.wait_for(wire.reader.readuntil(b"response.done"), PATIENCE_S)
    assert running.engine.events() == [json.loads(text)]
    wire.writer.close()


@pytest.mark.parametrize("payload", [b"", b" "])
async def test_message_of_endless_fragments_is_cut_off(running: Sessions, payload: bytes) -> None:
    wire = await opened(running)
    before = memory_mib()
    sending = asyncio.create_task(flood(wire, frame(TEXT, b"{"), frame(CONTINUATION, payload) * 4096))
    code, _ = await wire.closed()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert code == 1009
    assert memory_mib() - before < 64
    assert running.engine.messages == []


async def flood(wire: Wire, first: bytes, rest: bytes) -> None:
    """Send for as long as the other side takes it."""
    await wire.send(first)
    while True:
        await wire.send(rest)


# Floods.


async def test_pings_of_a_caller_that_reads_nothing_fill_no_memory(running: Sessions) -> None:
    wire = await opened(running)
    before = memory_mib()
    block = frame(FIN | PING, b"p" * 125) * 2048
    sent = 0
    with contextlib.suppress(TimeoutError, ConnectionError):
        while sent < 256 * MiB:
            await asyncio.wait_for(wire.send(block), 2)
            sent += len(block)
    assert sent < 256 * MiB
    assert memory_mib() - before < 64
    wire.writer.transport.abort()


async def test_thousands_of_tiny_messages_pass_in_order(running: Sessions) -> None:
    count = 5000
    async with running.session() as connection:
        for number in range(count):
            await connection.send(f'{{"type":"n","n":{number}}}')
        await connection.send('{"type":"response.create"}')
        assert (await event(connection))["type"] == "response.output_text.delta"
    assert [told["n"] for told in running.engine.events("n")] == list(range(count))


async def test_caller_that_reads_nothing_holds_up_its_engine_and_then_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.gateway.session.SEND_S", 2.0)
    sent = 0

    async def talk(_: RealtimeServer, connection: ServerConnection, __: dict[str, Any]) -> None:
        nonlocal sent
        while True:
            await connection.send('{"type":"x","delta":"%s"}' % ("x" * 60_000))
            sent += 60_000

    async with sessions(tmp_path, talk, limits=LIMITS) as running:
        wire = await opened(running)
        before = memory_mib()
        await wire.send(frame(FIN | TEXT, b'{"type":"go"}'))
        await asyncio.wait_for(running.engine.ended.get(), PATIENCE_S)
        assert sent < 64 * MiB  # what the sockets in between hold
        assert memory_mib() - before < 64
        (record,) = await running.recorded()
        assert record["outcome"] == "cancelled"
        wire.writer.transport.abort()


async def test_engine_that_reads_nothing_holds_up_its_caller_and_then_ends_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.services.openai.realtime.SEND_S", 2.0)

    async def talk(_: RealtimeServer, connection: ServerConnection, __: dict[str, Any]) -> None:
        await connection.wait_closed()

    async with sessions(tmp_path, talk, limits=LIMITS) as running, running.session() as connection:
        before = memory_mib()
        message = '{"type":"x","audio":"%s"}' % ("x" * 200_000)
        sent = 0
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    await connection.send(message)
                    sent += len(message)
        assert sent < 64 * MiB
        assert memory_mib() - before < 64
        _, code, _ = await end(connection)
        assert code == 1011


# Connections.


async def test_compression_is_not_agreed_to(running: Sessions) -> None:
    async with running.session(compression="deflate") as connection:
        assert connection.protocol.extensions == []


async def test_caller_that_vanishes_ends_its_engines_session(running: Sessions) -> None:
    wire = await opened(running)
    wire.writer.transport.abort()
    await asyncio.wait_for(running.engine.ended.get(), PATIENCE_S)
    (record,) = await running.recorded()
    assert record["outcome"] == "cancelled"


async def test_caller_that_answers_no_close_is_let_go(running: Sessions) -> None:
    wire = await opened(running)
    (engine,) = running.engine.open
    await engine.close(1000)
    began = asyncio.get_running_loop().time()
    assert (await wire.closed())[0] == 1000
    assert asyncio.get_running_loop().time() - began < PATIENCE_S / 2
    await running.recorded()


async def test_caller_that_answers_no_pings_is_let_go(running: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.gateway.websocket.PING_S", 0.3)
    await running.listen_again()
    wire = await opened(running)
    assert (await wire.closed())[0] == 1011
    await asyncio.wait_for(running.engine.ended.get(), PATIENCE_S)


async def test_head_that_never_ends_is_given_up(tmp_path: Path) -> None:
    limits = Limits(header_timeout_s=0.5, upstream_connect_timeout_s=0.5)
    async with sessions(tmp_path, limits=limits) as running:
        for beginning in (b"", b"GET / HTTP/1.1\r\n", opening(running)[:-2]):
            wire = await dial(running)
            await wire.send(beginning)
            assert await wire.closed() == (None, b"")


async def test_message_before_the_upgrade_is_read_after_it(running: Sessions) -> None:
    wire = await dial(running)
    await wire.send(opening(running) + frame(FIN | TEXT, b'{"type":"response.create"}'))
    await asyncio.wait_for(wire.reader.readuntil(b"response.done"), PATIENCE_S)
    wire.writer.close()


async def test_message_before_an_upgrade_that_is_refused_reaches_nobody(running: Sessions) -> None:
    wire = await dial(running)
    await wire.send(opening(running, below="/openai/v1/realtime?model=none") + frame(FIN | TEXT, b'{"type":"x"}') * 10)
    _, data = await wire.closed()
    assert data.startswith(b"HTTP/1.1 404 ")
    assert data.count(b"HTTP/1.1") == 1
    assert running.engine.requests == []


@pytest.mark.parametrize(
    ("lines", "upgrade", "status"),
    [
        pytest.param((), False, 426, id="no upgrade"),
        pytest.param(("Upgrade: h2c", "Connection: Upgrade"), False, 426, id="another upgrade"),
        pytest.param(("Connection: Upgrade", "Upgrade: websocket"), False, 400, id="no key"),
        pytest.param(("Host: other.example",), True, 400, id="two hosts"),
        pytest.param(("Sec-WebSocket-Key: BBBBBBBBBBBBBBBBBBBBBA==",), True, 400, id="two keys"),
        pytest.param(("api-key: another",), True, 400, id="two credentials"),
    ],
)
async def test_upgrade_that_could_be_read_in_two_ways_is_refused(
    running: Sessions, lines: tuple[str, ...], upgrade: bool, status: int
) -> None:
    wire = await dial(running)
    await wire.send(opening(running, *lines, upgrade=upgrade))
    _, data = await wire.closed()
    assert data.startswith(f"HTTP/1.1 {status} ".encode()), data[:200]
    assert running.engine.messages == []
    (record,) = await running.recorded()
    assert record["status"] == status


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", id="another method"),
        pytest.param(b"GET {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", id="a body"),
        pytest.param(
            b"GET {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunks"
        ),
        pytest.param(b"GET {path} HTTP/1.1\r\nHost: localhost\r\n folded: yes\r\n\r\n", id="a folded line"),
        pytest.param(b"GET {path} HTTP/1.1\r\nHost : localhost\r\n\r\n", id="a blank before the colon"),
        pytest.param(b"GET {path} HTTP/1.1\r\n" + b"x: " + b"x" * 100_000 + b"\r\n\r\n", id="an endless line"),
        pytest.param(b"GET {path} HTTP/1.1\r\n" + b"x: y\r\n" * 10_000 + b"\r\n", id="endless lines"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x00\x00", id="no HTTP at all"),
    ],
)
async def test_request_that_is_none_is_refused_once_and_the_connection_closed(running: Sessions, sent: bytes) -> None:
    wire = await dial(running)
    await wire.send(sent.replace(b"{path}", running.account.path(REALTIME).encode()))
    _, data = await wire.closed()
    assert data.count(b"HTTP/1.1 ") <= 1
    assert b" 101 " not in data
    assert running.engine.requests == []


async def test_plain_text_on_the_port_is_no_request(running: Sessions) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(opening(running))
    assert b"HTTP/1.1 " not in await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()


async def test_callers_that_are_refused_leave_nothing_open(running: Sessions) -> None:
    for _ in range(50):
        with pytest.raises(InvalidStatus):
            async with running.connect(key="wrong"):
                pass
    await running.recorded(50)
    assert running.gateway.websockets._open == 0
    assert running.gateway._running.peers() == frozenset()


async def test_memory_of_many_sessions_is_bounded(running: Sessions) -> None:
    message = '{"type":"x","audio":"%s"}' % ("x" * 200_000)

    async def one() -> None:
        async with running.session() as connection:
            for _ in range(10):
                await connection.send(message)

    before = 0.0
    for number in range(6):
        await asyncio.gather(*(one() for _ in range(20)))
        running.engine.messages.clear()
        if number == 1:
            before = memory_mib()  # what both ends of them all take once
    assert memory_mib() - before < 48
