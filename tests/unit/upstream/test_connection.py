"""The reply on a connection, against an engine that sends what no engine should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.upstream import connection as connection_module
from stockade.upstream.connection import HIGH_WATER_BYTES, MAX_HEAD_BYTES, UpstreamReply
from stockade.upstream.pool import Target, UpstreamPool
from tests.factories.engine import Peer, answers, chunked, engine, reply, says_and_closes

Pools = Callable[[Target], UpstreamPool]
IDLE_S = 30.0


@pytest.fixture
async def pool() -> AsyncIterator[Pools]:
    made: list[UpstreamPool] = []

    def make(target: Target, reply_timeout_s: float = 30.0) -> UpstreamPool:
        made.append(UpstreamPool(target, connect_timeout_s=10.0, reply_timeout_s=reply_timeout_s))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def post(pool: UpstreamPool, body: bytes = b"{}") -> UpstreamReply:
    return await pool.request("POST", "/v1/x", body)


async def refused(work: Awaitable[object]) -> FaultKind:
    with pytest.raises(Fault) as caught:
        await work
    return caught.value.kind


async def whole(pool: UpstreamPool) -> bytes:
    return await (await post(pool)).read(64 * 1024 * 1024, IDLE_S)


async def test_reply_with_a_length_and_a_chunked_one_share_a_connection(pool: Pools) -> None:
    async with engine(answers(reply(b"first", b"x-a: 1"), chunked(b"sec", b"ond"), reply(b""))) as running:
        one = pool(running.target)
        first = await post(one, b'{"q":1}')
        assert (first.status, first.headers["x-a"], await first.read(100, IDLE_S)) == (200, "1", b"first")
        assert await whole(one) == b"second"
        assert await whole(one) == b""
        assert running.connections == 1
        assert running.requests[0].line == "POST /v1/x HTTP/1.1"
        assert running.requests[0].body == b'{"q":1}'


async def test_body_ends_with_the_connection_when_nothing_else_frames_it(pool: Pools) -> None:
    async with engine(says_and_closes(b"HTTP/1.1 200 OK\r\n\r\nhal", b"f"), answers(reply(b"next"))) as running:
        one = pool(running.target)
        assert await whole(one) == b"half"
        assert await whole(one) == b"next"
        assert running.connections == 2


async def test_connection_is_not_used_again_when_the_engine_says_close(pool: Pools) -> None:
    async with engine(answers(reply(b"bye", b"connection: close"))) as running:
        one = pool(running.target)
        assert [await whole(one), await whole(one)] == [b"bye", b"bye"]
        assert running.connections == 2


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
async def test_interim_reply_is_skipped(pool: Pools, status: bytes) -> None:
    interim = b"HTTP/1.1 " + status + b"\r\nlink: </x>\r\n\r\n"
    async with engine(answers(interim + interim + reply(b"final"))) as running:
        got = await post(pool(running.target))
        assert (got.status, await got.read(100, IDLE_S)) == (200, b"final")
        assert "link" not in got.headers


HUGE = b"x: " + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n"
BROKEN = {
    "unrequested upgrade": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "both framings": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "both framings, the other way round": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "two lengths that differ": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nabc",
    "length with a sign": b"HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc",
    "length beyond 64 bits": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\nabc",
    "length list": b"HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\nabc",
    "coding other than chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
    "coding below chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunk size that is no number": chunked(end=b"zz\r\nhello\r\n0\r\n\r\n"),
    "chunk size with a sign": chunked(end=b"-1\r\nhello\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": chunked(end=b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    "chunk longer than its size": chunked(end=b"2\r\nhello\r\n0\r\n\r\n"),
    "second reply behind the first": reply(b"one") + reply(b"two"),
    "garbage behind the reply": reply(b"one") + b"garbage",
    "too many headers": reply(b"", *(b"x-%d: 1" % number for number in range(300))),
    "one header said many times": reply(b"", *(b"x: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" for _ in range(3000))),
    "one huge header": b"HTTP/1.1 200 OK\r\n" + HUGE + b"content-length: 0\r\n\r\n",
    "huge header on an interim reply": b"HTTP/1.1 103 Early Hints\r\n" + HUGE + b"\r\n" + reply(b""),
    "folded header": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "NUL in a header": b"HTTP/1.1 200 OK\r\nx: a\x00b\r\ncontent-length: 0\r\n\r\n",
    "bare CR in a header": b"HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 0\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n",
    "no status line": b"<html>hello</html>",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status with letters": b"HTTP/1.1 2x0 OK\r\n\r\n",
    "status below 100": b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n" + reply(b""),
    "version that is no number": b"HTTP/x 200 OK\r\n\r\n",
    "request instead of a reply": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_reply_that_breaks_the_protocol_is_a_failure_and_ends_the_connection(pool: Pools, data: bytes) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        await peer.closed()

    async with engine(talk, answers(reply(b"clean"))) as running:
        one = pool(running.target)
        assert await refused(whole(one)) is FaultKind.UPSTREAM_FAILED
        await running.seen_closed.wait()
        assert await whole(one) == b"clean"
        assert running.connections == 2


TRUNCATED = {
    "nothing at all": b"",
    "half a status line": b"HTTP/1.1 20",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "small body": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    "large body": b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\nhalf",
    "chunk": chunked(b"one", end=b"5\r\nha"),
    "last chunk missing": chunked(b"one", b"two", end=b""),
    "end of the last chunk missing": chunked(b"one", end=b"0\r\n"),
}


@pytest.mark.parametrize("data", TRUNCATED.values(), ids=TRUNCATED)
async def test_reply_that_breaks_off_is_never_a_short_success(pool: Pools, data: bytes) -> None:
    async with engine(says_and_closes(data)) as running:
        assert await refused(whole(pool(running.target))) is FaultKind.UPSTREAM_FAILED


async def test_reset_is_no_end_of_a_body_that_a_close_would_have_ended(pool: Pools) -> None:
    go_on = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await go_on.wait()
        peer.reset()

    async with engine(talk) as running:
        got = await post(pool(running.target))
        assert await got.next_chunk(IDLE_S) == b"half"
        go_on.set()
        assert await refused(got.next_chunk(IDLE_S)) is FaultKind.UPSTREAM_FAILED


async def test_trailers_change_nothing(pool: Pools) -> None:
    trailer = b"0\r\ncontent-type: text/evil\r\nx-new: 1\r\n\r\n"
    async with engine(answers(chunked(b"ok", headers=b"content-type: text/plain\r\n", end=trailer))) as running:
        got = await post(pool(running.target))
        assert await got.read(100, IDLE_S) == b"ok"
        assert got.headers["content-type"] == "text/plain"
        assert "x-new" not in got.headers


async def test_head_that_never_ends_is_cut_off(pool: Pools) -> None:
    sent = 0

    async def talk(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nx: ")
        piece = b"a" * 65_536
        try:
            while sent < 64 * 1024 * 1024:
                await peer.send(piece)
                sent += len(piece)
        finally:
            running.seen_closed.set()

    async with engine(talk) as running:
        assert await refused(whole(pool(running.target))) is FaultKind.UPSTREAM_FAILED
        await running.seen_closed.wait()
    assert sent < 16 * 1024 * 1024


async def test_interim_replies_without_end_are_cut_off(pool: Pools) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    async with engine(talk) as running:
        assert await refused(whole(pool(running.target))) is FaultKind.UPSTREAM_FAILED


async def test_bytes_nobody_asked_for_end_an_idle_connection(pool: Pools) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(b"one"))
        await go_on.wait()
        await peer.send(reply(b"smuggled"))
        await peer.closed()

    go_on = asyncio.Event()
    async with engine(talk, answers(reply(b"two"))) as running:
        one = pool(running.target)
        assert await whole(one) == b"one"
        go_on.set()
        await running.seen_closed.wait()
        assert await whole(one) == b"two"
        assert running.connections == 2


async def test_engine_that_never_answers_is_given_up(pool: Pools) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.closed()

    async with engine(talk) as running:
        assert await refused(post(pool(running.target, reply_timeout_s=0.05))) is FaultKind.UPSTREAM_TIMEOUT
        await running.seen_closed.wait()


async def test_engine_that_stops_in_the_middle_of_a_body_is_given_up(pool: Pools) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"some", end=b""))
        await peer.closed()

    async with engine(talk) as running:
        got = await post(pool(running.target))
        assert await got.next_chunk(IDLE_S) == b"some"
        assert await refused(got.next_chunk(0.05)) is FaultKind.UPSTREAM_TIMEOUT
        await running.seen_closed.wait()


@pytest.mark.parametrize(
    "size", [HIGH_WATER_BYTES - 1, HIGH_WATER_BYTES * 2, 1024 * 1024, 1024 * 1024 + 1, 5 * 1024 * 1024]
)
async def test_body_of_any_size_arrives_whole(pool: Pools, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with engine(answers(reply(body), chunked(body), reply(b"after"))) as running:
        one = pool(running.target)
        assert await whole(one) == body
        assert await whole(one) == body
        assert await whole(one) == b"after"
        assert running.connections == 1


async def test_engine_waits_while_nobody_reads(pool: Pools) -> None:
    piece, stalled = b"x" * 65_536, asyncio.Event()
    accepted = 0

    async def talk(peer: Peer) -> None:
        nonlocal accepted
        await peer.request()
        peer.writer.transport.set_write_buffer_limits(high=0)
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(1024):
            peer.writer.write(b"10000\r\n" + piece + b"\r\n")
            if not peer.writer.transport.get_write_buffer_size():
                accepted += 1
                continue
            stalled.set()
            await peer.writer.drain()
        await peer.send(b"0\r\n\r\n")
        await peer.closed()

    async with engine(talk) as running:
        got = await post(pool(running.target))
        await stalled.wait()
        assert got._size <= 4 * HIGH_WATER_BYTES
        assert len(await got.read(128 * 1024 * 1024, IDLE_S)) == 1024 * 65_536


async def test_connection_paused_for_a_slow_reader_is_read_again_for_the_next_reply(pool: Pools) -> None:
    last = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"x" * (HIGH_WATER_BYTES - 1000), end=b""))
        await last.wait()
        await peer.send(b"7d0\r\n" + b"y" * 2000 + b"\r\n0\r\n\r\n")
        await peer.request()
        await peer.send(reply(b"next"))
        await peer.closed()

    async with engine(talk) as running:
        one = pool(running.target, reply_timeout_s=5.0)
        got = await post(one)
        while got._size < HIGH_WATER_BYTES - 1000:  # noqa: ASYNC110 - the loop itself is what is waited for
            await asyncio.sleep(0)
        last.set()
        while not got._done:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert len(await got.read(1024 * 1024, IDLE_S)) == HIGH_WATER_BYTES + 1000
        assert await whole(one) == b"next"
        assert running.connections == 1


async def test_reply_above_the_readers_limit_is_refused_and_dropped(pool: Pools) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(b"x" * 2_000_000))
        await peer.closed()

    async with engine(talk) as running:
        got = await post(pool(running.target))
        assert await refused(got.read(1000, IDLE_S)) is FaultKind.UPSTREAM_FAILED
        await running.seen_closed.wait()


async def _asked_and_cancelled(pool: UpstreamPool, started: asyncio.Event) -> None:
    task = asyncio.create_task(whole(pool))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["before the head", "within the head"])
async def test_cancelled_request_closes_the_engines_connection(pool: Pools, sent: bytes) -> None:
    started = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        started.set()
        await peer.closed()

    async with engine(talk) as running:
        await _asked_and_cancelled(pool(running.target), started)
        await running.seen_closed.wait()


async def test_reader_cancelled_within_the_body_closes_the_engines_connection(pool: Pools) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"some", end=b""))
        await peer.closed()

    async with engine(talk) as running:
        got = await post(pool(running.target))
        assert await got.next_chunk(IDLE_S) == b"some"
        reading = asyncio.create_task(got.read(100, IDLE_S))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await running.seen_closed.wait()


async def test_closing_the_pool_fails_a_reply_that_only_the_close_would_have_ended(pool: Pools) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await peer.closed()

    async with engine(talk) as running:
        one = pool(running.target)
        got = await post(one)
        assert await got.next_chunk(IDLE_S) == b"half"
        one.close()
        assert await refused(got.next_chunk(IDLE_S)) is FaultKind.UPSTREAM_FAILED


async def test_reply_given_up_costs_its_connection(pool: Pools) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"some", end=b""))
        await peer.closed()

    async with engine(talk, answers(reply(b"other"))) as running:
        one = pool(running.target)
        got = await post(one)
        got.close()
        got.close()
        await running.seen_closed.wait()
        assert await whole(one) == b"other"


async def test_fault_says_nothing_of_the_engines_bytes(pool: Pools) -> None:
    async with engine(says_and_closes(b"HTTP/1.1 200 OK\r\nx: sk-secret\x00\r\n\r\n")) as running:
        with pytest.raises(Fault) as caught:
            await whole(pool(running.target))
        assert "sk-secret" not in str(caught.value) + repr(caught.value)


def test_small_reply_limit_is_above_the_mark_where_reading_stops() -> None:
    assert connection_module.WHOLE_BODY_BYTES > HIGH_WATER_BYTES
