from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockade.kernel.resource_id import ResourceId
from stockade.management.cognitive_services.kinds import KINDS
from stockade.management.resources.cognitive_services_accounts.subdomains import RESERVED
from stockade.policy.addresses import NOWHERE, AddressSet
from stockade.policy.snapshot import SubnetRule
from stockade.settings import Names, Settings
from tests.factories.arm import ACCOUNTS, BY_SUBSCRIPTION, GROUP, Arm, account_body
from tests.factories.control_plane import RG, ControlPlane

A1 = f"{ACCOUNTS}/a1"


def volatile(body: Any) -> Any:
    """Return a body without what changes with every write."""
    system = {name: value for name, value in body["systemData"].items() if not name.startswith("lastModified")}
    return {**{name: value for name, value in body.items() if name != "etag"}, "systemData": system}


def policy(arm: Arm, name: str = "a1") -> Any:
    return arm.snapshot().only("account", f"{ACCOUNTS}/{name}".lower())


# Creation and shape


def test_created_account_is_complete_and_201_only_the_first_time(arm: Arm) -> None:
    reply = arm.send("PUT", A1, account_body({"customSubDomainName": "demo-1"}))
    assert reply.status == 201
    properties = reply.body["properties"]
    assert properties["provisioningState"] == "Succeeded"
    assert properties["endpoint"] == "https://localhost:8443/demo-1/"
    assert properties["endpoints"]["OpenAI Language Model Instance API"] == properties["endpoint"]
    assert properties["networkAcls"] == {"defaultAction": "Allow", "virtualNetworkRules": [], "ipRules": []}
    assert properties["publicNetworkAccess"] == "Enabled"
    assert reply.body["sku"] == {"name": "S0", "tier": "Standard"}
    assert arm.send("PUT", A1, account_body({"customSubDomainName": "demo-1"})).status == 200
    assert arm.send("PATCH", A1, {"sku": {"name": "S0"}}).status == 200


def test_endpoint_follows_the_configured_domain(tmp_path: Path) -> None:
    arm = Arm(tmp_path, Settings(data_dir=tmp_path, names=Names(domain="ai.example", location="east")))
    body = arm.account(location="east", properties={"customSubDomainName": "demo"})
    assert body["properties"]["endpoint"] == "https://demo.ai.ai.example:8443/"
    assert arm.account("b1", location="east")["properties"]["endpoint"] == "https://east.api.ai.example:8443/"


def test_without_a_subdomain_there_are_no_rules_and_the_regional_endpoint(arm: Arm) -> None:
    properties = arm.account()["properties"]
    assert "networkAcls" not in properties
    assert properties["endpoint"] == "https://localhost:8443/"


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {
            "customSubDomainName": "stable",
            "networkAcls": {"defaultAction": "deny", "ipRules": [{"value": "10.1.2.3/32"}]},
        },
        {"apiProperties": {"eventHubConnectionString": "Endpoint=sb://x;SharedAccessKey=y", "statisticsEnabled": True}},
        {"restrictOutboundNetworkAccess": True, "allowedFqdnList": ["*.example.com", "203.0.113.9"]},
        {"somethingNew": {"nested": [1, 2]}},
    ],
)
def test_the_same_put_twice_changes_nothing(arm: Arm, properties: Any) -> None:
    first = arm.account(properties=properties, tags={"a": "b"}, identity={"type": "SystemAssigned"})
    arm.clock.advance(100)
    assert volatile(
        arm.account(properties=properties, tags={"a": "b"}, identity={"type": "SystemAssigned"})
    ) == volatile(first)
    assert volatile(arm.ok("PUT", A1, first)) == volatile(first)  # what was read can be sent back
    assert volatile(arm.ok("GET", A1)) == volatile(first)


