"""Drafts: what they would refuse and allow, and that nothing is changed by asking."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories.control_plane import AUTH, CONTRIBUTOR, RG
from tests.factories.decisions import ACCOUNT, DecidedPlane

CLOSED = {"properties": {"networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "192.0.2.0/25"}]}}}
LISTED = {"properties": {"restrictOutboundNetworkAccess": True, "allowedFqdnList": ["good.example"]}}
KEYLESS = {"properties": {"disableLocalAuth": True}}
CHAT = {"operation": "ChatCompletions_Create", "key": "Key1", "address": "192.0.2.7"}


def ask(plane: DecidedPlane, **body: Any) -> Any:
    return plane.ok("POST", f"{ACCOUNT}/whatIf", body)


def test_described_request_is_judged_by_policy_and_draft(plane: DecidedPlane) -> None:
    [told] = ask(plane, change=CLOSED, requests=[{**CHAT, "address": "198.51.100.9"}])["requests"]
    assert (told["now"]["verdict"], told["draft"]["verdict"], told["draft"]["rule"], told["change"]) == (
        "allow",
        "deny",
        "network",
        "refused",
    )
    [told] = ask(plane, change=CLOSED, requests=[CHAT])["requests"]
    assert told["change"] == "same"


def test_nothing_is_changed(plane: DecidedPlane) -> None:
    before = plane.ok("GET", ACCOUNT)
    ask(plane, change=CLOSED, requests=[CHAT])
    assert plane.ok("GET", ACCOUNT) == before
    assert plane.source.current().only("account", ACCOUNT.lower()).network.admit_by_default


def test_path_names_operation_and_deployment(plane: DecidedPlane) -> None:
    [told] = ask(plane, requests=[{"path": "/openai/deployments/chat/chat/completions", "key": "Key2"}])["requests"]
    assert (told["operation"], told["now"]["verdict"]) == ("ChatCompletions_Create", "allow")


def test_uris_of_a_described_request_are_judged_whole_and_not_repeated(plane: DecidedPlane) -> None:
    [told] = ask(
        plane, change=LISTED, requests=[{**CHAT, "uris": ["https://good.example/", "https://evil.example/CANARY"]}]
    )["requests"]
    assert (told["draft"]["rule"], told["hosts"]) == ("outbound", ["good.example", "evil.example"])
    assert "CANARY" not in str(told)


def test_principal_is_judged_by_its_roles_and_drafted_ones(plane: DecidedPlane) -> None:
    app = plane.principal("app")
    request = {**CHAT, "key": "", "principal": app.object_id}
    [told] = ask(
        plane, requests=[request], assign=[{"principalId": app.object_id, "role": "Cognitive Services OpenAI User"}]
    )["requests"]
    assert (told["now"]["rule"], told["draft"]["verdict"], told["change"]) == ("role", "allow", "allowed")


def test_assignment_may_be_left_out(plane: DecidedPlane) -> None:
    app = plane.principal("app", ("5e0bd9bd-7b93-4f28-af87-19fc36ad61bd", RG))
    [assignment] = [
        one["id"]
        for one in plane.ok("GET", f"{RG}{AUTH}/roleAssignments?$filter=principalId eq '{app.object_id}'")["value"]
    ]
    request = {**CHAT, "key": "", "principal": app.object_id}
    [told] = ask(plane, requests=[request], removeAssignments=[assignment])["requests"]
    assert told["change"] == "refused"


def test_last_requests_are_counted_by_caller(plane: DecidedPlane) -> None:
    for address, count in (("198.51.100.1", 3), ("198.51.100.2", 2), ("192.0.2.9", 4)):
        for _ in range(count):
            plane.decide(address=address)
    told = ask(plane, change=CLOSED, last=500)["comparison"]
    assert (told["judged"], told["newlyRefused"], told["same"]) == (9, 5, 4)
    assert sorted((caller["address"], caller["newlyRefused"], caller["rules"]) for caller in told["callers"]) == [
        ("198.51.100.1", 3, ["network"]),
        ("198.51.100.2", 2, ["network"]),
    ]


def test_past_refusal_may_be_allowed_by_the_draft(plane: DecidedPlane) -> None:
    plane.ok("PATCH", ACCOUNT, {"properties": LISTED["properties"]})
    decision_id = plane.refuse_host("new.example")
    draft = {"properties": {"allowedFqdnList": ["good.example", "new.example"]}}
    told = ask(plane, change=draft, decisions=[decision_id])["comparison"]
    assert (told["newlyAllowed"], told["requests"][0]["draft"]["verdict"]) == (1, "allow")


def test_what_was_not_looked_at_is_not_guessed(plane: DecidedPlane) -> None:
    plane.decide()
    told = ask(plane, change=LISTED, last=10)["comparison"]
    assert (told["judged"], told["newlyRefused"]) == (0, 0)
    [unknown] = told["unknown"]
    assert unknown["count"] == 1
    assert "not looked at" in unknown["because"]


def test_in_report_it_is_said_that_reports_are_not_known(plane: DecidedPlane) -> None:
    plane.decide()
    trying = {"properties": {**LISTED["properties"], "stockade": {"controls": {"dlp": "report"}}}}
    told = ask(plane, change=trying, last=10)["comparison"]
    assert (told["same"], told["newlyRefused"]) == (1, 0)
    assert told["unknown"][0]["because"].startswith("whether it would be reported")


def test_keys_switched_off_refuse_who_uses_them(plane: DecidedPlane) -> None:
    app = plane.principal("app", ("5e0bd9bd-7b93-4f28-af87-19fc36ad61bd", RG))
    plane.decide()
    plane.decide(credential="token", slot="", principal=app.object_id, tenant=plane.tenant_id)
    told = ask(plane, change=KEYLESS, last=10)["comparison"]
    assert (told["newlyRefused"], told["same"], told["callers"][0]["caller"]) == (1, 1, "Key1")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"last": 1, "requests": [CHAT]},
        {"last": 0},
        {"last": 100_000},
        {"requests": [{}]},
        {"requests": [{"operation": "Nothing_Such"}]},
        {"requests": [{"path": "/nothing/such"}]},
        {"requests": [{**CHAT, "principal": "p"}]},
        {"requests": [{**CHAT, "key": "Key3"}]},
        {"requests": [{**CHAT, "surprise": 1}]},
        {"last": 1, "surprise": 1},
        {"last": 1, "assign": [{"principalId": "p", "role": "No Such Role"}]},
        {"last": 1, "removeAssignments": ["/nothing"]},
        {"last": 1, "change": {"properties": {"networkAcls": {"defaultAction": "Perhaps"}}}},
        {"last": 1, "change": {"properties": {"stockade": {"controls": {"netwrok": "off"}}}}},
    ],
)
def test_what_makes_no_sense_is_refused_like_the_patch_itself(plane: DecidedPlane, body: dict[str, Any]) -> None:
    assert plane.send("POST", f"{ACCOUNT}/whatIf", body).status_code == 400


def test_decision_of_another_account_is_not_found(plane: DecidedPlane) -> None:
    other = plane.decide(account=ACCOUNT.lower() + "2")
    plane.fails(404, "DecisionNotFound", "POST", f"{ACCOUNT}/whatIf", {"decisions": [other]})


def test_who_may_not_lift_the_role_check_may_not_draft_it(plane: DecidedPlane) -> None:
    caller = plane.principal("caller", (CONTRIBUTOR, RG))
    lifted = {"properties": {"stockade": {"controls": {"rbac": "off"}}}}
    assert plane.send("POST", f"{ACCOUNT}/whatIf", {"last": 1, "change": lifted}, by=caller).status_code == 403
