from __future__ import annotations

from typing import Any

import pytest

from stockade.kernel.ids import new_guid
from stockade.policy.builtin_roles import OWNER
from tests.factories.control_plane import ACCESS_ADMIN, AI_USER, AUTH, CONTRIBUTOR, READER, RG, ControlPlane, S


def at(scope: str, name: str | None = None) -> str:
    return f"{scope.rstrip('/')}{AUTH}/roleAssignments/{name or new_guid()}"


def body(role: str, principal: str, **more: Any) -> Any:
    return {"properties": {"roleDefinitionId": f"{S}{AUTH}/roleDefinitions/{role}", "principalId": principal, **more}}


def test_an_assignment_is_stored_and_shown_as_azure_does(plane: ControlPlane) -> None:
    who = plane.principal("who")
    path = at(RG)
    reply = plane.send("PUT", path, body(READER, who.object_id.upper(), description="why", principalType="User"))
    assert reply.status_code == 201
    made = reply.json()
    assert (made["id"], made["type"]) == (path, "Microsoft.Authorization/roleAssignments")
    properties = made["properties"]
    assert properties["roleDefinitionId"] == f"{S}{AUTH}/roleDefinitions/{READER}"
    assert (properties["scope"], properties["principalId"]) == (RG, who.object_id)
    assert properties["principalType"] == "ServicePrincipal"  # the directory's word
    assert properties["description"] == "why"
    assert properties["createdBy"] == properties["updatedBy"] == plane.owner.object_id
    assert properties["createdOn"]
    assert "etag" not in made and "systemData" not in made
    assert plane.ok("GET", path.lower())["properties"] == properties
    assert plane.send("GET", RG, by=who).status_code == 200
    assert plane.send("DELETE", path).json()["id"] == path
    assert plane.send("GET", RG, by=who).status_code == 403
    assert plane.send("DELETE", path).status_code == 204


def test_a_bare_or_tenant_level_role_id_is_taken_and_shown_below_the_subscription(plane: ControlPlane) -> None:
    who = plane.principal("who")
    for role_id in (READER, f"{AUTH}/roleDefinitions/{READER}", READER.upper()):
        path = at(RG)
        made = plane.ok("PUT", path, {"properties": {"roleDefinitionId": role_id, "principalId": who.object_id}})
        assert made["properties"]["roleDefinitionId"] == f"{S}{AUTH}/roleDefinitions/{READER}"
        plane.ok("DELETE", path)


def test_roles_can_be_assigned_on_a_resource(plane: ControlPlane) -> None:
    identity = f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/abc"
    who = plane.principal("who")
    plane.fails(404, "ParentResourceNotFound", "PUT", at(identity), body(READER, who.object_id))
    plane.ok("PUT", identity, {"location": "local"})
    plane.ok("PUT", at(identity), body(READER, who.object_id))
    assert plane.send("GET", identity, by=who).status_code == 200
    plane.ok("DELETE", identity)
    plane.ok("PUT", identity, {"location": "local"})
    assert plane.send("GET", identity, by=who).status_code == 403  # the new one is not the old one


def test_putting_the_same_again_changes_nothing_and_another_name_is_a_conflict(plane: ControlPlane) -> None:
    who, path = plane.principal("who"), at(RG)
    first = plane.ok("PUT", path, body(READER, who.object_id))
    again = plane.send("PUT", path, body(READER, who.object_id))
    assert again.status_code == 200
    assert again.json() == first
    message = plane.fails(409, "RoleAssignmentExists", "PUT", at(RG), body(READER, who.object_id))
    assert first["name"].replace("-", "") in message
    plane.ok("PUT", at(S), body(READER, who.object_id))  # at another scope it is another assignment


def test_role_principal_and_scope_of_an_assignment_never_change(plane: ControlPlane) -> None:
    who, other, path = plane.principal("who"), plane.principal("other"), at(RG)
    plane.ok("PUT", path, body(READER, who.object_id))
    name = path.rsplit("/", 1)[-1]
    for target, changed in (
        (path, body(CONTRIBUTOR, who.object_id)),
        (path, body(READER, other.object_id)),
        (at(S, name), body(READER, who.object_id)),
    ):
        plane.fails(400, "RoleAssignmentUpdateNotPermitted", "PUT", target, changed)


def test_a_principal_the_directory_does_not_know_is_refused_whatever_type_is_claimed(plane: ControlPlane) -> None:
    for principal_type in (None, "User", "ServicePrincipal", "Group", "ForeignGroup"):
        plane.fails(400, "PrincipalNotFound", "PUT", at(RG), body(READER, new_guid(), principalType=principal_type))
    plane.fails(400, "InvalidPrincipalId", "PUT", at(RG), body(READER, "somebody"))


def test_an_application_id_is_refused_with_the_object_id_it_should_have_been(plane: ControlPlane) -> None:
    who = plane.principal("who")
    message = plane.fails(400, "PrincipalNotFound", "PUT", at(RG), body(READER, str(who.app_id)))
    assert who.object_id in message and "application id" in message


def test_groups_are_principals_and_their_members_profit(plane: ControlPlane) -> None:
    who = plane.principal("who")
    with plane.database.write() as writer:
        group = plane.directory.create_group(writer, "readers")
        plane.directory.add_member(writer, group.object_id, who.object_id)
    made = plane.ok("PUT", at(RG), body(READER, group.object_id))
    assert made["properties"]["principalType"] == "Group"
    assert plane.send("GET", RG, by=who).status_code == 200


