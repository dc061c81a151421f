"""The unmodified `az` command line against a running server, from `az cloud register` on."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import outside
from tests.factories.customer_key_live import KeptKey, vault_names
from tests.live import Live, StartServer, wait_for

pytestmark = [pytest.mark.az, pytest.mark.timeout(300)]

LIMIT_S = 120
API_VERSION = "2024-10-21"
OPENAI_USER = "Cognitive Services OpenAI User"
AI = "https://cognitiveservices.azure.com"


class Az:
    """The command line with a configuration folder of its own."""

    def __init__(self, live: Live, folder: Path, **variables: str) -> None:
        self.live = live
        self._environment = {
            **os.environ,
            **live.environment,
            "AZURE_CONFIG_DIR": str(folder),
            "AZURE_CORE_INSTANCE_DISCOVERY": "false",
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            "AZURE_CORE_NO_COLOR": "true",
            **variables,
        }

    def __call__(self, *words: str) -> Any:
        """Run a command that must succeed; return its JSON, None when it printed nothing."""
        done = self._run(*words)
        assert done.returncode == 0, f"az {' '.join(words)} ended with {done.returncode}:\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, *words: str) -> str:
        """Run a command that must fail; return what it said."""
        done = self._run(*words)
        assert done.returncode != 0, f"az {' '.join(words)} was accepted and printed {done.stdout}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr

    def register(self) -> None:
        self("cloud", "register", "--name", "stockade", "--endpoint-resource-manager", self.live.arm)
        self("cloud", "set", "--name", "stockade")

    def login(self, client_id: str, secret: str) -> Any:
        who = ("--username", client_id, "--password", secret)
        return self("login", "--service-principal", *who, "--tenant", self.live.tenant)

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(outside.program("az")), *words, "--output", "json", "--only-show-errors"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )


@pytest.fixture(scope="module")
def az(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Az:
    """The command line, signed in as the administrator."""
    found = Az(live, tmp_path_factory.mktemp("az"))
    found.register()
    found.login(*live.admin)
    return found


@pytest.fixture(scope="module")
def group(az: Az) -> str:
    name = new_name("group")
    assert az("group", "create", "--name", name, "--location", az.live.location)["properties"]["provisioningState"]
    return name


class Account:
    """An account that `az` made."""

    def __init__(self, az: Az, group: str, *more: str) -> None:
        self.az, self.group, self.name = az, group, new_name("account")
        self.options = ("--resource-group", group, "--name", self.name)
        what = (
            "--location",
            az.live.location,
            "--kind",
            "OpenAI",
            "--sku",
            "S0",
            "--custom-domain",
            self.name,
            "--yes",
        )
        self.made = self("create", *what, *more)
        self.id: str = self.made["id"]

    def __call__(self, *words: str) -> Any:
        """Run `az cognitiveservices account ...` on it."""
        return self.az("cognitiveservices", "account", *words, *self.options)

    def models(self, **headers: str) -> requests.Response:
        """Ask its data plane which models there are."""
        url = f"{self.made['properties']['endpoint']}openai/models?api-version={API_VERSION}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.get(url, headers=named, verify=str(self.az.live.bundle), timeout=30)


@pytest.fixture(scope="module")
def account(az: Az, group: str) -> Account:
    return Account(az, group)


@pytest.fixture
def application(live: Live) -> Iterator[Mapping[str, str]]:
    """A principal without any role, deleted afterwards."""
    found = live.identity(new_name("app"))
    yield found
    live.stockade("identity", "delete", found["objectId"])


def new_name(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def test_the_cloud_is_registered_from_its_address_alone(az: Az) -> None:
    cloud = az("cloud", "show", "--name", "stockade")
    assert cloud["endpoints"]["resourceManager"].rstrip("/") == az.live.arm
    assert cloud["endpoints"]["activeDirectory"].rstrip("/") == az.live.authority
    assert az("account", "show")["tenantId"] == az.live.tenant
    assert az.live.subscription in {entry["id"] for entry in az("account", "list", "--refresh")}
    assert az.live.location in {entry["name"] for entry in az("account", "list-locations")}


def test_a_wrong_secret_signs_nobody_in(live: Live, tmp_path: Path) -> None:
    az = Az(live, tmp_path)
    az.register()
    wrong = ("--username", live.admin[0], "--password", "wrong")
    assert "AADSTS7000215" in az.refused("login", "--service-principal", *wrong, "--tenant", live.tenant)


def test_a_group_is_made_and_deleted_with_what_it_holds(az: Az) -> None:
    name = new_name("group")
    az("group", "create", "--name", name, "--location", az.live.location, "--tags", "purpose=test")
    assert az("group", "show", "--name", name)["tags"] == {"purpose": "test"}
    assert name in {entry["name"] for entry in az("group", "list")}
    held = Account(az, name)
    az("group", "delete", "--name", name, "--yes")
    assert az("group", "exists", "--name", name) is False
    assert held.models().status_code == 404


def test_an_account_is_created_shown_listed_and_updated(az: Az, account: Account, group: str) -> None:
    assert account.made["properties"]["provisioningState"] == "Succeeded"
    assert account("show")["id"] == account.id
    assert [entry["name"] for entry in az("cognitiveservices", "account", "list", "--resource-group", group)].count(
        account.name
    ) == 1
    assert account.name in {entry["name"] for entry in az("cognitiveservices", "account", "list")}
    assert account("update", "--tags", "cost=centre")["tags"] == {"cost": "centre"}
    shown = account("show")
    assert (shown["tags"], shown["properties"]["customSubDomainName"]) == ({"cost": "centre"}, account.name)


def test_an_account_that_does_not_exist_is_not_found(az: Az, group: str) -> None:
    said = az.refused("cognitiveservices", "account", "show", "--resource-group", group, "--name", "nothing-here")
    assert "ResourceNotFound" in said


def test_a_kind_or_sku_that_is_not_offered_is_refused(az: Az, group: str) -> None:
    what = ("--resource-group", group, "--name", new_name("account"), "--location", az.live.location, "--yes")
    assert "InvalidApiSetId" in az.refused(
        "cognitiveservices", "account", "create", *what, "--kind", "Nothing", "--sku", "S0"
    )
    assert "SkuNotAvailable" in az.refused(
        "cognitiveservices", "account", "create", *what, "--kind", "OpenAI", "--sku", "F0"
    )


def test_e0_is_asked_for_with_az_rest_and_then_created(az: Az, group: str, application: Mapping[str, str]) -> None:
    live, name = az.live, new_name("request")
    what = ("--resource-group", group, "--name", new_name("account"), "--location", live.location, "--yes")
    create = ("cognitiveservices", "account", "create", *what, "--kind", "Personalizer", "--sku", "E0")
    assert "SkuNotApproved" in az.refused(*create)
    kinds = ("--kind", "Personalizer", "--location", live.location)
    offered = az("cognitiveservices", "account", "list-skus", *kinds)
    assert [(one["name"], one["restrictions"] == []) for one in offered if one["name"] == "E0"] == [("E0", False)]
    url = f"{live.arm}/subscriptions/{live.subscription}/providers/Stockade.Access/skuRequests/{name}"
    rest = ("rest", "--resource", live.arm, "--url", f"{url}?api-version=2025-04-01")
    asked = {"kind": "Personalizer", "location": live.location, "reason": "r", "contact": "ops@example.com"}
    made = az(*rest, "--method", "put", "--body", json.dumps({"properties": asked}))
    assert made["properties"]["state"] == "Submitted"
    live.stockade("identity", "assign", application["objectId"], "Stockade Access Approver")
    decider = {
        "STOCKADE_APPROVER_ID": application["clientId"],
        "STOCKADE_APPROVER_SECRET": application["clientSecret"],
    }
    live.cli("approvals", "approve", name, **decider)
    assert az(*rest, "--method", "get")["properties"]["state"] == "Approved"
    offered = az("cognitiveservices", "account", "list-skus", *kinds)
    assert all(live.location.upper() not in place["values"] for one in offered for place in one["restrictions"])
    assert az(*create)["sku"]["name"] == "E0"
    assert "SkuNotApproved" in az.refused(*[part.replace("account-", "other-") for part in create])


def test_keys_are_listed_and_regenerated_one_by_one(account: Account) -> None:
    before = account("keys", "list")
    assert account.models(api_key=before["key1"]).status_code == 200
    after = account("keys", "regenerate", "--key-name", "Key1")
    assert after["key1"] != before["key1"]
    assert after["key2"] == before["key2"]
    assert account("keys", "list") == after
    assert account.models(api_key=before["key1"]).status_code == 401
    assert account.models(api_key=after["key1"]).status_code == 200
    assert account.models(api_key=after["key2"]).status_code == 200


def test_an_identity_is_assigned_shown_and_removed(account: Account) -> None:
    assigned = account("identity", "assign")
    assert assigned["type"] == "SystemAssigned"
    assert assigned["tenantId"] == account.az.live.tenant
    assert account("identity", "show")["principalId"] == assigned["principalId"]
    account("identity", "remove")
    assert account("show")["identity"]["type"] == "None"


def test_a_customers_key_is_refused_with_what_to_do_bound_taken_away_and_left(az: Az, group: str) -> None:
    account = Account(az, group)
    with vault_names():  # Azure's Key Vault client makes vault and key; `az` does everything about the account
        kept = KeptKey(az.live, account.id)
        try:
            wrong = json.dumps(kept.encryption(keyName="none"))
            said = az.refused("cognitiveservices", "account", "update", *account.options, "--encryption", wrong)
            assert "CustomerManagedKeyPreflightFailed" in said
            assert "is not in the vault" in said
            bound = account("update", "--encryption", json.dumps(kept.encryption()))
            assert bound["properties"]["encryption"]["keyVaultProperties"]["keyName"] == "k1"
            key = account("keys", "list")["key1"]
            assert account.models(api_key=key).status_code == 200
            az("role", "assignment", "delete", "--ids", kept.role)
            assert account.models(api_key=key).status_code == 403
            # What the explanation proposes gives it back.
            status = az("rest", "--method", "get", "--url", f"{account.id}/encryptionStatus?api-version=2025-09-01")
            command = status["problems"][0]["command"]
            az(*shlex.split(command)[1:])
            assert account.models(api_key=key).status_code == 200
            account("update", "--encryption", json.dumps({"keySource": "Microsoft.CognitiveServices"}))
            assert account("show")["properties"]["encryption"]["keySource"] == "Microsoft.CognitiveServices"
        finally:
            kept.close()


def test_a_deployment_is_created_listed_shown_used_and_deleted(account: Account) -> None:
    deployment = ("--deployment-name", "vectors")
    model = ("--model-format", "OpenAI", "--model-name", "all-minilm-l6-v2", "--model-version", "1")
    account("deployment", "create", *deployment, *model, "--sku-name", "Standard", "--sku-capacity", "10")
    shown = account("deployment", "show", *deployment)
    assert shown["properties"]["model"]["name"] == "all-minilm-l6-v2"
    assert shown["sku"] == {**shown["sku"], "name": "Standard", "capacity": 10}
    assert [entry["name"] for entry in account("deployment", "list")] == ["vectors"]

    def embed() -> requests.Response:
        url = f"{account.made['properties']['endpoint']}openai/deployments/vectors/embeddings?api-version={API_VERSION}"
        headers = {"api-key": account("keys", "list")["key2"]}
        return requests.post(
            url, json={"input": "a cat"}, headers=headers, verify=str(account.az.live.bundle), timeout=60
        )

    assert len(embed().json()["data"][0]["embedding"]) == 384
    account("deployment", "delete", *deployment)
    assert embed().json()["error"]["code"] == "DeploymentNotFound"
    assert account("deployment", "list") == []


def test_a_deployment_of_an_unknown_model_is_refused_with_what_there_is(az: Az, account: Account) -> None:
    wanted = ("--deployment-name", "big", "--model-format", "OpenAI", "--model-name", "gpt-9", "--model-version", "1")
    sku = ("--sku-name", "Standard", "--sku-capacity", "1")
    said = az.refused("cognitiveservices", "account", "deployment", "create", *wanted, *sku, *account.options)
    assert "DeploymentModelNotSupported" in said
    assert "smollm2-135m-instruct" in said


def test_a_network_rule_shuts_out_everybody_else(az: Az, group: str) -> None:
    account = Account(az, group)
    key = account("keys", "list")["key1"]
    assert account.models(api_key=key).status_code == 200
    account("network-rule", "add", "--ip-address", "203.0.113.7")
    az("resource", "update", "--ids", account.id, "--set", "properties.networkAcls.defaultAction=Deny")
    refused = account.models(api_key=key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "403")
    account("network-rule", "add", "--ip-address", "127.0.0.1")
    assert account.models(api_key=key).status_code == 200
    listed = account("network-rule", "list")
    assert {rule["value"] for rule in listed["ipRules"]} == {"203.0.113.7", "127.0.0.1"}
    account("network-rule", "remove", "--ip-address", "127.0.0.1")
    assert account.models(api_key=key).status_code == 403


def test_a_subnet_is_admitted_by_name(az: Az, group: str) -> None:
    account = Account(az, group)
    key = account("keys", "list")["key1"]
    where, net = ("--resource-group", group), new_name("net")
    made = az("network", "vnet", "create", *where, "--name", net, "--address-prefixes", "127.0.0.0/8", "--subnet-name", "first",
              "--subnet-prefixes", "127.1.0.0/16")  # fmt: skip
    assert [subnet["name"] for subnet in made["newVNet"]["subnets"]] == ["first"]
    here = ("--vnet-name", net, "--name", "here")
    az("network", "vnet", "subnet", "create", *where, *here, "--address-prefixes", "127.0.0.0/16")
    az("resource", "update", "--ids", account.id, "--set", "properties.networkAcls.defaultAction=Deny")
    assert account.models(api_key=key).status_code == 403
    updated = az(
        "network", "vnet", "subnet", "update", *where, *here, "--service-endpoints", "Microsoft.CognitiveServices"
    )
    assert [one["service"] for one in updated["serviceEndpoints"]] == ["Microsoft.CognitiveServices"]
    account("network-rule", "add", "--vnet-name", net, "--subnet", "here")
    assert account.models(api_key=key).status_code == 200
    [rule] = account("network-rule", "list")["virtualNetworkRules"]
    assert rule["id"].endswith(f"/virtualNetworks/{net}/subnets/here")
    account("network-rule", "remove", "--vnet-name", net, "--subnet", "here")
    assert account.models(api_key=key).status_code == 403
    assert {subnet["name"] for subnet in az("network", "vnet", "subnet", "list", *where, "--vnet-name", net)} == {
        "first",
        "here",
    }
    az("network", "vnet", "subnet", "delete", *where, *here)
    assert net in {entry["name"] for entry in az("network", "vnet", "list", *where)}
    az("network", "vnet", "update", *where, "--name", net, "--set", "tags.a=b")
    assert [subnet["name"] for subnet in az("network", "vnet", "show", *where, "--name", net)["subnets"]] == ["first"]
    az("network", "vnet", "delete", *where, "--name", net)


def test_a_private_endpoint_is_made_decided_on_and_deleted(az: Az, group: str) -> None:
    account, where, net, name = Account(az, group), ("--resource-group", group), new_name("net"), new_name("endpoint")
    az("network", "vnet", "create", *where, "--name", net, "--subnet-name", "first")
    made = az("network", "private-endpoint", "create", *where, "--name", name, "--vnet-name", net, "--subnet", "first",
              "--private-connection-resource-id", account.id, "--group-id", "account", "--connection-name", "link")  # fmt: skip
    [connection] = made["privateLinkServiceConnections"]
    assert connection["privateLinkServiceConnectionState"]["status"] == "Approved"
    assert made["customDnsConfigs"][0]["ipAddresses"] == ["10.0.0.4"]
    [resource] = az("network", "private-link-resource", "list", "--id", account.id)
    assert resource["properties"]["groupId"] == "account"
    [found] = az("network", "private-endpoint-connection", "list", "--id", account.id)
    for verb, status in (("reject", "Rejected"), ("approve", "Approved")):
        decided = az("network", "private-endpoint-connection", verb, "--id", found["id"], "--description", "by az")
        assert decided["properties"]["privateLinkServiceConnectionState"]["status"] == status
    shown = az("network", "private-endpoint", "show", *where, "--name", name)
    assert shown["privateLinkServiceConnections"][0]["privateLinkServiceConnectionState"]["description"] == "by az"
    assert name in {entry["name"] for entry in az("network", "private-endpoint", "list", *where)}
    az("network", "private-endpoint", "update", *where, "--name", name, "--set", "tags.a=b")
    az("network", "private-endpoint", "delete", *where, "--name", name)
    [left] = az("network", "private-endpoint-connection", "list", "--id", account.id)
    assert left["properties"]["privateLinkServiceConnectionState"]["status"] == "Disconnected"
    az("network", "private-endpoint-connection", "delete", "--id", left["id"], "--yes")


def test_a_perimeter_is_made_with_az_rest(az: Az, group: str) -> None:
    """`az network perimeter` is an extension; `az rest` and `az resource` reach the same documents."""
    account = Account(az, group)
    key = account("keys", "list")["key1"]
    line = f"/subscriptions/{az.live.subscription}/resourceGroups/{group}/providers/Microsoft.Network/networkSecurityPerimeters/line1"

    def put(path: str, body: Any) -> Any:
        return az("rest", "--method", "put", "--url", f"{path}?api-version=2025-05-01", "--body", json.dumps(body))

    put(line, {"location": az.live.location})
    put(f"{line}/profiles/main", {})
    joined = {
        "privateLinkResource": {"id": account.id},
        "profile": {"id": f"{line}/profiles/main"},
        "accessMode": "Enforced",
    }
    put(f"{line}/resourceAssociations/chat", {"properties": joined})
    assert account.models(api_key=key).status_code == 403
    put(
        f"{line}/profiles/main/accessRules/here",
        {"properties": {"direction": "Inbound", "addressPrefixes": ["127.0.0.0/8"]}},
    )
    assert account.models(api_key=key).status_code == 200
    assert "line1" in {entry["name"] for entry in az("resource", "list", "--resource-group", group)}
    az("resource", "delete", "--ids", f"{line}/resourceAssociations/chat", "--api-version", "2025-05-01")


def test_loss_prevention_is_set_tried_and_enforced(az: Az, group: str) -> None:
    account = Account(az, group)
    model = ("--model-format", "OpenAI", "--model-name", "smollm2-135m-instruct", "--model-version", "1")
    sku = ("--sku-name", "Standard", "--sku-capacity", "10")
    account("deployment", "create", "--deployment-name", "chat", *model, *sku)
    key = account("keys", "list")["key1"]

    def status() -> int:
        """Ask with a URI, in a text, that is not on the list."""
        url = f"{account.made['properties']['endpoint']}openai/deployments/chat/chat/completions?api-version={API_VERSION}"
        said = [{"role": "user", "content": "Say hello to https://elsewhere.example/."}]
        body = {"messages": said, "max_tokens": 4}
        return requests.post(
            url, json=body, headers={"api-key": key}, verify=str(az.live.bundle), timeout=90
        ).status_code

    def patch(properties: Any) -> None:
        body = json.dumps({"properties": properties})
        url = f"{account.id}?api-version=2025-09-01"
        az("rest", "--method", "patch", "--url", url, "--body", body)

    patch({
        "restrictOutboundNetworkAccess": True,
        "allowedFqdnList": ["images.example.com"],
        "stockade": {"controls": {"dlp": "report"}},
    })  # fmt: skip
    shown = account("show")["properties"]
    assert (shown["restrictOutboundNetworkAccess"], shown["allowedFqdnList"]) == (True, ["images.example.com"])
    assert status() == 200
    az("resource", "update", "--ids", account.id, "--set", "properties.stockade.controls.dlp=enforce")
    assert status() == 400
    patch({"allowedFqdnList": ["images.example.com", "*.example"]})
    assert status() == 200


def test_what_is_on_offer_is_listed(az: Az, account: Account) -> None:
    skus = az("cognitiveservices", "account", "list-skus", "--location", az.live.location, "--kind", "OpenAI")
    assert {entry["name"] for entry in skus} == {"S0", "E0"}
    assert [entry["restrictions"][0]["reasonCode"] for entry in skus if entry["name"] == "E0"] == [
        "NotAvailableForSubscription"
    ]
    assert {"OpenAI", "SpeechServices", "TextAnalytics"} <= set(az("cognitiveservices", "account", "list-kinds"))
    assert [entry["sku"]["name"] for entry in account("list-skus")["value"]] == ["S0"]
    assert account("list-usage") == []
    assert {model["name"] for model in account("list-models")} >= {"smollm2-135m-instruct", "all-minilm-l6-v2"}
    models = az("cognitiveservices", "model", "list", "--location", az.live.location)
    assert {entry["model"]["name"] for entry in models} >= {"smollm2-135m-instruct"}
    usage = az("cognitiveservices", "usage", "list", "--location", az.live.location)
    assert "OpenAI.Standard.smollm2-135m-instruct" in {entry["name"]["value"] for entry in usage}


def test_a_deleted_account_can_be_recovered_until_it_is_purged(az: Az, group: str) -> None:
    account = Account(az, group)
    keys = account("keys", "list")
    where = ("--location", az.live.location)
    account("delete")
    assert account.models(api_key=keys["key1"]).status_code == 404
    deleted = az("cognitiveservices", "account", "list-deleted")
    assert account.name in {entry["name"] for entry in deleted}
    assert account("show-deleted", *where)["properties"]["deletionDate"]
    account("recover", *where)
    assert account("keys", "list") == keys
    assert account.models(api_key=keys["key1"]).status_code == 200
    account("delete")
    account("purge", *where)
    assert account.name not in {entry["name"] for entry in az("cognitiveservices", "account", "list-deleted")}
    assert account.models(api_key=keys["key1"]).status_code == 404


# Roles


def test_a_role_assigned_by_application_id_is_stored_by_object_id_and_lets_it_in(
    az: Az, account: Account, application: Mapping[str, str], tmp_path: Path
) -> None:
    other = Az(az.live, tmp_path)
    other.register()
    who = ("--username", application["clientId"], "--password", application["clientSecret"])
    other("login", "--service-principal", *who, "--tenant", az.live.tenant, "--allow-no-subscriptions")
    token = other("account", "get-access-token", "--resource", AI, "--tenant", az.live.tenant)["accessToken"]
    assert account.models(authorization=f"Bearer {token}").json()["error"]["code"] == "PermissionDenied"

    role = ("--role", OPENAI_USER, "--scope", account.id)
    made = az("role", "assignment", "create", "--assignee", application["clientId"], *role)
    assert made["principalId"] == application["objectId"]
    assert account.models(authorization=f"Bearer {token}").status_code == 200

    [listed] = az("role", "assignment", "list", "--assignee", application["clientId"], "--scope", account.id)
    assert (listed["principalName"], listed["roleDefinitionName"]) == (application["clientId"], OPENAI_USER)
    az("role", "assignment", "delete", "--assignee", application["clientId"], *role)
    assert account.models(authorization=f"Bearer {token}").json()["error"]["code"] == "PermissionDenied"


def test_a_role_is_assigned_by_object_id_without_asking_the_directory(
    az: Az, account: Account, application: Mapping[str, str]
) -> None:
    who = ("--assignee-object-id", application["objectId"], "--assignee-principal-type", "ServicePrincipal")
    made = az("role", "assignment", "create", *who, "--role", OPENAI_USER, "--scope", account.id)
    assert (made["principalId"], made["principalType"]) == (application["objectId"], "ServicePrincipal")
    for names in ("true", "false"):
        listed = az("role", "assignment", "list", "--scope", account.id, "--fill-principal-name", names)
        assert made["id"] in {entry["id"] for entry in listed}
    az("role", "assignment", "delete", "--ids", made["id"])
    assert made["id"] not in {entry["id"] for entry in az("role", "assignment", "list", "--scope", account.id)}


@pytest.mark.parametrize("option", ["--assignee", "--assignee-object-id"])
def test_a_role_for_somebody_unknown_is_refused(az: Az, account: Account, option: str) -> None:
    kind = ("--assignee-principal-type", "ServicePrincipal") if option == "--assignee-object-id" else ()
    role = ("--role", OPENAI_USER, "--scope", account.id)
    stranger = str(uuid.uuid4())
    said = az.refused("role", "assignment", "create", option, stranger, *kind, *role)
    assert "PrincipalNotFound" in said or "Cannot find user or service principal" in said
    listed = az("role", "assignment", "list", "--scope", account.id, "--fill-principal-name", "false")
    assert stranger not in {entry["principalId"] for entry in listed}


def test_role_definitions_are_listed_created_updated_and_deleted(az: Az) -> None:
    [builtin] = az("role", "definition", "list", "--name", OPENAI_USER)
    assert builtin["roleType"] == "BuiltInRole"
    name = new_name("Embedder")
    scope = f"/subscriptions/{az.live.subscription}"
    action = "Microsoft.CognitiveServices/accounts/OpenAI/deployments/embeddings/action"
    wanted = {
        "Name": name,
        "Description": "May embed",
        "Actions": [],
        "DataActions": [action],
        "AssignableScopes": [scope],
    }
    made = az("role", "definition", "create", "--role-definition", json.dumps(wanted))
    assert made["permissions"][0]["dataActions"] == [action]
    [listed] = az("role", "definition", "list", "--name", name, "--custom-role-only", "true")
    assert listed["name"] == made["name"]
    changed = {
        **wanted,
        "Id": made["name"],
        "Name": made["name"],
        "roleName": name,
        "Description": "May embed a little",
    }
    assert (
        az("role", "definition", "update", "--role-definition", json.dumps(changed))["description"]
        == "May embed a little"
    )
    az("role", "definition", "delete", "--name", name)
    assert az("role", "definition", "list", "--name", name) == []


def test_the_directory_tells_who_a_principal_is(az: Az, application: Mapping[str, str]) -> None:
    found = az("ad", "sp", "show", "--id", application["clientId"])
    assert (found["id"], found["appId"]) == (application["objectId"], application["clientId"])


# Managed identities


def test_a_user_assigned_identity_is_made_and_given_a_role(az: Az, group: str, account: Account) -> None:
    name = new_name("identity")
    made = az("identity", "create", "--resource-group", group, "--name", name)
    assert made["principalId"] and made["clientId"] and made["tenantId"] == az.live.tenant
    assert az("identity", "show", "--resource-group", group, "--name", name)["principalId"] == made["principalId"]
    assert name in {entry["name"] for entry in az("identity", "list", "--resource-group", group)}
    role = ("--role", OPENAI_USER, "--scope", account.id)
    assert (
        az("role", "assignment", "create", "--assignee", made["clientId"], *role)["principalId"] == made["principalId"]
    )
    az("identity", "delete", "--resource-group", group, "--name", name)
    assert az("identity", "list", "--resource-group", group) == []


def test_this_machine_signs_in_with_its_own_identity(az: Az, account: Account, tmp_path: Path) -> None:
    [machine] = [
        entry
        for entry in json.loads(az.live.stockade("identity", "list", "--format", "json"))
        if entry["kind"] == "machine"
    ]
    who = ("--assignee-object-id", machine["objectId"], "--assignee-principal-type", "ServicePrincipal")
    az("role", "assignment", "create", *who, "--role", "Reader", "--scope", account.id)
    here = Az(az.live, tmp_path, AZURE_POD_IDENTITY_AUTHORITY_HOST=az.live.metadata)
    here.register()
    here("login", "--identity")
    assert here("cognitiveservices", "account", "show", *account.options)["id"] == account.id
    assert "AuthorizationFailed" in here.refused("cognitiveservices", "account", "keys", "list", *account.options)
    az("role", "assignment", "delete", "--assignee", machine["objectId"], "--role", "Reader", "--scope", account.id)
    assert "AuthorizationFailed" in here.refused("cognitiveservices", "account", "show", *account.options)


# What an explanation says would help, done as it says


def explained(az: Az, answer: requests.Response) -> Any:
    return json.loads(az.live.stockade("explain", answer.headers["apim-request-id"], "--format", "json"))


def follow(az: Az, told: Any, start: str) -> None:
    """Run the command among those that would help that begins with these words."""
    [command] = [one["command"] for one in told["wouldHelp"] if one.get("command", "").startswith(start)]
    az(*shlex.split(command)[1:])


def test_what_would_help_a_refused_caller_is_done_by_az(az: Az, group: str, application: Mapping[str, str]) -> None:
    account = Account(az, group)
    key = account("keys", "list")["key1"]
    account("network-rule", "add", "--ip-address", "192.0.2.1")
    az("resource", "update", "--ids", account.id, "--set", "properties.networkAcls.defaultAction=Deny")
    follow(az, explained(az, account.models(api_key=key)), "az cognitiveservices account network-rule add")
    assert account.models(api_key=key).status_code == 200

    az("resource", "update", "--ids", account.id, "--set", "properties.publicNetworkAccess=Disabled")
    follow(az, explained(az, account.models(api_key=key)), "az resource update")
    assert account.models(api_key=key).status_code == 200

    az("resource", "update", "--ids", account.id, "--set", "properties.disableLocalAuth=true")
    follow(az, explained(az, account.models(api_key=key)), "az resource update")
    assert account.models(api_key=key).status_code == 200

    with az.live.credential(application["clientId"], application["clientSecret"]) as credential:
        token = credential.get_token(f"{AI}/.default").token
    follow(az, explained(az, account.models(authorization=f"Bearer {token}")), "az role assignment create")
    assert account.models(authorization=f"Bearer {token}").status_code == 200


def test_a_host_is_listed_as_an_explanation_says_also_where_no_list_is_yet(az: Az, group: str) -> None:
    account = Account(az, group)
    key = account("keys", "list")["key1"]
    model = ("--model-name", "smollm2-135m-instruct", "--model-version", "1", "--model-format", "OpenAI")
    account(
        "deployment", "create", "--deployment-name", "chat", *model, "--sku-name", "Standard", "--sku-capacity", "100"
    )
    az("resource", "update", "--ids", account.id, "--set", "properties.restrictOutboundNetworkAccess=true")
    url = f"{account.made['properties']['endpoint']}openai/deployments/chat/chat/completions?api-version={API_VERSION}"

    def chat() -> requests.Response:
        sources = [{"type": "azure_search", "parameters": {"endpoint": "https://index.example/"}}]
        body = {"messages": [{"role": "user", "content": "hi"}], "data_sources": sources}
        return requests.post(url, json=body, headers={"api-key": key}, verify=str(az.live.bundle), timeout=60)

    assert "OutboundUriNotAllowed" in chat().text
    follow(az, explained(az, chat()), "az resource update")
    assert "OutboundUriNotAllowed" not in chat().text
    az("resource", "update", "--ids", account.id, "--set", "properties.allowedFqdnList=[]")
    follow(az, explained(az, chat()), "az resource update")
    assert "OutboundUriNotAllowed" not in chat().text


def test_modes_and_proposals_are_set_by_az_rest(az: Az, group: str, tmp_path: Path) -> None:
    account = Account(az, group)
    key = account("keys", "list")["key1"]
    url = f"{account.id}?api-version=2025-09-01"
    trying = {"properties": {"networkAcls": {"defaultAction": "Deny"}, "stockade": {"controls": {"network": "report"}}}}
    az("rest", "--method", "patch", "--url", url, "--body", json.dumps(trying))
    explained(az, account.models(api_key=key))  # waits until it is written
    file = tmp_path / "proposal.json"
    az.live.stockade("report", account.name, "--control", "network", "--patch", str(file))
    az("rest", "--method", "patch", "--url", url, "--body", f"@{file}")
    az("resource", "update", "--ids", account.id, "--set", "properties.stockade.controls.network=enforce")
    assert account.models(api_key=key).status_code == 200


# Whatever has no command of its own


def test_resources_are_reached_without_their_own_commands(az: Az, account: Account, group: str) -> None:
    url = f"{az.live.arm}{account.id}?api-version=2025-09-01"
    assert az("rest", "--method", "get", "--url", url)["name"] == account.name
    assert az("rest", "--method", "get", "--url", f"{account.id}?api-version=2025-09-01")["name"] == account.name
    assert az("resource", "show", "--ids", account.id)["name"] == account.name
    assert account.id in {entry["id"] for entry in az("resource", "list", "--resource-group", group)}


def test_the_activity_log_tells_what_was_done(az: Az, account: Account, group: str) -> None:
    asked = ("monitor", "activity-log", "list", "--offset", "1h", "--max-events", "1000")

    def listed(*more: str) -> list[tuple[str, str]]:
        found = [(one["operationName"]["value"], one["status"]["value"]) for one in az(*asked, *more)]
        return [(operation.rpartition("/")[0].rpartition("/")[2].lower(), status) for operation, status in found]

    wait_for(lambda: ("accounts", "Succeeded") in listed("--resource-id", account.id), "the account's making")
    assert {"resourcegroups", "accounts"} <= {operation for operation, _ in listed("--resource-group", group)}
    assert {status for _, status in listed("--resource-group", group, "--status", "Started")} == {"Started"}
    assert listed("--caller", "nobody@example.com") == []
    assert "90 days" in az.refused("monitor", "activity-log", "list", "--offset", "100d")
    assert "Administrative" in {one["value"] for one in az("monitor", "activity-log", "list-categories")}


def test_the_provider_is_registered_and_says_what_it_has(az: Az) -> None:
    assert az("provider", "show", "--namespace", "Microsoft.CognitiveServices")["registrationState"] == "Registered"
    az("provider", "register", "--namespace", "Microsoft.CognitiveServices")
    types = az("provider", "show", "--namespace", "Microsoft.CognitiveServices")["resourceTypes"]
    assert "accounts" in {entry["resourceType"] for entry in types}


# Key vaults

RESOLVER = """import socket
real = socket.getaddrinfo
def resolve(host, *more, **named):
    ours = isinstance(host, str) and host.lower().endswith(".stockade.localhost")
    return real("127.0.0.1" if ours else host, *more, **named)
