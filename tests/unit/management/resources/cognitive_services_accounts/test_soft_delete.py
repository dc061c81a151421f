from __future__ import annotations

from stockade.management.resources.cognitive_services_accounts.soft_delete import expired, purge_expired
from stockade.storage.documents import State
from stockade.storage.tables import key_callers
from tests.factories.arm import ACCOUNTS, BY_SUBSCRIPTION, GROUP, Arm, account_body

A1 = f"{ACCOUNTS}/a1"
DELETED = f"{BY_SUBSCRIPTION}/locations/local/resourceGroups/rg1/deletedAccounts/a1"
RESTORE = {"location": "local", "properties": {"restore": True}}
CHAT = {
    "sku": {"name": "Standard", "capacity": 1},
    "properties": {"model": {"format": "OpenAI", "name": "smollm2-135m-instruct", "version": "1"}},
}
TWO_DAYS = 48 * 3600


def deleted_account(arm: Arm) -> dict[str, str]:
    arm.account(
        properties={"customSubDomainName": "gone-soon", "publicNetworkAccess": "Disabled"}, tags={"kept": "yes"}
    )
    arm.ok("PUT", f"{A1}/deployments/chat", CHAT)
    keys = arm.ok("POST", f"{A1}/listKeys")
    arm.ok("DELETE", A1)
    return dict(keys)


def test_deleted_account_is_out_of_force_at_once(arm: Arm) -> None:
    deleted_account(arm)
    snapshot = arm.snapshot()
    assert not any(
        list(snapshot.keys(index)) for index in ("account", "subdomain", "key", "deployment", "deployments-of")
    )
    arm.fails(404, "ResourceNotFound", "GET", A1)
    arm.fails(404, "ParentResourceNotFound", "GET", f"{A1}/deployments/chat")
    arm.fails(404, "ResourceNotFound", "POST", f"{A1}/listKeys")
    assert arm.ok("GET", ACCOUNTS) == {"value": []}


def test_deleting_again_is_204(arm: Arm) -> None:
    deleted_account(arm)
    assert arm.send("DELETE", A1).status == 204
    assert arm.send("DELETE", f"{ACCOUNTS}/never").status == 204


def test_restore_brings_everything_back(arm: Arm) -> None:
    keys = deleted_account(arm)
    arm.clock.advance(TWO_DAYS - 1)
    reply = arm.send("PUT", A1, RESTORE)
    assert reply.status == 200
    assert reply.body["tags"] == {"kept": "yes"}
    assert reply.body["properties"]["publicNetworkAccess"] == "Disabled"
    assert "restore" not in reply.body["properties"]
    assert arm.ok("POST", f"{A1}/listKeys") == keys
    assert [entry["name"] for entry in arm.ok("GET", f"{A1}/deployments")["value"]] == ["chat"]
    assert arm.snapshot().only("subdomain", "gone-soon") == A1.lower()
    arm.fails(404, "ResourceNotFound", "GET", DELETED)


def test_restore_takes_changes_along(arm: Arm) -> None:
    deleted_account(arm)
    body = account_body({"restore": True, "publicNetworkAccess": "Enabled"}, tags={"new": "tag"})
    restored = arm.ok("PUT", A1, body)
    assert restored["properties"]["publicNetworkAccess"] == "Enabled"
    assert restored["tags"] == {"kept": "yes", "new": "tag"}
    arm.fails(400, "CanNotRestoreANonExistingResource", "PUT", A1, body)


def test_name_and_subdomain_stay_taken(arm: Arm) -> None:
    deleted_account(arm)
    assert "purge it first" in arm.fails(409, "FlagMustBeSetForRestore", "PUT", A1, account_body())
    body = account_body({"customSubDomainName": "gone-soon"})
    assert "soft-deleted" in arm.fails(409, "CustomDomainInUse", "PUT", f"{ACCOUNTS}/a2", body)
    arm.fails(404, "ResourceNotFound", "PATCH", A1, {"properties": {"restore": True}})


def test_deleted_accounts_are_listed_with_their_dates(arm: Arm) -> None:
    deleted_account(arm)
    listed = arm.ok("GET", f"{BY_SUBSCRIPTION}/deletedAccounts")["value"]
    assert listed == [arm.ok("GET", DELETED)]
    assert listed[0]["id"] == DELETED
    assert listed[0]["properties"]["deletionDate"] == "2027-01-15T08:00:00.0000000Z"
    assert listed[0]["properties"]["scheduledPurgeDate"] == "2027-01-17T08:00:00.0000000Z"
    arm.fails(404, "ResourceNotFound", "GET", DELETED.replace("/local/", "/eastus/"))