@pytest.mark.parametrize(
    "role",
    [new_guid(), "nonsense", f"{S}/providers/Microsoft.Other/roleDefinitions/{READER}"],
    ids=["unknown", "nonsense", "other type"],
)
def test_a_role_that_does_not_exist_is_refused(plane: ControlPlane, role: str) -> None:
    who = plane.principal("who")
    given = {"properties": {"roleDefinitionId": role, "principalId": who.object_id}}
    plane.fails(404, "RoleDefinitionDoesNotExist", "PUT", at(RG), given)


def test_conditions_are_refused_and_not_stored_unevaluated(plane: ControlPlane) -> None:
    who = plane.principal("who")
    conditional = body(READER, who.object_id, condition="@Resource[x] StringEquals 'y'", conditionVersion="2.0")
    plane.fails(400, "ConditionNotSupported", "PUT", at(RG), conditional)
    plane.ok("PUT", at(RG), body(READER, who.object_id, condition=None, conditionVersion=None))


@pytest.mark.parametrize("given", [{}, {"properties": None}, {"properties": []}, {"properties": {"principalId": 5}}])
def test_malformed_bodies_are_refused(plane: ControlPlane, given: Any) -> None:
    assert plane.send("PUT", at(RG), given).status_code == 400


def test_names_are_guids(plane: ControlPlane) -> None:
    plane.fails(400, "InvalidResourceName", "PUT", at(RG, "not-a-guid"), body(READER, plane.owner.object_id))


def test_who_may_not_assign_roles_cannot(plane: ControlPlane) -> None:
    contributor, admin = plane.principal("contributor", (CONTRIBUTOR, S)), plane.principal("admin", (ACCESS_ADMIN, RG))
    who = plane.principal("who")
    plane.fails(403, "AuthorizationFailed", "PUT", at(RG), body(OWNER, contributor.object_id), by=contributor)
    plane.fails(
        403, "AuthorizationFailed", "PUT", at(S), body(READER, who.object_id), by=admin
    )  # only from the group down
    made = plane.ok("PUT", at(RG), body(READER, who.object_id), by=admin)
    plane.fails(403, "AuthorizationFailed", "DELETE", made["id"], by=contributor)


def test_the_last_owner_of_a_subscription_stays(plane: ControlPlane) -> None:
    (only,) = plane.ok("GET", f"{S}{AUTH}/roleAssignments?$filter=atScope()")["value"]
    plane.fails(409, "CannotDeleteLastRbacAdminAssignment", "DELETE", only["id"])
    second = plane.principal("second", (OWNER, S))
    with plane.database.write() as writer:
        plane.directory.set_enabled(writer, second.object_id, enabled=False)
    plane.fails(409, "CannotDeleteLastRbacAdminAssignment", "DELETE", only["id"])  # a disabled one does not count
    with plane.database.write() as writer:
        plane.directory.set_enabled(writer, second.object_id, enabled=True)
    plane.ok("DELETE", only["id"])
    plane.ok("GET", S, by=second)


def test_an_owner_of_a_group_is_not_the_last_owner_of_anything(plane: ControlPlane) -> None:
    made = plane.ok("PUT", at(RG), body(OWNER, plane.principal("who").object_id))
    plane.ok("DELETE", made["id"])


def test_lists_and_filters(plane: ControlPlane) -> None:
    identity = f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/abc"
    plane.ok("PUT", identity, {"location": "local"})
    who = plane.principal("who", (READER, S), (AI_USER, RG), (CONTRIBUTOR, identity))
    with plane.database.write() as writer:
        group = plane.directory.create_group(writer, "all")
        plane.directory.add_member(writer, group.object_id, who.object_id)
    plane.ok("PUT", at(RG), body(ACCESS_ADMIN, group.object_id))

    def listed(scope: str, text: str = "") -> list[str]:
        path = f"{scope}{AUTH}/roleAssignments" + (f"?$filter={text}" if text else "")
        return sorted(
            item["properties"]["roleDefinitionId"].rsplit("/", 1)[-1] for item in plane.ok("GET", path)["value"]
        )

    assert listed(RG) == sorted([OWNER, READER, AI_USER, CONTRIBUTOR, ACCESS_ADMIN])
    assert listed(S) == listed(RG)
    assert listed(RG, "atScope()") == sorted([OWNER, READER, AI_USER, ACCESS_ADMIN])
    assert listed(S, "atScope()") == sorted([OWNER, READER])
    assert listed(RG, f"principalId eq '{who.object_id}'") == sorted([READER, AI_USER, CONTRIBUTOR])
    assert listed(RG, f"assignedTo('{who.object_id}')") == sorted([READER, AI_USER, CONTRIBUTOR, ACCESS_ADMIN])
    assert listed(RG, f"atScope() and assignedTo('{who.object_id}')") == sorted([READER, AI_USER, ACCESS_ADMIN])
    for text in (f"principalId eq '{who.object_id}' and atScope()", "roleName eq 'x'", "nonsense"):
        plane.fails(400, "InvalidFilterInQueryString", "GET", f"{RG}{AUTH}/roleAssignments?$filter={text}")


def test_deleting_a_group_takes_its_assignments_with_it(plane: ControlPlane) -> None:
    plane.ok("PUT", f"{S}/resourceGroups/g2", {"location": "local"})
    who = plane.principal("who", (READER, f"{S}/resourceGroups/g2"))
    plane.ok("DELETE", f"{S}/resourceGroups/g2")
    plane.ok("PUT", f"{S}/resourceGroups/g2", {"location": "local"})
    assert plane.send("GET", f"{S}/resourceGroups/g2", by=who).status_code == 403
