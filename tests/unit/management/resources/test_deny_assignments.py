from __future__ import annotations

from typing import Any

import pytest

from stockade.kernel.ids import new_guid
from stockade.kernel.principal import EVERYONE
from tests.factories.control_plane import AUTH, CONTRIBUTOR, READER, RG, ControlPlane, S


def at(scope: str) -> str:
    return f"{scope}{AUTH}/denyAssignments/{new_guid()}"


def body(*principals: str, exclude: tuple[str, ...] = (), actions: tuple[str, ...] = ("*/write",), **more: Any) -> Any:
    return {
        "properties": {
            "denyAssignmentName": "frozen",
            "permissions": [{"actions": list(actions)}],
            "principals": [{"id": principal} for principal in principals],
            "excludePrincipals": [{"id": principal} for principal in exclude],
            **more,
        }
    }


def test_a_deny_beats_every_role_until_it_is_gone(plane: ControlPlane) -> None:
    who = plane.principal("who", (CONTRIBUTOR, S))
    path = at(RG)
    made = plane.send("PUT", path, body(who.object_id), version="2024-07-01-preview")
    assert made.status_code == 201
    shown = made.json()["properties"]
    assert shown["principals"] == [{"id": who.object_id, "type": "ServicePrincipal"}]
    assert (shown["scope"], shown["isSystemProtected"], shown["doNotApplyToChildScopes"]) == (RG, False, False)
    identity = f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/abc"
    message = plane.fails(403, "AuthorizationFailed", "PUT", identity, {"location": "local"}, by=who)
    assert "'frozen'" in message
    assert plane.send("GET", RG, by=who).status_code == 200
    plane.ok("PUT", identity, {"location": "local"})  # others are not denied
    plane.ok("DELETE", path)
    assert plane.send("PUT", identity, {"location": "local"}, by=who).status_code == 200


def test_everyone_but_some(plane: ControlPlane) -> None:
    spared, other = plane.principal("spared", (READER, S)), plane.principal("other", (READER, S))
    shown = plane.ok(
        "PUT", at(RG), body(EVERYONE, exclude=(spared.object_id, plane.owner.object_id), actions=("*/read",))
    )
    assert shown["properties"]["principals"] == [{"id": EVERYONE, "type": "SystemDefined"}]
    assert plane.send("GET", RG, by=spared).status_code == 200
    assert plane.send("GET", RG, by=other).status_code == 403


def test_only_at_this_scope(plane: ControlPlane) -> None:
    who = plane.principal("who", (READER, S))
    identity = f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/abc"
    plane.ok("PUT", identity, {"location": "local"})
    plane.ok("PUT", at(RG), body(who.object_id, actions=("*",), doNotApplyToChildScopes=True))
    assert plane.send("GET", RG, by=who).status_code == 403
    assert plane.send("GET", identity, by=who).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"denyAssignmentName": ""},
        {"principals": []},
        {"principals": [{"id": "x"}]},
        {"principals": [{"id": EVERYONE}]},
        {"permissions": []},
        {"permissions": [{"actions": ["no"]}]},
        {"doNotApplyToChildScopes": "yes"},
        {"condition": "x"},
    ],
)
def test_what_cannot_be_enforced_is_not_stored(plane: ControlPlane, change: Any) -> None:
    wanted = body(plane.owner.object_id)
    wanted["properties"] |= change
    assert plane.send("PUT", at(RG), wanted).status_code == 400
    assert plane.ok("GET", f"{RG}{AUTH}/denyAssignments")["value"] == []


def test_unknown_principals_are_refused(plane: ControlPlane) -> None:
    plane.fails(400, "PrincipalNotFound", "PUT", at(RG), body(new_guid()))


def test_lists_and_filters(plane: ControlPlane) -> None:
    who, other = plane.principal("who"), plane.principal("other")
    plane.ok("PUT", at(RG), body(who.object_id, denyAssignmentName="one"))
    plane.ok("PUT", at(S), body(other.object_id, denyAssignmentName="two"))

    def listed(scope: str, text: str = "") -> list[str]:
        path = f"{scope}{AUTH}/denyAssignments" + (f"?$filter={text}" if text else "")
        return sorted(item["properties"]["denyAssignmentName"] for item in plane.ok("GET", path)["value"])

    assert listed(S) == listed(RG) == ["one", "two"]
    assert listed(S, "atScope()") == ["two"]
    assert listed(RG, f"principalId eq '{who.object_id}'") == ["one"]
    assert listed(RG, "denyAssignmentName eq 'TWO'") == ["two"]
    plane.fails(400, "InvalidFilterInQueryString", "GET", f"{RG}{AUTH}/denyAssignments?$filter=x eq 'y'")


def test_what_may_not_be_deleted_is_not_deleted_with_its_group_either(plane: ControlPlane) -> None:
    identity = f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/abc"
    plane.ok("PUT", identity, {"location": "local"})
    path = at(identity)
    plane.ok(
        "PUT",
        path,
        body(EVERYONE, exclude=(plane.principal("nobody").object_id,), actions=("*/userAssignedIdentities/delete",)),
    )
    plane.fails(403, "AuthorizationFailed", "DELETE", identity)
    assert "'frozen'" in plane.fails(403, "AuthorizationFailed", "DELETE", RG)
    plane.ok("GET", identity)
    plane.ok("DELETE", path)
    plane.ok("DELETE", RG)
