"""Tenants, subscriptions, groups, lists of resources, providers, features, permissions and managed identities."""

from __future__ import annotations

from typing import Any

import pytest

from stockade.kernel.resource_id import ResourceId
from tests.factories.control_plane import AI_USER, AUTH, CONTRIBUTOR, READER, RG, SUB, ControlPlane, S

IDENTITY = f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Robot"


def test_tenants_and_subscriptions(plane: ControlPlane) -> None:
    (tenant,) = plane.ok("GET", "/tenants")["value"]
    assert (tenant["tenantId"], tenant["displayName"]) == (plane.tenant_id, "Contoso")
    shown = plane.ok("GET", S)
    assert (shown["id"], shown["subscriptionId"], shown["state"], shown["tenantId"]) == (
        S,
        SUB,
        "Enabled",
        plane.tenant_id,
    )
    locations = plane.ok("GET", f"{S}/locations")["value"]
    assert locations[0]["name"] == "local" and any(item["displayName"] == "East US" for item in locations)


def test_a_role_on_one_group_is_enough_to_see_the_subscription(plane: ControlPlane) -> None:
    who, stranger = plane.principal("who", (AI_USER, RG)), plane.principal("stranger")
    assert plane.ok("GET", "/subscriptions", by=who)["value"] == plane.ok("GET", "/subscriptions")["value"]
    plane.ok("GET", S, by=who)
    assert plane.ok("GET", "/subscriptions", by=stranger)["value"] == []
    plane.fails(403, "AuthorizationFailed", "GET", S, by=stranger)


def test_groups_come_and_go(plane: ControlPlane) -> None:
    path = f"{S}/resourcegroups/Web.App_(1)-x"
    made = plane.send("PUT", path, {"location": "East US", "tags": {"a": "b"}})
    assert made.status_code == 201
    assert made.json()["location"] == "eastus"
    assert made.json()["properties"] == {"provisioningState": "Succeeded"}
    assert plane.send("PUT", path, {"location": "eastus"}).status_code == 200
    assert plane.ok("PATCH", path, {"tags": {"c": "d"}})["tags"] == {"c": "d"}
    assert plane.send("HEAD", path).status_code == 204
    listed = plane.ok("GET", f"{S}/resourcegroups?$filter=tagName eq 'c' and tagValue eq 'd'")["value"]
    assert [item["name"] for item in listed] == ["Web.App_(1)-x"]
    assert plane.send("DELETE", path).status_code == 200
    assert plane.send("HEAD", path).status_code == 404
    assert plane.send("DELETE", path).status_code == 204


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("g", {}, "LocationRequired"),
        ("g", {"location": "Atlantis"}, "LocationNotAvailableForResourceGroup"),
        ("g", {"location": "local", "tags": {"a": 1}}, "InvalidTags"),
        ("g", {"location": "local", "tags": {str(number): "" for number in range(51)}}, "InvalidTags"),
        ("g.", {"location": "local"}, "InvalidResourceName"),
        ("g" * 91, {"location": "local"}, "InvalidResourceName"),
        ("g!", {"location": "local"}, "InvalidResourceName"),
    ],
)
def test_groups_that_cannot_be(plane: ControlPlane, name: str, body: Any, code: str) -> None:
    plane.fails(400, code, "PUT", f"{S}/resourceGroups/{name}", body)


def test_a_group_does_not_move(plane: ControlPlane) -> None:
    plane.fails(409, "InvalidResourceGroupLocation", "PUT", RG, {"location": "eastus"})


def test_deleting_a_group_deletes_what_is_in_it(plane: ControlPlane) -> None:
    plane.ok("PUT", IDENTITY, {"location": "local"})
    principal = plane.ok("GET", IDENTITY)["properties"]["principalId"]
    account = f"{RG}/providers/Microsoft.CognitiveServices/accounts/acc"
    plane.ok(
        "PUT",
        account,
        {"location": "local", "kind": "OpenAI", "sku": {"name": "S0"}, "properties": {"customSubDomainName": "acc"}},
    )
    plane.ok("DELETE", RG)
    plane.ok("PUT", RG, {"location": "local"})
    assert plane.ok("GET", f"{RG}/resources")["value"] == []
    with plane.database.read() as reader:
        assert plane.directory.get(reader, principal) is None
    deleted = plane.ok("GET", f"{S}/providers/Microsoft.CognitiveServices/deletedAccounts")["value"]
    assert [item["name"] for item in deleted] == ["acc"]
    plane.fails(
        409, "FlagMustBeSetForRestore", "PUT", account, {"location": "local", "kind": "OpenAI", "sku": {"name": "S0"}}
    )


