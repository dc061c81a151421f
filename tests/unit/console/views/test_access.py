"""Requests for E0 and for roles: what waits first, decided on in each one's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stockade.console.arm import Answer
from stockade.kernel.clock import iso
from tests.factories.console import ACCOUNT, SUB, ConsoleWorld, refusal

PAGE = f"/console/subscriptions/{SUB}/access"
SKUS = f"/subscriptions/{SUB}/providers/Stockade.Access/skuRequests"
ROLES = f"/subscriptions/{SUB}/providers/Stockade.Access/roleRequests"
DOOR, ROLE = f"{SKUS}/door", f"{ACCOUNT}/providers/Stockade.Access/roleRequests/look"
BY = {"objectId": "9", "name": "Dev <b>"}


def sku(now: float, **changes: Any) -> dict[str, Any]:
    what = {"kind": "Face", "sku": "E0", "location": "local", "count": 2, "reason": "Door", "state": "Submitted"}
    dates = {"requestedBy": BY, "submittedAt": iso(now - 60), "dueBy": iso(now + 86_400), "history": [{"state": "x"}]}
    return {"id": DOOR, "name": "door", "properties": {**what, **dates, **changes}}


def role(now: float, **changes: Any) -> dict[str, Any]:
    what = {"roleName": "Reader", "durationMinutes": 120, "reason": "Look", "status": "Pending", "scope": ACCOUNT}
    dates = {"requestedBy": BY, "requestedAt": iso(now - 60), "lapsesAt": iso(now + 86_400), "history": []}
    return {"id": ROLE, "name": "look", "properties": {**what, **dates, **changes}}


@pytest.fixture
def asked(world: ConsoleWorld) -> ConsoleWorld:
    now = world.arm.now
    old = sku(now, state="Denied", reason="Older", submittedAt=iso(now - 9), history=[{"comment": "No case"}])
    world.arm.replies["GET", SKUS] = Answer(200, {"value": [old, sku(now)]})
    world.arm.replies["GET", ROLES] = Answer(200, {"value": [role(now)]})
    return world


def test_what_waits_comes_first_and_can_be_decided_on(asked: ConsoleWorld) -> None:
    browser = asked.signed_in()
    text = browser.get(PAGE).text
    assert text.index("Door") < text.index("Older")
    assert "2 × Face E0 in local" in text
    assert "Reader for 2 hours" in text
    assert "Dev &lt;b&gt;" in text
    assert "No case" in text
    assert text.count(f'action="{PAGE}/approve"') == 2
    home = browser.get("/console/").text
    assert "2 × Face E0 in local: Door" in home
    assert "Reader for 2 hours: Look" in home
    assert "Older" not in home


@pytest.mark.parametrize(("request_id", "word"), [(DOOR, "comment"), (ROLE, "reason")], ids=["E0", "role"])
@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_a_decision_goes_to_the_request_itself(asked: ConsoleWorld, request_id: str, word: str, decision: str) -> None:
    made = sku(0, state="Approved") if request_id == DOOR else role(0, status="Approved")
    asked.arm.replies["POST", f"{request_id}/{decision}"] = Answer(200, made)
    browser = asked.signed_in()
    form = {**browser.fields(PAGE), "id": request_id, "comment": "fine"}
    assert browser.post(f"{PAGE}/{decision}", form).headers["location"] == PAGE
    assert json.loads(asked.arm.asked[-1].body) == {word: "fine"}
    assert "asked for by Dev &lt;b&gt;: approved." in browser.get(PAGE).text


@pytest.mark.parametrize(
    ("request_id", "decision"),
    [
        (ACCOUNT, "approve"),
        ("/subscriptions/other/providers/Stockade.Access/skuRequests/door", "approve"),
        (DOOR, "withdraw"),
        ("", "deny"),
    ],
)
def test_nothing_else_is_asked_of_arm(asked: ConsoleWorld, request_id: str, decision: str) -> None:
    browser = asked.signed_in()
    form = {**browser.fields(PAGE), "id": request_id}
    assert browser.post(f"{PAGE}/{decision}", form).status_code == 404
    assert all(question.method == "GET" for question in asked.arm.asked)


def test_a_refusal_is_said_on_the_page(asked: ConsoleWorld) -> None:
    asked.arm.replies["POST", f"{DOOR}/deny"] = refusal(400, "CommentRequired", "A denial says why.")
    browser = asked.signed_in()
    reply = browser.post(f"{PAGE}/deny", {**browser.fields(PAGE), "id": DOOR})
    assert reply.status_code == 400
    assert "A denial says why." in reply.text


def test_what_one_may_not_read_is_left_out(world: ConsoleWorld) -> None:
    world.arm.replies["GET", SKUS] = refusal(403, "AuthorizationFailed", "You may not.")
    world.arm.replies["GET", ROLES] = Answer(200, {"value": []})
    browser = world.signed_in()
    text = browser.get(PAGE).text
    assert "You may not." in text
    assert "Nobody has asked." in text
    assert browser.get("/console/").status_code == 200
