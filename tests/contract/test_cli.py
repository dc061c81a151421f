"""The `stockade` command against a running server: what its users type, and what real shells and real clients make of what it prints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError

from stockade.cli import outcome
from stockade.cli.root import run
from stockade.cli.variables import key_names
from tests.live import Live, StartServer

ALWAYS = {
    "STOCKADE_ARM",
    "STOCKADE_AUTHORITY",
    "STOCKADE_TENANT",
    "STOCKADE_SUBSCRIPTION",
    "STOCKADE_RESOURCE_GROUP",
    "STOCKADE_LOCATION",
    "STOCKADE_CLIENT_ID",
    "STOCKADE_CLIENT_SECRET",
    "STOCKADE_CA",
    "STOCKADE_METADATA",
    "STOCKADE_VAULT",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_AUTHORITY_HOST",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
}
OPENAI = {"AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "OPENAI_API_VERSION", "STOCKADE_WEBSOCKETS"}
PRINT_ENVIRONMENT = (sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))")


def in_shell(shell: str, script: str, folder: Path) -> Mapping[str, str]:
    """Run a script in a shell with an empty environment and return the environment its children see."""
    done = subprocess.run(
        [shutil.which(shell) or shell, "-c", f"{script}\nexec /usr/bin/env -0"],
        cwd=folder,
        env={},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    found = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
    return {name: value for name, value in found.items() if name not in {"PWD", "SHLVL", "_", "OLDPWD"}}


# Variables


def test_the_variables_are_those_that_were_promised(live: Live) -> None:
    assert set(json.loads(live.stockade("env", "--format", "json"))) == ALWAYS
    assert set(live.account("demo-openai")) == ALWAYS | OPENAI
    assert live.account("demo-openai")["OPENAI_API_VERSION"] == "2024-10-21"


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_takes_the_variables_over(live: Live, tmp_path: Path, shell: str) -> None:
    wanted = live.account("demo-openai")
    (tmp_path / "printed").write_text(live.stockade("env", "--account", "demo-openai"))
    assert in_shell(shell, 'eval "$(cat printed)"'.replace("cat", "/bin/cat"), tmp_path) == wanted


def test_a_dotenv_file_says_the_same(live: Live, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(live.stockade("env", "--account", "demo-openai", "--format", "dotenv"))
    assert in_shell("sh", "set -a; . ./.env", tmp_path) == live.account("demo-openai")


def test_powershell_gets_one_assignment_for_each(live: Live) -> None:
    lines = live.stockade("env", "--format", "powershell").splitlines()
    assert {line.split(" = ")[0].removeprefix("$env:") for line in lines} == ALWAYS
    assert all(line.split(" = ", 1)[1].startswith("'") and line.endswith("'") for line in lines)


def test_the_addresses_and_the_trust_that_are_printed_work(live: Live) -> None:
    found = live.account("demo-openai")
    reply = requests.post(
        f"{found['AZURE_OPENAI_ENDPOINT']}openai/deployments/embed/embeddings",
        params={"api-version": found["OPENAI_API_VERSION"]},
        json={"input": "hello"},
        headers={"api-key": found["AZURE_OPENAI_API_KEY"]},
        verify=found["REQUESTS_CA_BUNDLE"],
        timeout=90,
    )
    assert reply.status_code == 200
    assert len(reply.json()["data"][0]["embedding"]) == 384


def test_an_account_without_keys_gives_its_address_alone(live: Live, account: str) -> None:
    live.request("PATCH", live.account_id(account), {"properties": {"disableLocalAuth": True}}).raise_for_status()
    done = live.cli("env", "--account", account, "--format", "json")
    assert set(json.loads(done.stdout)) == ALWAYS | (OPENAI - {"AZURE_OPENAI_API_KEY"})
    assert "takes no keys" in done.stderr


def test_an_unknown_account_is_named_with_those_there_are(live: Live) -> None:
    done = live.cli("env", "--account", "no-such", check=False)
    assert done.returncode == outcome.NOT_FOUND
    assert "no account 'no-such'" in done.stderr
    assert "demo-openai" in done.stderr
    assert done.stdout == ""


# Running a command


def test_run_adds_exactly_those_variables(live: Live) -> None:
    before = {**live.variables, "KEPT": "yes"}
    done = live.cli("run", "--account", "demo-openai", "--", *PRINT_ENVIRONMENT, KEPT="yes")
    seen: dict[str, str] = json.loads(done.stdout)
    added = {name: value for name, value in seen.items() if before.get(name) != value}
    assert added == live.account("demo-openai")
    assert seen["KEPT"] == "yes"


def test_run_passes_arguments_and_the_exit_code_through(live: Live) -> None:
    script = "import sys; print(sys.argv[1:]); sys.exit(7)"
    done = live.cli(
        "run", "-a", "demo-openai", "--", sys.executable, "-c", script, "--format", "a b", "-x", check=False
    )
    assert (done.returncode, done.stdout) == (7, "['--format', 'a b', '-x']\n")


def test_run_writes_nothing_to_disk(live: Live, tmp_path: Path) -> None:
    def files() -> set[Path]:
        # The server's own writing goes on meanwhile: its log of decisions, its database.
        return {
            path
            for path in live.data_dir.rglob("*")
            if "audit" not in path.parts and not path.name.startswith("stockade.db")
        }

    before = files()
    live.cli("run", "-a", "demo-openai", "--", sys.executable, "-c", "pass", HOME=str(tmp_path), TMPDIR=str(tmp_path))
    assert files() == before
    assert list(tmp_path.iterdir()) == []


def test_run_says_what_it_cannot_run(live: Live) -> None:
    done = live.cli("run", "-a", "demo-openai", "--", "no-such-program", check=False)
    assert (done.returncode, done.stderr) == (outcome.NOT_FOUND, "no-such-program: No such file or directory\n")


IDENTITY_CLIENT = """
import json, os
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential, get_bearer_token_provider
from openai import AzureOpenAI
scope = "https://cognitiveservices.azure.com/.default"
answers = {}
for kind in (ManagedIdentityCredential, DefaultAzureCredential):
    client = AzureOpenAI(azure_ad_token_provider=get_bearer_token_provider(kind(), scope), max_retries=0)
    answers[kind.__name__] = len(client.embeddings.create(model="embed", input="hello", encoding_format="float").data[0].embedding)
