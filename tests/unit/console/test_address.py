"""The console answers at its own name; a number on this machine is sent there, and a strange name is not served."""

from __future__ import annotations

import pytest

from stockade.console.address import Address, Addresses
from stockade.settings import Names, Settings

BARE, NAMED = Addresses(Settings()), Addresses(Settings(names=Names(domain="Example.test")))


@pytest.mark.parametrize(
    ("host", "origin", "own"),
    [
        ("localhost:8444", "https://localhost:8444", True),
        ("LOCALHOST:9444", "https://localhost:9444", True),
        ("localhost", "https://localhost", True),
        ("127.0.0.1:8444", "https://localhost:8444", False),
        ("[::1]:8444", "https://localhost:8444", False),
    ],
)
def test_a_bare_machine_is_called_localhost(host: str, origin: str, own: bool) -> None:
    assert BARE.of(host) == Address(origin, "localhost", own)


@pytest.mark.parametrize(
    ("host", "origin", "own"),
    [
        ("console.example.test:8444", "https://console.example.test:8444", True),
        ("console.example.test:443", "https://console.example.test", True),
        ("localhost:9444", "https://console.example.test:8444", False),
    ],
)
def test_with_a_domain_it_has_a_name_of_its_own(host: str, origin: str, own: bool) -> None:
    assert NAMED.of(host) == Address(origin, "console.example.test", own)


@pytest.mark.parametrize("host", ["", "evil.test", "localhost.evil.test", "10.0.0.1:8444", "localhost:x", "a b", "a@b"])
def test_other_names_are_not_the_consoles(host: str) -> None:
    assert BARE.of(host) is None


def test_cookies_are_called_after_the_port() -> None:
    assert Address("https://localhost:8444", "localhost").session_cookie == "__Host-stockade-8444"
    assert Address("https://console.example.test", "x").form_cookie == "__Host-stockade-form-443"
