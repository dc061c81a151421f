"""Which addresses may be connected to: nothing inside, nothing special, and only what an operator names of it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.egress.addresses import AddressPolicy, read_address

DEFAULT = AddressPolicy()
ANY = st.one_of(
    st.ip_addresses(v=4),
    st.ip_addresses(v=6),
    # Most of the space is public or void; the interesting corners are drawn more often.
    st.builds(IPv6Address, st.integers(0, 2**48)),
    st.builds(lambda prefix, low: IPv6Address(prefix << 96 | low), st.sampled_from([0x64FF9B, 0x20010000]), st.integers(0, 2**96 - 1)),
    st.builds(lambda low: IPv6Address(0x2002 << 112 | low), st.integers(0, 2**112 - 1)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.0.0.0", "unspecified"), ("0.1.2.3", "unspecified"), ("10.0.0.1", "private"), ("100.64.0.1", "shared"),
        ("100.127.255.255", "shared"), ("127.0.0.1", "loopback"), ("127.255.255.254", "loopback"), ("169.254.0.1", "link-local"),
        ("169.254.169.254", "metadata"), ("169.254.170.2", "metadata"), ("168.63.129.16", "metadata"), ("100.100.100.200", "metadata"),
        ("192.0.0.192", "metadata"), ("172.16.0.1", "private"), ("172.31.255.255", "private"), ("192.168.1.1", "private"),
        ("192.0.2.1", "documentation"), ("198.18.0.1", "benchmarking"), ("198.19.255.255", "benchmarking"), ("203.0.113.9", "documentation"),
        ("192.88.99.1", "6to4 relay"), ("224.0.0.1", "multicast"), ("239.255.255.255", "multicast"), ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"), ("::1", "loopback"), ("::127.0.0.1", "IPv4 inside IPv6"), ("::ffff:127.0.0.1", "IPv4 inside IPv6"),
        ("::ffff:8.8.8.8", "IPv4 inside IPv6"), ("::ffff:0:8.8.8.8", "IPv4 inside IPv6"), ("64:ff9b::7f00:1", "IPv4 inside IPv6"),
        ("64:ff9b:1::a00:1", "IPv4 inside IPv6"), ("2002:7f00:1::", "IPv4 inside IPv6"), ("2001:0:102:304::1", "IPv4 inside IPv6"),
        ("2001:2::1", "protocol assignments"), ("2001:db8::1", "documentation"), ("3fff::1", "documentation"), ("fc00::1", "private"),
        ("fd00:ec2::254", "metadata"), ("fd20:ce::254", "metadata"), ("fe80::1", "link-local"), ("fe80::1%eth0", "link-local"),
        ("fec0::1", "private"), ("ff02::1", "multicast"), ("100::1", "reserved"), ("5f00::1", "reserved"), ("4000::1", "reserved"),
    ],
)  # fmt: skip
def test_address_that_is_no_public_machine_is_refused(text: str, reason: str) -> None:
    assert DEFAULT.refused(ip_address(text)) == reason


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "168.63.129.17",
    "192.0.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "2620:4f:8001::1"])  # fmt: skip
def test_public_address_is_not(text: str) -> None:
    assert DEFAULT.refused(ip_address(text)) is None


@given(ANY)
def test_whatever_the_standard_library_calls_not_global_is_refused(address: IPv4Address | IPv6Address) -> None:
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert DEFAULT.refused(address) is not None


@given(st.ip_addresses(v=4))
def test_ipv4_address_is_refused_in_every_ipv6_dress(inner: IPv4Address) -> None:
    number = int(inner)
    dressed = [
        IPv6Address(0xFFFF << 32 | number), IPv6Address(0xFFFF << 48 | number), IPv6Address(0x64FF9B << 96 | number),
        IPv6Address(0x64FF9B0001 << 80 | number), IPv6Address(0x2002 << 112 | number << 80), IPv6Address(0x20010000 << 96 | ~number & 0xFFFFFFFF),
    ]  # fmt: skip
    assert all(DEFAULT.refused(address) is not None for address in dressed)
    # An operator behind DNS64 admits the prefix; what stands inside is judged by itself.
    open_form = AddressPolicy(
        ["64:ff9b::/96", "2002::/16", "::ffff:0:0/96", "2001::/32", "64:ff9b:1::/48", "::ffff:0:0:0/96"]
    )
    assert {open_form.refused(address) for address in dressed} == {DEFAULT.refused(inner)}


def test_local_use_translation_prefix_is_read_in_both_its_layouts() -> None:
    policy = AddressPolicy(["64:ff9b:1::/48"])
    assert policy.refused(ip_address("64:ff9b:1:a9fe:a9:fe00::")) == "metadata"  # 48-bit prefix: 169.254.169.254
    assert policy.refused(ip_address("64:ff9b:1::169.254.169.254")) == "metadata"
    assert policy.refused(ip_address("64:ff9b:1:808:8:800::")) is None


def test_operator_names_what_is_admitted() -> None:
    policy = AddressPolicy(["10.1.0.0/16", "127.0.0.1", "fd00::/8"])
    assert policy.refused(ip_address("10.1.2.3")) is None
    assert policy.refused(ip_address("10.2.0.1")) == "private"
    assert policy.refused(ip_address("127.0.0.1")) is None
    assert policy.refused(ip_address("127.0.0.2")) == "loopback"
    assert policy.refused(ip_address("fd12::1")) is None
    assert policy.refused(ip_address("::ffff:10.1.2.3")) == "IPv4 inside IPv6"


def test_metadata_service_is_admitted_by_its_own_name_alone() -> None:
    assert AddressPolicy(["0.0.0.0/0", "::/0"]).refused(ip_address("169.254.169.254")) == "metadata"
    assert AddressPolicy(["0.0.0.0/0", "::/0"]).refused(ip_address("fd00:ec2::254")) == "metadata"
    assert AddressPolicy(["0.0.0.0/0", "::/0"]).refused(ip_address("64:ff9b::a9fe:a9fe")) == "metadata"
    assert AddressPolicy(["169.254.169.254"]).refused(ip_address("169.254.169.254")) is None


def test_what_no_connection_can_mean_is_never_admitted() -> None:
    policy = AddressPolicy(["0.0.0.0/0", "::/0"])
    for text in ("0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0", "64:ff9b::e000:1"):
        assert policy.refused(ip_address(text)) is not None


def test_one_refused_address_refuses_all() -> None:
    public, inside = ip_address("8.8.8.8"), ip_address("10.0.0.1")
    assert DEFAULT.refused_of([public]) is None
    assert DEFAULT.refused_of([public, inside]) == DEFAULT.refused_of([inside, public]) == "private"


@pytest.mark.parametrize("text", ["10.1.2.3/8", "example.com", "", "10.0.0.0/33"])
def test_network_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        AddressPolicy([text])


@pytest.mark.parametrize(("text", "read"), [("192.0.2.1", True), ("[2001:db8::1]", True), ("2001:db8::1", True), ("example.com", False),
    ("127.1", False), ("[example.com]", False), ("", False)])  # fmt: skip
def test_address_is_told_from_a_name(text: str, read: bool) -> None:
    assert (read_address(text) is not None) is read
