from __future__ import annotations

from typing import Any

import pytest

from stockade.kernel.ids import new_guid
from stockade.policy.builtin_roles import OWNER, roles
from tests.factories.control_plane import ACCESS_ADMIN, AUTH, READER, RG, SUB, ControlPlane, S
from tests.unit.management.resources.test_role_assignments import at as assignment_at
from tests.unit.management.resources.test_role_assignments import body as assignment_body


def at(scope: str, name: str | None = None) -> str:
    return f"{scope}{AUTH}/roleDefinitions/{name or new_guid()}"


def body(role_name: str = "Group Reader", scopes: Any = (RG,), **permissions: Any) -> Any:
    wanted = permissions or {"actions": ["Microsoft.Resources/subscriptions/resourceGroups/read"]}
    return {
        "properties": {
            "roleName": role_name,
            "description": "d",
            "permissions": [wanted],
            "assignableScopes": list(scopes),
        }
    }


def test_the_built_in_roles_are_there_with_their_permissions(plane: ControlPlane) -> None:
    listed = plane.ok("GET", f"{S}{AUTH}/roleDefinitions")["value"]
    assert len(listed) == len(roles()) == 67
    owner = next(item for item in listed if item["name"] == OWNER)
    assert owner["properties"]["roleName"] == "Owner"
    assert owner["properties"]["type"] == "BuiltInRole"
    assert owner["properties"]["permissions"] == [
        {"actions": ["*"], "notActions": [], "dataActions": [], "notDataActions": []}
    ]


@pytest.mark.parametrize("scope", ["", S, RG])
def test_ids_have_the_form_of_the_scope_that_was_asked(plane: ControlPlane, scope: str) -> None:
    reader = plane.principal("reader", (READER, "/"))
    (found,) = plane.ok("GET", f"{scope}{AUTH}/roleDefinitions?$filter=roleName eq 'reader'", by=reader)["value"]
    assert found["id"] == f"{S if scope else ''}{AUTH}/roleDefinitions/{READER}"
    assert plane.ok("GET", found["id"], by=reader)["id"] == found["id"]


def test_a_custom_role_is_made_used_changed_and_deleted(plane: ControlPlane) -> None:
    path = at(S)
    made = plane.send("PUT", path, body())
    assert made.status_code == 201
    properties = made.json()["properties"]
    assert (properties["type"], properties["roleName"]) == ("CustomRole", "Group Reader")
    assert properties["permissions"] == [
        {
            "actions": ["Microsoft.Resources/subscriptions/resourceGroups/read"],
            "notActions": [],
            "dataActions": [],
            "notDataActions": [],
        }
    ]
    who, name = plane.principal("who"), path.rsplit("/", 1)[-1]
    assigned = plane.ok("PUT", assignment_at(RG), assignment_body(name, who.object_id))
    assert plane.send("GET", RG, by=who).status_code == 200
    changed = plane.send("PUT", path, body(actions=["Microsoft.Resources/tags/read"]))
    assert changed.status_code == 201  # what the SDK wants of every PUT
    assert plane.send("GET", RG, by=who).status_code == 403
    plane.fails(400, "RoleDefinitionHasAssignments", "DELETE", path)
    elsewhere = plane.ok("PUT", f"{S}/resourceGroups/g2", {"location": "local"})["id"]
    plane.fails(400, "RoleDefinitionHasAssignments", "PUT", path, body(scopes=[elsewhere]))
    plane.ok("DELETE", assigned["id"])
    assert plane.send("DELETE", path).json()["name"] == name
    plane.fails(404, "ResourceNotFound", "GET", path)
    assert plane.send("DELETE", path).status_code == 204


def test_one_role_whatever_scope_names_it(plane: ControlPlane) -> None:
    name = new_guid()
    plane.ok("PUT", at(S, name), body())
    assert plane.ok("GET", at(RG, name.upper()))["properties"]["roleName"] == "Group Reader"
    plane.ok("PUT", at(RG, name), body("Renamed"))
    assert plane.ok("GET", at(S, name))["properties"]["roleName"] == "Renamed"


