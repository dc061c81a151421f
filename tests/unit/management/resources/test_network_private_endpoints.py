"""Private endpoints: addresses, the connection each makes, and who may make one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories.arm import account_body
from tests.factories.control_plane import CONTRIBUTOR, RG, ControlPlane, S

NETWORK = f"{RG}/providers/Microsoft.Network"
VNET = f"{NETWORK}/virtualNetworks/Net1"
SUBNET = f"{VNET}/subnets/First"
ACCOUNT = f"{RG}/providers/Microsoft.CognitiveServices/accounts/a1"
PE = f"{NETWORK}/privateEndpoints/Pe1"
NETWORK_CONTRIBUTOR = "4d97b98b-1d4f-4787-a291-c67834d212e7"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """An account and a virtual network with a small subnet."""
    made = ControlPlane(tmp_path)
    made.ok("PUT", ACCOUNT, account_body({"customSubDomainName": "a1x"}))
    subnets = [{"name": "First", "properties": {"addressPrefixes": ["fd00::/64", "10.0.0.0/29"]}}]
    space = {"addressSpace": {"addressPrefixes": ["10.0.0.0/16", "fd00::/48"]}, "subnets": subnets}
    made.ok("PUT", VNET, {"location": "local", "properties": space})
    yield made
    made.close()


def body(
    *, manual: bool = False, address: str | None = None, account: str = ACCOUNT, subnet: str = SUBNET, **asked: Any
) -> Any:
    connection = {"name": "link", "properties": {"privateLinkServiceId": account, "groupIds": ["account"], **asked}}
    name = "manualPrivateLinkServiceConnections" if manual else "privateLinkServiceConnections"
    static = {"groupId": "account", "memberName": "default", "privateIPAddress": address}
    configurations = {"ipConfigurations": [{"name": "ip", "properties": static}]} if address is not None else {}
    return {"location": "local", "properties": {"subnet": {"id": subnet}, name: [connection], **configurations}}


def status(endpoint: Any) -> str:
    properties = endpoint["properties"]
    [one] = [*properties["privateLinkServiceConnections"], *properties["manualPrivateLinkServiceConnections"]]
    return str(one["properties"]["privateLinkServiceConnectionState"]["status"])


def connection(plane: ControlPlane) -> Any:
    [found] = plane.ok("GET", f"{ACCOUNT}/privateEndpointConnections")["value"]
    [shown] = plane.ok("GET", ACCOUNT)["properties"]["privateEndpointConnections"]
    assert {name: shown[name] for name in ("id", "properties")} == {name: found[name] for name in ("id", "properties")}
    return found


def approved(plane: ControlPlane) -> list[Any]:
    return list(plane.source.current().all("private-endpoints", ""))


def decide(plane: ControlPlane, wanted: str, **options: Any) -> Any:
    return plane.send(
        "PUT",
        connection(plane)["id"],
        {"properties": {"privateLinkServiceConnectionState": {"status": wanted}}},
        **options,
    )


def test_owner_s_endpoint_is_approved_and_in_force_at_once(plane: ControlPlane) -> None:
    made = plane.ok("PUT", PE, body())
    assert status(made) == "Approved"
    assert made["properties"]["customDnsConfigs"] == [
        {"fqdn": "a1x.ai.stockade.localhost", "ipAddresses": ["10.0.0.4"]}
    ]
    found = connection(plane)
    assert found["name"].startswith("Pe1.")
    assert found["properties"]["privateEndpoint"] == {"id": PE}
    [policy] = approved(plane)
    assert (policy.account_id, policy.address, policy.endpoint_id) == (ACCOUNT.lower(), "10.0.0.4", PE.lower())
    assert plane.source.current().only("private-endpoint-connection", found["id"].lower()) == policy


def test_endpoint_of_somebody_else_or_by_hand_waits(plane: ControlPlane) -> None:
    network_person = plane.principal("network", (NETWORK_CONTRIBUTOR, RG))
    made = plane.ok("PUT", PE, body(requestMessage="please"), by=network_person)
    assert status(made) == "Pending"
    assert connection(plane)["properties"]["privateLinkServiceConnectionState"]["description"] == "please"
    assert approved(plane) == []
    assert plane.send("DELETE", PE).status_code == 200
    assert plane.send("DELETE", connection(plane)["id"]).status_code == 200
    assert status(plane.ok("PUT", PE, body(manual=True))) == "Pending"
    assert approved(plane) == []


def test_who_may_approve(plane: ControlPlane) -> None:
    network_person = plane.principal("network", (NETWORK_CONTRIBUTOR, RG))
    plane.ok("PUT", PE, body(), by=network_person)
    assert decide(plane, "Approved", by=network_person).status_code == 403
    assert decide(plane, "Approved", by=plane.principal("other", (CONTRIBUTOR, RG))).status_code == 200
    assert status(plane.ok("GET", PE)) == "Approved"
    assert len(approved(plane)) == 1


def test_life_of_a_connection(plane: ControlPlane) -> None:
    plane.ok("PUT", PE, body(manual=True))
    for wanted, answer in (
        ("Rejected", 200),
        ("Pending", 409),
        ("Approved", 200),
        ("Pending", 409),
        ("approved", 200),
        ("Rejected", 200),
    ):
        assert decide(plane, wanted).status_code == answer
    assert (status(plane.ok("GET", PE)), approved(plane)) == ("Rejected", [])
    assert decide(plane, "Disconnected").status_code == 400
    assert connection(plane)["properties"]["privateEndpoint"] == {"id": PE}


def test_deleting_the_endpoint_disconnects_for_good(plane: ControlPlane) -> None:
    plane.ok("PUT", PE, body())
    assert plane.send("DELETE", PE).status_code == 200
    assert connection(plane)["properties"]["privateLinkServiceConnectionState"]["status"] == "Disconnected"
    assert approved(plane) == []
    assert decide(plane, "Approved").status_code == 409
    assert plane.send("DELETE", connection(plane)["id"]).status_code == 200
    assert plane.ok("PUT", PE, body())["properties"]["customDnsConfigs"][0]["ipAddresses"] == ["10.0.0.4"]


def test_deleting_the_connection_disconnects_the_endpoint(plane: ControlPlane) -> None:
    plane.ok("PUT", PE, body())
    assert plane.send("DELETE", connection(plane)["id"]).status_code == 200
    assert status(plane.ok("GET", PE)) == "Disconnected"
    assert status(plane.ok("PUT", PE, body())) == "Disconnected"
    assert plane.ok("GET", f"{ACCOUNT}/privateEndpointConnections")["value"] == []
    assert approved(plane) == []


def test_whose_connection_it_is_cannot_be_claimed(plane: ControlPlane) -> None:
    plane.ok("PUT", PE, body())
    forged = {
        "properties": {"privateEndpoint": {"id": PE}, "privateLinkServiceConnectionState": {"status": "Rejected"}}
    }
    other = f"{ACCOUNT}/privateEndpointConnections/other"
    assert "privateEndpoint" not in plane.ok("PUT", other, forged)["properties"]
    assert status(plane.ok("GET", PE)) == "Approved"
    [policy] = approved(plane)
    assert policy.endpoint_id == PE.lower()


def test_addresses_are_given_in_order_and_taken_back(plane: ControlPlane) -> None:
    assert plane.ok("PUT", PE, body(address="10.0.0.5"))["properties"]["customDnsConfigs"][0]["ipAddresses"] == [
        "10.0.0.5"
    ]
    for name, address in (("Pe2", "10.0.0.4"), ("Pe3", "10.0.0.6")):
        made = plane.ok("PUT", f"{NETWORK}/privateEndpoints/{name}", body())
        assert made["properties"]["customDnsConfigs"][0]["ipAddresses"] == [address]
    plane.fails(400, "SubnetIsFull", "PUT", f"{NETWORK}/privateEndpoints/Pe4", body())
    assert plane.send("DELETE", f"{NETWORK}/privateEndpoints/Pe2").status_code == 200
    assert plane.send("PUT", f"{NETWORK}/privateEndpoints/Pe4", body(address="10.0.0.4")).status_code == 201


@pytest.mark.parametrize(
    ("address", "status_code", "code"),
    [
        ("10.0.0.0", 400, "PrivateIPAddressInReservedRange"),
        ("10.0.0.3", 400, "PrivateIPAddressInReservedRange"),
        ("10.0.0.7", 400, "PrivateIPAddressInReservedRange"),
        ("10.0.0.8", 400, "PrivateIPAddressNotInSubnet"),
        ("fd00::9", 400, "InvalidIPAddressFormat"),
        ("x", 400, "InvalidIPAddressFormat"),
        ("", 400, "InvalidIpConfiguration"),
        ("10.0.0.4", 409, "PrivateIPAddressIsAllocated"),
    ],
)
def test_static_address_that_cannot_be_had(plane: ControlPlane, address: str, status_code: int, code: str) -> None:
    plane.ok("PUT", f"{NETWORK}/privateEndpoints/Other", body())
    plane.fails(status_code, code, "PUT", PE, body(address=address))


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"account": f"{ACCOUNT}x"}, "PrivateLinkServiceNotFound"),
        ({"account": VNET}, "InvalidResourceReference"),
        ({"subnet": VNET}, "InvalidResourceReference"),
        ({"subnet": f"{VNET}/subnets/none"}, "SubnetNotFound"),
        ({"groupIds": ["blob"]}, "InvalidGroupId"),
        ({"groupIds": None}, "InvalidGroupId"),
        ({"requestMessage": "x" * 141}, "InvalidRequestContent"),
    ],
)
def test_endpoint_to_what_cannot_be_is_refused(plane: ControlPlane, changed: Any, code: str) -> None:
    plane.fails(400, code, "PUT", PE, body(**changed))
    assert plane.send("GET", PE).status_code == 404
    assert plane.ok("GET", f"{ACCOUNT}/privateEndpointConnections")["value"] == []


def test_exactly_one_connection(plane: ControlPlane) -> None:
    none, two = body(), body()
    none["properties"].pop("privateLinkServiceConnections")
    two["properties"]["manualPrivateLinkServiceConnections"] = two["properties"]["privateLinkServiceConnections"]
    for wrong in (none, two):
        plane.fails(400, "InvalidPrivateLinkServiceConnections", "PUT", PE, wrong)


def test_account_without_a_subdomain_has_no_private_endpoints(plane: ControlPlane) -> None:
    plane.ok("PUT", ACCOUNT + "b", account_body())
    plane.fails(400, "CustomSubDomainNameRequired", "PUT", PE, body(account=ACCOUNT + "b"))


def test_an_endpoint_stays_what_it_is(plane: ControlPlane) -> None:
    made = plane.ok("PUT", PE, body())
    plane.ok("PUT", f"{VNET}/subnets/Second", {"properties": {"addressPrefix": "10.0.1.0/24"}})
    plane.ok("PUT", ACCOUNT + "b", account_body({"customSubDomainName": "b1x"}))
    for changed in (
        {"subnet": f"{VNET}/subnets/Second"},
        {"account": ACCOUNT + "b"},
        {"manual": True},
        {"address": "10.0.0.5"},
    ):
        plane.fails(400, "PropertyChangeNotAllowed", "PUT", PE, body(**changed))
    assert plane.ok("PUT", PE, {**body(), "tags": {"a": "b"}})["properties"] == made["properties"]


def test_the_subnet_has_to_be_joined(plane: ControlPlane) -> None:
    elsewhere = f"{S}/resourceGroups/Other"
    plane.ok("PUT", elsewhere, {"location": "local"})
    someone = plane.principal("someone", (NETWORK_CONTRIBUTOR, elsewhere))
    path = f"{elsewhere}/providers/Microsoft.Network/privateEndpoints/Pe1"
    for subnet in (SUBNET, f"{VNET}/subnets/unheard-of"):
        message = plane.fails(403, "AuthorizationFailed", "PUT", path, body(subnet=subnet), by=someone)
        assert "Microsoft.Network/virtualNetworks/subnets/join/action" in message


def test_connection_of_a_deleted_account_comes_back_only_with_its_endpoint(plane: ControlPlane) -> None:
    plane.ok("PUT", PE, body())
    plane.ok("PUT", f"{NETWORK}/privateEndpoints/Pe2", body())
    assert plane.send("DELETE", ACCOUNT).status_code == 200
    assert approved(plane) == []
    assert plane.send("DELETE", PE).status_code == 200
    plane.ok("PUT", ACCOUNT, {"location": "local", "properties": {"restore": True}})
    assert [policy.endpoint_id for policy in approved(plane)] == [f"{NETWORK}/privateEndpoints/Pe2".lower()]
    shown = plane.ok("GET", ACCOUNT)["properties"]["privateEndpointConnections"]
    assert sorted(one["properties"]["privateLinkServiceConnectionState"]["status"] for one in shown) == [
        "Approved",
        "Disconnected",
    ]


def test_purged_account_leaves_a_disconnected_endpoint(plane: ControlPlane) -> None:
    plane.ok("PUT", PE, body())
    assert plane.send("DELETE", ACCOUNT).status_code == 200
    place = f"{S}/providers/Microsoft.CognitiveServices/locations/local/resourceGroups/Group1/deletedAccounts/a1"
    assert plane.send("DELETE", place).status_code in (200, 202, 204)
    assert status(plane.ok("GET", PE)) == "Disconnected"


def test_group_with_everything_in_it_can_be_deleted(plane: ControlPlane) -> None:
    plane.ok("PUT", PE, body())
    assert plane.send("DELETE", RG).status_code in (200, 202)
    assert plane.send("GET", VNET).status_code == 404
