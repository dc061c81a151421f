"""Vaults in ARM: names, what cannot be undone, access policies, deletion and recovery."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.kernel.ids import new_guid
from stockade.policy.snapshot import VaultPolicy
from tests.factories.arm import GROUP, SUBSCRIPTION, Arm

VAULTS = f"{GROUP}/providers/Microsoft.KeyVault/vaults"
BY_SUBSCRIPTION = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.KeyVault"
DELETED = f"{BY_SUBSCRIPTION}/locations/local/deletedVaults"
SOMEBODY = "33333333-3333-4333-8333-333333333333"


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[Arm]:
    arm = Arm(tmp_path)
    yield arm
    arm.database.close()


def body(arm: Arm, **properties: Any) -> Any:
    base = {
        "tenantId": arm.tenant_id,
        "sku": {"family": "A", "name": "standard"},
        "enableRbacAuthorization": True,
    }
    return {"location": "local", "properties": {**base, **properties}}


def put(arm: Arm, name: str = "vault1", **properties: Any) -> Any:
    return arm.ok("PUT", f"{VAULTS}/{name}", body(arm, **properties))


def policy(arm: Arm, name: str = "vault1") -> VaultPolicy | None:
    found: VaultPolicy | None = arm.snapshot().only("vault", f"{VAULTS}/{name}".lower())
    return found


def entry(arm: Arm, *words: str, principal: str = SOMEBODY) -> Any:
    return {"tenantId": arm.tenant_id, "objectId": principal, "permissions": {"keys": list(words)}}


def test_a_vault_has_an_address_soft_delete_and_a_policy(arm: Arm) -> None:
    properties = put(arm, enablePurgeProtection=True)["properties"]
    assert properties["vaultUri"] == "https://vault1.vault.stockade.localhost:8444/"
    assert (properties["enableSoftDelete"], properties["softDeleteRetentionInDays"]) == (True, 90)
    found = policy(arm)
    assert found is not None
    assert found.rbac
    assert found.purge_protection
    assert arm.snapshot().only("vault-at", "https://vault1.vault.stockade.localhost:8444") == found.id


@pytest.mark.parametrize("name", ["ab", "a" * 25, "1abc", "abc-", "a--b", "a_b", "a.b", "äbc"])
def test_names_that_could_be_no_host_are_refused(arm: Arm, name: str) -> None:
    arm.fails(400, "InvalidResourceName", "PUT", f"{VAULTS}/{name}", body(arm))
    asked = {"name": name, "type": "Microsoft.KeyVault/vaults"}
    answer = arm.ok("POST", f"{BY_SUBSCRIPTION}/checkNameAvailability", asked)
    assert (answer["nameAvailable"], answer["reason"]) == (False, "AccountNameInvalid")


@pytest.mark.parametrize("name", ["abc", "a" * 24, "A-1-b", "demo-vault"])
def test_names_of_azures_form_are_taken(arm: Arm, name: str) -> None:
    put(arm, name)


def test_a_name_is_one_vaults_on_the_whole_platform(arm: Arm) -> None:
    put(arm)
    arm.ok("PUT", f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg2", {"location": "local"})
    elsewhere = f"{VAULTS}/Vault1".replace("rg1", "rg2")
    arm.fails(409, "VaultAlreadyExists", "PUT", elsewhere, body(arm))
    asked = {"name": "Vault1", "type": "Microsoft.KeyVault/vaults"}
    assert not arm.ok("POST", f"{BY_SUBSCRIPTION}/checkNameAvailability", asked)["nameAvailable"]
    arm.ok("DELETE", f"{VAULTS}/vault1")
    arm.fails(409, "ConflictError", "PUT", elsewhere, body(arm))
    arm.ok("POST", f"{DELETED}/vault1/purge")
    arm.ok("PUT", elsewhere, body(arm))


@pytest.mark.parametrize(
    ("made", "change"),
    [
        ({}, {"enableSoftDelete": False}),
        ({"softDeleteRetentionInDays": 7}, {"softDeleteRetentionInDays": 8}),
        ({}, {"softDeleteRetentionInDays": 6}),
        ({}, {"softDeleteRetentionInDays": 91}),
        ({"enablePurgeProtection": True}, {"enablePurgeProtection": False}),
        ({}, {"tenantId": new_guid()}),
        ({}, {"sku": {"family": "A", "name": "gold"}}),
        ({}, {"networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "nowhere"}]}}),
        ({}, {"publicNetworkAccess": "Sometimes"}),
        ({}, {"createMode": "other"}),
    ],
    ids=lambda value: next(iter(value), "plain"),
)
def test_what_cannot_be_is_refused_and_changes_nothing(arm: Arm, made: Any, change: Any) -> None:
    before = put(arm, **made)
    for method in ("PUT", "PATCH"):
        reply = arm.send(method, f"{VAULTS}/vault1", body(arm, **change) if method == "PUT" else {"properties": change})
        assert reply.status in (400, 404), (method, reply.body)
    assert arm.ok("GET", f"{VAULTS}/vault1")["properties"] == before["properties"]


def test_a_put_that_is_silent_on_protection_keeps_it(arm: Arm) -> None:
    acls = {"defaultAction": "Deny", "bypass": "None", "ipRules": [{"value": "203.0.113.0/24"}]}
    put(arm, enablePurgeProtection=True, networkAcls=acls, publicNetworkAccess="disabled", softDeleteRetentionInDays=9)
    again = body(arm)
    del again["properties"]["enableRbacAuthorization"]
    arm.ok("PUT", f"{VAULTS}/vault1", again)
    found = policy(arm)
    assert found is not None
    assert found.purge_protection
    assert found.rbac
    assert not found.network.public_access
    assert not found.network.admit_by_default
    assert not found.network.trusted_services
    assert found.network.addresses.contains("203.0.113.7")


def test_without_roles_access_policies_are_asked_for(arm: Arm) -> None:
    wanted = body(arm)
    del wanted["properties"]["enableRbacAuthorization"]
    arm.fails(400, "BadRequest", "PUT", f"{VAULTS}/vault1", wanted)
    wanted["properties"]["accessPolicies"] = [entry(arm, "GET", "wrapkey")]
    shown = arm.ok("PUT", f"{VAULTS}/vault1", wanted)["properties"]
    assert shown["enableRbacAuthorization"] is False
    assert shown["accessPolicies"][0]["permissions"]["keys"] == ["get", "wrapKey"]
    found = policy(arm)
    assert found is not None
    assert found.access == {SOMEBODY: frozenset({"keys/get", "keys/wrapkey"})}


def test_access_policies_change_one_by_one(arm: Arm) -> None:
    put(arm, enableRbacAuthorization=False, accessPolicies=[entry(arm, "get", "list")])

    def change(kind: str, *words: str) -> Any:
        sent = {"properties": {"accessPolicies": [entry(arm, *words)]}}
        return arm.ok("PUT", f"{VAULTS}/vault1/accessPolicies/{kind}", sent)["properties"]["accessPolicies"]

    assert change("add", "list", "sign")[0]["permissions"]["keys"] == ["get", "list", "sign"]
    assert change("remove", "get")[0]["permissions"]["keys"] == ["list", "sign"]
    assert change("replace", "wrapKey")[0]["permissions"]["keys"] == ["wrapKey"]
    found = policy(arm)
    assert found is not None
    assert found.access == {SOMEBODY: frozenset({"keys/wrapkey"})}
    assert change("remove", "wrapKey") == []
    arm.fails(404, "ParentResourceNotFound", "PUT", f"{VAULTS}/other/accessPolicies/add", {"properties": {}})


@pytest.mark.parametrize(
    "change",
    [
        {"permissions": {"keys": ["fly"]}},
        {"objectId": "me"},
        {"tenantId": SOMEBODY},
        {"applicationId": SOMEBODY},
        {"permissions": None},
    ],
    ids=["word", "principal", "tenant", "compound", "no-permissions"],
)
def test_access_policies_that_would_not_be_in_force_are_refused(arm: Arm, change: Any) -> None:
    put(arm)
    sent = {"properties": {"accessPolicies": [{**entry(arm, "get"), **change}]}}
    assert arm.send("PUT", f"{VAULTS}/vault1/accessPolicies/add", sent).status == 400
    assert arm.send("PUT", f"{VAULTS}/vault1", body(arm, **sent["properties"])).status == 400


def test_at_most_1024_access_policies(arm: Arm) -> None:
    many = [entry(arm, "get", principal=new_guid()) for _ in range(1025)]
    arm.fails(400, "TooManyAccessPolicies", "PUT", f"{VAULTS}/vault1", body(arm, accessPolicies=many))
    put(arm, accessPolicies=many[:1024])
    sent = {"properties": {"accessPolicies": many[1024:]}}
    arm.fails(400, "TooManyAccessPolicies", "PUT", f"{VAULTS}/vault1/accessPolicies/add", sent)


def test_a_deleted_vault_is_out_of_force_and_comes_back_as_it_was(arm: Arm) -> None:
    made = put(arm, softDeleteRetentionInDays=7)
    arm.ok("DELETE", f"{VAULTS}/vault1")
    assert policy(arm) is None
    shown = arm.ok("GET", f"{DELETED}/Vault1")
    assert shown["properties"]["vaultId"] == made["id"]
    assert arm.ok("GET", f"{BY_SUBSCRIPTION}/deletedVaults")["value"] == [shown]
    arm.fails(409, "ConflictError", "PUT", f"{VAULTS}/vault1", body(arm))
    recovered = {"location": "local", "properties": {"tenantId": arm.tenant_id, "createMode": "recover"}}
    assert arm.ok("PUT", f"{VAULTS}/vault1", recovered)["properties"] == made["properties"]
    assert policy(arm) is not None
    arm.fails(404, "VaultNotFound", "PUT", f"{VAULTS}/vault2", recovered)


def test_purge_protection_and_time_decide_when_a_vault_is_gone(arm: Arm) -> None:
    put(arm, enablePurgeProtection=True, softDeleteRetentionInDays=7)
    arm.ok("DELETE", f"{VAULTS}/vault1")
    arm.fails(405, "MethodNotAllowed", "POST", f"{DELETED}/vault1/purge")
    arm.clock.advance(7 * 86_400)
    arm.fails(404, "DeletedVaultNotFound", "GET", f"{DELETED}/vault1")
    fresh = put(arm)  # although no sweep has come by
    assert "enablePurgeProtection" not in fresh["properties"]


def test_deleting_a_group_deletes_its_vaults_softly(arm: Arm) -> None:
    put(arm)
    arm.ok("DELETE", GROUP)
    assert policy(arm) is None
    arm.ok("GET", f"{DELETED}/vault1")


def test_vaults_stand_among_the_subscriptions_resources(arm: Arm) -> None:
    put(arm)
    query = "%24filter=resourceType%20eq%20'Microsoft.KeyVault/vaults'"
    found = arm.ok("GET", f"/subscriptions/{SUBSCRIPTION}/resources?{query}")["value"]
    assert [item["name"] for item in found] == ["vault1"]
