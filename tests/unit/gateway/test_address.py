"""Whose address a request has: tricks with `X-Forwarded-For`, spellings of addresses, and what may be remembered."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

import pytest

from stockade.gateway import address as addresses
from stockade.gateway.address import (
    ALL_TRUSTED,
    FORWARDED,
    MAX_FORWARDED,
    PEER,
    PEER_NOT_TRUSTED,
    UNREADABLE,
    ClientAddresses,
)

PROXIES = ("10.0.0.0/24", "192.0.2.1", "2001:db8:ffff::/64")
ONE, TWO, THREE = FORWARDED[1], FORWARDED[2], FORWARDED[3]

CASES = {
    # Nobody is behind a peer that is no trusted proxy, whatever it says.
    "no header": ("203.0.113.9:50000", "", "203.0.113.9", PEER),
    "a caller forges the header": ("203.0.113.9:50000", "198.51.100.1", "203.0.113.9", PEER_NOT_TRUSTED),
    "a caller says it is a proxy": ("203.0.113.9:50000", "198.51.100.1, 10.0.0.5", "203.0.113.9", PEER_NOT_TRUSTED),
    "a caller says it is us": ("203.0.113.9:50000", "127.0.0.1", "203.0.113.9", PEER_NOT_TRUSTED),
    "an IPv6 caller forges the header": ("[2001:db8::9]:50000", "198.51.100.1", "2001:db8::9", PEER_NOT_TRUSTED),
    "beside the trusted network": ("10.0.1.5:50000", "198.51.100.1", "10.0.1.5", PEER_NOT_TRUSTED),
    "beside the trusted address": ("192.0.2.2:50000", "198.51.100.1", "192.0.2.2", PEER_NOT_TRUSTED),
    # A trusted proxy says who came to it; what stands left of that is hearsay.
    "one proxy": ("10.0.0.5:50000", "198.51.100.1", "198.51.100.1", ONE),
    "one proxy without a header": ("10.0.0.5:50000", "", "10.0.0.5", PEER),
    "forged entry before the proxy's": ("10.0.0.5:50000", "127.0.0.1, 198.51.100.1", "198.51.100.1", ONE),
    "two proxies": ("10.0.0.5:50000", "198.51.100.1, 192.0.2.1", "198.51.100.1", TWO),
    "three proxies": ("10.0.0.5:50000", "198.51.100.1, 192.0.2.1,10.0.0.9", "198.51.100.1", THREE),
    "forged entry before two": ("10.0.0.5:50000", "10.0.0.7, 198.51.100.1, 192.0.2.1", "198.51.100.1", TWO),
    "forged trusted entry": ("10.0.0.5:50000", "10.0.0.7, 198.51.100.1", "198.51.100.1", ONE),
    "garbage before the proxy's entry": ("10.0.0.5:50000", "\x00<script>, 198.51.100.1", "198.51.100.1", ONE),
    "commas before the proxy's entry": ("10.0.0.5:50000", ",,,, 198.51.100.1", "198.51.100.1", ONE),
    "proxies alone": ("10.0.0.5:50000", "10.0.0.7, 192.0.2.1", "10.0.0.7", ALL_TRUSTED),
    "an IPv6 proxy": ("[2001:db8:ffff::1]:50000", "2001:db8::7", "2001:db8::7", ONE),
    "an IPv6 proxy for IPv4": ("[2001:db8:ffff::1]:50000", "198.51.100.1", "198.51.100.1", ONE),
    "tabs and blanks": ("10.0.0.5:50000", "\t 198.51.100.1 \t", "198.51.100.1", ONE),
    # Ports, as Azure's gateways send them.
    "port": ("10.0.0.5:50000", "198.51.100.1:5678", "198.51.100.1", ONE),
    "port of a proxy": ("10.0.0.5:50000", "198.51.100.1:5678, 192.0.2.1:80", "198.51.100.1", TWO),
    "IPv6 in brackets": ("10.0.0.5:50000", "[2001:db8::7]", "2001:db8::7", ONE),
    "IPv6 with a port": ("10.0.0.5:50000", "[2001:db8::7]:443", "2001:db8::7", ONE),
    "IPv6 written long": ("10.0.0.5:50000", "2001:0DB8:0:0:0:0:0:7", "2001:db8::7", ONE),
    # One form for every address.
    "mapped caller": ("[::ffff:203.0.113.9]:50000", "", "203.0.113.9", PEER),
    "mapped proxy": ("[::ffff:10.0.0.5]:50000", "198.51.100.1", "198.51.100.1", ONE),
    "mapped proxy in hex": ("[::ffff:a00:5]:50000", "198.51.100.1", "198.51.100.1", ONE),
    "mapped entry": ("10.0.0.5:50000", "::ffff:198.51.100.1", "198.51.100.1", ONE),
    "mapped entry in hex": ("10.0.0.5:50000", "[::ffff:c633:6401]:80", "198.51.100.1", ONE),
    "mapped trusted entry": ("10.0.0.5:50000", "198.51.100.1, ::ffff:192.0.2.1", "198.51.100.1", TWO),
    "zone of a peer": ("[fe80::1%eth0]:50000", "", "fe80::1", PEER),
    "zone of a mapped peer": ("[::ffff:203.0.113.9%2]:50000", "", "203.0.113.9", PEER),
    # What cannot be read is nobody: the proxy that sent it on stands for it.
    "zone of an entry": ("10.0.0.5:50000", "fe80::1%eth0", "10.0.0.5", UNREADABLE),
    "unknown": ("10.0.0.5:50000", "unknown", "10.0.0.5", UNREADABLE),
    "hidden": ("10.0.0.5:50000", "_hidden", "10.0.0.5", UNREADABLE),
    "empty entry last": ("10.0.0.5:50000", "198.51.100.1,", "10.0.0.5", UNREADABLE),
    "blanks alone": ("10.0.0.5:50000", "   ", "10.0.0.5", UNREADABLE),
    "host name": ("10.0.0.5:50000", "localhost", "10.0.0.5", UNREADABLE),
    "network": ("10.0.0.5:50000", "198.51.100.0/24", "10.0.0.5", UNREADABLE),
    "leading zeros": ("10.0.0.5:50000", "198.051.100.001", "10.0.0.5", UNREADABLE),
    "octal": ("10.0.0.5:50000", "0306.063.0144.01", "10.0.0.5", UNREADABLE),
    "one number": ("10.0.0.5:50000", "3325256705", "10.0.0.5", UNREADABLE),
    "hex": ("10.0.0.5:50000", "0xc6336401", "10.0.0.5", UNREADABLE),
    "short form": ("10.0.0.5:50000", "127.1", "10.0.0.5", UNREADABLE),
    "digits of another script": ("10.0.0.5:50000", "\u0661\u0669\u0668.51.100.1", "10.0.0.5", UNREADABLE),
    "blank of another kind": ("10.0.0.5:50000", "\u00a0198.51.100.1", "10.0.0.5", UNREADABLE),
    "quoted": ("10.0.0.5:50000", '"198.51.100.1"', "10.0.0.5", UNREADABLE),
    "Forwarded's form": ("10.0.0.5:50000", "for=198.51.100.1", "10.0.0.5", UNREADABLE),
    "port out of range of form": ("10.0.0.5:50000", "198.51.100.1:655361", "10.0.0.5", UNREADABLE),
    "port without a number": ("10.0.0.5:50000", "198.51.100.1:", "10.0.0.5", UNREADABLE),
    "IPv4 in brackets": ("10.0.0.5:50000", "[198.51.100.1]:80", "10.0.0.5", UNREADABLE),
    "bracket not closed": ("10.0.0.5:50000", "[2001:db8::7", "10.0.0.5", UNREADABLE),
    "two ports": ("10.0.0.5:50000", "198.51.100.1:80:80", "10.0.0.5", UNREADABLE),
    "semicolon": ("10.0.0.5:50000", "198.51.100.1;10.0.0.7", "10.0.0.5", UNREADABLE),
    "blank between": ("10.0.0.5:50000", "198.51.100.1 10.0.0.7", "10.0.0.5", UNREADABLE),
    "garbage after a proxy": ("10.0.0.5:50000", "198.51.100.1, ?, 192.0.2.1", "192.0.2.1", UNREADABLE),
    # Length.
    "long entry": ("10.0.0.5:50000", "1" * 5000, "10.0.0.5", UNREADABLE),
    "long header": ("10.0.0.5:50000", "9.9.9.9," * 9000 + "198.51.100.1", "198.51.100.1", ONE),
    "more proxies than are followed": ("10.0.0.5:50000", "198.51.100.1" + ",10.0.0.7" * 99, "10.0.0.7", UNREADABLE),
}


@pytest.mark.parametrize(("peer", "header", "address", "derivation"), CASES.values(), ids=CASES)
def test_client(peer: str, header: str, address: str, derivation: str) -> None:
    assert ClientAddresses(PROXIES).derive(peer, header) == (address, derivation)


def test_an_address_cut_in_half_is_not_read_as_another() -> None:
    kept = "1.2.3.4".ljust(33) + ("," + "10.0.0.200".ljust(64)) * 31
    assert len(kept) == MAX_FORWARDED
    clients = ClientAddresses(("10.0.0.0/24",))
    assert clients.client("10.0.0.5:1", kept) == "1.2.3.4"
    assert clients.derive("10.0.0.5:1", "20" + kept) == ("10.0.0.200", UNREADABLE)


def test_nobody_is_trusted_unless_named() -> None:
    assert ClientAddresses(()).derive("127.0.0.1:1", "198.51.100.1") == ("127.0.0.1", PEER_NOT_TRUSTED)


def test_a_proxy_named_in_mapped_form_is_the_ipv4_proxy() -> None:
    clients = ClientAddresses(("::ffff:10.0.0.0/120",))
    assert clients.client("10.0.0.5:1", "198.51.100.1") == "198.51.100.1"
    assert clients.client("10.0.1.5:1", "198.51.100.1") == "10.0.1.5"


def test_host_bits_in_the_settings_are_no_mistake() -> None:
    assert ClientAddresses(("10.0.0.7/24",)).client("10.0.0.5:1", "198.51.100.1") == "198.51.100.1"


def test_ten_thousand_trusted_proxies_cost_what_ten_do() -> None:
    few = ClientAddresses([f"10.{index}.0.0/24" for index in range(10)])
    many = ClientAddresses([f"10.{index >> 6}.{(index & 63) << 2}.0/24" for index in range(10_000)])
    peers = [f"203.0.{number >> 8}.{number & 255}:1" for number in range(2000)]

    def cost(clients: ClientAddresses) -> float:
        clients._is_trusted.cache_clear()
        began = time.perf_counter()
        for peer in peers:
            clients.client(peer, "198.51.100.1")
        return time.perf_counter() - began

    assert min(cost(many) for _ in range(5)) < 5 * min(cost(few) for _ in range(5))


def test_what_callers_choose_is_remembered_within_bounds() -> None:
    clients = ClientAddresses(("10.0.0.0/8",))
    for number in range(2 * addresses.ADDRESSES_KEPT):
        clients.client("10.0.0.5:1", str(IPv4Address(0xC6336401 + number)))
    assert addresses._entry_address.cache_info().currsize <= addresses.ADDRESSES_KEPT
    assert clients._is_trusted.cache_info().currsize <= addresses.ADDRESSES_KEPT