print(json.dumps({"answers": answers, "environment": dict(os.environ)}))
"""


def test_run_with_an_identity_needs_no_key_at_all(live: Live) -> None:
    """Unmodified clients find the account's own identity and are let in by its role, with no secret anywhere in their environment."""
    inherited = {
        "AZURE_OPENAI_API_KEY": "from-the-shell",
        "AZURE_CLIENT_SECRET": "from-the-shell",
        "AZURE_CLIENT_ID": "from-the-shell",
    }
    done = live.cli(
        "run", "--account", "demo-openai", "--identity", "--", sys.executable, "-c", IDENTITY_CLIENT, **inherited
    )
    found = json.loads(done.stdout)
    assert found["answers"] == {"ManagedIdentityCredential": 384, "DefaultAzureCredential": 384}
    seen = found["environment"]
    assert not key_names() & set(seen)
    assert not {name for name in seen if name.endswith(("_SECRET", "CLIENT_ID"))}
    keys = live.request("POST", f"{live.account_id('demo-openai')}/listKeys").json().values()
    secrets = {*keys, live.admin[1], "from-the-shell"}
    assert not secrets & set(seen.values())


def test_run_with_an_identity_that_is_not_there_says_how_to_make_one(live: Live, account: str) -> None:
    done = live.cli("run", "--account", account, "--identity", "--", "true", check=False)
    assert done.returncode == outcome.NOT_FOUND
    assert "has no system-assigned identity" in done.stderr
    assert "az cognitiveservices account identity assign" in done.stderr


def test_identity_without_an_account_is_a_wrong_usage(live: Live) -> None:
    done = live.cli("run", "--identity", "--", "true", check=False)
    assert done.returncode == outcome.USAGE
    assert "whose identity" in done.stderr


# Identities


