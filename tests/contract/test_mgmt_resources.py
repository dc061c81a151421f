"""`azure-mgmt-resource`, `-resource-subscriptions`, `-authorization` and `-msi`, unmodified, against a running server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.mgmt.authorization.v2022_04_01.models import Permission, RoleAssignmentCreateParameters, RoleDefinition
from azure.mgmt.resource.subscriptions import SubscriptionClient

if TYPE_CHECKING:
    from tests.factories.azure import Azure

GRAPH_SCOPE = "https://graph.microsoft.com/.default"


@pytest.fixture
def group(azure: Azure) -> Iterator[str]:
    name = azure.new_group()
    yield name
    azure.resources.resource_groups.begin_delete(name).result()


@pytest.fixture
def subscriptions(azure: Azure) -> Iterator[SubscriptionClient]:
    with SubscriptionClient(azure.administrator, **azure._options) as client:
        yield client


def scope_of(azure: Azure, group: str) -> str:
    return f"/subscriptions/{azure.subscription}/resourceGroups/{group}"


def test_subscriptions_tenants_and_locations(azure: Azure, subscriptions: SubscriptionClient) -> None:
    assert azure.subscription in [item.subscription_id for item in subscriptions.subscriptions.list()]
    shown = subscriptions.subscriptions.get(azure.subscription)
    assert (shown.id, shown.state) == (f"/subscriptions/{azure.subscription}", "Enabled")
    assert [item.tenant_id for item in subscriptions.tenants.list()] == [azure.tenant]
    assert azure.location in [item.name for item in subscriptions.subscriptions.list_locations(azure.subscription)]


def test_resource_groups(azure: Azure) -> None:
    groups, name = azure.resources.resource_groups, f"group-{uuid.uuid4().hex[:8]}"
    assert not groups.check_existence(name)
    made = groups.create_or_update(name, {"location": "East US", "tags": {"a": "b"}})
    assert (made.name, made.location, made.tags) == (name, "eastus", {"a": "b"})
    assert made.properties.provisioning_state == "Succeeded"
    assert groups.check_existence(name.upper())
    assert groups.update(name, {"tags": {"a": "c"}}).tags == {"a": "c"}
    assert name in [item.name for item in groups.list()]
    groups.begin_delete(name).result()
    assert not groups.check_existence(name)
    with pytest.raises(ResourceNotFoundError) as missing:
        groups.get(name)
    assert missing.value.error is not None and missing.value.error.code == "ResourceGroupNotFound"


def test_resources_by_id_and_in_lists(azure: Azure, group: str) -> None:
    arm_id = f"{scope_of(azure, group)}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/by-id"
    by_id, version = azure.resources.resources, {"api_version": "2024-11-30"}
    body = {"location": azure.location, "tags": {"x": "y"}}
    made = by_id.begin_create_or_update_by_id(arm_id, body, **version).result()
    assert made.id == arm_id
    assert by_id.check_existence_by_id(arm_id, **version)
    assert by_id.get_by_id(arm_id.lower(), **version).tags == {"x": "y"}
    assert by_id.begin_update_by_id(arm_id, {"tags": {"z": "w"}}, **version).result().tags == {"x": "y", "z": "w"}
    kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
    assert arm_id in [item.id for item in by_id.list(filter=f"resourceType eq '{kind}'")]
    assert [item.id for item in by_id.list_by_resource_group(group)] == [arm_id]
    by_id.begin_delete_by_id(arm_id, **version).result()
    assert not by_id.check_existence_by_id(arm_id, **version)


def test_providers(azure: Azure) -> None:
    providers = azure.resources.providers
    registered = {item.namespace: item.registration_state for item in providers.list()}
    assert {"Microsoft.CognitiveServices", "Microsoft.Authorization", "Microsoft.ManagedIdentity"} <= registered.keys()
    assert set(registered.values()) == {"Registered"}
    assert providers.get("microsoft.managedidentity").resource_types
    assert providers.register("Microsoft.ManagedIdentity").registration_state == "Registered"


def test_user_assigned_identities(azure: Azure, group: str) -> None:
    identities = azure.identities.user_assigned_identities
    made = identities.create_or_update(group, "robot", {"location": azure.location, "tags": {"a": "b"}})
    assert made.principal_id and made.client_id and made.tenant_id == azure.tenant
    assert identities.get(group, "ROBOT").principal_id == made.principal_id
    assert identities.update(group, "robot", {"tags": {"c": "d"}}).tags == {"a": "b", "c": "d"}
    assert [item.name for item in identities.list_by_resource_group(group)] == ["robot"]
    assert "robot" in [item.name for item in identities.list_by_subscription()]
    azure.assign("Reader", scope_of(azure, group), made.principal_id)
    identities.delete(group, "robot")
    identities.delete(group, "robot")
    with pytest.raises(ResourceNotFoundError):
        identities.get(group, "robot")


def test_the_identity_of_an_account(azure: Azure, group: str) -> None:
    account = azure.new_account(group=group)
    with pytest.raises(ResourceNotFoundError):
        azure.identities.system_assigned_identities.get_by_scope(account.id)
    azure.cognitive.accounts.begin_update(group, account.name, {"identity": {"type": "SystemAssigned"}}).result()
    shown = azure.identities.system_assigned_identities.get_by_scope(account.id)
    stored = azure.cognitive.accounts.get(group, account.name)
    assert stored.identity is not None
    assert shown.principal_id == stored.identity.principal_id


def test_role_definitions(azure: Azure, group: str) -> None:
    definitions, scope, name = azure.authorization.role_definitions, scope_of(azure, group), str(uuid.uuid4())
    (reader,) = definitions.list(scope, filter="roleName eq 'Reader'")
    assert (
        reader.id
        == f"/subscriptions/{azure.subscription}/providers/Microsoft.Authorization/roleDefinitions/{reader.name}"
    )
    assert definitions.get_by_id(reader.id).role_name == "Reader"
    wanted = RoleDefinition(
        role_name=f"Special {name}",
        role_type="CustomRole",
        description="d",
        permissions=[
            Permission(
                actions=["Microsoft.CognitiveServices/accounts/read"], data_actions=["Microsoft.CognitiveServices/*"]
            )
        ],
        assignable_scopes=[scope],
    )
    made = definitions.create_or_update(scope, name, wanted)
    assert (made.role_name, made.role_type) == (f"Special {name}", "CustomRole")
    assert name in [item.name for item in definitions.list(scope, filter="type eq 'CustomRole'")]
    removed = definitions.delete(scope, name)
    assert removed is not None and removed.name == name
    with pytest.raises(ResourceNotFoundError):
        definitions.get(scope, name)


def test_role_assignments(azure: Azure, group: str) -> None:
    assignments, scope, who = azure.authorization.role_assignments, scope_of(azure, group), azure.new_principal()
    role, name = azure.role_id("Reader", scope), str(uuid.uuid4())
    # principal_type left out: this SDK then sends "User".
    wanted = RoleAssignmentCreateParameters(role_definition_id=role, principal_id=who.object_id)
    made = assignments.create(scope, name, wanted)
    assert (made.scope, made.role_definition_id, made.principal_id) == (scope, role, who.object_id)
    assert made.principal_type == "ServicePrincipal"
    with pytest.raises(ResourceExistsError) as exists:
        assignments.create(scope, str(uuid.uuid4()), wanted)
    assert exists.value.error is not None and exists.value.error.code == "RoleAssignmentExists"
    for unknown, code in ((str(uuid.uuid4()), "PrincipalNotFound"), (who.client_id, "PrincipalNotFound")):
        with pytest.raises(HttpResponseError) as refused:
            assignments.create(
                scope, str(uuid.uuid4()), RoleAssignmentCreateParameters(role_definition_id=role, principal_id=unknown)
            )
        assert refused.value.error is not None and refused.value.error.code == code
    mine = f"principalId eq '{who.object_id}'"
    assert [item.name for item in assignments.list_for_scope(scope, filter=mine)] == [name]
    assert [item.name for item in assignments.list_for_subscription(filter=mine)] == [name]
    assert [
        item.name for item in assignments.list_for_resource_group(group, filter=f"assignedTo('{who.object_id}')")
    ] == [name]
    assert made.id is not None
    assert assignments.get_by_id(made.id).name == name
    deleted = assignments.delete_by_id(made.id)
    assert deleted is not None and deleted.name == name
    assert assignments.delete(scope, name) is None


def test_permissions_denials_and_operations(azure: Azure, group: str) -> None:
    scope = scope_of(azure, group)
    held = list(azure.authorization.permissions.list_for_resource_group(group))
    assert ["*"] in [permission.actions for permission in held]
    path = f"{scope}/providers/Microsoft.Authorization/denyAssignments/{uuid.uuid4()}"
    who = azure.new_principal()
    body: Any = {
        "properties": {
            "denyAssignmentName": "no deletes",
            "permissions": [{"actions": ["*/delete"]}],
            "principals": [{"id": who.object_id, "type": "ServicePrincipal"}],
        }
    }
    assert azure.arm("PUT", path, body, "2024-07-01-preview").status == 201
    (found,) = azure.authorization.deny_assignments.list_for_resource_group(group)
    assert found.deny_assignment_name == "no deletes"
    assert found.principals is not None and found.principals[0].id == who.object_id
    assert azure.arm("DELETE", path, api_version="2024-07-01-preview").status == 200
    operations = azure.authorization.provider_operations_metadata.get("Microsoft.CognitiveServices")
    assert operations.resource_types


def test_who_has_no_role_is_told_which_one_is_missing(azure: Azure, group: str) -> None:
    from azure.mgmt.resource.resources import ResourceManagementClient

    who = azure.new_principal()
    with ResourceManagementClient(
        azure.credential(who.client_id, who.client_secret), azure.subscription, **azure._options
    ) as client:
        with pytest.raises(HttpResponseError) as refused:
            client.resource_groups.get(group)
        assert refused.value.status_code == 403
        assert refused.value.error is not None and refused.value.error.code == "AuthorizationFailed"
        assert who.object_id in str(refused.value)
        assignment = azure.assign("Reader", scope_of(azure, group), who.object_id)
        assert client.resource_groups.get(group).name == group
        assert [item.name for item in client.resource_groups.list()] == [group]
        azure.authorization.role_assignments.delete_by_id(assignment)
        with pytest.raises(HttpResponseError):
            client.resource_groups.get(group)


def test_a_token_for_something_else_is_refused(azure: Azure, group: str) -> None:
    from azure.mgmt.resource.resources import ResourceManagementClient

    options = {**azure._options, "credential_scopes": [GRAPH_SCOPE]}
    with (
        ResourceManagementClient(azure.administrator, azure.subscription, **options) as client,
        pytest.raises(ClientAuthenticationError) as refused,
    ):
        client.resource_groups.get(group)
    assert refused.value.error is not None and refused.value.error.code == "InvalidAuthenticationTokenAudience"