def test_members_are_read_in_any_case_so_that_no_control_is_kept_but_not_in_force(arm: Arm) -> None:
    arm.account(
        Properties={
            "CUSTOMSUBDOMAINNAME": "any-case",
            "DisableLocalAuth": True,
            "networkacls": {"DefaultAction": "Deny"},
        }
    )
    assert policy(arm).local_auth is False
    assert policy(arm).network.admit_by_default is False
    assert policy(arm).subdomain == "any-case"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"kind": "Nothing"}, "InvalidApiSetId"),
        ({"kind": None}, "InvalidApiSetId"),
        ({"location": None}, "LocationRequired"),
        ({"location": "atlantis"}, "LocationNotAvailableForResourceType"),
        ({"location": "global"}, "LocationNotAvailableForResourceType"),
        ({"sku": None}, "InvalidSku"),
        ({"sku": {"name": "F0"}}, "SkuNotAvailable"),
        ({"sku": {"name": "S0", "capacity": "many"}}, "InvalidCapacity"),
        ({"properties": {"disableLocalAuth": "false"}}, "InvalidRequestContent"),
        ({"properties": {"publicNetworkAccess": "Maybe"}}, "InvalidRequestContent"),
        ({"properties": {"networkAcls": {"defaultAction": "Deny"}}}, "CustomSubDomainNameRequired"),
        ({"properties": {"customSubDomainName": "a"}}, "InvalidCustomSubDomainName"),
        ({"properties": {"customSubDomainName": "ends-"}}, "InvalidCustomSubDomainName"),
        ({"properties": {"customSubDomainName": "under_score"}}, "InvalidCustomSubDomainName"),
        ({"properties": {"customSubDomainName": "x" * 65}}, "InvalidCustomSubDomainName"),
        ({"properties": {"customSubDomainName": "OpenAI"}}, "InvalidCustomSubDomainName"),
        ({"properties": {"encryption": {"keySource": "Microsoft.KeyVault"}}}, "InvalidRequestContent"),
        ({"properties": {"allowedFqdnList": ["https://x/y"]}}, "InvalidAllowedFqdn"),
        ({"properties": {"allowedFqdnList": ["a.example"] * 10_001}}, "InvalidAllowedFqdn"),
        ({"properties": {"userOwnedStorage": [{"resourceId": "/nonsense"}]}}, "InvalidResourceId"),
        ({"properties": {"restore": True}}, "CanNotRestoreANonExistingResource"),
        ({"properties": {"apiProperties": {"eventHubConnectionString": "secret"}}}, "InvalidRequestContent"),
        ({"identity": {"type": "Robot"}}, "InvalidIdentity"),
        ({"identity": {"type": "None, SystemAssigned"}}, "InvalidIdentity"),
        ({"identity": {"type": "UserAssigned"}}, "InvalidIdentity"),
        ({"identity": {"type": "UserAssigned", "userAssignedIdentities": {f"{GROUP}/x": {}}}}, "InvalidResourceId"),
        ({"tags": {"n": 1}}, "InvalidTags"),
    ],
)
def test_refused_bodies_leave_nothing_behind(arm: Arm, body: Any, code: str) -> None:
    message = arm.fails(400, code, "PUT", A1, {**account_body(), **body})
    assert message.endswith(".")
    assert arm.send("GET", A1).status == 404
    assert policy(arm) is None


@pytest.mark.parametrize("name", ["a", "-a1", "x" * 65, "a b"])
def test_refused_names(arm: Arm, name: str) -> None:
    assert arm.send("PUT", f"{ACCOUNTS}/{name.replace(' ', '%20')}", account_body()).status == 400


def test_azure_regions_are_accepted_in_either_spelling(arm: Arm) -> None:
    assert arm.account(location="East US")["location"] == "eastus"
    arm.fails(409, "InvalidResourceLocation", "PUT", A1, account_body(location="westus"))
    assert arm.account("t1", kind="TextTranslation", location="global", sku={"name": "S1"})["location"] == "global"


# SKUs and kinds


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.sku("E0")], ids=lambda kind: kind.name)
def test_e0_needs_an_approved_request(arm: Arm, kind: Any) -> None:
    body = account_body(kind=kind.name, sku={"name": "E0"})
    assert "needs an approved request" in arm.fails(403, "SkuNotApproved", "PUT", A1, body)


def test_sku_changes(arm: Arm) -> None:
    arm.account(kind="Face", sku={"name": "F0"})
    assert policy(arm).calls_per_minute == 20
    arm.fails(400, "InvalidSkuUpdate", "PATCH", A1, {"sku": {"name": "E0"}})
    changed = arm.ok("PATCH", A1, {"sku": {"name": "s0", "capacity": "1"}})
    assert changed["sku"] == {"name": "S0", "tier": "Standard", "capacity": 1}
    assert changed["properties"]["skuChangeInfo"]["countOfDowngrades"] == 0
    assert changed["properties"]["callRateLimit"]["count"] == policy(arm).calls_per_minute == 600
    back = arm.ok("PATCH", A1, {"sku": {"name": "F0"}})["properties"]["skuChangeInfo"]
    again = arm.ok("PATCH", A1, {"sku": {"name": "S0"}})["properties"]["skuChangeInfo"]
    assert (back["countOfDowngrades"], again["countOfUpgradesAfterDowngrades"]) == (1, 1)


