"""Keys, their versions and secrets through ARM: made once, versioned, never shown; and what the vault then knows of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.storage.documents import State
from stockade.vault.vaults import expired, purge_expired
from tests.factories.arm import GROUP, SUBSCRIPTION, Arm

VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/vault1"
KEY = f"{VAULT}/keys/Key1"
SECRET = f"{VAULT}/secrets/Secret1"


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[Arm]:
    arm = Arm(tmp_path)
    make_vault(arm)
    yield arm
    arm.database.close()


def make_vault(arm: Arm, sku: str = "standard", **properties: Any) -> None:
    base = {"tenantId": arm.tenant_id, "sku": {"family": "A", "name": sku}, "enableRbacAuthorization": True}
    arm.ok("PUT", VAULT, {"location": "local", "properties": {**base, **properties}})


def test_a_key_is_made_once(arm: Arm) -> None:
    rotation = {"lifetimeActions": [{"trigger": {"timeAfterCreate": "P30D"}, "action": {"type": "Rotate"}}]}
    asked = {"tags": {"a": "b"}, "properties": {"kty": "RSA", "keySize": 3072, "rotationPolicy": rotation}}
    made = arm.ok("PUT", KEY, asked)
    properties = made["properties"]
    assert (properties["kty"], properties["keySize"], made["tags"]) == ("RSA", 3072, {"a": "b"})
    assert properties["keyUri"] == "https://vault1.vault.stockade.localhost:8444/keys/Key1"
    assert properties["rotationPolicy"]["lifetimeActions"][0]["action"] == {"type": "Rotate"}
    again = arm.ok("PUT", KEY.upper().replace("/PROVIDERS/", "/providers/"), {"properties": {"kty": "EC"}})
    assert again == made
    (version,) = arm.ok("GET", f"{KEY}/versions")["value"]
    assert version["properties"]["keyUriWithVersion"] == properties["keyUriWithVersion"]
    assert arm.ok("GET", f"{KEY}/versions/{version['name']}") == version
    assert [one["name"] for one in arm.ok("GET", f"{VAULT}/keys")["value"]] == ["Key1"]
    assert len(arm.snapshot().all("vault-versions-of", KEY.lower())) == 1


@pytest.mark.parametrize(
    "properties",
    [
        {"kty": "oct"},
        {"kty": "RSA", "keySize": 1},
        {"kty": "RSA-HSM"},
        {"kty": "EC", "curveName": "P-1"},
        {"kty": "EC", "keyOps": ["encrypt"]},
        {"kty": "EC", "releasePolicy": {}},
        {"kty": "EC", "attributes": {"exp": "soon"}},
        {"kty": "EC", "rotationPolicy": {"lifetimeActions": [{"trigger": {}, "action": {"type": "Rotate"}}]}},
        {"kty": "EC", "rotationPolicy": 5},
    ],
    ids="-".join,
)
def test_keys_that_cannot_be_are_refused(arm: Arm, properties: Any) -> None:
    assert arm.send("PUT", KEY, {"properties": properties}).status == 400
    assert arm.send("GET", KEY).status == 404
    assert arm.broker.calls.count("make_key") == 0


def test_hsm_keys_need_a_premium_vault(arm: Arm) -> None:
    make_vault(arm, sku="premium")
    assert arm.ok("PUT", KEY, {"properties": {"kty": "RSA-HSM"}})["properties"]["kty"] == "RSA-HSM"


def test_a_secret_has_versions_and_shows_no_value(arm: Arm) -> None:
    made = arm.ok("PUT", SECRET, {"properties": {"value": "canary", "contentType": "text/plain"}})
    assert made["properties"]["contentType"] == "text/plain"
    newer = arm.ok("PUT", SECRET, {"properties": {"value": "canary"}})
    assert newer["properties"]["secretUriWithVersion"] != made["properties"]["secretUriWithVersion"]
    kept = arm.ok("PATCH", SECRET, {"tags": {"a": "b"}, "properties": {"attributes": {"enabled": False}}})
    assert kept["properties"]["secretUriWithVersion"] == newer["properties"]["secretUriWithVersion"]
    assert kept["properties"]["attributes"]["enabled"] is False
    assert len(arm.snapshot().all("vault-versions-of", SECRET.lower())) == 2
    arm.fails(400, "BadRequest", "PUT", f"{VAULT}/secrets/other", {"properties": {}})
    shown = [made, newer, kept, arm.ok("GET", SECRET), arm.ok("GET", f"{VAULT}/secrets"), arm.audit.records]
    assert "canary" not in repr(shown)
    with arm.database.read() as reader:
        assert "canary" not in repr([document for state in State for document in reader.below(VAULT, state)])


def test_what_was_deleted_holds_its_name_and_comes_back_with_its_vault(arm: Arm) -> None:
    made = arm.ok("PUT", KEY, {"properties": {"kty": "EC"}})
    arm.ok("DELETE", VAULT)
    assert arm.send("GET", KEY).status == 404
    recover = {"location": "local", "properties": {"tenantId": arm.tenant_id, "createMode": "recover"}}
    arm.ok("PUT", VAULT, recover)
    assert arm.ok("GET", KEY) == made
    arm.ok("DELETE", VAULT)
    deleted = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.KeyVault/locations/local/deletedVaults/vault1"
    arm.ok("POST", f"{deleted}/purge")
    make_vault(arm)
    assert arm.ok("GET", f"{VAULT}/keys")["value"] == []
    with arm.database.read() as reader:
        assert reader.below(VAULT, State.SOFT_DELETED) == []


def test_the_sweep_purges_what_is_due(arm: Arm) -> None:
    arm.ok("PUT", KEY, {"properties": {"kty": "EC"}})
    arm.ok("DELETE", VAULT)
    with arm.database.write() as writer:
        assert purge_expired(writer, arm.clock.now()) == 0
    arm.clock.advance(90 * 86_400)
    with arm.database.write() as writer:
        assert purge_expired(writer, arm.clock.now()) == 2  # the vault, and the key in it
    with arm.database.read() as reader:
        assert expired(reader, arm.clock.now()) == []
        assert reader.below(VAULT, State.SOFT_DELETED) == []
    make_vault(arm)
