from __future__ import annotations

import pytest

from stockade.policy.snapshot import EncryptionScopePolicy
from tests.factories.arm import ACCOUNTS, Arm
from tests.factories.bound import ACCOUNT, Bound
from tests.factories.control_plane import ControlPlane

A1 = f"{ACCOUNTS}/a1"
SCOPE = f"{ACCOUNT}/encryptionScopes/s1"


@pytest.fixture
def bound(plane: ControlPlane) -> Bound:
    return Bound(plane)


def test_a_scope_of_the_platforms_key_has_a_data_key_of_its_own(arm: Arm) -> None:
    arm.account()
    path = f"{A1}/encryptionScopes/s1"
    made = arm.send("PUT", path, {"properties": {"keySource": "microsoft.cognitiveservices"}})
    assert made.status == 201
    assert made.body["properties"] == {
        "keySource": "Microsoft.CognitiveServices",
        "state": "Enabled",
        "provisioningState": "Succeeded",
    }
    assert arm.ok("GET", f"{path}/encryptionStatus")["dataKeys"][0]["platformKeyVersion"] == "p1"
    assert arm.send("DELETE", path).status == 204


def test_a_customers_key_is_bound_to_a_scope_as_to_an_account(bound: Bound) -> None:
    plane = bound.plane
    wrong = {"properties": {**bound.encryption(keyName="none"), "state": "Disabled"}}
    message = plane.fails(400, "CustomerManagedKeyPreflightFailed", "PUT", SCOPE, wrong)
    assert "is not in the vault" in message
    plane.fails(404, "ResourceNotFound", "GET", SCOPE)
    shown = plane.ok("PUT", SCOPE, {"properties": bound.encryption()})
    assert shown["properties"] == {**bound.encryption(), "state": "Enabled", "provisioningState": "Succeeded"}
    assert bound.wrapped_by(SCOPE) == [bound.version]
    assert bound.wrapped_by() == [""], "the account's own is another"
    policy: EncryptionScopePolicy = plane.source.current().only("encryption-scope", SCOPE.lower())
    assert (policy.account_id, policy.enabled) == (ACCOUNT.lower(), True)
    assert policy.customer_key.principal_id == bound.principal
    held, calls = bound.document(SCOPE).private["dataKeys"], len(bound.broker.calls)
    plane.ok("PUT", SCOPE, {"properties": {**bound.encryption(), "state": "Disabled"}})
    assert bound.document(SCOPE).private["dataKeys"] == held
    assert len(bound.broker.calls) == calls
    assert not plane.source.current().only("encryption-scope", SCOPE.lower()).enabled
    plane.ok("PUT", SCOPE, {"properties": {"keySource": "Microsoft.CognitiveServices"}})
    assert bound.wrapped_by(SCOPE) == [""]


def test_the_kind_decides_here_too(bound: Bound) -> None:
    path = ACCOUNT.replace("a1", "face")
    bound.account(path, kind="Face")
    body = {"properties": bound.encryption()}
    bound.plane.fails(403, "CustomerManagedKeyNotAvailableForSku", "PUT", f"{path}/encryptionScopes/s1", body)


def test_a_scopes_status_says_when_its_key_is_away(bound: Bound) -> None:
    bound.plane.ok("PUT", SCOPE, {"properties": bound.encryption()})
    bound.change_version(bound.version, enabled=False)
    status = bound.plane.ok("GET", f"{SCOPE}/encryptionStatus")
    assert (status["state"], status["problems"][0]["code"]) == ("Unavailable", "KeyDisabled")