def test_resources_are_listed_and_filtered(plane: ControlPlane) -> None:
    plane.ok("PUT", IDENTITY, {"location": "eastus", "tags": {"team": "red"}})
    plane.ok("PUT", f"{IDENTITY}2", {"location": "local"})

    def listed(text: str, scope: str = S) -> list[str]:
        return [item["name"] for item in plane.ok("GET", f"{scope}/resources?$filter={text}")["value"]]

    for text in (
        "resourceType eq 'microsoft.managedidentity/userassignedidentities' and name eq 'robot'",
        "location eq 'East US'",
        "tagName eq 'team' and tagValue eq 'red'",
        "resourceGroup eq 'GROUP1' and name eq 'Robot'",
    ):
        assert listed(text) == listed(text, RG) == ["Robot"]
    assert listed("substringof('OBO', name)") == ["Robot", "Robot2"]
    assert listed("resourceType eq 'Microsoft.Web/sites'") == []
    plane.fails(400, "InvalidFilterInQueryString", "GET", f"{S}/resources?$filter=colour eq 'x'")
    plane.fails(404, "ResourceGroupNotFound", "GET", f"{S}/resourceGroups/none/resources")
    (shown, _) = plane.ok("GET", f"{S}/resources?$expand=createdTime,provisioningState")["value"]
    assert shown["createdTime"] and shown["provisioningState"] == "Succeeded" and "properties" not in shown


def test_a_user_assigned_identity_has_a_principal_that_roles_can_be_given_to(plane: ControlPlane) -> None:
    made = plane.send(
        "PUT", IDENTITY, {"location": "local", "properties": {"principalId": SUB, "isolationScope": "None"}}
    )
    assert made.status_code == 201
    properties = made.json()["properties"]
    assert properties["principalId"] != SUB and properties["isolationScope"] == "None"
    with plane.database.read() as reader:
        principal = plane.directory.get(reader, properties["principalId"])
    assert principal is not None and principal.app_id == properties["clientId"]
    assert principal.tenant_id == properties["tenantId"] == plane.tenant_id
    for method, body in (
        ("PUT", {"location": "local", "properties": {"principalId": SUB}}),
        ("PATCH", {"properties": {"clientId": SUB}}),
    ):
        again = plane.ok(method, IDENTITY, body)["properties"]
        assert {name: again[name] for name in ("principalId", "clientId", "tenantId")} == {
            name: properties[name] for name in ("principalId", "clientId", "tenantId")
        }
    plane.ok("DELETE", IDENTITY)
    with plane.database.read() as reader:
        assert plane.directory.get(reader, properties["principalId"]) is None
    assert plane.ok("PUT", IDENTITY, {"location": "local"})["properties"]["principalId"] != properties["principalId"]


def test_identities_that_cannot_be(plane: ControlPlane) -> None:
    plane.fails(400, "LocationRequired", "PUT", IDENTITY, {})
    plane.fails(400, "LocationNotAvailableForResourceType", "PUT", IDENTITY, {"location": "Atlantis"})
    plane.fails(400, "InvalidRequestContent", "PUT", IDENTITY, {"location": "local", "properties": []})
    plane.fails(
        400,
        "InvalidResourceName",
        "PUT",
        f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/_",
        {"location": "local"},
    )
    plane.ok("PUT", IDENTITY, {"location": "local"})
    plane.fails(409, "InvalidResourceLocation", "PUT", IDENTITY, {"location": "eastus"})


def test_the_system_assigned_identity_of_a_resource(plane: ControlPlane) -> None:
    account = f"{RG}/providers/Microsoft.CognitiveServices/accounts/acc"
    body = {"location": "local", "kind": "OpenAI", "sku": {"name": "S0"}}
    plane.ok("PUT", account, body)
    default = f"{account}/providers/Microsoft.ManagedIdentity/identities/default"
    plane.fails(404, "ResourceNotFound", "GET", default)
    made = plane.ok("PUT", account, {**body, "identity": {"type": "SystemAssigned"}})
    shown = plane.ok("GET", default)["properties"]
    assert shown["principalId"] == made["identity"]["principalId"]
    assert shown["clientId"] and shown["tenantId"] == plane.tenant_id
    plane.fails(403, "AuthorizationFailed", "GET", default, by=plane.principal("stranger"))