def test_only_two_kinds_change_into_each_other(arm: Arm) -> None:
    arm.account()
    assert arm.ok("PATCH", A1, {"kind": "AIServices", "sku": {"name": "S0"}})["kind"] == "AIServices"
    assert arm.ok("PATCH", A1, {"kind": "openai", "sku": {"name": "S0"}})["kind"] == "OpenAI"
    arm.fails(400, "PropertyChangeNotAllowed", "PATCH", A1, {"kind": "Face"})


# PATCH and PUT


def test_patch_keeps_what_it_does_not_name(arm: Arm) -> None:
    rules = {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.0/24"}]}
    arm.account(
        properties={"customSubDomainName": "keeps", "networkAcls": rules, "disableLocalAuth": True, "later": 1},
        tags={"a": "1", "b": "2"},
    )
    body = arm.ok("PATCH", A1, {"tags": {"b": None, "c": "3"}, "properties": {"publicNetworkAccess": "disabled"}})
    assert body["tags"] == {"a": "1", "c": "3"}
    properties = body["properties"]
    assert (properties["publicNetworkAccess"], properties["disableLocalAuth"], properties["later"]) == (
        "Disabled",
        True,
        1,
    )
    assert properties["networkAcls"]["ipRules"] == [{"value": "203.0.113.0/24"}]
    assert policy(arm).network.public_access is False


def test_network_rules_are_replaced_as_a_whole(arm: Arm) -> None:
    arm.account(
        properties={
            "customSubDomainName": "whole",
            "networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.1"}]},
        }
    )
    body = arm.ok("PATCH", A1, {"properties": {"networkAcls": {"defaultAction": "Deny", "bypass": "azureservices"}}})
    expected = {"defaultAction": "Deny", "bypass": "AzureServices", "ipRules": [], "virtualNetworkRules": []}
    assert body["properties"]["networkAcls"] == expected
    assert policy(arm).network.addresses == NOWHERE
    assert policy(arm).network.trusted_services


def test_put_that_says_nothing_of_a_control_does_not_open_it(arm: Arm) -> None:
    closed = {
        "customSubDomainName": "closed",
        "networkAcls": {"defaultAction": "Deny"},
        "disableLocalAuth": True,
        "publicNetworkAccess": "Disabled",
    }
    arm.account(properties=closed, tags={"a": "b"}, identity={"type": "SystemAssigned"})
    body = arm.account(properties={})
    assert body["tags"] == {}
    assert body["identity"]["type"] == "SystemAssigned"
    found = policy(arm)
    assert (found.local_auth, found.network.public_access, found.network.admit_by_default, found.subdomain) == (
        False,
        False,
        False,
        "closed",
    )
    arm.account(
        properties={
            "disableLocalAuth": None,
            "publicNetworkAccess": "Enabled",
            "networkAcls": {"defaultAction": "Allow"},
        }
    )
    found = policy(arm)
    assert (found.local_auth, found.network.public_access, found.network.admit_by_default) == (True, True, True)


def test_put_replaces_everything_in_strict_parity(tmp_path: Path) -> None:
    arm = Arm(tmp_path, Settings(data_dir=tmp_path, strict_parity=True))
    arm.account(properties={"customSubDomainName": "strict", "disableLocalAuth": True})
    arm.account(properties={})
    assert (policy(arm).local_auth, policy(arm).subdomain) == (True, "strict")


def test_patch_of_nothing_is_404(arm: Arm) -> None:
    arm.fails(404, "ResourceNotFound", "PATCH", A1, {"tags": {}})


# Subdomains


def test_subdomain_is_unique_and_never_changes(arm: Arm) -> None:
    arm.account(properties={"customSubDomainName": "taken"})
    arm.fails(409, "CustomDomainInUse", "PUT", f"{ACCOUNTS}/a2", account_body({"customSubDomainName": "TAKEN"}))
    arm.fails(400, "PropertyChangeNotAllowed", "PATCH", A1, {"properties": {"customSubDomainName": "other"}})
    assert (
        arm.ok("PATCH", A1, {"properties": {"customSubDomainName": "TAKEN"}})["properties"]["customSubDomainName"]
        == "taken"
    )
    assert arm.snapshot().only("subdomain", "taken") == A1.lower()