def test_purge_frees_everything(arm: Arm) -> None:
    keys = deleted_account(arm)
    arm.use_key(keys["key1"], A1)
    assert arm.send("DELETE", DELETED).status == 200
    assert arm.send("DELETE", DELETED).status == 204
    assert arm.ok("GET", f"{BY_SUBSCRIPTION}/deletedAccounts") == {"value": []}
    arm.fails(400, "CanNotRestoreANonExistingResource", "PUT", A1, {**account_body(), **RESTORE})
    arm.account("a2", properties={"customSubDomainName": "gone-soon"})
    with arm.database.read() as reader:
        assert reader.below(A1, State.SOFT_DELETED) == []
        assert reader.connection.execute(key_callers.select()).all() == []
    arm.account("a1")
    assert arm.ok("POST", f"{A1}/listKeys")["key1"] != keys["key1"]
    assert arm.ok("GET", f"{A1}/deployments") == {"value": []}


def test_a_live_account_is_not_purged(arm: Arm) -> None:
    arm.account()
    arm.fails(409, "ResourceNotDeleted", "DELETE", DELETED)
    assert arm.ok("GET", A1)["name"] == "a1"


def test_expiry_counts_without_any_sweep(arm: Arm) -> None:
    keys = deleted_account(arm)
    arm.clock.advance(TWO_DAYS)
    assert arm.ok("GET", f"{BY_SUBSCRIPTION}/deletedAccounts") == {"value": []}
    arm.fails(404, "ResourceNotFound", "GET", DELETED)
    arm.fails(400, "CanNotRestoreANonExistingResource", "PUT", A1, {**account_body(), **RESTORE})
    assert arm.send("PUT", A1, account_body()).status == 201
    assert arm.ok("POST", f"{A1}/listKeys")["key1"] != keys["key1"]
    assert arm.ok("GET", f"{A1}/deployments") == {"value": []}
    assert arm.ok("GET", A1)["properties"]["dateCreated"] == "2027-01-17T08:00:00.0000000Z"


def test_an_expired_account_gives_up_its_subdomain(arm: Arm) -> None:
    deleted_account(arm)
    arm.clock.advance(TWO_DAYS)
    asked = {"subdomainName": "gone-soon", "type": "Microsoft.CognitiveServices/accounts"}
    assert arm.ok("POST", f"{BY_SUBSCRIPTION}/checkDomainAvailability", asked)["isSubdomainAvailable"] is True
    arm.account("a2", properties={"customSubDomainName": "gone-soon"})
    assert arm.snapshot().only("subdomain", "gone-soon") == f"{ACCOUNTS}/a2".lower()
    arm.account("a1")
    assert arm.snapshot().only("subdomain", "gone-soon") == f"{ACCOUNTS}/a2".lower()


def test_the_sweep_purges_what_is_due_and_nothing_else(arm: Arm) -> None:
    deleted_account(arm)
    arm.clock.advance(TWO_DAYS - 60)
    arm.account("late")
    arm.ok("DELETE", f"{ACCOUNTS}/late")
    arm.clock.advance(60)
    with arm.database.read() as reader:
        assert [document.name for document in expired(reader, arm.clock.now())] == ["a1"]
    with arm.database.write() as writer:
        assert purge_expired(arm.platform, writer, arm.clock.now()) == 1
        assert purge_expired(arm.platform, writer, arm.clock.now()) == 0
    assert [entry["name"] for entry in arm.ok("GET", f"{BY_SUBSCRIPTION}/deletedAccounts")["value"]] == ["late"]


def test_system_identity_is_deleted_by_the_purge(arm: Arm) -> None:
    principal = arm.account(identity={"type": "SystemAssigned"})["identity"]["principalId"]
    arm.ok("DELETE", A1)
    arm.ok("DELETE", DELETED)
    with arm.database.read() as reader:
        assert arm.platform.directory.get(reader, principal) is None


def test_deleting_the_group_soft_deletes_its_accounts(arm: Arm) -> None:
    arm.account(properties={"customSubDomainName": "in-group"})
    assert arm.send("DELETE", GROUP).status < 300
    assert [entry["name"] for entry in arm.ok("GET", f"{BY_SUBSCRIPTION}/deletedAccounts")["value"]] == ["a1"]
    arm.fails(404, "ResourceGroupNotFound", "PUT", A1, RESTORE)
    arm.ok("PUT", GROUP, {"location": "local"})
    assert arm.ok("PUT", A1, RESTORE)["properties"]["customSubDomainName"] == "in-group"


def test_children_go_and_come_back_with_their_account(arm: Arm) -> None:
    arm.account(properties={"customSubDomainName": "family"})
    arm.ok("PUT", f"{A1}/raiPolicies/p1", {"properties": {}})
    arm.ok("PUT", f"{A1}/encryptionScopes/s1", {"properties": {}})
    arm.ok("DELETE", A1)
    with arm.database.read() as reader:
        assert len(reader.below(A1, State.SOFT_DELETED)) == 2
        assert reader.below(A1) == []
    arm.ok("PUT", A1, {"location": "local", "properties": {"restore": True}})
    assert arm.ok("GET", f"{A1}/raiPolicies/p1")["name"] == "p1"
