from __future__ import annotations

from tests.factories.arm import ACCOUNTS, Arm

A1 = f"{ACCOUNTS}/a1"


def test_perimeter_configurations_are_read_only_and_empty(arm: Arm) -> None:
    arm.account()
    path = f"{A1}/networkSecurityPerimeterConfigurations"
    assert arm.ok("GET", path) == {"value": []}
    assert arm.send("PUT", f"{path}/x", {}).status == 405
    arm.fails(404, "ResourceNotFound", "POST", f"{path}/x/reconcile")
