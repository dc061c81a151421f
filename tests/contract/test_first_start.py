"""From an empty folder to a running platform: what is made, for whom, and that nothing can come in between."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stockade import settings as configuration
from stockade.boot.foundation import foundation
from stockade.kernel.clock import CLOCK_FILE, SimulatedClock
from stockade.kernel.faults import Fault
from stockade.keys.root import RootKey
from stockade.serve import first_start
from stockade.serve.administrator import Administrator
from stockade.settings import Settings
from stockade.vault.vaults import purge
from tests import outside
from tests.factories import interrupted
from tests.live import Live, StartServer


@pytest.fixture
def configured(tmp_path: Path) -> Settings:
    return configuration.load(tmp_path / "data", environment={})


def test_everything_in_the_data_directory_is_private(live: Live) -> None:
    live.account("demo-openai")
    entries = [live.data_dir, *live.data_dir.rglob("*")]
    assert {"root.key", "admin.json", "stockade.db", "ca.key", "server.key", "audit.jsonl", "settings.toml", "run"} <= {
        path.name for path in entries
    }
    for path in entries:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_it_makes_what_the_demonstration_needs(live: Live) -> None:
    account = live.request("GET", live.account_id("demo-openai")).json()
    assert (account["kind"], account["sku"]["name"]) == ("OpenAI", "S0")
    assert account["properties"]["endpoint"] == f"{live.data}/demo-openai/"
    assert "SystemAssigned" in account["identity"]["type"]
    deployments = live.request("GET", f"{live.account_id('demo-openai')}/deployments").json()["value"]
    models = {one["name"]: one["properties"]["model"] for one in deployments}
    assert {name: (model["format"], model["name"], model["version"]) for name, model in models.items()} == {
        "chat": ("OpenAI", "smollm2-135m-instruct", "1"),
        "embed": ("OpenAI", "all-minilm-l6-v2", "1"),
    }
    machine = [
        one for one in json.loads(live.stockade("identity", "list", "--format", "json")) if one["kind"] == "machine"
    ]
    assignments = live.request(
        "GET",
        f"/subscriptions/{live.subscription}/providers/Microsoft.Authorization/roleAssignments?$filter=principalId eq "
        f"'{machine[0]['objectId']}'",
        version="2022-04-01",
    ).json()["value"]
    # Other tests on this server give it roles on accounts of their own.
    demo = live.account_id("demo-openai").lower()
    given = [one for one in assignments if demo.startswith(one["properties"]["scope"].lower().rstrip("/"))]
    assert given == [], "the identity of this machine has no roles until someone gives it some"


def test_it_makes_a_vault_that_the_administrator_may_use(live: Live) -> None:
    vault = live.request("GET", f"{live.group_id}/providers/Microsoft.KeyVault/vaults/demo-vault").json()
    properties = vault["properties"]
    assert properties["enableRbacAuthorization"]
    assert properties["enablePurgeProtection"]
    assert properties["vaultUri"] == f"https://demo-vault.vault.stockade.localhost:{live.ports[1]}/"
    answer = live.request("GET", "/keys", token=live.token("https://vault.azure.net"))
    assert answer.status_code == 200, answer.text


def test_a_second_start_reuses_everything(live_server: StartServer) -> None:
    server = live_server("--workers", "1")
    kept = [
        server.data_dir / name for name in ("root.key", "admin.json", "settings.toml", "tls/ca.pem", "tls/server.pem")
    ]
    before = {path: path.read_bytes() for path in kept}
    account, token = server.account("demo-openai"), server.token()
    assert server.stop() == 0
    server.start_again()
    assert {path: path.read_bytes() for path in kept} == before
    assert server.account("demo-openai") == account
    # Signing keys outlive a restart: a token from before is still good.
    assert server.request("GET", server.account_id("demo-openai"), token=token).status_code == 200


def test_what_the_operator_deleted_stays_deleted(live_server: StartServer) -> None:
    server = live_server("--workers", "1")
    assert server.request("DELETE", server.account_id("demo-openai")).status_code in {200, 202, 204}
    assert server.stop() == 0
    server.start_again()
    assert server.request("GET", server.account_id("demo-openai")).status_code == 404


def test_a_first_start_killed_at_any_step_is_made_good_by_the_next(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, interrupted.__file__, str(tmp_path)],
        env={"PYTHONPATH": str(outside.ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    runs: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [run["ended"] for run in runs] == [interrupted.KILLED] * (len(runs) - 1) + [0]
    assert len(runs) > 12, "every file and every transaction is a step"
    for run in runs:
        assert run["state"] == {
            "tenants": 1,
            "subscriptions": 1,
            "administrators": 1,
            "secret works": True,
            "machines": 1,
            "account": True,
            "deployments": ["chat", "embed"],
            "assignments": 4,
            "leftovers": [],
        }, f"killed before step {run['step']}: {done.stderr}"


@pytest.mark.parametrize("group", ["kept", "gone"])
def test_an_installation_from_before_there_were_vaults_gets_one_where_its_group_still_is(
    configured: Settings, group: str
) -> None:
    admin = first_start.ensure(configured)
    base = foundation(configured)
    place = f"/subscriptions/{admin.subscription_id}/resourceGroups/{admin.resource_group}"
    vault = f"{place}/providers/Microsoft.KeyVault/vaults/{first_start.DEMO_VAULT}"
    with base.database.write() as writer:
        found, state = writer.get(vault), writer.get(first_start.INSTALLATION)
        assert found is not None
        assert state is not None
        purge(writer, found)
        before = {name: value for name, value in state.body.items() if name != "vault"}
        writer.put(state.id, state.type, before)
        whole = writer.get(place)
        if group == "gone" and whole is not None:
            writer.remove(whole)
    said: list[str] = []
    first_start.ensure(configured, said.append)
    with base.database.read() as reader:
        assert (reader.get(vault) is not None) == (group == "kept")
    assert said == (["making the key vault demo-vault"] if group == "kept" else [])
    first_start.ensure(configured, said.append)
    assert len(said) <= 1
    base.database.close()


def test_two_first_starts_at_once_make_one_installation(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from stockade import settings; from stockade.serve import first_start\n"
        "print(first_start.ensure(settings.load(Path(sys.argv[1]))).client_id)"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "data")],
            env={"PYTHONPATH": str(outside.ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [start.communicate(timeout=100)[0] for start in starts]
    assert [start.returncode for start in starts] == [0, 0]
    assert len(set(outputs)) == 1


def test_a_missing_root_key_is_not_replaced(configured: Settings) -> None:
    first_start.ensure(configured)
    configured.root_key_file.unlink()
    with pytest.raises(Fault, match="is missing, and the database is sealed with it"):
        first_start.ensure(configured)
    assert not configured.root_key_file.exists()


def test_time_is_movable_only_where_the_platform_was_made_so(configured: Settings) -> None:
    first_start.ensure(configured)
    with pytest.raises(Fault, match="cannot be made movable afterwards"):
        first_start.ensure(configured, simulation=True)
    SimulatedClock.create(configured.data_dir / CLOCK_FILE).advance(86_400)
    with pytest.raises(Fault, match="remove the file"):
        first_start.ensure(configured)


def test_a_root_key_of_another_installation_is_refused(configured: Settings, tmp_path: Path) -> None:
    other = configuration.load(tmp_path / "other", environment={})
    first_start.ensure(configured)
    first_start.ensure(other)
    shutil.copy(other.root_key_file, configured.root_key_file)
    with pytest.raises(Fault, match=r"is not the one that the platform keyring .* is sealed with"):
        first_start.ensure(configured)
    keyring = configured.data_dir / "platform.keys"
    keyring.unlink()
    with pytest.raises(Fault, match="is not the one that the database is sealed with"):
        first_start.ensure(configured)
    assert not keyring.exists(), "none was made that belongs to nothing"
    shutil.copy(other.data_dir / "platform.keys", keyring)
    with pytest.raises(Fault, match="is not the one that the database is sealed with"):
        first_start.ensure(configured)


def test_an_installation_from_before_the_keyring_goes_on_with_what_it_derived(configured: Settings) -> None:
    configured.data_dir.mkdir(mode=0o700)
    made = RootKey.create(configured.root_key_file)
    assert foundation(configured).root_key.derive("x").matches(made.derive("x").reveal())
    assert (configured.data_dir / "platform.keys").exists()


def test_a_lost_administrator_credential_is_made_anew_and_the_lost_one_ends(configured: Settings) -> None:
    first = first_start.ensure(configured)
    (configured.data_dir / "admin.json").unlink()
    second = first_start.ensure(configured)
    assert second.object_id == first.object_id
    assert not second.client_secret.matches(first.client_secret.reveal())
    (configured.data_dir / "admin.json").write_text("{}")
    third = first_start.ensure(configured)
    assert Administrator.open(configured).client_secret.matches(third.client_secret.reveal())


def test_a_credential_that_others_can_read_is_not_used(configured: Settings) -> None:
    first_start.ensure(configured)
    (configured.data_dir / "admin.json").chmod(0o644)
    with pytest.raises(Fault, match="can be read by others"):
        first_start.ensure(configured)


def test_the_example_settings_change_nothing(configured: Settings) -> None:
    first_start.ensure(configured)
    assert configuration.load(configured.data_dir, environment={}) == configured


def test_the_example_settings_are_right_once_uncommented(tmp_path: Path) -> None:
    """Every example of the file, all at once and where it stands, with the comments taken off: no setting falls into another's table."""
    lines = first_start.EXAMPLE_SETTINGS.splitlines()
    shown = [
        line[2:]
        for line in lines
        if line.startswith("# ") and (line[2:3] == "[" or " = " in line) and "Then" not in line
    ]
    assert any(line.startswith("[[models]]") for line in shown)
    (tmp_path / "settings.toml").write_text("\n".join(shown))
    found = configuration.load(tmp_path, environment={})
    assert [model.upstream is not None for model in found.models] == [True, True, True]
    assert [service.name for service in found.services] == ["face"]
    assert found.names.domain == "example.com"
    assert (found.trusted_proxies, found.database_url[:10]) == (("10.0.0.5", "10.1.0.0/24"), "postgresql")
