"""Sets of addresses: what is in them, which rule says so, and which comes nearest."""

from __future__ import annotations

import pytest

from stockade.policy.addresses import NOWHERE, AddressSet, nearest_of, read_address, written

RULES = AddressSet.of(["203.0.113.0/24", "203.0.113.7", "198.51.100.7/32", "2001:db8:1::/48", "::ffff:192.0.2.0/120"])


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("203.0.113.0", "203.0.113.0/24"),
        ("203.0.113.7", "203.0.113.0/24"),
        ("203.0.113.255", "203.0.113.0/24"),
        ("203.0.112.255", None),
        ("203.0.114.0", None),
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.6", None),
        ("192.0.2.200", "192.0.2.0/24"),
        ("::ffff:192.0.2.200", "192.0.2.0/24"),
        ("::ffff:cb00:7105", "203.0.113.0/24"),
        ("2001:db8:1:ffff::1", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::1%eth0", "2001:db8:1::/48"),
        ("2001:db8:2::", None),
        ("::203.0.113.5", None),
        ("64:ff9b::203.0.113.5", None),
        ("2002:cb00:7105::1", None),
        ("0.0.0.0", None),
        ("255.255.255.255", None),
        ("::", None),
        ("", None),
        ("203.0.113.07", None),
        ("203.0.113.7/32", None),
        ("localhost", None),
    ],
)
def test_which_rule_holds_an_address(address: str, rule: str | None) -> None:
    assert RULES.rule_for(address) == rule
    assert RULES.contains(address) is (rule is not None)


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("203.0.114.0", "203.0.113.0/24"),
        ("203.0.112.0", "203.0.113.0/24"),
        ("198.51.100.8", "198.51.100.7"),
        ("0.0.0.0", "192.0.2.0/24"),
        ("255.255.255.255", "203.0.113.0/24"),
        ("::ffff:198.51.100.9", "198.51.100.7"),
        ("::1", "2001:db8:1::/48"),
        ("nonsense", None),
    ],
)
def test_nearest_rule_is_of_the_same_family(address: str, rule: str | None) -> None:
    assert RULES.nearest(address) == rule


def test_nearest_of_several_sets_and_of_none() -> None:
    far = AddressSet.of(["192.0.2.0/24"], within="v/s")
    assert nearest_of((far, AddressSet.of(["203.0.113.7"])), "203.0.113.9") == "203.0.113.7"
    assert nearest_of((far, NOWHERE), "203.0.113.9") == "192.0.2.0/24 in v/s"
    assert nearest_of((NOWHERE,), "203.0.113.9") is None
    assert NOWHERE.nearest("2001:db8::1") is None


@pytest.mark.parametrize(
    "text",
    ["", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.1/8", "10.0.0.0/255.0.0.0", "10.0.0.0/8/8", "::/129", "a",
     "::ffff:10.0.0.1/104", "10.0.0.0/\u0668"],
)  # fmt: skip
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        AddressSet.of([text])


def test_a_range_around_the_mapped_addresses_holds_no_ipv4_address() -> None:
    everything = AddressSet.of(["::/0"])
    assert everything.contains("2001:db8::1")
    assert not everything.contains("203.0.113.7")
    assert not everything.contains("::ffff:203.0.113.7")


def test_equal_sets_and_union() -> None:
    parts = [AddressSet.of(["203.0.113.0/24"]), AddressSet.of(["203.0.113.7", "2001:db8::/32"])]
    whole = AddressSet.of(["2001:db8::/32", "203.0.113.7/32", "203.0.113.0/24"])
    assert AddressSet.union(parts) == whole
    assert hash(AddressSet.union(parts)) == hash(whole)
    assert (len(whole), whole.rules) == (2, 3)
    assert AddressSet.of(["203.0.113.0/25"]) != AddressSet.of(["203.0.113.0/24"])
    assert "203.0.113.0/24" in repr(whole)


def test_addresses_have_one_form() -> None:
    assert written(*read_address("::ffff:203.0.113.7")) == "203.0.113.7"
    assert written(*read_address("2001:DB8:0::1")) == "2001:db8::1"