socket.getaddrinfo = resolve
"""
"""What a name server, or the file of hosts, does on other machines: this one resolves no names below `localhost`."""


@pytest.fixture(scope="module")
def vaults(az: Az, tmp_path_factory: pytest.TempPathFactory) -> Az:
    """The same command line, where the names of vaults resolve."""
    folder = tmp_path_factory.mktemp("resolver")
    (folder / "sitecustomize.py").write_text(RESOLVER)
    return Az(az.live, Path(az._environment["AZURE_CONFIG_DIR"]), PYTHONPATH=str(folder))


def test_a_vault_with_keys_and_secrets(vaults: Az, group: str) -> None:
    name = "v" + new_name("")[-12:]
    made = vaults("keyvault", "create", "--name", name, "--resource-group", group, "--location", vaults.live.location)
    assert made["properties"]["enableRbacAuthorization"] is True
    assert made["properties"]["vaultUri"].startswith(f"https://{name}.vault.stockade.localhost:")
    here = ("--vault-name", name)
    assert "Forbidden" in vaults.refused("keyvault", "key", "create", *here, "--name", "k1")
    me = vaults("ad", "sp", "show", "--id", vaults.live.admin[0])["id"]
    who = ("--assignee-object-id", me, "--assignee-principal-type", "ServicePrincipal")
    vaults("role", "assignment", "create", *who, "--role", "Key Vault Administrator", "--scope", made["id"])

    key = vaults("keyvault", "key", "create", *here, "--name", "k1", "--kty", "RSA", "--size", "2048")
    kid = key["key"]["kid"]
    asked = ("--algorithm", "RSA-OAEP-256", "--data-type", "plaintext")
    sealed = vaults("keyvault", "key", "encrypt", "--id", kid, "--value", "plain text", *asked)["result"]
    opened = vaults("keyvault", "key", "decrypt", "--id", kid, "--value", sealed, *asked)
    assert opened["result"] == "plain text"
    digest = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
    assert vaults("keyvault", "key", "sign", "--id", kid, "--algorithm", "RS256", "--digest", digest)["signature"]

    vaults("keyvault", "secret", "set", *here, "--name", "s1", "--value", "hush")
    assert vaults("keyvault", "secret", "show", *here, "--name", "s1")["value"] == "hush"

    vaults("keyvault", "key", "delete", *here, "--name", "k1")
    assert [entry["name"] for entry in vaults("keyvault", "key", "list-deleted", *here)] == ["k1"]
    assert vaults("keyvault", "key", "recover", *here, "--name", "k1")["key"]["kid"] == kid
    vaults("keyvault", "secret", "delete", *here, "--name", "s1")
    vaults("keyvault", "secret", "purge", *here, "--name", "s1")
    assert vaults("keyvault", "secret", "list-deleted", *here) == []

    vaults("keyvault", "update", "--name", name, "--default-action", "Deny")
    vaults("keyvault", "network-rule", "add", "--name", name, "--ip-address", "203.0.113.7")
    assert "not authorized" in vaults.refused("keyvault", "secret", "list", *here)
    vaults("keyvault", "delete", "--name", name)
    assert name in {entry["name"] for entry in vaults("keyvault", "list-deleted")}
    vaults("keyvault", "recover", "--name", name, "--location", vaults.live.location)
    vaults("keyvault", "delete", "--name", name)
    vaults("keyvault", "purge", "--name", name, "--location", vaults.live.location)
    assert name not in {entry["name"] for entry in vaults("keyvault", "list-deleted")}


def test_the_default_vault_is_reached_on_localhost(vaults: Az) -> None:
    name = new_name("key")
    kid = f"{vaults.live.arm}/keys/{name}"
    assert vaults("keyvault", "key", "create", "--id", kid, "--kty", "EC")["key"]["kid"].startswith(kid)
    assert vaults("keyvault", "key", "show", "--id", kid)["key"]["crv"] == "P-256"


def test_diagnostic_settings_send_records_to_sinks(live_server: StartServer, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    live = live_server(
        "--workers", "1", settings=f'[[audit.sinks]]\nname = "files"\ntype = "file"\nurl = "file://{folder}"\n'
    )
    az = Az(live, tmp_path / "az")
    az.register()
    az.login(*live.admin)
    account, sink = (
        live.account_id("demo-openai"),
        f"/subscriptions/{live.subscription}/providers/Stockade.Audit/sinks/files",
    )
    of_account = ("--name", "all", "--resource", account)
    named = ("--resource-group", live.resource_group, "--name", "demo-openai")
    logs = ("--logs", json.dumps([{"categoryGroup": "allLogs", "enabled": True}]))
    made = az("monitor", "diagnostic-settings", "create", *of_account, "--workspace", sink, *logs)
    assert (made["workspaceId"], made["logs"][0]["categoryGroup"]) == (sink, "allLogs")
    assert az("monitor", "diagnostic-settings", "show", *of_account)["id"] == made["id"]
    listed = az("monitor", "diagnostic-settings", "list", "--resource", account)
    assert [one["name"] for one in listed] == ["all"]
    categories = az("monitor", "diagnostic-settings", "categories", "list", "--resource", account)
    assert {one["name"] for one in categories["value"]} == {"Audit", "RequestResponse"}
    real = ("--workspace", "not-ours", *logs)
    said = az.refused("monitor", "diagnostic-settings", "create", "--name", "b", "--resource", account, *real)
    assert "DestinationNotSupported" in said
    of_subscription = ("--name", "activity", "--location", "global", "--storage-account", sink)
    administrative = json.dumps([{"category": "Administrative", "enabled": True}])
    az("monitor", "diagnostic-settings", "subscription", "create", *of_subscription, "--logs", administrative)
    az("cognitiveservices", "account", "keys", "regenerate", "--key-name", "Key2", *named)
    file = folder / "files.jsonl"
    wait_for(lambda: file.exists() and "regenerateKey" in file.read_text(), "the change is in the sink's file")
    az("monitor", "diagnostic-settings", "delete", *of_account)
    az("monitor", "diagnostic-settings", "subscription", "delete", "--name", "activity", "--yes")
    assert "ResourceNotFound" in az.refused("monitor", "diagnostic-settings", "show", *of_account)
