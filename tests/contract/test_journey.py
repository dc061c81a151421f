"""What the platform promises, told from outside: who is let in, and that a change is in force at the next request on every worker.

Azure's unmodified management clients make the changes; the requests they are to govern are plain HTTPS, so that which connection, and which
credential, is in the test's hands. The server has two workers.
"""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential, EnvironmentCredential, ManagedIdentityCredential

from tests.factories.azure import (
    ARM_SCOPE,
    DATA_SCOPE,
    OPENAI_USER,
    Account,
    Azure,
    bearer,
    models_url,
    new_name,
)
from tests.factories.databases import PostgreSQL
from tests.live import Live, finish, start, wait_for

WORKERS = 2
CONNECTIONS = 24
MODELS_READ = "Microsoft.CognitiveServices/accounts/OpenAI/models/read"
DENY_VERSION = "2024-07-01-preview"


@pytest.fixture(scope="module")
def account(azure: Azure) -> Account:
    """An account that tests read from and do not change."""
    return azure.new_account()


@pytest.fixture(scope="module")
def on_postgresql(postgresql: PostgreSQL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """A server of its own that keeps its documents in PostgreSQL."""
    folder = tmp_path_factory.mktemp("postgresql") / "data"
    live = start(folder, "--workers", str(WORKERS), database_url=postgresql.create())
    yield Azure(live)
    finish(live)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Azure:
    """The same promises on both databases."""
    found: Azure = request.getfixturevalue("azure" if request.param == "sqlite" else "on_postgresql")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", found.live.environment["REQUESTS_CA_BUNDLE"])
    return found


@pytest.fixture
def connections(platform: Azure) -> Iterator[list[http.client.HTTPSConnection]]:
    """Open connections that together reach every worker."""
    with ExitStack() as opened:
        found = []
        for _ in range(CONNECTIONS):
            connection = platform.connection(platform.live.data)
            opened.callback(connection.close)
            connection.connect()
            found.append(connection)
        assert len(platform.workers_of(found)) == WORKERS
        yield found


def on_all(
    azure: Azure, account: Account, headers: dict[str, str], connections: list[http.client.HTTPSConnection]
) -> set[int]:
    """Send the request over every connection; return the statuses."""
    return {azure.models(account, headers, over=connection).status for connection in connections}


# Roles


def test_a_token_without_a_role_is_told_who_may_not_do_what_where_and_what_would_help(
    azure: Azure, account: Account
) -> None:
    principal = azure.new_principal()
    refused = azure.models(account, bearer(azure.token(principal)))
    assert refused.status == 401
    error = refused.json["error"]
    assert error["code"] == "PermissionDenied"
    for expected in (principal.object_id, MODELS_READ, account.id, OPENAI_USER):
        assert expected in error["message"], expected
    assert refused.headers["x-stockade-decision"]
    assert "retry-after" not in refused.headers


def test_a_role_counts_for_a_token_that_is_already_out_from_the_next_request_until_it_is_taken_away(
    platform: Azure, connections: list[http.client.HTTPSConnection]
) -> None:
    account, principal = platform.new_account(), platform.new_principal()
    headers = bearer(platform.token(principal))
    assert on_all(platform, account, headers, connections) == {401}
    assignment = platform.assign(OPENAI_USER, account.id, principal.object_id)
    assert on_all(platform, account, headers, connections) == {200}
    platform.authorization.role_assignments.delete_by_id(assignment)
    assert on_all(platform, account, headers, connections) == {401}


@pytest.mark.parametrize("scope", ["subscription", "group", "account"])
def test_a_role_is_inherited_from_every_scope_above(azure: Azure, account: Account, scope: str) -> None:
    principal = azure.new_principal()
    scopes = {"subscription": f"/subscriptions/{azure.subscription}", "account": account.id}
    scopes["group"] = f"{scopes['subscription']}/resourceGroups/{account.group}"
    headers = bearer(azure.token(principal))
    assignment = azure.assign(OPENAI_USER, scopes[scope], principal.object_id)
    assert azure.models(account, headers).status == 200
    azure.authorization.role_assignments.delete_by_id(assignment)
    assert azure.models(account, headers).status == 401


def test_owning_the_subscription_gives_no_data_action(azure: Azure, account: Account) -> None:
    token = azure.administrator.get_token(DATA_SCOPE).token
    assert azure.models(account, bearer(token)).json["error"]["code"] == "PermissionDenied"


def test_a_role_of_a_group_counts_for_its_members_while_they_are_members(azure: Azure, account: Account) -> None:
    principal = azure.new_principal()
    headers = bearer(azure.token(principal))
    group = json.loads(azure.live.stockade("identity", "group", "create", new_name("team"), "--format", "json"))[
        "objectId"
    ]
    azure.assign(OPENAI_USER, account.id, group, "Group")
    assert azure.models(account, headers).status == 401
    azure.live.stockade("identity", "group", "add", group, principal.object_id)
    assert azure.models(account, headers).status == 200
    azure.live.stockade("identity", "group", "remove", group, principal.object_id)
    assert azure.models(account, headers).status == 401


def test_a_custom_role_gives_what_it_lists_less_what_it_takes_back(azure: Azure, account: Account) -> None:
    principal = azure.new_principal()
    headers = bearer(azure.token(principal))
    scope = f"/subscriptions/{azure.subscription}"
    permission = {
        "dataActions": ["Microsoft.CognitiveServices/accounts/OpenAI/*"],
        "notDataActions": ["Microsoft.CognitiveServices/accounts/OpenAI/deployments/*"],
    }
    role_id, name = str(uuid.uuid4()), new_name("Lister")
    definition = {
        "role_name": name,
        "role_type": "CustomRole",
        "permissions": [permission],
        "assignable_scopes": [scope],
    }
    azure.authorization.role_definitions.create_or_update(scope, role_id, definition)
    azure.assign(name, account.id, principal.object_id)
    assert azure.models(account, headers).status == 200
    url = f"{account.endpoint}openai/deployments/chat/chat/completions?api-version=2024-10-21"
    taken_back = azure.send("POST", url, headers, {"messages": []})
    assert (taken_back.status, taken_back.json["error"]["code"]) == (401, "PermissionDenied")
    definition["permissions"] = [{"dataActions": ["Microsoft.CognitiveServices/accounts/OpenAI/files/*"]}]
    azure.authorization.role_definitions.create_or_update(scope, role_id, definition)
    assert azure.models(account, headers).status == 401


def test_a_deny_assignment_wins_over_every_role(azure: Azure, account: Account) -> None:
    principal, exempt = azure.new_principal(), azure.new_principal()
    for each in (principal, exempt):
        azure.assign(OPENAI_USER, account.id, each.object_id)
    headers, others = bearer(azure.token(principal)), bearer(azure.token(exempt))
    path = f"{account.id}/providers/Microsoft.Authorization/denyAssignments/{uuid.uuid4()}"
    properties = {
        "denyAssignmentName": "No listing",
        "permissions": [{"dataActions": [MODELS_READ]}],
        "principals": [{"id": "00000000-0000-0000-0000-000000000000", "type": "SystemDefined"}],
        "excludePrincipals": [{"id": exempt.object_id, "type": "ServicePrincipal"}],
    }
    assert azure.arm("PUT", path, {"properties": properties}, DENY_VERSION).status in {200, 201}
    refused = azure.models(account, headers)
    assert (refused.status, refused.json["error"]["code"]) == (401, "PermissionDenied")
    assert "No listing" in refused.json["error"]["message"]
    assert azure.models(account, others).status == 200
    assert azure.arm("DELETE", path, api_version=DENY_VERSION).status in {200, 204}
    assert azure.models(account, headers).status == 200


def test_a_role_for_somebody_the_directory_does_not_know_is_refused(azure: Azure, account: Account) -> None:
    with pytest.raises(HttpResponseError) as refused:
        azure.assign(OPENAI_USER, account.id, str(uuid.uuid4()))
    assert refused.value.error is not None
    assert refused.value.error.code == "PrincipalNotFound"


def test_a_deleted_principal_is_refused_at_its_next_request(azure: Azure, account: Account) -> None:
    principal = azure.new_principal()
    headers = bearer(azure.token(principal))
    azure.assign(OPENAI_USER, account.id, principal.object_id)
    assert azure.models(account, headers).status == 200
    azure.live.stockade("identity", "delete", principal.object_id)
    assert azure.models(account, headers).status == 401


def test_who_may_not_manage_is_told_so_by_the_management_client(azure: Azure, account: Account) -> None:
    principal = azure.new_principal()
    azure.assign(OPENAI_USER, account.id, principal.object_id)
    client = azure.cognitive_as(azure.credential(principal.client_id, principal.client_secret))
    assert client.accounts.get(account.group, account.name).id == account.id
    with pytest.raises(HttpResponseError) as refused:
        client.accounts.list_keys(account.group, account.name)
    assert (refused.value.status_code, refused.value.error.code) == (403, "AuthorizationFailed")


# Tokens, however they were got


def test_a_program_with_an_application_s_variables_gets_a_token_that_counts(
    azure: Azure, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    principal = azure.new_principal()
    azure.assign(OPENAI_USER, account.id, principal.object_id)
    monkeypatch.setenv("AZURE_CLIENT_ID", principal.client_id)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", principal.client_secret)
    for credential in (EnvironmentCredential, DefaultAzureCredential):
        with credential(disable_instance_discovery=True) as found:
            assert azure.models(account, bearer(found.get_token(DATA_SCOPE).token)).status == 200


def test_a_program_on_this_machine_gets_a_token_without_any_secret(
    azure: Azure, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", azure.live.metadata)
    listed = json.loads(azure.live.stockade("identity", "list", "--format", "json"))
    [machine] = [entry["objectId"] for entry in listed if entry["kind"] == "machine"]
    with ManagedIdentityCredential() as credential:
        headers = bearer(credential.get_token(DATA_SCOPE).token)
    assert machine in azure.models(account, headers).json["error"]["message"]
    azure.assign(OPENAI_USER, account.id, machine)
    assert azure.models(account, headers).status == 200


def test_an_account_s_identity_is_an_identity_like_any_other(
    azure: Azure, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = azure.new_account()
    body = {"identity": {"type": "SystemAssigned"}}
    made = azure.cognitive.accounts.begin_update(other.group, other.name, body).result()
    as_program_of(azure, made.identity.principal_id, monkeypatch)
    azure.assign(OPENAI_USER, account.id, made.identity.principal_id)
    with ManagedIdentityCredential() as credential:
        headers = bearer(credential.get_token(DATA_SCOPE).token)
    assert azure.models(account, headers).status == 200
    azure.cognitive.accounts.begin_delete(other.group, other.name).result()
    assert azure.models(account, headers).status == 401


def as_program_of(azure: Azure, object_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what a program of a managed identity finds in its environment."""
    path = f"/subscriptions/{azure.subscription}/providers/Stockade.Directory/principals/{object_id}"
    endpoint = azure.arm("POST", f"{path}/identityEndpoint", {}).json
    monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint["endpoint"])
    monkeypatch.setenv("IDENTITY_HEADER", endpoint["header"])


def test_a_token_for_management_is_no_token_for_the_data_plane_nor_the_other_way_round(
    azure: Azure, account: Account
) -> None:
    principal = azure.new_principal()
    azure.assign("Contributor", account.id, principal.object_id)
    azure.assign(OPENAI_USER, account.id, principal.object_id)
    for_arm, for_data = azure.token(principal, ARM_SCOPE), azure.token(principal, DATA_SCOPE)
    assert azure.models(account, bearer(for_data)).status == 200
    refused = azure.models(account, bearer(for_arm))
    assert refused.status == 401
    assert "audience is incorrect" in refused.json["message"]
    assert azure.arm("GET", account.id, api_version="2025-09-01", token=for_arm).status == 200
    assert azure.arm("GET", account.id, api_version="2025-09-01", token=for_data).status == 401


def test_a_ten_minute_token_stands_for_the_key_it_was_issued_for(azure: Azure) -> None:
    account = azure.new_account()
    issued = azure.send("POST", f"{account.endpoint}sts/v1.0/issueToken", {"ocp-apim-subscription-key": account.key1})
    assert issued.status == 200
    headers = bearer(issued.body.decode())
    assert azure.models(account, headers).status == 200
    assert azure.models(azure.new_account(), headers).status == 401
    again = azure.send("POST", f"{account.endpoint}sts/v1.0/issueToken", headers)
    assert again.status == 401
    azure.cognitive.accounts.regenerate_key(account.group, account.name, "Key1")
    assert azure.models(account, headers).status == 401


# Keys


def test_keys_can_be_turned_off_and_on_at_once(platform: Azure, connections: list[http.client.HTTPSConnection]) -> None:
    account = platform.new_account()
    headers = {"api-key": account.key1}

    def set_local_auth(disabled: bool) -> None:
        body = {"properties": {"disableLocalAuth": disabled}}
        platform.cognitive.accounts.begin_update(account.group, account.name, body).result()

    assert on_all(platform, account, headers, connections) == {200}
    set_local_auth(True)
    answers = [platform.models(account, headers, over=connection) for connection in connections]
    assert {(answer.status, answer.json["error"]["code"]) for answer in answers} == {
        (403, "AuthenticationTypeDisabled")
    }
    set_local_auth(False)
    assert on_all(platform, account, headers, connections) == {200}


def test_a_regenerated_key_is_dead_on_every_worker_while_the_other_never_fails(
    platform: Azure, connections: list[http.client.HTTPSConnection]
) -> None:
    account = platform.new_account()
    with Hammer(platform, account, {"api-key": account.key2}) as hammer:
        old = account.key1
        for _ in range(3):
            assert on_all(platform, account, {"api-key": old}, connections) == {200}
            keys = platform.cognitive.accounts.regenerate_key(account.group, account.name, "Key1")
            assert on_all(platform, account, {"api-key": old}, connections) == {401}
            assert on_all(platform, account, {"api-key": keys.key1}, connections) == {200}
            assert keys.key2 == account.key2
            old = keys.key1
    assert hammer.failures == []
    assert min(hammer.counts) >= 3, "every connection was asked on throughout"


class Hammer:
    """Ask without a pause, over several connections that together reach every worker, until the block ends."""

    def __init__(self, azure: Azure, account: Account, headers: dict[str, str]) -> None:
        self._azure, self._account, self._headers = azure, account, headers
        self._stop = threading.Event()
        self._connections: list[http.client.HTTPSConnection] = []
        while len(self._connections) < 6 or len(azure.workers_of(self._connections)) < WORKERS:
            assert len(self._connections) < 40, "no connection reached the other worker"
            self._connections.append(azure.connection(account.endpoint))
            self._connections[-1].connect()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(len(self._connections))]
        self.counts = [0] * len(self._connections)
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for connection in self._connections:
            connection.close()

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            try:
                answer = self._azure.models(self._account, self._headers, over=self._connections[number])
            except OSError as failure:
                self.failures.append(repr(failure))
                return
            if answer.status != 200:
                self.failures.append(str(answer.status))
            self.counts[number] += 1


def test_the_two_keys_tell_who_uses_them_and_one_in_use_is_not_regenerated_by_accident(azure: Azure) -> None:
    account = azure.new_account()
    headers = {"api-key": account.key2, "user-agent": "journey/1"}
    assert azure.models(account, headers).status == 200

    def usage() -> dict[str, Any]:
        return json.loads(azure.live.stockade("keys", "show", account.name, "--format", "json"))[1]

    # The gateway writes its counts every second.
    used = wait_for(lambda: (found := usage())["lastUsed"] and found, "the use is written down")
    [caller] = used["callers"]
    assert (caller["address"], caller["client"], caller["count"]) == ("127.0.0.1", "journey/1", 1)
    said = azure.live.cli("keys", "regenerate", account.name, "Key2", check=False)
    assert said.returncode == 6
    assert "Key2 was used" in said.stderr
    assert azure.models(account, headers).status == 200
    azure.live.stockade("keys", "regenerate", account.name, "Key2", "--force")
    assert azure.models(account, headers).status == 401


# Accounts


def test_a_deleted_account_is_as_if_it_had_never_been_until_it_is_restored(
    platform: Azure, connections: list[http.client.HTTPSConnection]
) -> None:
    account = platform.new_account(capacities={"embed": 10})
    headers = {"api-key": account.key1}
    assert on_all(platform, account, headers, connections) == {200}
    accounts, where = platform.cognitive.accounts, (account.group, account.name)
    accounts.begin_delete(*where).result()
    never = platform.get(models_url(account.endpoint.replace(account.name, new_name("account"))), headers)
    assert (never.status, never.json) == (404, {"error": {"code": "404", "message": "Resource not found"}})
    for connection in connections:
        gone = platform.models(account, headers, over=connection)
        assert (gone.status, gone.body) == (never.status, never.body)
        assert set(gone.headers) == set(never.headers)
    with pytest.raises(ResourceNotFoundError):
        accounts.get(*where)

    accounts.begin_create(*where, {"location": platform.location, "properties": {"restore": True}}).result()
    assert on_all(platform, account, headers, connections) == {200}
    keys = accounts.list_keys(*where)
    assert (keys.key1, keys.key2) == (account.key1, account.key2)
    url = f"{account.endpoint}openai/deployments/embed/embeddings?api-version=2024-10-21"
    assert platform.send("POST", url, headers, {"input": "a cat"}).status == 200

    accounts.begin_delete(*where).result()
    platform.cognitive.deleted_accounts.begin_purge(platform.location, account.group, account.name).result()
    assert account.name not in {entry.name for entry in platform.cognitive.deleted_accounts.list()}
    assert on_all(platform, account, headers, connections) == {404}


def test_a_new_account_of_a_purged_one_s_name_has_nothing_of_it(azure: Azure) -> None:
    account, principal = azure.new_account(capacities={"embed": 10}), azure.new_principal()
    azure.assign(OPENAI_USER, account.id, principal.object_id)
    headers = bearer(azure.token(principal))
    assert azure.models(account, headers).status == 200
    azure.cognitive.accounts.begin_delete(account.group, account.name).result()
    azure.cognitive.deleted_accounts.begin_purge(azure.location, account.group, account.name).result()
    body = {
        "kind": "OpenAI",
        "sku": {"name": "S0"},
        "location": azure.location,
        "properties": {"customSubDomainName": account.name},
    }
    azure.cognitive.accounts.begin_create(account.group, account.name, body).result()
    assert azure.models(account, {"api-key": account.key1}).status == 401
    assert azure.models(account, headers).status == 401
    assert list(azure.cognitive.deployments.list(account.group, account.name)) == []


def test_an_account_in_another_group_answers_at_its_own_subdomain(azure: Azure) -> None:
    account = azure.new_account(group=azure.new_group())
    assert account.endpoint == f"{azure.live.data}/{account.name}/"
    assert azure.models(account, {"api-key": account.key2}).status == 200


def test_an_account_without_a_subdomain_takes_keys_at_the_regional_endpoint_and_no_tokens(azure: Azure) -> None:
    account, principal = azure.new_account(subdomain=False), azure.new_principal()
    assert account.endpoint == f"{azure.live.data}/"
    azure.assign(OPENAI_USER, account.id, principal.object_id)
    assert azure.models(account, {"api-key": account.key1}).status == 200
    refused = azure.models(account, bearer(azure.token(principal)))
    assert (refused.status, refused.json["error"]["code"]) == (400, "BadRequest")
    assert "custom subdomain" in refused.json["error"]["message"]


def test_a_key_opens_no_other_account(azure: Azure, account: Account) -> None:
    other = azure.new_account()
    refused = azure.models(account, {"api-key": other.key1})
    assert (refused.status, refused.json["error"]["code"]) == (401, "401")


def test_a_user_assigned_identity_signs_in_as_an_account_does(
    azure: Azure, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, name = azure.new_group(), new_name("identity")
    made = azure.identities.user_assigned_identities.create_or_update(group, name, {"location": azure.location})
    azure.assign(OPENAI_USER, account.id, made.principal_id)
    as_program_of(azure, made.principal_id, monkeypatch)
    with ManagedIdentityCredential() as credential:
        headers = bearer(credential.get_token(DATA_SCOPE).token)
    assert azure.models(account, headers).status == 200
    azure.identities.user_assigned_identities.delete(group, name)
    assert azure.models(account, headers).status == 401


# Why


def test_a_refusal_s_number_answers_why(azure: Azure, account: Account) -> None:
    principal = azure.new_principal()
    refused = azure.models(account, bearer(azure.token(principal)))
    decision = refused.headers["x-stockade-decision"]
    assert decision == refused.headers["apim-request-id"]
    shown = _shown(azure.live, decision)
    assert shown["decision"] == "deny"
    assert shown["rule"] == "role"
    assert shown["principal"] == principal.object_id
    assert shown["because"]["smallestRole"] == OPENAI_USER


def _shown(live: Live, decision: str) -> dict[str, object]:
    [found] = json.loads(live.stockade("audit", "show", decision, "--format", "json"))
    return dict(found)
