"""The unmodified JavaScript clients against a running server: @azure/identity, @azure/arm-cognitiveservices, @azure/keyvault-keys and openai."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import outside
from tests.live import Live

pytestmark = [pytest.mark.node, pytest.mark.timeout(180)]

SCRIPTS = Path(__file__).parent / "node"
LIMIT_S = 120
ACCOUNT = "demo-openai"


def play(live: Live, script: str, **variables: str) -> Any:
    """Run a script with the environment of `stockade env`; return what it reports."""
    done = subprocess.run(
        [str(outside.program("node")), str(SCRIPTS / script)],
        env={**os.environ, **live.environment, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{script} ended with {done.returncode}:\n{done.stderr}"
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def endpoint(live: Live) -> str:
    return f"{live.data}/{ACCOUNT}/"


def give_role(live: Live, object_id: str) -> None:
    """Let a principal use the demonstration account's models."""
    role = "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd"  # Cognitive Services OpenAI User
    definition = f"/subscriptions/{live.subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}"
    path = f"{live.account_id(ACCOUNT)}/providers/Microsoft.Authorization/roleAssignments/{object_id}"
    properties = {"roleDefinitionId": definition, "principalId": object_id, "principalType": "ServicePrincipal"}
    answer = live.request("PUT", path, {"properties": properties}, version="2022-04-01")
    assert answer.status_code in {200, 201}, answer.text


def test_the_management_client_lists_accounts_and_keys_and_deploys(live: Live) -> None:
    found = play(live, "management.mjs", TEST_ACCOUNT=ACCOUNT)
    assert ACCOUNT in found["accounts"]
    assert found["keys"]["key1"] == live.account(ACCOUNT)["AZURE_OPENAI_API_KEY"]
    assert found["keys"]["key2"] != found["keys"]["key1"]
    assert found["deployment"] == "Succeeded"
    assert "from-node" not in found["left"]
    assert {"chat", "embed"} <= set(found["left"])
    assert found["refusal"] == {"status": 404, "code": "ResourceNotFound"}


def test_the_openai_clients_work_with_key_and_token_and_are_refused_as_they_expect(live: Live, endpoint: str) -> None:
    application = live.identity("node-openai")
    give_role(live, application["objectId"])
    found = play(
        live,
        "openai.mjs",
        TEST_ENDPOINT=endpoint,
        TEST_KEY=live.account(ACCOUNT)["AZURE_OPENAI_API_KEY"],
        TEST_CLIENT_ID=application["clientId"],
        TEST_CLIENT_SECRET=application["clientSecret"],
    )
    for name in ("azure, key", "azure, token", "own, key", "own, token"):
        answer = found[name]
        assert answer["whole"], name
        assert "".join(answer["pieces"]) == answer["whole"], name
        assert sum(1 for piece in answer["pieces"] if piece) > 1, name
        assert 0 < answer["tokens"] <= 8, name
        assert answer["vector"] == 384, name
        assert "smollm2-135m-instruct" in answer["models"], name
    assert found["wrong key"] == {"class": "AuthenticationError", "status": 401, "code": "401"}
    assert found["no deployment"] == {"class": "NotFoundError", "status": 404, "code": "DeploymentNotFound"}


def test_a_managed_identity_is_this_machine_and_needs_a_role(live: Live, endpoint: str) -> None:
    here = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": live.metadata, "TEST_ENDPOINT": endpoint}
    listed = json.loads(live.stockade("identity", "list", "--format", "json"))
    [machine] = [entry["objectId"] for entry in listed if entry["kind"] == "machine"]
    path = f"{live.account_id(ACCOUNT)}/providers/Microsoft.Authorization/roleAssignments/{machine}"
    live.request("DELETE", path, version="2022-04-01")
    assert play(live, "managed-identity.mjs", **here) == {"status": 401, "code": "PermissionDenied"}
    give_role(live, machine)
    assert "smollm2-135m-instruct" in play(live, "managed-identity.mjs", **here)["models"]
    assert live.request("DELETE", path, version="2022-04-01").status_code == 200


def test_a_program_gets_the_account_s_managed_identity_and_no_key(live: Live, endpoint: str) -> None:
    # The first start has given the demonstration account's identity its role.
    ran = live.stockade(
        *("run", "--account", ACCOUNT, "--identity", "--"),
        *("env", f"TEST_ENDPOINT={endpoint}", str(outside.program("node")), str(SCRIPTS / "managed-identity.mjs")),
    )
    assert "smollm2-135m-instruct" in json.loads(ran)["models"]


def test_the_key_vault_client_makes_uses_deletes_and_recovers_a_key(live: Live) -> None:
    name = f"node-{os.urandom(4).hex()}"
    found = play(live, "vault.mjs", TEST_KEY=name)
    assert found["id"].startswith(f"{live.arm}/keys/{name}/")
    assert (found["unwrapped"], found["verified"], found["tags"]) == ("0123456789abcdef", True, {"from": "node"})
