from __future__ import annotations

from tests.factories.arm import ACCOUNTS, Arm

A1 = f"{ACCOUNTS}/a1"


def test_defender_cannot_be_switched_on(arm: Arm) -> None:
    arm.account()
    path = f"{A1}/defenderForAISettings/Default"
    assert arm.ok("PUT", path, {"properties": {"state": "Disabled"}})["properties"]["state"] == "Disabled"
    arm.fails(400, "DefenderForAINotAvailable", "PATCH", path, {"properties": {"state": "Enabled"}})
    assert arm.ok("PATCH", path, {"tags": {"a": "b"}})["tags"] == {"a": "b"}
