"""Connections to an engine: reused, retried once, bounded, and opened to nobody but the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.upstream import pool as pool_module
from stockade.upstream.pool import Target, UpstreamPool, read_credential
from tests.factories.certificates import certificates
from tests.factories.engine import Peer, answers, chunked, engine, reply, says_and_closes


async def whole(pool: UpstreamPool, path: str = "/v1/x") -> bytes:
    return await (await pool.request("POST", path, b"{}")).read(1_000_000, 30.0)


@pytest.fixture
async def opened() -> AsyncIterator[list[UpstreamPool]]:
    pools: list[UpstreamPool] = []
    yield pools
    for one in pools:
        one.close()


def make(opened: list[UpstreamPool], target: Target, connect_timeout_s: float = 10.0) -> UpstreamPool:
    opened.append(UpstreamPool(target, connect_timeout_s=connect_timeout_s, reply_timeout_s=30.0))
    return opened[-1]


async def _answer_once_then_close_on_the_next_request(peer: Peer) -> None:
    await peer.request()
    await peer.send(reply(b"warm"))
    await peer.request()


async def test_reused_connection_closed_before_any_byte_is_replaced_by_a_fresh_one(opened: list[UpstreamPool]) -> None:
    async with engine(_answer_once_then_close_on_the_next_request, answers(reply(b"fresh"))) as running:
        pool = make(opened, running.target)
        assert await whole(pool) == b"warm"
        assert await whole(pool) == b"fresh"
        assert (running.connections, len(running.requests)) == (2, 3)


async def test_request_is_repeated_once_and_not_once_per_idle_connection(opened: list[UpstreamPool]) -> None:
    both = asyncio.Barrier(2)

    async def warm_then_dead(peer: Peer) -> None:
        await peer.request()
        await both.wait()  # so that two connections are open at once
        await peer.send(reply(b"warm"))
        await peer.request()

    async with engine(warm_then_dead, warm_then_dead, says_and_closes(b"")) as running:
        pool = make(opened, running.target)
        assert await asyncio.gather(whole(pool), whole(pool)) == [b"warm", b"warm"]
        with pytest.raises(Fault) as caught:
            await whole(pool)
        assert caught.value.kind is FaultKind.UPSTREAM_FAILED
        assert (running.connections, len(running.requests)) == (3, 4)


async def test_reused_connection_that_broke_after_a_byte_is_not_repeated(opened: list[UpstreamPool]) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(b"warm"))
        await peer.request()
        await peer.send(b"H")

    async with engine(talk, answers(reply(b"fresh"))) as running:
        pool = make(opened, running.target)
        assert await whole(pool) == b"warm"
        with pytest.raises(Fault) as caught:
            await whole(pool)
        assert caught.value.kind is FaultKind.UPSTREAM_FAILED
        assert len(running.requests) == 2


async def test_fresh_connection_that_closed_before_any_byte_is_not_repeated(opened: list[UpstreamPool]) -> None:
    async with engine(says_and_closes(b"")) as running:
        with pytest.raises(Fault) as caught:
            await whole(make(opened, running.target))
        assert caught.value.kind is FaultKind.UPSTREAM_FAILED
        assert len(running.requests) == 1


async def test_connections_are_bounded_and_those_who_wait_get_theirs(
    opened: list[UpstreamPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 2)
    async with engine(answers(reply(b"ok"))) as running:
        pool = make(opened, running.target)
        assert await asyncio.gather(*(whole(pool) for _ in range(50))) == [b"ok"] * 50
        assert running.connections == 2


async def test_request_beyond_the_waiting_room_is_refused_at_once(
    opened: list[UpstreamPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(pool_module, "MAX_WAITING", 1)
    go_on, asked = asyncio.Event(), asyncio.Event()

    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            asked.set()
            await go_on.wait()
            await peer.send(reply(b"ok"))

    async with engine(talk) as running:
        pool = make(opened, running.target)
        first = asyncio.create_task(whole(pool))
        await asked.wait()
        second = asyncio.create_task(whole(pool))
        await asyncio.sleep(0)
        with pytest.raises(Fault) as caught:
            await whole(pool)
        assert (caught.value.kind, caught.value.retry_after_s) == (FaultKind.UNAVAILABLE, 1)
        go_on.set()
        assert [await first, await second] == [b"ok", b"ok"]


async def test_who_waits_too_long_for_a_connection_is_refused(
    opened: list[UpstreamPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 1)
    asked = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.closed()

    async with engine(talk) as running:
        pool = make(opened, running.target, connect_timeout_s=0.05)
        first = asyncio.create_task(whole(pool))
        await asked.wait()
        with pytest.raises(Fault) as caught:
            await whole(pool)
        assert caught.value.kind is FaultKind.UNAVAILABLE
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_turn_of_one_who_gave_up_goes_to_the_next(
    opened: list[UpstreamPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 1)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            asked.set()
            await go_on.wait()
            await peer.send(reply(b"ok"))

    async with engine(talk) as running:
        pool = make(opened, running.target)
        first = asyncio.create_task(whole(pool))
        await asked.wait()
        second, third = asyncio.create_task(whole(pool)), asyncio.create_task(whole(pool))
        while len(pool._waiting) < 2:  # noqa: ASYNC110 - the loop itself is what is waited for
            await asyncio.sleep(0)
        waiter = pool._waiting[0]
        waiter.add_done_callback(lambda _: second.cancel())  # at the very moment when its turn comes
        go_on.set()
        assert await first == b"ok"
        assert await third == b"ok"
        await asyncio.gather(second, return_exceptions=True)


async def test_place_of_a_connection_that_was_never_made_is_free_again(
    opened: list[UpstreamPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 1)
    async with engine(answers(reply(b"ok"))) as running:
        pool = make(opened, running.target)
        first, second = asyncio.create_task(whole(pool)), asyncio.create_task(whole(pool))
        await asyncio.sleep(0)
        first.cancel()  # while it is connecting, with the other one waiting for its place
        assert await second == b"ok"


async def test_engine_that_is_not_there_is_unavailable(opened: list[UpstreamPool], tmp_path: Path) -> None:
    async with engine(answers(reply(b""))) as running:
        gone = running.target
    for target in (gone, Target("localhost", 80, unix_socket=str(tmp_path / "none.sock"))):
        with pytest.raises(Fault) as caught:
            await whole(make(opened, target))
        assert (caught.value.kind, caught.value.retry_after_s) == (FaultKind.UNAVAILABLE, 2)


async def test_unix_socket_is_as_good_as_an_address(opened: list[UpstreamPool], tmp_path: Path) -> None:
    async with engine(answers(chunked(b"o", b"k")), unix_socket=tmp_path / "e.sock") as running:
        assert await whole(make(opened, running.target)) == b"ok"


async def test_tls_engine_is_believed_under_its_authority_alone(opened: list[UpstreamPool], tmp_path: Path) -> None:
    ours, others = certificates(tmp_path / "ours"), certificates(tmp_path / "others")
    big = b"x" * 700_000
    async with engine(answers(reply(b"ok"), chunked(big)), tls=ours.server_context()) as running:
        url = f"https://localhost:{running.port}"
        pool = make(opened, Target.from_url(url, ca_file=str(ours.authority)))
        assert await whole(pool) == b"ok"
        assert await whole(pool) == big
        assert running.connections == 1
        for wrong in (Target.from_url(url, ca_file=str(others.authority)), Target.from_url(url)):
            with pytest.raises(Fault) as caught:
                await whole(make(opened, wrong))
            assert caught.value.kind is FaultKind.UNAVAILABLE
        assert len(running.requests) == 2


async def test_certificate_of_another_host_is_refused(opened: list[UpstreamPool], tmp_path: Path) -> None:
    ours = certificates(tmp_path)
    async with engine(answers(reply(b"ok")), tls=ours.server_context()) as running:
        target = Target.from_url(f"https://127.0.0.2:{running.port}", ca_file=str(ours.authority))
        with pytest.raises(Fault) as caught:
            await whole(make(opened, target))
        assert caught.value.kind is FaultKind.UNAVAILABLE
        assert not running.requests


SPLIT = ["/v1/x\r\nx-smuggled: 1", "/v1/x\nx-smuggled: 1", "/v1/x HTTP/1.1\r\nhost: a\r\n\r\nGET /secret"]


@pytest.mark.parametrize("path", SPLIT)
async def test_path_cannot_carry_a_second_request(opened: list[UpstreamPool], path: str) -> None:
    async with engine(answers(reply(b"ok"))) as running:
        with pytest.raises(Fault) as caught:
            await whole(make(opened, running.target), path)
        assert caught.value.kind is FaultKind.INVALID
        assert not running.connections


@pytest.mark.parametrize("value", ["a/b\r\nx: 1", "a/b\nx: 1", "a/b\rx: 1", "a/b\x00"])
@pytest.mark.parametrize("name", ["content_type", "accept"])
async def test_header_value_cannot_carry_a_second_header(opened: list[UpstreamPool], name: str, value: str) -> None:
    async with engine(answers(reply(b"ok"))) as running:
        with pytest.raises(Fault) as caught:
            await make(opened, running.target).request("POST", "/", b"", **{name: value})
        assert caught.value.kind is FaultKind.INVALID
        assert not running.connections


@pytest.mark.parametrize("path", ["/a b", "/a\tb", "/é"])
async def test_path_is_one_word_of_ascii(opened: list[UpstreamPool], path: str) -> None:
    async with engine(answers(reply(b"ok"))) as running:
        with pytest.raises(Fault) as caught:
            await whole(make(opened, running.target), path)
        assert caught.value.kind is FaultKind.INVALID


async def test_credential_goes_to_the_engine_and_into_no_text(opened: list[UpstreamPool]) -> None:
    async with engine(answers(reply(b"ok"))) as running:
        target = Target("127.0.0.1", running.port, "/base", None, None, ("api-key", Secret("sk-engine")))
        pool = make(opened, target)
        assert await whole(pool) == b"ok"
        assert running.requests[0].headers["api-key"] == "sk-engine"
        assert running.requests[0].line == "POST /base/v1/x HTTP/1.1"
        assert "sk-engine" not in repr(target) + repr(pool) + str(target)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/v1", "h/v1", "http://", "http://u:p@h/v1", "http://:p@h/v1", "http://@h/v1", "http://h/v1?key=1",
        "http://h/v1#x", "http://h:99999/v1", "http://h:x/v1",
    ],
)  # fmt: skip
def test_url_that_is_no_plain_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Target.from_url(url)


@pytest.mark.parametrize(
    ("url", "host", "base"),
    [
        ("http://h/v1/", "h", "/v1"),
        ("http://h:8080", "h:8080", ""),
        ("http://h:443/v1", "h:443", "/v1"),
        ("https://h/v1", "h", "/v1"),
        ("https://h:80/v1", "h:80", "/v1"),
        ("http://[::1]:8000/v1", "[::1]:8000", "/v1"),
    ],
)
def test_host_header_names_the_port_unless_it_goes_without_saying(url: str, host: str, base: str) -> None:
    target = Target.from_url(url)
    assert (target.host_header, target.base_path) == (host, base)


def test_tls_below_1_2_is_not_spoken_to_engines() -> None:
    context = Target.from_url("https://h").tls
    assert context is not None
    assert context.minimum_version.name == "TLSv1_2"
    assert context.check_hostname


def test_credential_comes_from_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_ENGINE_KEY", "sk-1")
    file = tmp_path / "key"
    file.write_text("sk-2\n")
    assert read_credential("Authorization", "", "") is None
    name, secret = read_credential("Authorization", "TEST_ENGINE_KEY", "") or ("", Secret(""))
    assert (name, secret.reveal_text()) == ("Authorization", "Bearer sk-1")
    name, secret = read_credential("api-key", "", str(file)) or ("", Secret(""))
    assert (name, secret.reveal_text()) == ("api-key", "sk-2")


def test_credential_that_is_named_and_not_there_stops_the_call(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two lines").write_text("sk-secret\nx: 1")
    files = ((tmp_path / name) for name in ("missing", "empty", "two lines"))
    for env, file in (("TEST_ENGINE_KEY_UNSET", ""), *(("", str(file)) for file in files)):
        with pytest.raises(Fault) as caught:
            read_credential("api-key", env, file)
        assert caught.value.kind is FaultKind.UNAVAILABLE
        assert "sk-secret" not in str(caught.value)