def test_subdomain_can_be_added_later(arm: Arm) -> None:
    arm.account()
    body = arm.ok(
        "PATCH", A1, {"properties": {"customSubDomainName": "later", "networkAcls": {"defaultAction": "Deny"}}}
    )
    assert body["properties"]["endpoint"].endswith("/later/")


def test_no_subdomain_can_shadow_a_path_of_a_service() -> None:
    from stockade.services.openai.operations import OPERATIONS

    assert {operation.path.split("/")[1].lower() for operation in OPERATIONS} | {"sts"} <= RESERVED


# Network rules


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7/32 ", "203.0.113.7"),
        ("203.0.113.6/31", "203.0.113.6/31"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("2001:DB8::0:1/128", "2001:db8::1"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
    ],
)
def test_ip_rules_are_normalised_and_in_force(arm: Arm, value: str, stored: str) -> None:
    rules = {"defaultAction": "Deny", "ipRules": [{"value": value}, {"value": stored}]}
    body = arm.account(properties={"customSubDomainName": "rules", "networkAcls": rules})
    assert body["properties"]["networkAcls"]["ipRules"] == [{"value": stored}]
    assert policy(arm).network.addresses == AddressSet.of([stored])


@pytest.mark.parametrize(
    "value", ["", "localhost", "1.2.3", "01.2.3.4", "1.2.3.4/33", "fe80::1%eth0", "1.2.3.4-1.2.3.9", "*"]
)
def test_what_is_no_address_is_refused(arm: Arm, value: str) -> None:
    rules = {"ipRules": [{"value": value}]}
    arm.fails(
        400, "InvalidNetworkRule", "PUT", A1, account_body({"customSubDomainName": "rules", "networkAcls": rules})
    )


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("8.8.8.8", True),
        ("8.8.8.0/24", True),
        ("8.8.8.8/32", False),
        ("8.8.8.8/31", False),
        ("8.8.8.1/24", False),
        ("10.0.0.1", False),
        ("172.16.0.0/16", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.0.0/16", False),
        ("100.64.0.1", False),
        ("0.0.0.0/0", False),
        ("224.0.0.1", False),
        ("2001:4860:4860::8888", False),
    ],
)
def test_strict_parity_takes_what_azure_takes(tmp_path: Path, value: str, accepted: bool) -> None:
    arm = Arm(tmp_path, Settings(data_dir=tmp_path, strict_parity=True))
    body = account_body({"customSubDomainName": "rules", "networkAcls": {"ipRules": [{"value": value}]}})
    reply = arm.send("PUT", A1, body)
    assert (reply.status == 201) is accepted, reply.body


@pytest.mark.parametrize("name", ["ipRules", "virtualNetworkRules"])
def test_rules_are_bounded(arm: Arm, tmp_path: Path, name: str) -> None:
    (tmp_path / "strict").mkdir()
    strict = Arm(tmp_path / "strict", Settings(data_dir=tmp_path / "strict", strict_parity=True))
    for where, most in ((arm, 10_000), (strict, 100)):
        rule = {"value": "8.8.8.8"} if name == "ipRules" else {"id": "x"}
        body = account_body({"customSubDomainName": "many", "networkAcls": {name: [rule] * (most + 1)}})
        message = where.fails(400, "TooManyNetworkRules", "PUT", A1, body)
        assert f"at most {most}" in message


def test_ten_thousand_rules_are_in_force(arm: Arm) -> None:
    rules = [{"value": f"10.{n // 256}.{n % 256}.0/25"} for n in range(10_000)]
    arm.account(properties={"customSubDomainName": "many", "networkAcls": {"defaultAction": "Deny", "ipRules": rules}})
    found = policy(arm).network.addresses
    assert (found.rules, len(found)) == (10_000, 10_000)
    assert found.rule_for("10.39.15.127") == "10.39.15.0/25"
    assert found.rule_for("10.39.15.128") is None


# Subnet rules


NETWORK = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/Net1"
SERVED, BARE = f"{NETWORK}/subnets/Served", f"{NETWORK}/subnets/Bare"


