from __future__ import annotations

from tests.factories.arm import ACCOUNTS, Arm

A1 = f"{ACCOUNTS}/a1"


def test_content_filter_policies_are_stored_and_say_that_they_do_nothing(arm: Arm) -> None:
    arm.account()
    path = f"{A1}/raiPolicies/p1"
    made = arm.ok("PUT", path, {"properties": {"mode": "Blocking", "contentFilters": []}})
    assert made["properties"] == {"mode": "Blocking", "contentFilters": [], "type": "UserManaged", "inForce": False}
    arm.fails(400, "InvalidRequestContent", "PUT", path, {})
    assert arm.send("DELETE", path).status == 204