def test_built_in_roles_are_not_changed_or_deleted(plane: ControlPlane) -> None:
    plane.fails(409, "RoleDefinitionCannotBeUpdated", "PUT", at(S, READER), body(actions=["*"]))
    plane.fails(409, "RoleDefinitionCannotBeDeleted", "DELETE", at(S, READER))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"roleName": ""}, "InvalidRoleDefinitionName"),
        ({"roleName": 5}, "InvalidRoleDefinitionName"),
        ({"roleName": "Reader"}, "RoleDefinitionWithSameNameExists"),
        ({"permissions": []}, "InvalidPermissions"),
        ({"permissions": "*"}, "InvalidPermissions"),
        ({"permissions": [{"actions": ["nonsense"]}]}, "InvalidActionOrNotAction"),
        ({"permissions": [{"actions": ["a b/read"]}]}, "InvalidActionOrNotAction"),
        ({"permissions": [{"actions": ["Microsoft.X/things/look"]}]}, "InvalidActionOrNotAction"),
        ({"permissions": [{"dataActions": [7]}]}, "InvalidActionOrNotAction"),
        ({"permissions": [{"actions": ["*"], "condition": "x"}]}, "ConditionNotSupported"),
        ({"assignableScopes": []}, "InvalidAssignableScopes"),
        ({"assignableScopes": ["/"]}, "InvalidAssignableScopes"),
        ({"assignableScopes": [f"{RG}none"]}, "InvalidAssignableScopes"),
        ({"assignableScopes": [f"{RG}/providers/Microsoft.CognitiveServices/accounts/a"]}, "InvalidAssignableScopes"),
        (
            {"assignableScopes": [f"/providers/Microsoft.Management/managementGroups/{group}" for group in "ab"]},
            "InvalidAssignableScopes",
        ),
        (
            {
                "assignableScopes": [S, "/providers/Microsoft.Management/managementGroups/a"],
                "permissions": [{"dataActions": ["Microsoft.CognitiveServices/*"]}],
            },
            "InvalidDataActionsForManagementGroup",
        ),
    ],
)
def test_custom_roles_that_azure_would_refuse(plane: ControlPlane, change: Any, code: str) -> None:
    wanted = body()
    wanted["properties"] |= change
    reply = plane.send("PUT", at(S), wanted)
    assert reply.status_code in (400, 409)
    assert reply.json()["error"]["code"] == code


def test_patterns_may_have_wildcards_anywhere(plane: ControlPlane) -> None:
    plane.ok(
        "PUT",
        at(S),
        body(
            actions=["*", "*/read", "Microsoft.*/*/read", "Microsoft.X/things/Sync*"],
            dataActions=["Microsoft.X/*/Action"],
        ),
    )


def test_a_role_cannot_be_taken_over_from_a_scope_where_one_may_write(plane: ControlPlane) -> None:
    plane.ok("PUT", f"{S}/resourceGroups/mine", {"location": "local"})
    mine = f"{S}/resourceGroups/mine"
    admin = plane.principal("admin", (ACCESS_ADMIN, mine))
    name = new_guid()
    plane.ok("PUT", at(S, name), body())
    for scopes in ([RG], [mine], [mine, RG]):
        plane.fails(403, "AuthorizationFailed", "PUT", at(mine, name), body("x", scopes, actions=["*"]), by=admin)
    assert plane.send("DELETE", at(mine, name), by=admin).status_code in (204, 403)
    assert plane.ok("GET", at(S, name))["properties"]["roleName"] == "Group Reader"
    plane.ok("PUT", at(mine), body("of my own", [mine]), by=admin)
    plane.fails(403, "AuthorizationFailed", "PUT", at(mine), body("too wide", [mine, S]), by=admin)


def test_custom_roles_are_found_where_they_can_be_assigned(plane: ControlPlane) -> None:
    other = plane.ok("PUT", f"{S}/resourceGroups/other", {"location": "local"})["id"]
    name = new_guid()
    plane.ok("PUT", at(S, name), body(scopes=[RG]))

    def custom(scope: str, more: str = "") -> list[str]:
        found = plane.ok("GET", f"{scope}{AUTH}/roleDefinitions?$filter=type eq 'CustomRole'{more}")["value"]
        return [item["name"] for item in found]

    assert custom(RG) == [name]
    assert custom(S) == custom(other) == []
    assert custom(S, " and atScopeAndBelow()") == [name]
    plane.fails(404, "ResourceNotFound", "GET", at(other, name))
    who = plane.principal("who")
    plane.fails(404, "RoleDefinitionDoesNotExist", "PUT", assignment_at(other), assignment_body(name, who.object_id))


def test_a_role_made_at_the_subscription_is_not_lost_when_named_in_upper_case(plane: ControlPlane) -> None:
    name = new_guid()
    plane.ok("PUT", at(S, name.upper()), body())
    plane.fails(409, "RoleDefinitionWithSameNameExists", "PUT", at(S), body("group READER"))
    assert plane.ok("GET", at(f"/subscriptions/{SUB.upper()}", name))["name"].lower() == name
