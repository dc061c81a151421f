"""May a request come from this address at all?"""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from stockade.kernel.faults import FaultKind
from stockade.policy.rules import network
from tests.factories import policy

NOTHING = policy.snapshot()
RULES = tuple(ip_network(text) for text in ("203.0.113.0/24", "198.51.100.7/32", "2001:db8:1::/48", "0.0.0.0/32"))


def refusal(address: str, **changes: object) -> FaultKind | None:
    closed = policy.account(**{"admit_by_default": False, "admitted": RULES, **changes})
    denied = network.decide(NOTHING, policy.facts(account=closed, address=address))
    return denied.fault.kind if denied is not None else None


@pytest.mark.parametrize(
    "address",
    ["203.0.113.0", "203.0.113.255", "198.51.100.7", "2001:db8:1:ffff::1", "::ffff:203.0.113.5", "::ffff:cb00:7105"],
)
def test_address_within_a_rule_is_admitted(address: str) -> None:
    assert refusal(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "203.0.114.0",
        "198.51.100.8",
        "2001:db8:2::1",
        "::ffff:198.51.100.8",
        "::1",
        "127.0.0.1",
        "::203.0.113.5",
        "64:ff9b::203.0.113.5",
    ],
)
def test_address_outside_every_rule_is_refused(address: str) -> None:
    assert refusal(address) is FaultKind.NETWORK_DENIED


def test_rules_do_not_matter_while_the_default_is_to_admit() -> None:
    assert refusal("192.0.2.1", admit_by_default=True) is None


def test_no_rule_opens_an_account_closed_to_the_public() -> None:
    for admit in (True, False):
        assert refusal("203.0.113.5", public_access=False, admit_by_default=admit) is FaultKind.PUBLIC_ACCESS_DISABLED


def test_account_that_is_not_known_yet_has_no_rules() -> None:
    assert network.decide(NOTHING, policy.facts(account=None, regional=True)) is None