def test_providers_are_registered_until_someone_unregisters_one(plane: ControlPlane) -> None:
    namespaces = {item["namespace"]: item for item in plane.ok("GET", f"{S}/providers")["value"]}
    for namespace in ("CognitiveServices", "Authorization", "ManagedIdentity", "Resources", "Features"):
        assert namespaces[f"Microsoft.{namespace}"]["registrationState"] == "Registered"
        assert all(kind["apiVersions"] for kind in namespaces[f"Microsoft.{namespace}"]["resourceTypes"])
    one = f"{S}/providers/Microsoft.managedidentity"
    plane.ok("PUT", IDENTITY, {"location": "local"})
    plane.fails(409, "CannotUnregisterProvider", "POST", f"{one}/unregister")  # in use
    plane.ok("DELETE", IDENTITY)
    assert plane.ok("POST", f"{one}/unregister")["registrationState"] == "NotRegistered"
    assert plane.ok("GET", one)["registrationState"] == "NotRegistered"
    message = plane.fails(409, "MissingSubscriptionRegistration", "PUT", IDENTITY, {"location": "local"})
    assert message.endswith("'Microsoft.ManagedIdentity'")  # SDKs read it from there
    assert plane.ok("POST", f"{one}/register", version="2016-02-01")["registrationState"] == "Registered"
    plane.ok("PUT", IDENTITY, {"location": "local"})
    plane.fails(409, "CannotUnregisterProvider", "POST", f"{S}/providers/Microsoft.Authorization/unregister")
    plane.fails(404, "InvalidResourceNamespace", "GET", f"{S}/providers/Microsoft.Nothing")
    plane.fails(404, "InvalidResourceNamespace", "POST", f"{S}/providers/Microsoft.Nothing/register")
    reader = plane.principal("reader", (READER, S))
    plane.fails(403, "AuthorizationFailed", "POST", f"{one}/unregister", by=reader)
    assert plane.ok("POST", f"{one}/register", by=plane.principal("contributor", (CONTRIBUTOR, S)))


def test_features_are_registered_and_unregistered(plane: ControlPlane) -> None:
    feature = f"{S}/providers/Microsoft.Features/providers/Microsoft.CognitiveServices/features/Preview1"
    assert plane.ok("GET", feature)["properties"]["state"] == "NotRegistered"
    made = plane.ok("POST", f"{feature}/register", version="2021-07-01")
    assert (made["name"], made["properties"]["state"]) == ("Microsoft.CognitiveServices/Preview1", "Registered")
    assert plane.ok("GET", feature) == made
    assert plane.ok("GET", feature.rsplit("/", 1)[0])["value"] == [made]
    assert plane.ok("GET", f"{S}/providers/Microsoft.Features/features")["value"] == [made]
    assert plane.ok("POST", f"{feature}/unregister")["properties"]["state"] == "Unregistered"
    plane.fails(400, "BadRequest", "POST", f"{feature}!/register")


def test_permissions_are_those_of_the_caller_at_the_scope(plane: ControlPlane) -> None:
    who = plane.principal("who", (READER, RG))
    plane.ok("PUT", IDENTITY, {"location": "local"})
    for scope in (RG, IDENTITY):
        (held,) = plane.ok("GET", f"{scope}{AUTH}/permissions", by=who)["value"]
        assert held == {"actions": ["*/read"], "notActions": [], "dataActions": [], "notDataActions": []}
    plane.fails(403, "AuthorizationFailed", "GET", f"{S}{AUTH}/permissions", by=who)


def test_provider_operations_name_real_actions(plane: ControlPlane) -> None:
    listed = {
        item["name"]: item for item in plane.ok("GET", f"{AUTH}/providerOperations?$expand=resourceTypes")["value"]
    }
    names = {
        operation["name"]
        for kind in listed["Microsoft.CognitiveServices"]["resourceTypes"]
        for operation in kind["operations"]
    }
    assert {"Microsoft.CognitiveServices/accounts/read", "Microsoft.CognitiveServices/accounts/listKeys/action"} <= {
        *names
    }
    assert (
        plane.ok("GET", f"{AUTH}/providerOperations/microsoft.managedidentity")["name"] == "Microsoft.ManagedIdentity"
    )
    plane.fails(404, "ProviderNotFound", "GET", f"{AUTH}/providerOperations/Microsoft.Nothing")


def test_every_types_ids_lead_back_to_it(plane: ControlPlane) -> None:
    for kind in plane.registry:
        if kind.type.startswith("Microsoft.Resources/"):
            continue
        namespace, *parts = kind.type.split("/")
        path = f"{S if kind.in_subscription else RG}/providers/{namespace}/" + "/".join(
            f"{part}/name" for part in parts
        )
        assert plane.registry.of(ResourceId.parse(path.upper())) is kind