def test_an_identity_from_creation_to_deletion(live: Live) -> None:
    name = f"app-{uuid.uuid4().hex[:8]}"
    created = json.loads(live.stockade("identity", "create", name, "--format", "json"))
    assert list(created) == ["clientId", "clientSecret", "objectId", "tenantId"]
    with live.credential(created["clientId"], created["clientSecret"]) as credential:
        token = credential.get_token("https://management.azure.com/.default").token
    # It has no role: known, and not allowed.
    assert live.request("GET", live.account_id("demo-openai"), token=token).status_code == 403

    listed = json.loads(live.stockade("identity", "list", "--format", "json"))
    assert [one["objectId"] for one in listed if one["displayName"] == name] == [created["objectId"]]
    assert created["clientSecret"] not in json.dumps(listed)

    second = json.loads(live.stockade("identity", "secret", name, "--format", "json"))
    assert second["clientSecret"] != created["clientSecret"]
    for secret in (created["clientSecret"], second["clientSecret"]):
        with live.credential(created["clientId"], secret) as credential:
            credential.get_token("https://management.azure.com/.default")
    first = json.loads(live.stockade("identity", "secret", name, "--list", "--format", "json"))[0]
    live.stockade("identity", "secret", name, "--remove", first["keyId"])
    with (
        live.credential(created["clientId"], created["clientSecret"]) as credential,
        pytest.raises(ClientAuthenticationError),
    ):
        credential.get_token("https://management.azure.com/.default")

    live.stockade("identity", "delete", name)
    # Its token dies with it, at the next request.
    assert live.request("GET", live.account_id("demo-openai"), token=token).status_code == 401
    live.stockade("identity", "delete", name, fails=outcome.NOT_FOUND)


def test_a_role_given_to_a_group_is_its_members(live: Live, account: str) -> None:
    group = live.stockade("identity", "group", "create", f"group-{uuid.uuid4().hex[:8]}").strip()
    member = live.identity(f"app-{uuid.uuid4().hex[:8]}")
    reader = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
    live.request(
        "PUT",
        f"{live.account_id(account)}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}",
        {
            "properties": {
                "roleDefinitionId": f"/subscriptions/{live.subscription}/providers/Microsoft.Authorization/roleDefinitions/{reader}",
                "principalId": group,
                "principalType": "Group",
            }
        },
        version="2022-04-01",
    ).raise_for_status()
    with live.credential(member["clientId"], member["clientSecret"]) as credential:
        token = credential.get_token("https://management.azure.com/.default").token
    assert live.request("GET", live.account_id(account), token=token).status_code == 403
    live.stockade("identity", "group", "add", group, member["objectId"])
    assert live.request("GET", live.account_id(account), token=token).status_code == 200
    live.stockade("identity", "group", "remove", group, member["objectId"])
    assert live.request("GET", live.account_id(account), token=token).status_code == 403
    live.stockade("identity", "group", "delete", group)


def test_what_belongs_to_a_resource_or_to_oneself_is_not_deleted(live: Live) -> None:
    for name in ("this-machine", "demo-openai", "administrator"):
        live.stockade("identity", "delete", name, fails=outcome.CONFLICT)


def test_a_contributor_cannot_hand_itself_the_administrators_credential(live: Live) -> None:
    """`*` without the right to assign roles is not enough to make secrets of principals that have more."""
    someone = live.identity(f"app-{uuid.uuid4().hex[:8]}")
    contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c"
    live.request(
        "PUT",
        f"/subscriptions/{live.subscription}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}",
        {
            "properties": {
                "roleDefinitionId": f"/subscriptions/{live.subscription}/providers/Microsoft.Authorization/roleDefinitions/{contributor}",
                "principalId": someone["objectId"],
                "principalType": "ServicePrincipal",
            }
        },
        version="2022-04-01",
    ).raise_for_status()
    with live.credential(someone["clientId"], someone["clientSecret"]) as credential:
        token = credential.get_token("https://management.azure.com/.default").token
    base = f"/subscriptions/{live.subscription}/providers/Stockade.Directory"
    assert live.request("GET", f"{base}/principals", token=token).status_code == 200
    for method, path in (
        ("POST", f"{base}/principals"),
        ("POST", f"{base}/principals/administrator/secrets"),
        ("POST", f"{base}/principals/demo-openai/identityEndpoint"),
        ("DELETE", f"{base}/principals/administrator"),
        ("POST", f"{base}/groups"),
        ("PUT", f"{base}/groups/{uuid.uuid4()}/members/{someone['objectId']}"),
    ):
        reply = live.request(method, path, {"displayName": "x"}, token=token)
        assert reply.status_code == 403, (path, reply.text)
        assert "Microsoft.Authorization/roleAssignments/write" in reply.text


# Keys