@pytest.fixture
def networked(arm: Arm) -> Arm:
    """A control plane with a virtual network: one subnet with the service endpoint, one without."""
    subnets = [
        {"name": "Served", "properties": {"addressPrefix": "10.0.0.0/24", "serviceEndpoints": [{"service": "Microsoft.CognitiveServices"}]}},
        {"name": "Bare", "properties": {"addressPrefix": "10.0.1.0/24"}},
    ]  # fmt: skip
    body = {
        "location": "local",
        "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}, "subnets": subnets},
    }
    arm.ok("PUT", NETWORK, body)
    return arm


def acls(*rules: Any) -> Any:
    return {"defaultAction": "Deny", "virtualNetworkRules": list(rules)}


def test_subnet_rules_are_kept_and_compiled(networked: Arm) -> None:
    rules = acls({"id": SERVED}, {"id": BARE, "ignoreMissingVnetServiceEndpoint": True})
    body = networked.account(properties={"customSubDomainName": "subnets", "networkAcls": rules})
    assert body["properties"]["networkAcls"]["virtualNetworkRules"] == rules["virtualNetworkRules"]
    assert policy(networked).network.subnets == (
        SubnetRule(SERVED.lower(), without_endpoint=False),
        SubnetRule(BARE.lower(), without_endpoint=True),
    )


def test_the_same_subnet_twice_is_one_rule(networked: Arm) -> None:
    rules = acls({"id": SERVED}, {"id": SERVED.upper()}, {"id": SERVED + "/"})
    body = networked.account(properties={"customSubDomainName": "subnets", "networkAcls": rules})
    assert body["properties"]["networkAcls"]["virtualNetworkRules"] == [{"id": SERVED}]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"id": NETWORK}, "InvalidNetworkRule"),
        ({"id": f"{NETWORK}/subnets/Nowhere", "ignoreMissingVnetServiceEndpoint": True}, "SubnetNotFound"),
        ({"id": BARE}, "SubnetsHaveNoServiceEndpointsConfigured"),
        ({"id": BARE, "ignoreMissingVnetServiceEndpoint": False}, "SubnetsHaveNoServiceEndpointsConfigured"),
    ],
)
def test_subnet_that_would_admit_nobody_is_refused(networked: Arm, rule: Any, code: str) -> None:
    networked.account(properties={"customSubDomainName": "subnets"})
    networked.fails(400, code, "PATCH", A1, {"properties": {"networkAcls": acls(rule)}})
    assert policy(networked).network.subnets == ()


def test_rules_that_are_there_stay_when_their_subnet_has_changed(networked: Arm) -> None:
    networked.account(properties={"customSubDomainName": "subnets", "networkAcls": acls({"id": SERVED})})
    networked.ok("PUT", SERVED, {"properties": {"addressPrefix": "10.0.0.0/24"}})
    kept = acls({"id": SERVED})
    assert networked.ok("PATCH", A1, {"properties": {"networkAcls": kept}})["properties"]["networkAcls"][
        "virtualNetworkRules"
    ] == [{"id": SERVED}]
    assert networked.send("DELETE", SERVED).status == 200
    assert networked.send("PATCH", A1, {"properties": {"networkAcls": kept}}).status == 200
    networked.ok("PATCH", A1, {"properties": {"networkAcls": acls()}})
    networked.fails(400, "SubnetNotFound", "PATCH", A1, {"properties": {"networkAcls": kept}})


def test_a_new_subnet_needs_the_right_to_join_it(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path)
    account = f"{RG}/providers/Microsoft.CognitiveServices/accounts/a1"
    network = f"{RG}/providers/Microsoft.Network/virtualNetworks/Net1"
    subnet = {"addressPrefix": "10.0.0.0/24", "serviceEndpoints": [{"service": "Microsoft.CognitiveServices"}]}
    space = {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}, "subnets": [{"name": "s", "properties": subnet}]}
    plane.ok("PUT", network, {"location": "local", "properties": space})
    plane.ok("PUT", account, account_body({"customSubDomainName": "subnets"}))
    # Cognitive Services Contributor: everything of the account, nothing of the network.
    someone = plane.principal("someone", ("25fbc0a9-bd7c-42a3-aa1a-3b75d497ee68", RG))
    patch = {"properties": {"networkAcls": acls({"id": f"{network}/subnets/s"})}}
    assert "joinViaServiceEndpoint" in plane.fails(403, "AuthorizationFailed", "PATCH", account, patch, by=someone)
    elsewhere = {"properties": {"networkAcls": acls({"id": f"{network}/subnets/other"})}}
    plane.fails(403, "AuthorizationFailed", "PATCH", account, elsewhere, by=someone)
    plane.ok("PATCH", account, patch)
    more = {
        "properties": {"networkAcls": {**patch["properties"]["networkAcls"], "ipRules": [{"value": "203.0.113.9"}]}}
    }
    plane.ok("PATCH", account, more, by=someone)
    plane.close()


