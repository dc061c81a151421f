"""A WebSocket to an engine that cannot be reached, does not speak it, or says more than it may."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib

import pytest
from websockets.exceptions import ConnectionClosed

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.upstream.pool import Target
from stockade.upstream.websocket import MAX_FRAGMENTS, TooManyFragments, connect, receive, send
from tests.factories.engine import Conversation, Peer, engine

PATIENCE_S = 30.0
SOON_S = 15.0
"""Less than it takes to notice that pings are not answered."""
LIMIT = 64 * 1024
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: "


async def opened(target: Target, timeout_s: float = PATIENCE_S) -> object:
    return await connect(target, "/realtime?model=m", max_message_bytes=LIMIT, timeout_s=timeout_s)


def says(data: bytes) -> Conversation:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        await peer.closed()

    return talk


async def agree(peer: Peer, *frames: bytes) -> None:
    request = await peer.request()
    key = request.headers["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key).digest())
    await peer.send(AGREED + accept + b"\r\n\r\n" + b"".join(frames))


def agrees_and_says(*frames: bytes) -> Conversation:
    async def talk(peer: Peer) -> None:
        await agree(peer, *frames)
        await peer.closed()

    return talk


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", FaultKind.UPSTREAM_FAILED),
        (b"HTTP/1.1 302 Found\r\nlocation: ws://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n", FaultKind.UPSTREAM_FAILED),
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", FaultKind.UPSTREAM_FAILED),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", FaultKind.UNAVAILABLE),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", FaultKind.UPSTREAM_FAILED),
        (
            AGREED + b"AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
            FaultKind.UPSTREAM_FAILED,
        ),
        (b"SSH-2.0-OpenSSH\r\n", FaultKind.UPSTREAM_FAILED),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 10_000, FaultKind.UPSTREAM_FAILED),
    ],
)
async def test_engine_that_does_not_agree(data: bytes, kind: FaultKind) -> None:
    async with engine(says(data)) as running:
        with pytest.raises(Fault) as caught:
            await opened(running.target)
        assert caught.value.kind is kind
        await asyncio.wait_for(running.seen_closed.wait(), PATIENCE_S)
        assert running.connections == 1


async def test_engine_that_is_not_there_or_says_nothing() -> None:
    async with engine(says(b"")) as running:
        with pytest.raises(Fault) as caught:
            await opened(running.target, 0.2)
        assert caught.value.kind is FaultKind.UNAVAILABLE
        gone = running.target
    with pytest.raises(Fault) as caught:
        await opened(gone)
    assert caught.value.kind is FaultKind.UNAVAILABLE


async def test_our_credential_goes_along_and_nothing_else_of_ours() -> None:
    async with engine(agrees_and_says()) as running:
        target = Target("127.0.0.1", running.port, "/v1", credential=("api-key", Secret("ours")))
        connection = await connect(
            target, "/realtime?model=m", headers=[("x", "y")], max_message_bytes=LIMIT, timeout_s=PATIENCE_S
        )
        connection.transport.abort()
    (request,) = running.requests
    assert request.line == "GET /v1/realtime?model=m HTTP/1.1"
    assert request.headers.keys() == {
        "host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "api-key", "x",
    }  # fmt: skip
    assert request.headers["api-key"] == "ours"


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(b"\x81\x7f" + (LIMIT + 1).to_bytes(8, "big"), id="too large"),
        pytest.param(b"\x81\x02\xff\xff", id="no UTF-8"),
        pytest.param(b"\xc1\x02{}", id="compressed"),
        pytest.param(b"\x81\x82\0\0\0\0{}", id="masked"),
    ],
)
async def test_engine_that_breaks_the_protocol_is_closed(frames: bytes) -> None:
    async with engine(agrees_and_says(frames)) as running:
        connection = await connect(running.target, "/", max_message_bytes=LIMIT, timeout_s=PATIENCE_S)
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(receive(connection), SOON_S)
        assert caught.value.sent is not None
        await asyncio.wait_for(running.seen_closed.wait(), PATIENCE_S)


async def test_engine_that_says_goodbye_and_stays_is_left() -> None:
    async with engine(agrees_and_says(b"\x88\x02\x03\xe8")) as running:
        connection = await connect(running.target, "/", max_message_bytes=LIMIT, timeout_s=PATIENCE_S)
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(receive(connection), SOON_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1000
        await asyncio.wait_for(running.seen_closed.wait(), PATIENCE_S)


async def test_message_in_endless_fragments_is_given_up() -> None:
    async with engine(agrees_and_says(b"\x01\x01{", b"\x00\x00" * (MAX_FRAGMENTS + 1))) as running:
        connection = await connect(running.target, "/", max_message_bytes=LIMIT, timeout_s=PATIENCE_S)
        with pytest.raises(TooManyFragments):
            await asyncio.wait_for(receive(connection), PATIENCE_S)
        connection.transport.abort()


async def test_message_in_fragments_is_whole() -> None:
    async with engine(agrees_and_says(b"\x01\x01{", b"\x00\x00", b"\x80\x01}", b"\x02\x01a\x80\x01b")) as running:
        connection = await connect(running.target, "/", max_message_bytes=LIMIT, timeout_s=PATIENCE_S)
        assert await receive(connection) == "{}"
        assert await receive(connection) == b"ab"
        connection.transport.abort()


async def test_engine_that_does_not_read_is_given_up() -> None:
    async def talk(peer: Peer) -> None:
        await agree(peer)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with engine(talk) as running:
        connection = await connect(running.target, "/", max_message_bytes=LIMIT, timeout_s=PATIENCE_S)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1000:
                await send(connection, "x" * 100_000, 0.5)
                sent += 1
        assert sent < 1000
        connection.transport.abort()