@pytest.fixture
def account(live: Live) -> Iterator[str]:
    """An OpenAI account of this test's own, with keys and without an identity."""
    name = f"cli-{uuid.uuid4().hex[:10]}"
    body = {
        "kind": "OpenAI",
        "sku": {"name": "S0"},
        "location": live.location,
        "properties": {"customSubDomainName": name},
    }
    live.request("PUT", live.account_id(name), body).raise_for_status()
    yield name
    live.request("DELETE", live.account_id(name))


def use(live: Live, account: str, key: str) -> int:
    """Make a call that a key is enough for, and return its status."""
    return requests.get(
        f"{live.data}/{account}/openai/models?api-version=2024-10-21",
        headers={"api-key": key, "user-agent": "test-client/1"},
        verify=str(live.ca),
        timeout=30,
    ).status_code


def keys_of(live: Live, account: str) -> dict[str, str]:
    found: dict[str, str] = live.request("POST", f"{live.account_id(account)}/listKeys").json()
    return {"Key1": found["key1"], "Key2": found["key2"]}


def usage_of(live: Live, account: str) -> dict[str, Any]:
    return {one["keyName"]: one for one in json.loads(live.stockade("keys", "show", account, "--format", "json"))}


def seen(live: Live, account: str, slot: str) -> None:
    from tests.live import wait_for

    wait_for(lambda: usage_of(live, account)[slot]["lastUsed"], f"the use of {slot} is on record")


def test_keys_show_tells_who_used_which_and_no_key(live: Live, account: str) -> None:
    keys = keys_of(live, account)
    assert use(live, account, keys["Key2"]) == 200
    seen(live, account, "Key2")
    found = usage_of(live, account)
    assert (found["Key1"]["lastUsed"], found["Key1"]["callers"]) == (None, [])
    caller = found["Key2"]["callers"][0]
    assert (caller["address"], caller["client"], caller["count"]) == ("127.0.0.1", "test-client/1", 1)
    screen = live.stockade("keys", "show", account)
    assert "Key1 made" in screen
    assert "never used" in screen
    assert "test-client/1" in screen
    for key in keys.values():
        assert key not in screen + json.dumps(found)
    assert keys["Key1"] in live.stockade("keys", "show", account, "--reveal")


def test_regenerate_ends_one_key_and_keeps_the_other(live: Live, account: str) -> None:
    keys = keys_of(live, account)
    new = live.stockade("keys", "regenerate", account, "Key1").strip()
    assert new == keys_of(live, account)["Key1"]
    assert [use(live, account, key) for key in (keys["Key1"], new, keys["Key2"])] == [401, 200, 200]


def test_a_key_in_use_is_regenerated_only_by_force(live: Live, account: str) -> None:
    key = keys_of(live, account)["Key1"]
    use(live, account, key)
    seen(live, account, "Key1")
    done = live.cli("keys", "regenerate", account, "Key1", check=False)
    assert done.returncode == outcome.CONFLICT
    assert "test-client/1" in done.stderr
    assert use(live, account, key) == 200
    live.stockade("keys", "regenerate", account, "Key1", "--force")
    assert use(live, account, key) == 401


def test_rotate_replaces_the_quiet_key_first_and_the_other_when_nobody_uses_it(live: Live, account: str) -> None:
    old = keys_of(live, account)
    use(live, account, old["Key1"])
    seen(live, account, "Key1")
    # Key1 is in use, so Key2 goes first; within 0.05 minutes nobody has used Key1 any more, and it follows.
    done = live.cli("keys", "rotate", account, "--within", "0.05", "--timeout", "1")
    printed = dict(line.split(" ") for line in done.stdout.splitlines())
    assert list(printed) == ["Key2", "Key1"]
    assert printed == keys_of(live, account)
    assert [use(live, account, key) for key in (*old.values(), *printed.values())] == [401, 401, 200, 200]


def test_rotate_stops_where_callers_have_not_moved_and_goes_on_later(live: Live, account: str) -> None:
    old = keys_of(live, account)
    use(live, account, old["Key1"])
    seen(live, account, "Key1")
    done = live.cli("keys", "rotate", account, "--within", "30", "--timeout", "0", check=False)
    assert done.returncode == outcome.CONFLICT
    assert "test-client/1" in done.stderr
    assert "--resume" in done.stderr
    new = done.stdout.split()[1]
    assert [use(live, account, key) for key in (old["Key1"], old["Key2"], new)] == [200, 401, 200]
    resumed = live.cli("keys", "rotate", account, "--resume", "--within", "0.01", "--timeout", "1")
    printed = dict(line.split(" ") for line in resumed.stdout.splitlines())
    assert printed["Key2"] == new, "the key that callers were given stays"
    assert [use(live, account, key) for key in (old["Key1"], new, printed["Key1"])] == [401, 200, 200]


