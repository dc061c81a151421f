"""May a request come from here at all?"""

from __future__ import annotations

from typing import Any

import pytest

from stockade.kernel.faults import FaultKind
from stockade.kernel.principal import Credential, KeyCredential, RejectedCredential, TokenCredential
from stockade.kernel.verdict import Deny
from stockade.policy.addresses import AddressSet
from stockade.policy.rules import network
from stockade.policy.snapshot import (
    Entry,
    NetworkPolicy,
    PerimeterAssociation,
    PerimeterRule,
    PrincipalPolicy,
    PrivateEndpointPolicy,
    SubnetPolicy,
    SubnetRule,
)
from tests.factories import policy

RULES = AddressSet.of(["203.0.113.0/24", "198.51.100.7/32", "2001:db8:1::/48", "0.0.0.0/32"])
SUBNET = f"{policy.GROUP}/providers/microsoft.network/virtualnetworks/v/subnets/s"
CONNECTION = f"{policy.ACCOUNT}/privateendpointconnections/pe"
NSP = f"{policy.GROUP}/providers/microsoft.network/networksecurityperimeters/p"
PROFILE = f"{NSP}/profiles/f"
SUB = policy.GROUP.split("/")[2]
OTHER_SUB = "99999999-9999-4999-8999-999999999999"
INSIDE, OUTSIDE = "203.0.113.5", "192.0.2.1"


def denied(
    address: str, *entries: Entry, credential: Credential = policy.KEY, endpoint: str | None = None, **changes: Any
) -> Deny | None:
    rules = NetworkPolicy(**{"admit_by_default": False, "addresses": RULES, **changes})
    facts = policy.facts(
        account=policy.account(network=rules), address=address, credential=credential, private_endpoint=endpoint
    )
    return network.decide(policy.snapshot(*entries), facts)


def refusal(address: str, *entries: Entry, **changes: Any) -> FaultKind | None:
    found = denied(address, *entries, **changes)
    return found.fault.kind if found is not None else None


def admitted(
    address: str, *entries: Entry, credential: Credential = policy.KEY, endpoint: str | None = None, **changes: Any
) -> str:
    rules = NetworkPolicy(**{"admit_by_default": False, "addresses": RULES, **changes})
    return network.admitted_by(policy.snapshot(*entries), policy.account(network=rules), address, credential, endpoint)


def identity_of(resource: str | None, **changes: Any) -> tuple[Entry, TokenCredential]:
    """A managed identity, and a verified token of it."""
    who = "77777777-7777-4777-8777-777777777777"
    known = PrincipalPolicy(**{"object_id": who, "type": "ServicePrincipal", "app_id": "x", "display_name": "x", "enabled": True,
                               "resource_id": resource, **changes})  # fmt: skip
    return ("principal", who, known), TokenCredential("t", who, "x", "a", "i", 2e9)


def resource_in(provider: str, subscription: str = SUB) -> str:
    return f"/subscriptions/{subscription}/resourcegroups/g/providers/{provider}/things/r"


# Addresses


@pytest.mark.parametrize(
    "address",
    ["203.0.113.0", "203.0.113.255", "198.51.100.7", "2001:db8:1:ffff::1", "::ffff:203.0.113.5", "::ffff:cb00:7105"],
)
def test_address_within_a_rule_is_admitted(address: str) -> None:
    assert refusal(address) is None
    assert admitted(address).startswith("ipRules ")


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
        "",
        "no address",
    ],
)
def test_address_outside_every_rule_is_refused(address: str) -> None:
    assert refusal(address) is FaultKind.NETWORK_DENIED
    assert admitted(address) == ""


def test_refusal_says_what_was_compared_and_what_comes_nearest() -> None:
    found = denied("::ffff:203.0.114.9")
    assert found is not None
    assert dict(found.because) == {
        "address": "203.0.114.9",
        "mechanism": "networkAcls",
        "defaultAction": "Deny",
        "ipRules": 4,
        "virtualNetworkRules": 0,
        "nearestRule": "203.0.113.0/24",
    }
    found = denied("nothing", addresses=AddressSet.of([]))
    assert found is not None
    assert found.because["address"] == "nothing"
    assert "nearestRule" not in found.because


def test_rules_do_not_matter_while_the_default_is_to_admit() -> None:
    assert refusal(OUTSIDE, admit_by_default=True) is None
    assert admitted(INSIDE, admit_by_default=True) == ""


def test_no_rule_opens_an_account_closed_to_the_public() -> None:
    entry, token = identity_of(resource_in("microsoft.search"))
    for admit in (True, False):
        for credential in (policy.KEY, token):
            closed = {"public_access": False, "admit_by_default": admit, "trusted_services": True}
            assert refusal(INSIDE, entry, credential=credential, **closed) is FaultKind.PUBLIC_ACCESS_DISABLED


