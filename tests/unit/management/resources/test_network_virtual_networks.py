"""Virtual networks: address spaces, subnets inside the body, and what may not be taken away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories.arm import ACCOUNTS, GROUP, Arm

NET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/Net1"


def network(*subnets: Any, prefixes: Any = ("10.0.0.0/16", "fd00:1::/48"), **more: Any) -> Any:
    properties = {
        "addressSpace": {"addressPrefixes": list(prefixes)},
        **({"subnets": list(subnets)} if subnets else {}),
    }
    return {"location": "local", "properties": {**properties, **more}}


def subnet(name: str, prefix: str, **more: Any) -> Any:
    return {"name": name, "properties": {"addressPrefix": prefix, **more}}


def names(arm: Arm) -> list[str]:
    return [one["name"] for one in arm.ok("GET", NET)["properties"]["subnets"]]


def test_subnets_in_the_body_are_resources_of_their_own(arm: Arm) -> None:
    body = arm.ok("PUT", NET, network(subnet("First", "10.0.0.0/24"), subnet("Second", "10.0.1.0/24")))
    first = arm.ok("GET", f"{NET}/subnets/first")
    assert first == body["properties"]["subnets"][0]
    assert (first["id"], first["type"]) == (f"{NET}/subnets/First", "Microsoft.Network/virtualNetworks/subnets")
    assert [one["name"] for one in arm.ok("GET", f"{NET}/subnets")["value"]] == ["First", "Second"]
    assert body["properties"]["provisioningState"] == first["properties"]["provisioningState"] == "Succeeded"


def test_a_list_replaces_the_subnets_and_silence_keeps_them(arm: Arm) -> None:
    arm.ok("PUT", NET, network(subnet("First", "10.0.0.0/24"), subnet("Second", "10.0.1.0/24")))
    arm.ok("PUT", NET, network())
    assert names(arm) == ["First", "Second"]
    arm.ok("PATCH", NET, {"tags": {"a": "b"}})
    assert names(arm) == ["First", "Second"]
    arm.ok("PUT", NET, network(subnet("second", "10.0.1.0/25"), subnet("Third", "10.0.2.0/24")))
    assert names(arm) == ["Second", "Third"]
    assert arm.send("GET", f"{NET}/subnets/First").status == 404
    assert arm.ok("GET", f"{NET}/subnets/Second")["properties"]["addressPrefix"] == "10.0.1.0/25"
    arm.ok("PUT", NET, {**network(), "properties": {**network()["properties"], "subnets": []}})
    assert names(arm) == []
    assert arm.snapshot().only("subnet", f"{NET}/subnets/Second".lower()) is None


def test_guid_and_writes_of_subnets_alone_show(arm: Arm) -> None:
    guid = arm.ok("PUT", NET, network())["properties"]["resourceGuid"]
    arm.ok("PUT", f"{NET}/subnets/One", {"properties": {"addressPrefix": "10.0.0.0/24"}})
    assert names(arm) == ["One"]
    assert arm.ok("PUT", NET, network())["properties"]["resourceGuid"] == guid
    assert arm.send("DELETE", f"{NET}/subnets/One").status == 200
    assert names(arm) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (network(prefixes=()), "VnetAddressSpaceRequired"),
        ({"location": "local"}, "VnetAddressSpaceRequired"),
        (network(prefixes=("10.0.0.1/16",)), "InvalidCIDRNotation"),
        (network(prefixes=("10.0.0.0/33",)), "InvalidCIDRNotation"),
        (network(prefixes=("fe80::%1/64",)), "InvalidCIDRNotation"),
        (network(prefixes=("10.0.0.0/16", "10.0.1.0/24")), "NetcfgPrefixesOverlap"),
        (network(subnet("a", "10.1.0.0/24")), "NetcfgInvalidSubnet"),
        (network(subnet("a", "fd00:2::/64")), "NetcfgInvalidSubnet"),
        (network(subnet("a", "10.0.0.0/24"), subnet("b", "10.0.0.128/25")), "NetcfgSubnetRangesOverlap"),
        (network(subnet("a", "10.0.0.0/24"), subnet("A", "10.0.1.0/24")), "DuplicateResourceName"),
        (network(subnet("a", "10.0.0.0/30")), "InvalidSubnetPrefixLength"),
        (network(subnet("a", "fd00:1::/63")), "InvalidSubnetPrefixLength"),
        (network(subnet("a/b", "10.0.0.0/24")), "InvalidResourceName"),
        (network({"name": "a"}), "SubnetPrefixRequired"),
        (network(subnet("a", "10.0.0.0/24", addressPrefixes=["10.0.1.0/24"])), "InvalidRequestContent"),
        (network(subnet("a", "10.0.0.0/24", networkSecurityGroup={"id": "x"})), "NetworkSecurityGroupNotAvailable"),
        (network(subnet("a", "10.0.0.0/24", privateEndpointNetworkPolicies="Maybe")), "InvalidRequestContent"),
        (network(subnet("a", "10.0.0.0/24", serviceEndpoints=[{"locations": ["*"]}])), "InvalidRequestContent"),
        ({"properties": network()["properties"]}, "LocationRequired"),
        ({**network(), "location": "moon"}, "LocationNotAvailableForResourceType"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(arm: Arm, body: Any, code: str) -> None:
    arm.fails(400, code, "PUT", NET, body)
    assert arm.send("GET", NET).status == 404


def test_prefixes_of_both_families_and_service_endpoints_compile(arm: Arm) -> None:
    both = {
        "addressPrefixes": ["10.0.0.0/24", "fd00:1::/64"],
        "serviceEndpoints": [{"service": "MICROSOFT.cognitiveservices"}],
    }
    shown = arm.ok("PUT", NET, network({"name": "Both", "properties": both}))["properties"]["subnets"][0]["properties"]
    assert shown["serviceEndpoints"] == [
        {"service": "Microsoft.CognitiveServices", "locations": ["*"], "provisioningState": "Succeeded"}
    ]
    found = arm.snapshot().only("subnet", f"{NET}/subnets/both".lower())
    assert found.service_endpoint
    assert found.addresses.rule_for("10.0.0.9") == "10.0.0.0/24 in Net1/Both"
    assert found.addresses.contains("fd00:1::77")
    arm.ok("PUT", f"{NET}/subnets/Both", {"properties": {"addressPrefix": "10.0.0.0/24"}})
    assert not arm.snapshot().only("subnet", f"{NET}/subnets/both".lower()).service_endpoint


def test_the_address_space_cannot_leave_its_subnets_behind(arm: Arm) -> None:
    arm.ok("PUT", NET, network(subnet("a", "10.0.0.0/24")))
    arm.fails(400, "NetcfgInvalidSubnet", "PUT", NET, network(prefixes=("10.1.0.0/16",)))


def endpoint(arm: Arm, where: str = "a") -> str:
    arm.account(properties={"customSubDomainName": "a1x"})
    path = f"{GROUP}/providers/Microsoft.Network/privateEndpoints/Pe1"
    target = {"privateLinkServiceId": f"{ACCOUNTS}/a1", "groupIds": ["account"]}
    properties = {
        "subnet": {"id": f"{NET}/subnets/{where}"},
        "privateLinkServiceConnections": [{"name": "c", "properties": target}],
    }
    arm.ok("PUT", path, {"location": "local", "properties": properties})
    return path


def test_subnets_with_private_endpoints_stay(arm: Arm) -> None:
    arm.ok("PUT", NET, network(subnet("a", "10.0.0.0/24"), subnet("b", "10.0.1.0/24")))
    path = endpoint(arm)
    arm.fails(400, "InUseSubnetCannotBeDeleted", "DELETE", f"{NET}/subnets/a")
    arm.fails(400, "InUseSubnetCannotBeDeleted", "DELETE", NET)
    arm.fails(400, "InUseSubnetCannotBeDeleted", "PUT", NET, network(subnet("b", "10.0.1.0/24")))
    arm.fails(400, "InUsePrefixCannotBeDeleted", "PUT", NET, network(subnet("a", "10.0.2.0/24")))
    assert names(arm) == ["a", "b"]
    shown = arm.ok("GET", f"{NET}/subnets/a")["properties"]["privateEndpoints"]
    assert shown == [{"id": path}]
    assert arm.ok("PUT", NET, arm.ok("GET", NET))["properties"]["subnets"][0]["properties"]["privateEndpoints"] == shown
    assert arm.send("DELETE", path).status == 200
    assert "privateEndpoints" not in arm.ok("GET", f"{NET}/subnets/a")["properties"]
    assert arm.send("DELETE", NET).status == 200
    assert arm.send("GET", f"{NET}/subnets/b").status == 404


def test_which_addresses_are_free(arm: Arm) -> None:
    arm.ok("PUT", NET, network(subnet("a", "10.0.0.0/29"), subnet("b", "10.0.1.0/24")))
    endpoint(arm)

    def check(address: str) -> Any:
        reply = arm.send("GET", f"{NET}/CheckIPAddressAvailability?ipAddress={address}")
        return reply.body if reply.status == 200 else (reply.status, reply.body["error"]["code"])

    assert check("10.0.0.5") == {"available": True, "availableIPAddresses": [], "isPlatformReserved": False}
    assert check("10.0.0.4") == {
        "available": False,
        "availableIPAddresses": ["10.0.0.5", "10.0.0.6"],
        "isPlatformReserved": False,
    }
    assert check("10.0.1.3")["isPlatformReserved"] is True
    assert len(check("10.0.1.255")["availableIPAddresses"]) == 5
    assert check("10.0.2.1") == (400, "PrivateIPAddressNotInAnySubnet")
    assert check("x") == (400, "InvalidIPAddressFormat")
    usages = arm.ok("GET", f"{NET}/usages")["value"]
    assert [(one["currentValue"], one["limit"]) for one in usages] == [(1, 3), (0, 251)]
