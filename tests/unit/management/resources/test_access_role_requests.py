"""Asking for a role for a while, deciding, and that it is over by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.identity.principals import Principal
from stockade.management.access import upkeep
from stockade.policy.builtin_roles import ACCESS_APPROVER, ACCESS_REQUESTER, OWNER
from stockade.settings import Access, Mail, Notices, Settings
from tests.factories.control_plane import ACCESS_ADMIN, AUTH, CONTRIBUTOR, OTHER_SUB, READER, RG, ControlPlane, S

HOUR, DAY = 3600, 86_400
VAULTS = f"{RG}/providers/Microsoft.KeyVault/vaults"


class Office:
    """`asker` may only ask; `decider` is an Access Approver and may assign roles; both in the whole subscription."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.asker = plane.principal("asker", (ACCESS_REQUESTER, S))
        self.decider = plane.principal("decider", (ACCESS_APPROVER, S), (ACCESS_ADMIN, S))
        plane.clock.advance(1)

    def path(self, name: str, scope: str = RG) -> str:
        return f"{scope}/providers/Stockade.Access/roleRequests/{name}"

    def asked(self, role: str = "Contributor", minutes: Any = 120, **more: Any) -> Any:
        return {"properties": {"roleName": role, "durationMinutes": minutes, "reason": "to mend it", **more}}

    def ask(self, name: str = "r1", scope: str = RG, **asked: Any) -> Any:
        return self.plane.ok("PUT", self.path(name, scope), self.asked(**asked), by=self.asker)["properties"]

    def act(self, action: str, name: str = "r1", reason: str = "", by: Principal | None = None, scope: str = RG) -> Any:
        body = {"reason": reason} if reason else {}
        path = f"{self.path(name, scope)}/{action}"
        return self.plane.ok("POST", path, body, by=by or self.decider)["properties"]

    def granted(self, **asked: Any) -> Any:
        self.ask(**asked)
        return self.act("approve", scope=asked.get("scope", RG))

    def show(self, name: str = "r1") -> Any:
        return self.plane.ok("GET", self.path(name))["properties"]

    def may(self) -> bool:
        """Say whether the asker may do what the role gives: tag the group."""
        return self.plane.send("PATCH", RG, {"tags": {"a": "b"}}, by=self.asker).status_code == 200

    def assignments(self) -> list[Any]:
        """Return the role assignments that requests have put there."""
        found = self.plane.ok("GET", f"{S}{AUTH}/roleAssignments")["value"]
        return [one for one in found if "stockade" in one["properties"]]

    def keep_up(self) -> None:
        plane, now = self.plane, self.plane.clock.now()
        with plane.database.read() as reader:
            due = upkeep.is_due(plane.settings, reader, now)
        if due:
            with plane.database.write() as writer:
                upkeep.keep_up(plane.settings, writer, plane.audit, now)

    def told(self) -> list[tuple[str, str]]:
        with self.plane.database.read() as reader:
            found = sorted(reader.list("stockade.access/notices"), key=lambda one: one.ordinal)
        return [(one.body["kind"].removeprefix("roleRequest."), one.body["to"]) for one in found]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    mail = Mail(host="mail.example.com", sender="stockade@example.com")
    notices = Notices(mail=mail, operators=("boss@example.com",))
    plane = ControlPlane(tmp_path, settings=Settings(data_dir=tmp_path, notices=notices, access=Access()))
    yield Office(plane)
    plane.close()


# Asking