def test_account_that_is_not_known_yet_has_no_rules() -> None:
    assert network.decide(policy.snapshot(), policy.facts(account=None, regional=True)) is None


# Virtual networks


def subnet(*prefixes: str, service_endpoint: bool = True, subnet_id: str = SUBNET) -> Entry:
    return ("subnet", subnet_id, SubnetPolicy(subnet_id, AddressSet.of(prefixes, within=subnet_id), service_endpoint))


@pytest.mark.parametrize(
    ("service_endpoint", "ignored", "in_force"),
    [(True, False, True), (True, True, True), (False, True, True), (False, False, False)],
)
def test_subnet_counts_with_its_service_endpoint_or_without_where_the_rule_says_so(
    service_endpoint: bool, ignored: bool, in_force: bool
) -> None:
    entry = subnet("10.1.0.0/24", "fd00:1::/64", service_endpoint=service_endpoint)
    rules = {"subnets": (SubnetRule(SUBNET, ignored),)}
    for address in ("10.1.0.200", "::ffff:10.1.0.4", "fd00:1::9"):
        assert (refusal(address, entry, **rules) is None) is in_force
    assert refusal("10.1.1.1", entry, **rules) is FaultKind.NETWORK_DENIED
    found = denied("10.1.0.200", entry, **rules)
    if in_force:
        assert admitted("10.1.0.200", entry, **rules) == f"virtualNetworkRules 10.1.0.0/24 in {SUBNET}"
    else:
        assert found is not None
        assert found.because["subnetWithoutServiceEndpoint"] == f"10.1.0.0/24 in {SUBNET}"


def test_subnet_that_is_gone_admits_nobody() -> None:
    assert refusal("10.1.0.4", subnets=(SubnetRule(SUBNET, True),)) is FaultKind.NETWORK_DENIED


def test_refusal_names_the_subnet_that_comes_nearest() -> None:
    found = denied("10.1.1.1", subnet("10.1.0.0/24"), subnets=(SubnetRule(SUBNET, False),))
    assert found is not None
    assert (found.because["virtualNetworkRules"], found.because["nearestRule"]) == (1, f"10.1.0.0/24 in {SUBNET}")


# Bypass


@pytest.mark.parametrize(
    "provider", ["microsoft.cognitiveservices", "microsoft.machinelearningservices", "microsoft.search"]
)
def test_bypass_admits_managed_identities_of_trusted_services_and_says_so(provider: str) -> None:
    entry, token = identity_of(resource_in(provider))
    assert refusal(OUTSIDE, entry, credential=token, trusted_services=True) is None
    assert (
        admitted(OUTSIDE, entry, credential=token, trusted_services=True)
        == f"bypass AzureServices: {resource_in(provider)}"
    )
    assert refusal(OUTSIDE, entry, credential=token, trusted_services=False) is FaultKind.NETWORK_DENIED


@pytest.mark.parametrize(
    "changes",
    [
        {"resource": None},
        {"resource": resource_in("microsoft.managedidentity")},
        {"resource": resource_in("microsoft.searching")},
        {"resource": resource_in("microsoft.search") + "/providers/microsoft.other/things/x"},
        {"resource": resource_in("microsoft.search"), "enabled": False},
        {"resource": resource_in("microsoft.search"), "issuer": "https://elsewhere"},
    ],
)
def test_bypass_admits_nobody_else(changes: dict[str, Any]) -> None:
    entry, token = identity_of(changes.pop("resource"), **changes)
    assert refusal(OUTSIDE, entry, credential=token, trusted_services=True) is FaultKind.NETWORK_DENIED


def test_bypass_needs_a_verified_token() -> None:
    entry, _ = identity_of(resource_in("microsoft.search"))
    for credential in (
        policy.KEY,
        RejectedCredential("token", "expired"),
        None,
        KeyCredential(policy.ACCOUNT, "Key1", b"d" * 32, via_token=True),
    ):
        assert refusal(OUTSIDE, entry, credential=credential, trusted_services=True) is FaultKind.NETWORK_DENIED


# Perimeters


def perimeter(*, enforced: bool, resource: str = policy.ACCOUNT, nsp: str = NSP) -> Entry:
    found = PerimeterAssociation(f"{nsp}/resourceassociations/a", nsp, f"{nsp}/profiles/f", resource, enforced)
    return ("perimeter", resource, found)


def inbound(*prefixes: str, subscriptions: tuple[str, ...] = (), profile: str = PROFILE) -> Entry:
    rule = PerimeterRule(f"{profile}/accessrules/r", AddressSet.of(prefixes), frozenset(subscriptions))
    return ("perimeter-rule", profile, rule)


