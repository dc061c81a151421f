from __future__ import annotations

from tests.factories.arm import ACCOUNTS, Arm

A1 = f"{ACCOUNTS}/a1"


def test_encryption_scopes_take_the_platforms_keys_only(arm: Arm) -> None:
    arm.account()
    path = f"{A1}/encryptionScopes/s1"
    made = arm.send("PUT", path, {"properties": {"keySource": "microsoft.cognitiveservices"}})
    assert made.status == 201
    assert made.body["properties"] == {
        "keySource": "Microsoft.CognitiveServices",
        "state": "Enabled",
        "provisioningState": "Succeeded",
    }
    arm.fails(400, "CustomerManagedKeyNotAvailable", "PUT", path, {"properties": {"keySource": "Microsoft.KeyVault"}})
    assert arm.send("DELETE", path).status == 204
