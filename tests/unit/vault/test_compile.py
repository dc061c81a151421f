"""Vaults' documents as policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockade.policy.compile import Compiler
from stockade.policy.customer_key import current_version
from stockade.policy.snapshot import Snapshot, VaultPolicy, VaultVersionPolicy
from stockade.settings import Listen, Settings
from stockade.storage.documents import Document, State
from stockade.vault.compile import compilers
from stockade.vault.documents import (
    KEY_VERSIONS,
    SECRET_VERSIONS,
    VAULTS,
    Attributes,
    KeyVersion,
    SecretVersion,
    body_of,
)

VAULT = "/subscriptions/s/resourceGroups/G/providers/Microsoft.KeyVault/vaults/Demo-Vault"
PERSON = "33333333-3333-4333-8333-333333333333"


def vault(**properties: Any) -> Document:
    base = {"tenantId": "T", "sku": {"name": "standard"}, "vaultUri": "https://Old.vault.example/"}
    body = {"id": VAULT, "name": "Demo-Vault", "location": "local", "properties": {**base, **properties}}
    return Document(VAULT.lower(), VAULTS.lower(), body)


def version(name: str, created: float = 1.0, **attributes: Any) -> Document:
    arm_id = f"{VAULT}/keys/K/versions/{name}"
    described = KeyVersion(Attributes(created, created, **attributes), "RSA", 2048, ("wrapKey", "unwrapKey"))
    return Document(arm_id.lower(), KEY_VERSIONS.lower(), body_of(arm_id, KEY_VERSIONS, described))


def snapshot(*documents: Document, settings: Settings | None = None) -> Snapshot:
    compiler = Compiler(compilers(settings or Settings(data_dir=Path())))
    return compiler.apply(Snapshot(), 1, documents)


def test_a_vault_answers_where_it_was_made_and_where_it_is_now() -> None:
    moved = snapshot(vault(), settings=Settings(data_dir=Path(), listen=Listen(control_port=9444)))
    found: VaultPolicy = moved.only("vault", VAULT.lower())  # type: ignore[assignment]
    assert found.uri == "https://demo-vault.vault.stockade.localhost:9444"
    for uri in (found.uri, "https://old.vault.example", "https://localhost:9444"):
        assert moved.only("vault-at", uri) == VAULT.lower()
    assert moved.only("vault-named", "demo-vault") == VAULT.lower()


def test_access_policies_and_network_rules_compile() -> None:
    acls = {"defaultAction": "Deny", "bypass": "AzureServices", "ipRules": [{"value": "203.0.113.0/24"}]}
    policies = [{"objectId": PERSON.upper(), "permissions": {"keys": ["wrapKey"], "certificates": ["get"]}}]
    found: VaultPolicy = snapshot(vault(networkAcls=acls, accessPolicies=policies)).only("vault", VAULT.lower())  # type: ignore[assignment]
    assert found.access == {PERSON: frozenset({"keys/wrapkey"})}
    assert found.network.trusted_services
    assert not found.network.admit_by_default
    assert not found.rbac


def test_versions_stand_by_their_id_and_by_their_key() -> None:
    secret_id = f"{VAULT}/secrets/S/versions/{'c' * 32}"
    secret = SecretVersion(Attributes(1.0, 1.0, nbf=5, exp=9))
    document = Document(secret_id.lower(), SECRET_VERSIONS.lower(), body_of(secret_id, SECRET_VERSIONS, secret))
    found = snapshot(version("a" * 32), version("b" * 32, 2.0, enabled=False), document)
    one: VaultVersionPolicy = found.only("vault-version", f"{VAULT}/keys/k/versions/{'a' * 32}".lower())  # type: ignore[assignment]
    assert (one.key_type, one.key_size, one.kind) == ("RSA", 2048, "keys")
    assert one.operations == {"wrapKey", "unwrapKey"}
    assert len(found.all("vault-versions-of", f"{VAULT}/keys/k".lower())) == 2
    newest = current_version(found, f"{VAULT}/keys/k".lower(), 10.0)
    assert newest is not None
    assert newest.version == "a" * 32
    kept: VaultVersionPolicy = found.only("vault-version", secret_id.lower())  # type: ignore[assignment]
    assert (kept.kind, kept.not_before, kept.expires) == ("secrets", 5, 9)


@pytest.mark.parametrize("state", [State.SOFT_DELETED, State.GONE])
def test_what_is_deleted_is_out_of_force(state: State) -> None:
    found = snapshot(replace(vault(), state=state), replace(version("a" * 32), state=state))
    assert not any(found.indexes.values())