def test_rotate_refuses_while_both_keys_are_in_use(live: Live, account: str) -> None:
    keys = keys_of(live, account)
    for slot, key in keys.items():
        use(live, account, key)
        seen(live, account, slot)
    done = live.cli("keys", "rotate", account, check=False)
    assert done.returncode == outcome.CONFLICT
    assert "Both keys" in done.stderr
    assert keys_of(live, account) == keys


# Looking


def test_status_says_where_it_listens(live: Live) -> None:
    found = json.loads(live.stockade("status", "--format", "json"))
    assert (found["running"], found["pid"], found["arm"]) == (True, live.pid, live.arm)
    assert found["data"] == live.data
    assert found["generation"] > 0


def test_accounts_are_listed_with_their_addresses(live: Live, account: str) -> None:
    listed = {one["name"]: one for one in json.loads(live.stockade("account", "list", "--format", "json"))}
    assert listed[account]["endpoint"] == f"{live.data}/{account}/"
    assert f"{live.data}/{account}/" in live.stockade("account", "list")


def test_ca_prints_the_file_and_how_to_trust_it(live: Live) -> None:
    done = live.cli("ca")
    assert done.stdout == f"{live.ca}\n"
    assert f"REQUESTS_CA_BUNDLE={live.bundle}" in done.stderr
    assert live.stockade("ca", "--pem") == live.ca.read_text()


def test_commands_are_in_the_audit_log_like_any_clients(live: Live, account: str) -> None:
    live.stockade("keys", "regenerate", account, "Key1")
    records = [json.loads(line) for line in live.stockade("audit", "tail", "-n", "200", "--json").splitlines()]
    mine = [one for one in records if one.get("resource", "").lower() == live.account_id(account).lower()]
    regenerated = [one["phase"] for one in mine if one["operation"].endswith("regenerateKey/action")]
    assert regenerated == ["intent", "outcome"]
    assert all(
        one["client"].startswith("stockade-cli/") for one in mine if one["operation"].endswith("regenerateKey/action")
    )
    assert f"on {account}" in live.stockade("audit", "tail", "-n", "200")


def test_follow_prints_what_comes(live: Live, account: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "stockade", "audit", "tail", "-n", "0", "--follow", "--json"],
        env={**live.variables, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as following:
        try:
            assert following.stdout is not None
            found = False
            while not found:
                # Again and again: nothing tells from outside when it has begun to follow.
                use(live, account, "no-key")
                os.set_blocking(following.stdout.fileno(), False)
                found = any(live.account_id(account) in line for line in following.stdout.readlines())
        finally:
            following.terminate()


# A server that is not running


def test_without_a_server_commands_say_how_to_start_one(live: Live, tmp_path: Path) -> None:
    for command in (["keys", "show", "x"], ["identity", "list"], ["account", "list"]):
        done = live.cli(*command, "--data-dir", str(tmp_path), check=False)
        assert (done.returncode, done.stderr) == (
            outcome.NOT_RUNNING,
            "Stockade is not running: start it with `stockade up`.\n",
        )
    assert live.cli("status", "--data-dir", str(tmp_path), check=False).returncode == outcome.NOT_RUNNING


def test_a_stopped_server_still_gives_its_addresses(live_server: StartServer) -> None:
    server = live_server("--workers", "1")
    server.stop()
    found = json.loads(server.stockade("env", "--format", "json"))
    assert found["STOCKADE_CLIENT_SECRET"] == server.admin[1]
    server.stockade("env", "--account", "demo-openai", fails=outcome.NOT_RUNNING)


def test_help_and_completion(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["--help"]) == 0
    screen = capsys.readouterr().out
    for command in (
        "up",
        "serve",
        "env",
        "run",
        "identity",
        "keys",
        "account",
        "audit",
        "status",
        "ca",
        "--install-completion",
    ):
        assert command in screen
    assert run(["keys", "rotate", "--help"]) == 0
    assert "--resume" in capsys.readouterr().out
    assert run(["no-such-command"]) == outcome.USAGE
    assert run(["--version"]) == 0