def test_bypass_only_where_it_means_something(arm: Arm) -> None:
    rules = {"customSubDomainName": "face-1", "networkAcls": {"bypass": "AzureServices"}}
    arm.fails(400, "NetworkAclsBypassNotSupported", "PUT", A1, account_body(rules, kind="Face"))


@pytest.mark.parametrize(
    ("entry", "open_", "strict"),
    [
        ("example.com", True, True),
        ("xn--bcher-kva.example", True, True),
        ("bücher.example", True, True),
        ("203.0.113.9", True, True),
        ("203.0.113.0/24", True, True),
        ("*.example.com", True, False),
        ("https://example.com:8443", True, False),
        ("2001:db8::1", True, False),
        ("[2001:db8::1]:443", True, False),
        ("*", False, False),
        ("ex*mple.com", False, False),
        ("example.com/path", False, False),
        ("user@example.com", False, False),
        ("example.com:99999", False, False),
        ("", False, False),
        ("a b", False, False),
    ],
)
def test_fqdn_entries(tmp_path: Path, entry: str, open_: bool, strict: bool) -> None:
    for number, (is_strict, accepted) in enumerate(((False, open_), (True, strict))):
        folder = tmp_path / str(number)
        folder.mkdir()
        arm = Arm(folder, Settings(data_dir=folder, strict_parity=is_strict))
        assert (arm.send("PUT", A1, account_body({"allowedFqdnList": [entry]})).status == 201) is accepted


# Identity


def test_system_assigned_identity_comes_and_goes_with_the_account(arm: Arm) -> None:
    arm.account()
    identity = arm.ok("PATCH", A1, {"identity": {"type": "SystemAssigned"}})["identity"]
    assert identity["tenantId"] == arm.tenant_id
    with arm.database.read() as reader:
        assert arm.platform.directory.get(reader, identity["principalId"]) is not None
    assert arm.ok("PATCH", A1, {"tags": {"x": "y"}})["identity"] == identity
    assert arm.ok("PATCH", A1, {"identity": {"type": "None"}})["identity"] == {"type": "None"}
    with arm.database.read() as reader:
        assert arm.platform.directory.get(reader, identity["principalId"]) is None


def test_identity_is_disabled_while_deleted_and_the_same_after_a_restore(arm: Arm) -> None:
    principal = arm.account(identity={"type": "SystemAssigned"})["identity"]["principalId"]
    arm.ok("DELETE", A1)
    with arm.database.read() as reader:
        suspended = arm.platform.directory.get(reader, principal)
    assert suspended is not None
    assert not suspended.enabled
    restored = arm.ok("PUT", A1, {"location": "local", "properties": {"restore": True}})
    assert restored["identity"]["principalId"] == principal
    with arm.database.read() as reader:
        enabled = arm.platform.directory.get(reader, principal)
    assert enabled is not None
    assert enabled.enabled