@pytest.mark.parametrize("open_account", [{}, {"admit_by_default": True}, {"public_access": False}])
def test_enforced_perimeter_alone_decides(open_account: dict[str, Any]) -> None:
    entries = perimeter(enforced=True), inbound("192.0.2.0/24"), inbound("2001:db8:9::/48")
    for address in (OUTSIDE, "2001:db8:9::1"):
        assert refusal(address, *entries, **open_account) is None
        assert admitted(address, *entries, **open_account).startswith(f"perimeter {NSP}: ")
    found = denied(INSIDE, *entries, **open_account)
    assert found is not None
    assert found.fault.kind is FaultKind.NETWORK_DENIED
    assert (found.because["mechanism"], found.because["accessMode"], found.because["addressRules"]) == (
        "perimeter",
        "Enforced",
        2,
    )
    assert found.because["nearestRule"] == "192.0.2.0/24"


def test_enforced_perimeter_overrules_the_bypass() -> None:
    entry, token = identity_of(resource_in("microsoft.search"))
    entries = perimeter(enforced=True), entry
    assert refusal(OUTSIDE, *entries, credential=token, trusted_services=True) is FaultKind.NETWORK_DENIED


def test_learning_perimeter_adds_to_the_account_s_own_rules() -> None:
    entries = perimeter(enforced=False), inbound("192.0.2.0/24")
    assert refusal(OUTSIDE, *entries) is None
    assert admitted(INSIDE, *entries) == "ipRules 203.0.113.0/24"
    assert refusal("198.18.0.1", *entries) is FaultKind.NETWORK_DENIED
    assert refusal("198.18.0.1", *entries, admit_by_default=True) is None
    assert refusal(OUTSIDE, *entries, public_access=False) is None
    assert refusal(INSIDE, *entries, public_access=False) is FaultKind.PUBLIC_ACCESS_DISABLED


def test_perimeter_admits_managed_identities_of_its_subscriptions() -> None:
    entries = perimeter(enforced=True), inbound(subscriptions=(SUB,))
    entry, token = identity_of(resource_in("microsoft.compute"))
    assert refusal(OUTSIDE, *entries, entry, credential=token) is None
    other, token = identity_of(resource_in("microsoft.compute", OTHER_SUB))
    assert refusal(OUTSIDE, *entries, other, credential=token) is FaultKind.NETWORK_DENIED
    assert refusal(OUTSIDE, *entries, credential=policy.TOKEN) is FaultKind.NETWORK_DENIED
    assert refusal(OUTSIDE, *entries) is FaultKind.NETWORK_DENIED


def test_resources_of_one_perimeter_reach_one_another() -> None:
    resource = resource_in("microsoft.search", OTHER_SUB)
    entry, token = identity_of(resource)
    same = perimeter(enforced=True, resource=resource)
    assert refusal(OUTSIDE, perimeter(enforced=True), same, entry, credential=token) is None
    other = perimeter(enforced=True, resource=resource, nsp=NSP + "2")
    assert refusal(OUTSIDE, perimeter(enforced=True), other, entry, credential=token) is FaultKind.NETWORK_DENIED


def test_rules_of_another_profile_count_for_nothing() -> None:
    entries = perimeter(enforced=True), inbound("0.0.0.0/0", profile=PROFILE + "2")
    assert refusal(OUTSIDE, *entries) is FaultKind.NETWORK_DENIED


# Private endpoints


def connection(status: Any = "Approved", account: str = policy.ACCOUNT) -> Entry:
    return (
        "private-endpoint-connection",
        CONNECTION,
        PrivateEndpointPolicy(CONNECTION, account, status, "10.0.0.5", None),
    )


@pytest.mark.parametrize("closed", [{}, {"public_access": False}, {"admit_by_default": True}])
def test_approved_private_endpoint_admits_from_anywhere(closed: dict[str, Any]) -> None:
    entries = connection(), perimeter(enforced=True)
    assert refusal(OUTSIDE, *entries, endpoint=CONNECTION, **closed) is None
    assert admitted(OUTSIDE, *entries, endpoint=CONNECTION, **closed) == f"privateEndpoint {CONNECTION}"


def test_private_endpoint_counts_for_its_own_account_while_approved() -> None:
    for entry in (
        connection("Pending"),
        connection("Rejected"),
        connection("Disconnected"),
        connection(account=policy.ACCOUNT + "2"),
    ):
        assert refusal(INSIDE, entry, endpoint=CONNECTION, admit_by_default=True) is FaultKind.NETWORK_DENIED
    found = denied(INSIDE, endpoint=CONNECTION)
    assert found is not None
    assert (found.because["mechanism"], found.because["status"]) == ("privateEndpoint", "unknown")
