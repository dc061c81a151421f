"""Which addresses a name has, by name servers that lie, stay silent, or say too much."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import dns.rcode
import pytest

from stockade.egress import resolve
from stockade.egress.resolve import MAX_ADDRESSES, ServerResolver, SystemResolver, resolver_for
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Egress
from tests.factories.names import NameServer, alias, fails, first_then, garbage, has, name_server, silent

PATIENCE_S = 30.0


def asking(server: NameServer, timeout_s: float = PATIENCE_S) -> ServerResolver:
    return ServerResolver([server.address], timeout_s)


async def texts(answer: Awaitable[tuple[object, ...]]) -> list[str]:
    return [str(address) for address in await answer]


async def fault(answer: Awaitable[object]) -> Fault:
    with pytest.raises(Fault) as caught:
        await answer
    return caught.value


async def test_addresses_of_both_kinds_are_answered_and_asked_for_once() -> None:
    async with name_server(a__example=has("192.0.2.1", "2001:db8::1", "192.0.2.2")) as server:
        assert sorted(await texts(asking(server).resolve("a.example"))) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
        assert sorted(server.asked) == [("a.example", "A"), ("a.example", "AAAA")]


async def test_nothing_is_remembered() -> None:
    async with name_server(a__example=first_then(has("192.0.2.1", ttl=3600), has("127.0.0.1"))) as server:
        resolver = asking(server)
        assert await texts(resolver.resolve("a.example")) == ["192.0.2.1"]
        assert await texts(resolver.resolve("a.example")) == ["127.0.0.1"]


async def test_aliases_are_followed_to_the_address_at_their_end() -> None:
    async with name_server(a__example=alias("b.example", "c.example", to="10.0.0.1")) as server:
        assert await texts(asking(server).resolve("a.example")) == ["10.0.0.1"]


async def test_chain_of_aliases_without_an_end_is_no_answer() -> None:
    chain = [f"n{number}.example" for number in range(40)]
    async with name_server(
        a__example=alias(*chain, to="192.0.2.1"), loop__example=alias("loop.example", to="192.0.2.1")
    ) as server:
        for name in ("a.example", "loop.example"):
            assert (await fault(asking(server, 2.0).resolve(name))).kind in (
                FaultKind.UPSTREAM_FAILED,
                FaultKind.UPSTREAM_TIMEOUT,
            )


async def test_name_that_does_not_exist_is_the_callers_mistake() -> None:
    async with name_server(empty__example=has()) as server:
        for name in ("none.example", "empty.example"):
            found = await fault(asking(server).resolve(name))
            assert (found.kind, found.message) == (FaultKind.INVALID, f"The host '{name}' does not exist.")


@pytest.mark.parametrize("answer", [silent, garbage])
async def test_no_answer_in_time_is_a_time_out(answer: Callable[..., object]) -> None:
    async with name_server(a__example=answer) as server:
        found = await fault(asking(server, 0.3).resolve("a.example"))
        assert found.kind in (FaultKind.UPSTREAM_TIMEOUT, FaultKind.UPSTREAM_FAILED)


async def test_one_silent_half_gives_no_half_answer() -> None:
    """Otherwise a server could hide the address that would be refused."""

    def only_ipv4(question: object, before: int) -> object:
        kind = question.question[0].rdtype.name  # type: ignore[attr-defined]
        return has("192.0.2.1")(question, before) if kind == "A" else None  # type: ignore[arg-type]

    async with name_server(a__example=only_ipv4) as server:
        assert (await fault(asking(server, 0.3).resolve("a.example"))).kind is FaultKind.UPSTREAM_TIMEOUT


async def test_server_that_fails_is_told_from_a_name_that_is_not_there() -> None:
    async with name_server(a__example=fails(dns.rcode.SERVFAIL), b__example=fails(dns.rcode.REFUSED)) as server:
        for name in ("a.example", "b.example"):
            assert (await fault(asking(server, 2.0).resolve(name))).kind in (
                FaultKind.UPSTREAM_FAILED,
                FaultKind.UPSTREAM_TIMEOUT,
            )


async def test_more_addresses_than_any_host_has_are_refused() -> None:
    many = [f"192.0.2.{number}" for number in range(MAX_ADDRESSES)]
    async with name_server(a__example=has(*many), b__example=has(*many, "198.51.100.1")) as server:
        assert len(await asking(server).resolve("a.example")) == MAX_ADDRESSES
        assert "more addresses" in (await fault(asking(server).resolve("b.example"))).message


async def test_answer_too_large_for_a_datagram_comes_over_tcp_and_is_bounded_too() -> None:
    huge = [f"10.{number // 250}.{number % 250}.1" for number in range(3000)]
    async with name_server(a__example=has(*huge)) as server:
        assert "more addresses" in (await fault(asking(server).resolve("a.example"))).message
        assert server.asked.count(("a.example", "A")) == 2


@pytest.mark.parametrize("host", ["", ".", "127.1", "0x7f000001", "2130706433", "a..b", "-a.example", "a b", "a/b", "fe80::1%1", "a.example.",
    "x" * 64,
    "é.example",     "a" + ".a" * 127, "0x7f.1", "example.0xa"])  # fmt: skip
async def test_what_is_no_name_is_not_asked_for(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("asked"))
    async with name_server() as server:
        for resolver in (asking(server), SystemResolver(PATIENCE_S)):
            assert (await fault(resolver.resolve(host))).kind is FaultKind.INVALID
        assert server.asked == []


async def test_too_many_questions_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "MAX_LOOKUPS", 2)
    async with name_server(a__example=silent) as server:
        resolver = asking(server)
        waiting = [asyncio.create_task(resolver.resolve("a.example")) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await fault(resolver.resolve("a.example"))).kind is FaultKind.UNAVAILABLE
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (await fault(resolver.resolve("none.example"))).kind is FaultKind.INVALID


async def test_system_answers_as_every_program_hears_it() -> None:
    assert await texts(SystemResolver(PATIENCE_S).resolve("localhost")) in (
        ["127.0.0.1"],
        ["::1"],
        ["127.0.0.1", "::1"],
        ["::1", "127.0.0.1"],
    )


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no such name"), FaultKind.INVALID),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), FaultKind.UPSTREAM_FAILED),
        (OSError("no sockets left"), FaultKind.UPSTREAM_FAILED),
    ],
)
async def test_failure_of_the_system_is_told_apart(
    failure: OSError, kind: FaultKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert (await fault(SystemResolver(PATIENCE_S).resolve("a.example"))).kind is kind


async def test_system_that_does_not_answer_is_not_waited_for_and_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(resolve, "MAX_LOOKUPS", 1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [] if go_on.wait(PATIENCE_S) else None)
    resolver = SystemResolver(0.05)
    assert (await fault(resolver.resolve("a.example"))).kind is FaultKind.UPSTREAM_TIMEOUT
    assert (await fault(resolver.resolve("a.example"))).kind is FaultKind.UNAVAILABLE
    go_on.set()
    while resolver._under_way:  # noqa: ASYNC110 - a thread is what is waited for
        await asyncio.sleep(0.01)


def test_settings_name_the_servers() -> None:
    assert isinstance(resolver_for(Egress()), SystemResolver)
    resolver = resolver_for(Egress(dns_servers=("192.0.2.53", "127.0.0.1:5353", "2001:db8::53", "[2001:db8::53]:5353")))
    assert isinstance(resolver, ServerResolver)
    assert [(server.address, server.port) for server in resolver._resolver.nameservers] == [  # type: ignore[union-attr]
        ("192.0.2.53", 53), ("127.0.0.1", 5353), ("2001:db8::53", 53), ("2001:db8::53", 5353),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["dns.example", "", "192.0.2.53:x", "192.0.2.53:99999", "u@192.0.2.53", "192.0.2.53/x"]
)
def test_name_server_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"egress\.dns_servers"):
        resolver_for(Egress(dns_servers=(text,)))
