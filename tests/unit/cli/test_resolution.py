"""Names, asked of this system or of one name server."""

from __future__ import annotations

import asyncio
import socket
import threading

import dns.rcode
import pytest

from stockade.cli import resolution
from stockade.cli.resolution import name_server, resolve
from tests.factories import names

ZONE = {
    "a1.ai.example.test": names.has("127.20.0.4"),
    "both.example.test": names.has("127.20.0.4", "2001:db8::7", "127.20.0.5"),
    "alias.example.test": names.alias("target.example.test", to="127.20.0.9"),
    "none.example.test": names.has(),
    "refused.example.test": names.fails(dns.rcode.REFUSED),
}


@pytest.mark.parametrize(
    ("name", "addresses", "failure"),
    [
        ("a1.ai.example.test", ("127.20.0.4",), ""),
        ("both.example.test", ("127.20.0.4", "127.20.0.5", "2001:db8::7"), ""),
        ("alias.example.test", ("127.20.0.9",), ""),
        ("none.example.test", (), "no address record"),
        ("missing.example.test", (), "no such name"),
        ("refused.example.test", (), "refused or answered nonsense"),
        ("x" * 64 + ".example.test", (), "label"),
    ],
)
async def test_a_name_server_is_asked_for_both_kinds(name: str, addresses: tuple[str, ...], failure: str) -> None:
    async with names.name_server(**{one.replace(".", "__"): answer for one, answer in ZONE.items()}) as server:
        found = await asyncio.to_thread(resolve, name, server.address)
    assert tuple(sorted(found.addresses)) == addresses
    assert failure in found.failure and bool(failure) == bool(found.failure)
    assert f"127.0.0.1 port {server.port}" in found.by


def test_a_name_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolution, "TIMEOUT_S", 0.3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        found = resolve("a1.example.test", f"127.0.0.1:{silent.getsockname()[1]}")
    assert (found.addresses, found.failure) == ((), "no answer in time")


def test_this_system_is_asked() -> None:
    assert "127.0.0.1" in resolve("localhost").addresses
    missing = resolve("no-such-name.invalid")
    assert missing.addresses == () and missing.failure


def test_this_systems_patience_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(resolution, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [] if released.wait(30) else None)
    assert resolve("slow.example.test").failure == "no answer in time"
    released.set()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:5353", ("192.0.2.53", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_a_name_server_is_an_address_and_perhaps_a_port(text: str, place: tuple[str, int]) -> None:
    assert name_server(text) == place


@pytest.mark.parametrize(
    "text", ["dns.example", "192.0.2.53:x", "192.0.2.53:0", "192.0.2.53:70000", "[::1", "[::1]x:5", "1.2.3"]
)
def test_anything_else_is_not_asked(text: str) -> None:
    with pytest.raises(ValueError):
        name_server(text)
