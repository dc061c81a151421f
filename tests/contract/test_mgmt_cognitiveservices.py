"""`azure-mgmt-cognitiveservices`, unmodified, against a running server: every operation that control-plane section 1.1 marks MUST."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ClientSecretCredential
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient, models
from azure.mgmt.cognitiveservices.models import (
    Account,
    AccountProperties,
    Deployment,
    DeploymentModel,
    DeploymentProperties,
    Identity,
    IpRule,
    NetworkRuleSet,
    PatchResourceTagsAndSku,
    Sku,
)

from tests.live import Live

GROUP = "mgmt-cognitiveservices"
TYPE = "Microsoft.CognitiveServices/accounts"
MODEL = DeploymentModel(format="OpenAI", name="smollm2-135m-instruct", version="1")


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[CognitiveServicesManagementClient]:
    env = live.environment
    with ClientSecretCredential(
        env["STOCKADE_TENANT"],
        env["STOCKADE_CLIENT_ID"],
        env["STOCKADE_CLIENT_SECRET"],
        authority=env["STOCKADE_AUTHORITY"],
        disable_instance_discovery=True,
        connection_verify=env["REQUESTS_CA_BUNDLE"],
    ) as credential:
        path = f"{env['STOCKADE_ARM']}/subscriptions/{env['STOCKADE_SUBSCRIPTION']}/resourcegroups/{GROUP}"
        header = {"authorization": f"Bearer {credential.get_token('https://management.azure.com/.default').token}"}
        body = {"location": env["STOCKADE_LOCATION"]}
        made = httpx.put(f"{path}?api-version=2025-04-01", json=body, headers=header, verify=trust(live))
        assert made.status_code in (200, 201), made.text
        with CognitiveServicesManagementClient(
            credential,
            env["STOCKADE_SUBSCRIPTION"],
            base_url=env["STOCKADE_ARM"],
            credential_scopes=["https://management.azure.com/.default"],
            connection_verify=env["REQUESTS_CA_BUNDLE"],
        ) as management:
            yield management


def trust(live: Live) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=live.environment["STOCKADE_CA"])


def create(client: CognitiveServicesManagementClient, live: Live, name: str, **properties: Any) -> Account:
    account = Account(
        kind="OpenAI",
        location=live.environment["STOCKADE_LOCATION"],
        sku=Sku(name="S0"),
        properties=AccountProperties(custom_sub_domain_name=name, **properties),
    )
    return client.accounts.begin_create(GROUP, name, account).result()


def use(live: Live, account: Account, key: str) -> int:
    """Ask the data plane for a session token with a key; return the status."""
    assert account.properties is not None
    url = f"{account.properties.endpoint}sts/v1.0/issueToken"
    return httpx.post(url, headers={"Ocp-Apim-Subscription-Key": key}, verify=trust(live)).status_code


def test_account_from_creation_to_purge(client: CognitiveServicesManagementClient, live: Live) -> None:
    name = "sdk-life"
    account = create(client, live, name)
    assert account.properties.provisioning_state == "Succeeded"
    assert account.properties.endpoint.endswith(f"/{name}/")
    assert account.system_data.created_by_type == "Application"
    assert account.etag
    assert client.accounts.get(GROUP, name).as_dict() == account.as_dict()
    assert name in [found.name for found in client.accounts.list_by_resource_group(GROUP)]
    assert name in [found.name for found in client.accounts.list()]

    change = Account(
        sku=Sku(name="S0"), tags={"team": "one"}, properties=AccountProperties(public_network_access="Disabled")
    )
    updated = client.accounts.begin_update(GROUP, name, change).result()
    assert (updated.tags, updated.properties.public_network_access) == ({"team": "one"}, "Disabled")

    client.accounts.begin_delete(GROUP, name).result()
    with pytest.raises(ResourceNotFoundError):
        client.accounts.get(GROUP, name)
    deleted = client.deleted_accounts.get(live.environment["STOCKADE_LOCATION"], GROUP, name)
    assert deleted.properties.scheduled_purge_date
    assert name in [found.name for found in client.deleted_accounts.list()]
    with pytest.raises(ResourceExistsError, match="FlagMustBeSetForRestore"):
        create(client, live, name)
    restored = client.accounts.begin_create(
        GROUP, name, Account(location=live.environment["STOCKADE_LOCATION"], properties=AccountProperties(restore=True))
    ).result()
    assert (restored.tags, restored.properties.public_network_access) == ({"team": "one"}, "Disabled")
    client.accounts.begin_delete(GROUP, name).result()
    client.deleted_accounts.begin_purge(live.environment["STOCKADE_LOCATION"], GROUP, name).result()
    with pytest.raises(ResourceNotFoundError):
        client.deleted_accounts.get(live.environment["STOCKADE_LOCATION"], GROUP, name)


def test_plan_twice_is_empty(client: CognitiveServicesManagementClient, live: Live) -> None:
    rules = NetworkRuleSet(
        default_action="Deny", ip_rules=[IpRule(value="127.0.0.1/32"), IpRule(value="203.0.113.0/24")]
    )
    create(client, live, "sdk-plan", network_acls=rules, disable_local_auth=True)
    first = client.accounts.get(GROUP, "sdk-plan").as_dict()
    again = client.accounts.begin_create(GROUP, "sdk-plan", client.accounts.get(GROUP, "sdk-plan")).result().as_dict()
    for seen in (first, again):
        del seen["etag"], seen["system_data"]
    assert again == first
    assert first["properties"]["network_acls"]["ip_rules"][0] == {"value": "127.0.0.1"}


def test_keys_and_rotation_reach_the_data_plane_at_once(client: CognitiveServicesManagementClient, live: Live) -> None:
    account = create(client, live, "sdk-keys")
    before = client.accounts.list_keys(GROUP, "sdk-keys")
    assert [use(live, account, key) for key in (before.key1, before.key2)] == [200, 200]
    after = client.accounts.regenerate_key(GROUP, "sdk-keys", "Key1")
    assert after.key1 != before.key1
    assert after.key2 == before.key2
    for _ in range(8):  # whichever worker answers
        assert [use(live, account, key) for key in (before.key1, after.key1, after.key2)] == [401, 200, 200]
    client.accounts.begin_update(
        GROUP, "sdk-keys", Account(properties=AccountProperties(disable_local_auth=True))
    ).result()
    assert use(live, account, after.key1) == 403
    with pytest.raises(HttpResponseError, match="disableLocalAuth"):
        client.accounts.list_keys(GROUP, "sdk-keys")


def test_network_rules_reach_the_data_plane_at_once(client: CognitiveServicesManagementClient, live: Live) -> None:
    account = create(client, live, "sdk-network")
    key = client.accounts.list_keys(GROUP, "sdk-network").key1

    def change(**properties: Any) -> int:
        client.accounts.begin_update(GROUP, "sdk-network", Account(properties=AccountProperties(**properties))).result()
        return use(live, account, key)

    assert change(network_acls=NetworkRuleSet(default_action="Deny")) == 403
    assert (
        change(
            network_acls=NetworkRuleSet(
                default_action="Deny", ip_rules=[IpRule(value="127.0.0.0/8"), IpRule(value="::1")]
            )
        )
        == 200
    )
    assert change(public_network_access="Disabled") == 403
    assert change(public_network_access="Enabled", network_acls=NetworkRuleSet(default_action="Allow")) == 200


def test_identity_is_in_the_answer(client: CognitiveServicesManagementClient, live: Live) -> None:
    create(client, live, "sdk-identity")
    assigned = client.accounts.begin_update(
        GROUP, "sdk-identity", Account(identity=Identity(type="SystemAssigned"))
    ).result()
    assert assigned.identity.principal_id
    assert assigned.identity.tenant_id == live.environment["STOCKADE_TENANT"]
    removed = client.accounts.begin_update(GROUP, "sdk-identity", Account(identity=Identity(type="None"))).result()
    assert removed.identity.type == "None"


def test_deployments(client: CognitiveServicesManagementClient, live: Live) -> None:
    create(client, live, "sdk-deploy")
    wanted = Deployment(sku=Sku(name="Standard", capacity=3), properties=DeploymentProperties(model=MODEL))
    made = client.deployments.begin_create_or_update(GROUP, "sdk-deploy", "chat", wanted).result()
    assert made.properties.provisioning_state == "Succeeded"
    assert made.properties.rate_limits[0].count == 18
    changed = client.deployments.begin_update(
        GROUP, "sdk-deploy", "chat", PatchResourceTagsAndSku(sku=Sku(name="Standard", capacity=4))
    ).result()
    assert changed.sku.capacity == 4
    assert client.deployments.get(GROUP, "sdk-deploy", "chat").properties.model.version == "1"
    assert [found.name for found in client.deployments.list(GROUP, "sdk-deploy")] == ["chat"]
    assert next(iter(client.deployments.list_skus(GROUP, "sdk-deploy", "chat"))).sku.name == "Standard"
    wrong = Deployment(properties=DeploymentProperties(model=DeploymentModel(format="OpenAI", name="gpt-4o")))
    with pytest.raises(HttpResponseError, match="DeploymentModelNotSupported"):
        client.deployments.begin_create_or_update(GROUP, "sdk-deploy", "wrong", wrong).result()
    client.deployments.begin_delete(GROUP, "sdk-deploy", "chat").result()
    assert list(client.deployments.list(GROUP, "sdk-deploy")) == []


def test_what_is_on_offer(client: CognitiveServicesManagementClient, live: Live) -> None:
    create(client, live, "sdk-offers")
    assert ("OpenAI", "S0") in {(sku.kind, sku.name) for sku in client.resource_skus.list()}
    assert [offer.sku.name for offer in client.accounts.list_skus(GROUP, "sdk-offers").value] == ["S0"]
    assert client.accounts.list_usages(GROUP, "sdk-offers").value == []
    known = {model.name: model for model in client.accounts.list_models(GROUP, "sdk-offers")}
    assert known["smollm2-135m-instruct"].capabilities["note"].startswith("built-in demo model")
    assert known["all-minilm-l6-v2"].capabilities["embeddings"] == "true"
    assert {entry.model.name for entry in client.models.list(live.environment["STOCKADE_LOCATION"])} >= set(known)
    assert all(usage.limit for usage in client.usages.list(live.environment["STOCKADE_LOCATION"]))
    assert "Microsoft.CognitiveServices/accounts/listKeys/action" in {
        operation.name for operation in client.operations.list()
    }
    assert next(iter(client.private_link_resources.list(GROUP, "sdk-offers").value)).properties.group_id == "account"
    capacities = list(client.model_capacities.list("OpenAI", "smollm2-135m-instruct", "1"))
    assert capacities[0].properties.available_capacity > 0
    assert list(
        client.location_based_model_capacities.list(
            live.environment["STOCKADE_LOCATION"], "OpenAI", "smollm2-135m-instruct", "1"
        )
    )


def test_availability(client: CognitiveServicesManagementClient, live: Live) -> None:
    create(client, live, "sdk-taken")
    skus = client.check_sku_availability(
        live.environment["STOCKADE_LOCATION"], skus=["S0", "E0"], kind="Face", type=TYPE
    )
    assert [(sku.sku_name, sku.sku_available) for sku in skus.value] == [("S0", True), ("E0", False)]
    taken = client.check_domain_availability(subdomain_name="sdk-taken", type=TYPE)
    assert (taken.is_subdomain_available, bool(taken.reason)) == (False, True)
    workloads = [models.ModelCapacityCalculatorWorkload(request_per_minute=7)]
    asked = client.calculate_model_capacity(model=MODEL, sku_name="Standard", workloads=workloads)
    assert asked.estimated_capacity.value == 2


def test_stored_children(client: CognitiveServicesManagementClient, live: Live) -> None:
    name = "sdk-children"
    create(client, live, name)
    state = models.PrivateLinkServiceConnectionState(status="Approved", description="by hand")
    connection = models.PrivateEndpointConnection(
        properties=models.PrivateEndpointConnectionProperties(private_link_service_connection_state=state)
    )
    made = client.private_endpoint_connections.begin_create_or_update(GROUP, name, "pe1", connection).result()
    assert made.properties.provisioning_state == "Succeeded"
    assert client.private_endpoint_connections.get(GROUP, name, "pe1").properties.group_ids == ["account"]
    assert [found.name for found in client.private_endpoint_connections.list(GROUP, name).value] == ["pe1"]
    assert [found.name for found in client.accounts.get(GROUP, name).properties.private_endpoint_connections] == ["pe1"]
    client.private_endpoint_connections.begin_delete(GROUP, name, "pe1").result()
    assert list(client.network_security_perimeter_configurations.list(GROUP, name)) == []
    with pytest.raises(ResourceNotFoundError):
        client.network_security_perimeter_configurations.get(GROUP, name, "none")

    scope = models.EncryptionScope(
        properties=models.EncryptionScopeProperties(key_source="Microsoft.CognitiveServices")
    )
    assert client.encryption_scopes.create_or_update(GROUP, name, "s1", scope).properties.state == "Enabled"
    assert [found.name for found in client.encryption_scopes.list(GROUP, name)] == ["s1"]
    client.encryption_scopes.begin_delete(GROUP, name, "s1").result()
    policy = models.RaiPolicy(properties=models.RaiPolicyProperties(mode="Blocking", content_filters=[]))
    assert client.rai_policies.create_or_update(GROUP, name, "p1", policy).properties.mode == "Blocking"
    client.rai_policies.begin_delete(GROUP, name, "p1").result()
    setting = client.defender_for_ai_settings.create_or_update(
        GROUP, name, "Default", models.DefenderForAISetting(state="Disabled")
    )
    assert setting.state == "Disabled"
    assert list(client.rai_content_filters.list(live.environment["STOCKADE_LOCATION"])) == []
    assert list(client.commitment_plans.list_plans_by_subscription()) == []


def test_refusals_arrive_as_the_sdk_expects_them(client: CognitiveServicesManagementClient, live: Live) -> None:
    face = Account(kind="Face", location=live.environment["STOCKADE_LOCATION"], sku=Sku(name="E0"))
    with pytest.raises(HttpResponseError, match="SkuNotApproved") as refused:
        client.accounts.begin_create(GROUP, "sdk-refused", face).result()
    assert refused.value.status_code == 403
    face.sku = Sku(name="F0")
    client.accounts.begin_create(GROUP, "sdk-refused", face).result()
    with pytest.raises(HttpResponseError, match="InvalidSkuUpdate"):
        client.accounts.begin_update(GROUP, "sdk-refused", Account(sku=Sku(name="E0"))).result()
    with pytest.raises(ResourceNotFoundError, match="ResourceNotFound"):
        client.accounts.list_keys(GROUP, "never-made")
