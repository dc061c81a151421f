"""The data-plane listener over real TLS, against clients that send what no client should. It stays up, flat in memory, and says no."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stockade.settings import Limits, Listen
from tests.factories.data_plane import CHAT, HELLO, VERSION, Account, DataPlane
from tests.factories.engine import Peer, chunked, engine
from tests.factories.listener import PATIENCE_S, Listener, Reply
from tests.live import free_ports

MiB = 1024 * 1024
FLAT = 48 * MiB
"""How much the workers together may grow: buffers of the server's own, but no body."""


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    limits = Limits(header_timeout_s=1.0, body_timeout_s=1.0, max_body_bytes=16 * MiB, drain_timeout_s=5)
    listen = Listen(data_port=free_ports(1)[0], websocket_port=0, workers=2)
    upstream = f"http://127.0.0.1:{free_ports(1)[0]}/v1"
    running = Listener(DataPlane(tmp_path_factory.mktemp("hostile"), upstream, limits=limits, listen=listen))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def account(listener: Listener) -> Account:
    return listener.plane.account()


def head(account: Account, *lines: str, path: str = "", method: str = "POST", key: str | None = None) -> bytes:
    target = path or f"{account.path()}?{VERSION}"
    first = (f"{method} {target} HTTP/1.1", "host: localhost", f"api-key: {account.key if key is None else key}")
    return "\r\n".join((*first, *lines)).encode("latin-1") + b"\r\n\r\n"


def models(account: Account, *lines: str, key: str | None = None) -> bytes:
    return head(account, *lines, path=account.path("/openai/v1/models"), method="GET", key=key)


def ask(listener: Listener, data: bytes) -> Reply | None:
    with listener.wire() as wire:
        wire.send(data)
        return wire.reply()


def still_serves(listener: Listener, account: Account) -> bool:
    reply = ask(listener, models(account))
    return reply is not None and reply.status == 200


@pytest.mark.parametrize(
    "lines",
    [
        [f"x-{number}: 1" for number in range(5_000)],
        ["x: " + "a" * 8 * MiB],
        [f"x-{number}: " + "a" * 10_000 for number in range(90)],
        ["api-key: " + "k" * 60_000],
        ["x" * 100_000 + ": 1"],
    ],
    ids=["many headers", "one huge header", "many large headers", "huge key", "huge name"],
)
def test_flood_of_headers_is_refused(listener: Listener, account: Account, lines: list[str]) -> None:
    before = listener.resident_bytes()
    reply = ask(listener, models(account, *lines))
    assert reply is None or 400 <= reply.status < 500
    assert listener.resident_bytes() - before < FLAT
    assert still_serves(listener, account)


def test_head_that_trickles_in_is_cut_off(listener: Listener, account: Account) -> None:
    for begun in (b"G", b"GET ", models(account)[:-2]):
        with listener.wire() as wire:
            wire.send(begun)
            assert b" 200 " not in wire.until_closed()
    assert still_serves(listener, account)


@pytest.mark.parametrize("framing", ["content-length: 500", "transfer-encoding: chunked"])
def test_body_that_trickles_in_is_cut_off(listener: Listener, account: Account, framing: str) -> None:
    with listener.wire() as wire:
        wire.send(
            head(account, "content-type: application/json", framing)
            + (b"5\r\n" if "chunked" in framing else b"")
            + b'{"mes'
        )
        said = wire.until_closed()
    assert said.startswith(b"HTTP/1.1 408 ")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "Timeout"


def test_body_of_100_megabytes_is_refused_by_its_head(listener: Listener, account: Account) -> None:
    before = listener.resident_bytes()
    reply = ask(listener, head(account, "content-type: application/json", f"content-length: {100 * MiB}"))
    assert reply is not None and reply.status == 413
    assert json.loads(reply.body)["error"]["code"] == "RequestTooLarge"
    assert listener.resident_bytes() - before < FLAT


FRAMINGS = [
    ["transfer-encoding: chunked"],
    ["content-length: 5", "transfer-encoding: chunked"],
    ["transfer-encoding: chunked", "content-length: 5"],
]


@pytest.mark.parametrize("lines", FRAMINGS, ids=["chunked", "length and chunked", "chunked and length"])
def test_endless_chunked_body_is_refused_on_the_way(listener: Listener, account: Account, lines: list[str]) -> None:
    before = listener.resident_bytes()
    piece = b"100000\r\n" + b"x" * MiB + b"\r\n"
    sent = 0
    with listener.wire() as wire:
        wire.send(head(account, "content-type: application/json", *lines))
        while sent < 200 and wire.send(piece):
            sent += 1
        said = wire.until_closed() if sent < 200 else b"took it all"
    assert sent < 200
    assert b" 200 " not in said.split(b"\r\n")[0]
    assert listener.resident_bytes() - before < 2 * 16 * MiB + FLAT, "no more than the limit, for the one who reads it"
    assert still_serves(listener, account)