def test_a_request_says_what_was_asked_by_whom_and_until_when_it_is_decided(office: Office) -> None:
    made = office.ask()
    assert (made["status"], made["roleName"], made["durationMinutes"], made["scope"]) == (
        "Pending",
        "Contributor",
        120,
        RG,
    )
    assert made["principalId"] == office.asker.object_id
    assert made["requestedBy"]["name"] == "asker"
    assert made["requestedAt"][:10] == "2027-01-15" and made["lapsesAt"][:10] == "2027-01-19"
    assert office.ask() == made, "the same once more is the same request"
    assert not office.may() and office.assignments() == []
    assert office.told() == [("created", "mailto:boss@example.com")]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"role": ""}, "InvalidRoleRequest"),
        ({"minutes": 4}, "InvalidRoleRequest"),
        ({"minutes": 8 * 60 + 1}, "InvalidRoleRequest"),
        ({"minutes": None}, "InvalidRoleRequest"),
        ({"minutes": "long"}, "InvalidRequestContent"),
        ({"reason": " "}, "InvalidRoleRequest"),
        ({"reason": "a\x07b"}, "InvalidRoleRequest"),
        ({"contact": "a@example.com\nBcc: b@example.com"}, "InvalidRoleRequest"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(office: Office, changed: Any, code: str) -> None:
    office.plane.fails(400, code, "PUT", office.path("r1"), office.asked(**changed), by=office.asker)
    assert office.told() == []


def test_a_role_that_is_not_there_cannot_be_asked_for_nor_one_that_is_held_for_good(office: Office) -> None:
    plane = office.plane
    body = office.asked("No Such Role")
    plane.fails(404, "RoleDefinitionDoesNotExist", "PUT", office.path("r1"), body, by=office.asker)
    body = office.asked("Stockade Access Requester")
    plane.fails(409, "RoleAssignmentExists", "PUT", office.path("r1"), body, by=office.asker)
    everywhere = plane.principal("everywhere", (ACCESS_REQUESTER, "/"))
    plane.fails(400, "InvalidRoleRequest", "PUT", office.path("r1", ""), office.asked(), by=everywhere)


def test_who_may_not_ask_is_refused_and_what_was_asked_for_does_not_change(office: Office) -> None:
    plane, reader = office.plane, office.plane.principal("reader", (READER, S))
    plane.fails(403, "AuthorizationFailed", "PUT", office.path("r1"), office.asked(), by=reader)
    office.ask()
    longer = office.asked(minutes=121)
    plane.fails(409, "RoleRequestNotChangeable", "PUT", office.path("r1"), longer, by=office.asker)
    other = plane.principal("other", (ACCESS_REQUESTER, S))
    plane.fails(403, "RoleRequestOfAnother", "PUT", office.path("r1"), office.asked(), by=other)
    plane.fails(405, "MethodNotAllowed", "DELETE", office.path("r1"))


def test_lists_are_of_a_scope_and_what_lies_below(office: Office) -> None:
    office.ask("r1", RG)
    office.ask("r2", S)
    names = lambda scope: [  # noqa: E731
        one["name"]
        for one in office.plane.ok("GET", f"{scope}/providers/Stockade.Access/roleRequests", by=office.asker)["value"]
    ]
    assert sorted(names(S)) == ["r1", "r2"]
    assert names(RG) == ["r1"]


# Deciding


def test_an_approval_is_a_role_assignment_that_says_so_and_is_over_to_the_second(office: Office) -> None:
    approved = office.granted()
    assert (approved["status"], approved["approvedAt"][:19], approved["endsAt"][:19]) == (
        "Approved",
        "2027-01-15T08:00:01",
        "2027-01-15T10:00:01",
    )
    [assignment] = office.assignments()
    assert assignment["id"] == approved["roleAssignmentId"]
    assert assignment["properties"]["principalId"] == office.asker.object_id
    assert assignment["properties"]["stockade"] == {
        "roleRequest": office.path("r1"),
        "startsAt": approved["approvedAt"],
        "endsAt": approved["endsAt"],
    }
    assert office.plane.ok("GET", assignment["id"]) == assignment
    assert office.may()
    office.plane.clock.advance(2 * HOUR - 0.001)
    assert office.may()
    office.plane.clock.advance(0.001)
    assert not office.may(), "nobody has kept anything up, and it is over"
    assert office.plane.send("GET", assignment["id"]).status_code == 404
    assert office.assignments() == []
    assert office.show()["status"] == "Completed"
    refused = office.plane.fails(403, "AuthorizationFailed", "PATCH", RG, {"tags": {}}, by=office.asker)
    assert "The role 'Contributor', which was given for a while, ended at 2027-01-15T10:00:01Z." in refused


def test_what_is_over_is_taken_away_and_recorded_by_upkeep(office: Office) -> None:
    approved = office.granted(contact="asker@example.com")
    office.plane.clock.advance(3 * HOUR)
    office.keep_up()
    with office.plane.database.read() as reader:
        assert reader.get(approved["roleAssignmentId"].lower()) is None
    assert [entry["event"] for entry in office.show()["history"]] == ["Created", "Approved", "Completed"]
    assert office.show()["history"][-1]["at"][:19] == "2027-01-15T10:00:01", "when it was over, not when it was noted"
    refused = office.plane.fails(403, "AuthorizationFailed", "PATCH", RG, {"tags": {}}, by=office.asker)
    assert "The role 'Contributor', which was given for a while, ended at 2027-01-15T10:00:01Z." in refused
    [record] = [one for one in office.plane.audit.records if one.client == "upkeep"]
    assert (record.operation, record.resource) == ("Stockade.Access/roleRequests/completed", office.path("r1"))
    before = len(office.told())
    office.keep_up()
    assert len(office.told()) == before
    told = [event for event, to in office.told() if to == "mailto:asker@example.com"]
    assert told == ["approved", "completed"]


def test_nobody_decides_on_their_own_request_whatever_their_roles(office: Office) -> None:
    both = office.plane.principal("both", (OWNER, S), (ACCESS_APPROVER, S))
    office.plane.clock.advance(1)
    office.plane.ok("PUT", office.path("mine"), office.asked(), by=both)
    for action in ("approve", "deny"):
        path = f"{office.path('mine')}/{action}"
        office.plane.fails(403, "OwnRoleRequest", "POST", path, {"reason": "x"}, by=both)


@pytest.mark.parametrize(
    "roles",
    [
        ((ACCESS_APPROVER, S),),
        ((ACCESS_APPROVER, S), (CONTRIBUTOR, S)),
        ((OWNER, S),),
        ((OWNER, RG), (ACCESS_APPROVER, f"/subscriptions/{OTHER_SUB}")),
    ],
    ids=("may not assign roles", "may write all but roles", "no data action", "another place"),
)
def test_who_could_not_assign_the_role_themselves_does_not_approve_it(office: Office, roles: Any) -> None:
    other = office.plane.principal("other", *roles)
    office.plane.clock.advance(1)
    office.ask()
    reply = office.plane.send("POST", f"{office.path('r1')}/approve", {}, by=other)
    assert reply.status_code == 403
    assert not office.may() and office.show()["status"] == "Pending"


def test_an_approver_of_the_group_decides_on_what_is_asked_for_there(office: Office) -> None:
    local = office.plane.principal("local", (ACCESS_APPROVER, RG), (ACCESS_ADMIN, RG))
    office.plane.clock.advance(1)
    office.ask("r1")
    office.ask("r2", S)
    assert office.plane.send("POST", f"{office.path('r2', S)}/approve", {}, by=local).status_code == 403
    assert office.act("approve", by=local)["status"] == "Approved"


def test_a_role_assigned_after_the_request_makes_nobody_its_approver(office: Office) -> None:
    office.ask()
    office.plane.clock.advance(1)
    late = office.plane.principal("late", (ACCESS_APPROVER, S), (ACCESS_ADMIN, S))
    message = office.plane.fails(403, "NotAnApprover", "POST", f"{office.path('r1')}/approve", {}, by=late)
    assert "by a role assigned before the request was made" in message
    assert not office.may()


def test_a_denial_says_why_and_nothing_is_decided_twice(office: Office) -> None:
    office.ask()
    office.plane.fails(400, "ReasonRequired", "POST", f"{office.path('r1')}/deny", {}, by=office.decider)
    denied = office.act("deny", reason="not today")
    assert (denied["status"], denied["history"][-1]["comment"]) == ("Denied", "not today")
    message = office.plane.fails(
        409, "RequestNotDecidable", "POST", f"{office.path('r1')}/approve", {}, by=office.decider
    )
    assert "Denied by decider" in message
    assert not office.may()


def test_what_nobody_decides_on_lapses_after_four_days(office: Office) -> None:
    office.ask()
    office.plane.clock.advance(4 * DAY)
    office.plane.fails(409, "RequestNotDecidable", "POST", f"{office.path('r1')}/approve", {}, by=office.decider)
    assert office.show()["status"] == "Expired"
    office.keep_up()
    assert office.told()[-1][0] == "expired"


# Ending it


def test_a_grant_is_revoked_with_effect_from_the_next_request(office: Office) -> None:
    approved = office.granted()
    assert office.may()
    revoked = office.act("revoke", reason="enough")
    assert (revoked["status"], revoked["endsAt"][:19]) == ("Revoked", "2027-01-15T08:00:01")
    assert "roleAssignmentId" not in revoked
    assert not office.may()
    assert office.plane.send("GET", approved["roleAssignmentId"]).status_code == 404


def test_who_asked_takes_it_back_or_gives_the_role_back_and_nobody_else(office: Office) -> None:
    office.ask("r1")
    office.plane.fails(403, "RoleRequestOfAnother", "POST", f"{office.path('r1')}/cancel", {})
    assert office.act("cancel", "r1", by=office.asker)["status"] == "Revoked"
    office.ask("r2")
    office.act("approve", "r2")
    assert office.act("cancel", "r2", by=office.asker)["status"] == "Completed"
    assert not office.may() and office.assignments() == []


def test_removing_the_assignment_revokes_its_request(office: Office) -> None:
    approved = office.granted()
    office.plane.ok("DELETE", approved["roleAssignmentId"])
    assert not office.may()
    last = office.show()["history"][-1]
    assert (last["event"], last["by"]["name"]) == ("Revoked", "owner")


def test_deleting_its_scope_ends_a_grant_and_leaves_nothing(office: Office) -> None:
    body = {
        "location": "local",
        "properties": {"tenantId": office.plane.tenant_id, "sku": {"family": "A", "name": "standard"}},
    }
    body["properties"]["enableRbacAuthorization"] = True
    vault = f"{VAULTS}/boxes1"
    office.plane.ok("PUT", vault, body)
    office.granted(scope=vault)
    assert len(office.assignments()) == 1
    office.plane.ok("DELETE", RG)
    with office.plane.database.read() as reader:
        assert not reader.list("stockade.access/rolerequests")
        assert not [one for one in reader.list("microsoft.authorization/roleassignments") if one.private.get("while")]


# What a role for a while is not


def test_it_cannot_be_made_into_one_that_stays_nor_be_pretended(office: Office) -> None:
    approved = office.granted()
    [assignment] = office.assignments()
    same = {name: assignment["properties"][name] for name in ("roleDefinitionId", "principalId")}
    office.plane.fails(409, "RoleAssignmentOfRequest", "PUT", approved["roleAssignmentId"], {"properties": same})
    name = "44444444-4444-4444-8444-444444444444"
    marked = {**same, "stockade": assignment["properties"]["stockade"]}
    made = office.plane.ok("PUT", f"{RG}{AUTH}/roleAssignments/{name}", {"properties": marked})
    assert "stockade" not in made["properties"]
    office.plane.clock.advance(9 * HOUR)
    assert office.may(), "assigned for good beside the other, by somebody who may"


def test_its_name_can_be_used_again_once_it_is_over(office: Office) -> None:
    approved = office.granted()
    [assignment] = office.assignments()
    same = {name: assignment["properties"][name] for name in ("roleDefinitionId", "principalId")}
    office.plane.clock.advance(3 * HOUR)
    office.plane.ok("PUT", approved["roleAssignmentId"], {"properties": same})
    assert office.may()
    office.keep_up()
    assert office.may(), "what the request ends is its own assignment only"


def test_an_owner_for_a_while_does_not_count_as_the_one_that_stays(office: Office) -> None:
    office.ask("r1", S, role="Owner")
    office.act("approve", scope=S)
    found = office.plane.ok("GET", f"{S}{AUTH}/roleAssignments")["value"]
    [first] = [one for one in found if one["properties"]["principalId"] == office.plane.owner.object_id]
    office.plane.fails(409, "CannotDeleteLastRbacAdminAssignment", "DELETE", first["id"], by=office.asker)


def test_who_is_approver_for_a_while_decides_while_it_lasts_on_what_was_asked_for_since(office: Office) -> None:
    other = office.plane.principal("other", (ACCESS_REQUESTER, S), (ACCESS_APPROVER, S))
    office.plane.clock.advance(1)
    admin = office.asked("User Access Administrator", 60)
    office.plane.ok("PUT", office.path("admin"), admin, by=other)
    office.ask("before")
    office.plane.clock.advance(1)
    office.act("approve", "admin")
    office.plane.clock.advance(1)
    office.ask("since", role="Reader")
    before = f"{office.path('before')}/approve"
    office.plane.fails(403, "NotAnApprover", "POST", before, {}, by=other)
    assert office.act("approve", "since", by=other)["status"] == "Approved"
    office.plane.clock.advance(HOUR)
    office.plane.fails(403, "NotAnApprover", "POST", before, {}, by=other)
