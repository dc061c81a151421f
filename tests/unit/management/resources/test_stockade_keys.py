"""What hangs on a key, and what is left when an account is gone for good."""

from __future__ import annotations

import json

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import receipts
from stockade.storage.documents import State
from stockade.storage.tables import content_items, content_usage
from tests.factories.bound import ACCOUNT, KEY, VAULT, Bound
from tests.factories.control_plane import READER, RG, SUB, ControlPlane, S

PROVIDER = f"{S}/providers/Stockade.Keys"
SCOPE = f"{ACCOUNT}/encryptionScopes/s1"
DELETED = f"{S}/providers/Microsoft.CognitiveServices/locations/local/resourceGroups/Group1/deletedAccounts/a1"
VAULT_READER = "21090545-7ca7-4776-b22c-e363652d74d2"


@pytest.fixture
def bound(plane: ControlPlane) -> Bound:
    return Bound(plane)


def keep(bound: Bound, items: int, size: int) -> None:
    """Put rows there as if the account kept so much."""
    row = {
        "account": ACCOUNT.lower(), "kind": "files", "state": "live", "status": "", "size": size, "charged": size, "created_at": 0.0,
        "updated_at": 0.0, "expires_at": None, "version": "a", "data_key": "a", "sealed": b"secret", "location": "", "body_version": "",
        "body_data_key": "", "writer": "",
    }  # fmt: skip
    with bound.plane.database.bookkeeping() as connection:
        connection.execute(content_items.insert(), [{**row, "id": f"file-{number}"} for number in range(items)])
        connection.execute(
            content_usage.insert().values(account=ACCOUNT.lower(), kept_bytes=items * size, kept_items=items)
        )


def depending(bound: Bound, uri: str) -> list[str]:
    found = bound.plane.ok("GET", f"{PROVIDER}/dependents?key={uri}")
    return [one["id"].rsplit("/", 1)[-1] for one in found["value"]]


def test_accounts_and_scopes_that_hang_on_a_key(bound: Bound) -> None:
    uri = bound.plane.settings.vault_uri("vault1") + "/keys/k1"
    assert depending(bound, uri) == []
    bound.bind()
    keep(bound, 2, 100)
    bound.plane.ok("PUT", SCOPE, {"properties": bound.encryption()})
    other = bound.new_version(KEY.replace("k1", "k2"))
    found = bound.plane.ok("GET", f"{PROVIDER}/dependents?key={uri.upper().replace('HTTPS', 'https')}/")
    account, scope = found["value"]
    assert (account["state"], account["keyVersions"], account["followsNewestVersion"]) == (
        "Live",
        [bound.version],
        True,
    )
    assert account["keeps"] == {"items": 2, "bytes": 200}
    assert scope["id"] == SCOPE
    assert depending(bound, f"{uri}/{bound.version}") == ["a1", "s1"]
    assert depending(bound, f"{uri}/{other}") == ["a1", "s1"], "what follows the newest version depends on each"
    assert depending(bound, uri.replace("k1", "k2")) == []
    bound.plane.ok("DELETE", ACCOUNT)
    (account, _) = bound.plane.ok("GET", f"{PROVIDER}/dependents?key={uri}")["value"]
    assert account["state"] == "SoftDeleted"
    assert account["scheduledPurgeDate"]


def test_whoever_looks_after_the_vault_sees_how_many_there_are(bound: Bound) -> None:
    bound.bind()
    keeper = bound.plane.principal("keeper", (VAULT_READER, VAULT))
    found = bound.plane.ok("GET", f"{KEY}/dependents", by=keeper)
    assert found == {"value": [], "notShown": 1}
    bound.plane.principal("reader")
    both = bound.plane.principal("both", (VAULT_READER, VAULT), (READER, RG))
    assert [one["id"] for one in bound.plane.ok("GET", f"{KEY}/dependents", by=both)["value"]] == [ACCOUNT]
    bound.plane.fails(403, "AuthorizationFailed", "GET", f"{PROVIDER}/dependents?key=x", by=keeper)
    bound.plane.fails(400, "BadRequest", "GET", f"{PROVIDER}/dependents?key=k1")


def test_a_purged_account_leaves_a_receipt_and_no_keys(bound: Bound) -> None:
    plane = bound.plane
    bound.bind()
    plane.ok("PUT", SCOPE, {"properties": bound.encryption()})
    keep(bound, 3, 10)
    held = bound.document().private["dataKeys"][0]["wrapped"]
    plane.ok("DELETE", ACCOUNT)
    assert plane.ok("GET", f"{PROVIDER}/receipts") == {"value": []}, "a deleted account keeps its keys"
    plane.ok("DELETE", DELETED)
    (receipt,) = plane.ok("GET", f"{PROVIDER}/receipts")["value"]
    assert plane.ok("GET", receipt["id"]) == receipt
    key = receipts.from_text(
        plane.ok("GET", "/providers/Stockade.Keys/receiptKey", by=plane.principal("anyone"))["publicKey"]
    )
    stated = receipts.verify(receipt, key)
    assert stated["accountSha256"] == receipts.digest(ACCOUNT.lower().encode())
    assert (stated["dataKeyCount"], stated["content"]) == (2, {"items": 3, "bytes": 30})
    with plane.database.read() as reader:
        gone = reader.get(ACCOUNT, *State)
        assert gone is not None
        assert gone.private == {}
        assert {row.state for row in reader.connection.execute(content_items.select())} == {"removing"}
    assert held not in json.dumps(receipt)
    assert plane.ok("GET", f"/subscriptions/{SUB}/providers/Stockade.Keys/receipts/{receipt['name']}")
    plane.fails(404, "ResourceNotFound", "GET", f"{PROVIDER}/receipts/none")
    plane.fails(403, "AuthorizationFailed", "GET", receipt["id"], by=plane.principal("nobody"))


def test_without_a_signature_nothing_is_destroyed(bound: Bound) -> None:
    bound.plane.ok("DELETE", ACCOUNT)
    bound.broker.broken = Fault(FaultKind.UNAVAILABLE, "The key broker cannot be reached.", retry_after_s=1)
    bound.plane.fails(503, "ServiceUnavailable", "DELETE", DELETED)
    assert bound.document(ACCOUNT, State.SOFT_DELETED).private["dataKeys"]
    bound.broker.broken = None
    bound.plane.ok("DELETE", DELETED)
    assert len(bound.plane.ok("GET", f"{PROVIDER}/receipts")["value"]) == 1