def test_body_nobody_reads_is_not_kept(listener: Listener, account: Account) -> None:
    before = listener.resident_bytes()
    piece = b"100000\r\n" + b"x" * MiB + b"\r\n"
    with listener.wire() as wire:
        wire.send(models(account, "transfer-encoding: chunked"))
        for _ in range(200):
            if not wire.send(piece):
                break
    assert listener.resident_bytes() - before < FLAT
    assert still_serves(listener, account)


def test_body_cannot_smuggle_a_second_request(listener: Listener, account: Account) -> None:
    hidden = models(account, "x-ms-client-request-id: smuggled")
    for lines in (
        ["content-length: 4", "transfer-encoding: chunked"],
        ["transfer-encoding: chunked", "content-length: 4"],
        ["transfer-encoding: identity", "content-length: 2"],
        ["content-length: 2", "content-length: 400"],
        ["transfer-encoding: chunked, identity"],
        ["transfer-encoding : chunked"],
        ["transfer-encoding: xchunked"],
    ):
        with listener.wire() as wire:
            wire.send(
                head(account, "content-type: application/json", "connection: close", *lines)
                + b"2\r\n{}\r\n0\r\n\r\n"
                + hidden
            )
            said = wire.until_closed()
        assert b"x-ms-client-request-id: smuggled" not in said, lines


TRICKS = [
    "/{name}/../{name}/openai/v1/models", "/{name}/%2e%2e/{name}/openai/v1/models", "/{name}/%2E%2E%2F{name}/openai/v1/models",
    "/{name}/%252e%252e/{name}/openai/v1/models", "//{name}/openai/v1/models", "/{name}///openai/v1/models",
    "/{name}/openai//v1/models", "/{name}%5copenai%5cv1%5cmodels",
    "/{name}\\openai\\v1\\models", "/{name};a=b/openai/v1/models", "/{name}/openai/v1/models%00", "/{name}/openai/v1/models%00.json",
    "/{name}/openai/v1/%6dodels%0d%0ax:1", "/{name}/openai/v1/models%c0%af", "/{name}/openai/v1/%ff", "/{name}/openai/v1/mod%e0%80%afels",
    "/{name}/openai/v1/models/", "/{name}/openai/v1/models%20", "/{name}/openai/v1/models%3fx=1", "/{name}/openai/v1/models%23x", "*", "/%",
    "/{name}/openai/v1/models%", "/{name}/openai/v1/models%zz", "/" + "a" * 30_000, "/{name}/./openai/v1/models", "/%2f{name}/openai/v1/models",
]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS, ids=[trick[:60] for trick in TRICKS])
def test_trick_with_the_path_reaches_nothing(listener: Listener, account: Account, trick: str) -> None:
    reply = ask(listener, head(account, path=trick.format(name=account.name), method="GET"))
    assert reply is None or 400 <= reply.status < 500


def test_odd_bytes_in_headers_are_no_error_of_ours(listener: Listener, account: Account) -> None:
    for line in (
        b"x-odd: \xff\xfe",
        b"user-agent: \xe9",
        b"x-ms-client-request-id: \xc3\xa9",
        b"x-forwarded-for: \xff",
        b"accept: \x80",
    ):
        data = models(account)[:-2] + line + b"\r\n\r\n"
        reply = ask(listener, data)
        assert reply is not None and reply.status in {200, 400}, line
    for line in (b"api-key: \xff", b"authorization: Bearer \xe9\xe9", b"api-key: \xc3\xa9"):
        reply = ask(
            listener,
            head(account, path=account.path("/openai/v1/models"), method="GET", key="")[:-2] + line + b"\r\n\r\n",
        )
        assert reply is not None and reply.status in {400, 401}, line


def test_request_that_is_no_http_gets_no_service(listener: Listener, account: Account) -> None:
    for data in (
        b"\x00" * 100,
        b"SSH-2.0-x\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"get / http/1.1\r\n\r\n",
        models(account).replace(b"host: localhost\r\n", b""),
    ):
        with listener.wire() as wire:
            wire.send(data)
            said = wire.until_closed() if not data.startswith(b"GET /a1") else (wire.reply() and b"") or b""
        assert b" 200 " not in said
        assert b" 500 " not in said
    assert still_serves(listener, account)


def test_two_credentials_and_unknown_methods_are_refused_in_json(listener: Listener, account: Account) -> None:
    reply = ask(listener, models(account, "ocp-apim-subscription-key: other"))
    assert reply is not None and (reply.status, json.loads(reply.body)["error"]["code"]) == (400, "BadRequest")
    for method in ("TRACE", "CONNECT", "PROPFIND", "OPTIONS", "DELETE"):
        reply = ask(listener, head(account, path=account.path("/openai/v1/models"), method=method))
        assert reply is None or 400 <= reply.status < 500