def test_user_assigned_identities_have_to_exist(arm: Arm) -> None:
    identity = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/mine"
    body = {"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {identity: {}}}
    arm.fails(400, "FailedIdentityOperation", "PUT", A1, account_body(identity=body))
    made = arm.ok("PUT", identity, {"location": "local"})
    shown = arm.account(identity=body)["identity"]
    assert shown["type"] == "SystemAssigned, UserAssigned"
    assert shown["userAssignedIdentities"][identity] == {
        "principalId": made["properties"]["principalId"],
        "clientId": made["properties"]["clientId"],
    }
    removed = arm.ok("PATCH", A1, {"identity": {"type": "SystemAssigned", "userAssignedIdentities": {identity: None}}})[
        "identity"
    ]
    assert "userAssignedIdentities" not in removed


# Secrets, storage


def test_secrets_in_api_properties_are_sealed_and_never_shown(arm: Arm) -> None:
    secret = "Endpoint=sb://x.example;SharedAccessKeyName=n;SharedAccessKey=very-secret"
    body = arm.account(
        kind="MetricsAdvisor", properties={"apiProperties": {"EventHubConnectionString": secret, "websiteName": "site"}}
    )
    assert body["properties"]["apiProperties"] == {"websiteName": "site"}
    with arm.database.read() as reader:
        document = reader.get(A1)
    assert document is not None
    assert "very-secret" not in str(document)
    assert set(document.private["apiProperties"]) == {"eventHubConnectionString"}
    arm.ok("PATCH", A1, {"properties": {"apiProperties": {"websiteName": "other"}}})
    with arm.database.read() as reader:
        kept = reader.get(A1)
    assert kept is not None
    assert kept.private["apiProperties"] == document.private["apiProperties"]


def test_own_storage_is_set_once(arm: Arm) -> None:
    storage = [{"resourceId": f"{GROUP}/providers/Microsoft.Storage/storageAccounts/mine"}]
    body = account_body({"userOwnedStorage": storage}, kind="SpeechServices")
    arm.fails(400, "InvalidUserOwnedStorage", "PUT", A1, body)
    arm.ok("PUT", A1, {**body, "identity": {"type": "SystemAssigned"}})
    assert arm.account(kind="SpeechServices")["properties"]["userOwnedStorage"] == storage
    arm.fails(400, "PropertyChangeNotAllowed", "PATCH", A1, {"properties": {"userOwnedStorage": []}})


# Lists and sub-routes


def test_lists_by_group_and_subscription(arm: Arm) -> None:
    arm.account("a1")
    arm.account("a2")
    names = [entry["name"] for entry in arm.ok("GET", ACCOUNTS)["value"]]
    assert names == [entry["name"] for entry in arm.ok("GET", f"{BY_SUBSCRIPTION}/accounts")["value"]] == ["a1", "a2"]


def test_list_has_pages(arm: Arm) -> None:
    for number in range(3):
        arm.account(f"a{number}")
    first = arm.ok("GET", f"{ACCOUNTS}?$top=2")
    assert len(first["value"]) == 2
    rest = arm.ok(
        "GET", first["nextLink"].removeprefix(arm.settings.arm_endpoint).replace("api-version=2025-09-01&", "")
    )
    assert [entry["name"] for entry in rest["value"]] == ["a2"]
    assert "nextLink" not in rest


def test_sub_routes(arm: Arm) -> None:
    arm.account(kind="Face", sku={"name": "F0"})
    assert [entry["sku"]["name"] for entry in arm.ok("GET", f"{A1}/skus")["value"]] == ["F0", "S0"]
    assert arm.ok("GET", f"{A1}/models") == {"value": []}
    assert arm.ok("GET", f"{A1}/usages") == arm.ok("GET", f"{A1}/commitmentPlans") == {"value": []}
    arm.account("o1")
    models = arm.ok("GET", f"{ACCOUNTS}/o1/models")["value"]
    assert {model["name"] for model in models} == {"smollm2-135m-instruct", "all-minilm-l6-v2"}
    assert all(model["capabilities"]["note"].startswith("built-in ") for model in models)
    resources = arm.ok("GET", f"{ACCOUNTS}/o1/privateLinkResources")["value"]
    assert resources[0]["properties"]["groupId"] == "account"
    assert "privatelink.openai.azure.com" in resources[0]["properties"]["requiredZoneNames"]


def test_every_kind_can_be_created_and_compiles(arm: Arm) -> None:
    for number, kind in enumerate(KINDS.values()):
        arm.account(f"k{number}", kind=kind.name, sku={"name": kind.skus[0].name})
        assert policy(arm, f"k{number}").kind == kind.name


def test_display_case_is_kept_and_lookups_ignore_it(arm: Arm) -> None:
    arm.account("MiXed")
    found = arm.ok("GET", f"{ACCOUNTS}/mixed")
    assert found["name"] == "MiXed"
    assert ResourceId.parse(found["id"]).key == f"{ACCOUNTS}/mixed".lower()


@pytest.mark.parametrize(("strict", "most"), [(True, 1000), (False, 10_000)])
def test_list_of_hosts_is_as_long_as_azures_only_in_strict_parity(tmp_path: Path, strict: bool, most: int) -> None:
    arm = Arm(tmp_path, Settings(data_dir=tmp_path, strict_parity=strict))
    hosts = [f"h{number}.example" for number in range(most + 1)]
    arm.account(properties={"allowedFqdnList": hosts[:most]})
    message = arm.fails(400, "InvalidAllowedFqdn", "PATCH", A1, {"properties": {"allowedFqdnList": hosts}})
    assert f"at most {most}" in message