def test_key_from_the_query_is_in_no_file_the_server_writes(listener: Listener, account: Account) -> None:
    key = account.keys[1]
    for query in (f"subscription-key={key}", f"Subscription-Key={key}&a=1&a=2", f"subscription-key={key}x"):
        assert (
            ask(listener, head(account, path=account.path("/openai/v1/models") + "?" + query, method="GET", key=""))
            is not None
        )
    folder = listener.plane.settings.data_dir
    holding = [path.name for path in folder.rglob("*") if path.is_file() and key.encode()[:30] in path.read_bytes()]
    assert holding == []


def test_old_key_dies_in_every_worker_before_the_change_is_answered(listener: Listener) -> None:
    account = listener.plane.account("rotating")

    def status(_: int, key: str) -> int:
        reply = ask(listener, models(account, key=key))
        return reply.status if reply is not None else 0

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert set(pool.map(status, range(24), [account.key] * 24)) == {200}
            old, account = account.key, listener.plane.regenerate(account)
            assert set(pool.map(status, range(24), [old] * 24)) == {401}
    assert len(listener.workers()) == 2


def test_no_two_workers_give_the_same_decision_id(listener: Listener, account: Account) -> None:
    replies = [ask(listener, models(account)) for _ in range(60)]
    ids = [reply.headers["apim-request-id"] for reply in replies if reply is not None]
    assert len(ids) == len(set(ids)) == 60


def engine_port(listener: Listener) -> int:
    upstream = listener.plane.settings.models[0].upstream
    assert upstream is not None
    return int(upstream.url.rsplit(":", 1)[1].split("/")[0])


async def test_client_who_hangs_up_ends_the_engines_work(listener: Listener, account: Account) -> None:
    asked = threading.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"data: 1\n\n", headers=b"content-type: text/event-stream\r\n", end=b""))
        asked.set()
        await peer.closed()

    stream = HELLO[:-1] + b',"stream":true}'

    def begin_and_leave() -> bytes:
        with listener.wire() as wire:
            wire.send(head(account, "content-type: application/json", f"content-length: {len(stream)}") + stream)
            return wire.until(b"data: 1\n\n")

    async with engine(talk, port=engine_port(listener)) as running:
        said = await asyncio.to_thread(begin_and_leave)
        assert said.startswith(b"HTTP/1.1 200 ")
        await asyncio.wait_for(running.seen_closed.wait(), 30)
    assert asked.is_set()
    assert CHAT in account.path()


def _says_nothing(listener: Listener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port), PATIENCE_S)


def _stops_within_its_handshake(listener: Listener) -> socket.socket:
    connection = _says_nothing(listener)
    connection.sendall(b"\x16\x03\x01\x02\x00\x01")
    return connection


def _says_nothing_after_its_handshake(listener: Listener) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=listener.plane.settings.ca_file)
    return context.wrap_socket(_says_nothing(listener), server_hostname="localhost")


def _sends_half_an_http2_preface(listener: Listener) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=listener.plane.settings.ca_file)
    context.set_alpn_protocols(["h2"])
    connection = context.wrap_socket(_says_nothing(listener), server_hostname="localhost")
    connection.sendall(b"PRI * HTTP/2.0\r\n")
    return connection


@pytest.mark.parametrize(
    "client",
    [_says_nothing, _stops_within_its_handshake, _says_nothing_after_its_handshake, _sends_half_an_http2_preface],
)
def test_connection_on_which_nothing_happens_is_closed(
    listener: Listener, client: Callable[[Listener], socket.socket]
) -> None:
    with client(listener) as connection:
        heard = b"?"
        with contextlib.suppress(
            ConnectionError, ssl.SSLError
        ):  # how it ends is the server's business, that it ends is ours
            while heard:
                heard = connection.recv(4096)


async def test_stream_longer_than_the_limit_is_not_idle(listener: Listener, account: Account) -> None:
    """The engine is silent for longer than any connection may be, and the client still gets its reply."""
    go_on = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"data: one\n\n", headers=b"content-type: text/event-stream\r\n", end=b""))
        await go_on.wait()
        await peer.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def closes_meanwhile() -> None:
        with _says_nothing(listener) as other:  # closed only after the limit: by then the stream has been still as long
            while other.recv(1):
                pass

    async with engine(slow, port=engine_port(listener)):
        body = HELLO[:-1] + b',"stream":true}'
        with listener.wire() as wire:
            wire.send(head(account, "content-type: application/json", f"content-length: {len(body)}") + body)
            assert b"data: one" in await asyncio.to_thread(wire.until, b"data: one\n\n")
            await asyncio.to_thread(closes_meanwhile)
            go_on.set()
            assert b"[DONE]" in await asyncio.to_thread(wire.until, b"0\r\n\r\n")


def test_nothing_of_all_this_was_an_error_of_ours(listener: Listener) -> None:
    assert "Traceback" not in listener.log.read_text()
    assert "request failed" not in listener.log.read_text()
