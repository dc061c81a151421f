"""Who may read a decision, and what it says."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from stockade.decisions.record import OutputSeen
from stockade.management.decisions.explaining import PERMISSION
from tests.factories.control_plane import AI_USER, CONTRIBUTOR, OTHER_SUB, READER, RG, S
from tests.factories.decisions import ACCOUNT, DecidedPlane

ANYWHERE = "/providers/Stockade.Policy/decisions"
COGNITIVE_CONTRIBUTOR = "25fbc0a9-bd7c-42a3-aa1a-3b75d497ee68"


def steps(told: Any) -> dict[str, str]:
    return {step["step"]: step["outcome"] for step in told["steps"]}


def test_allowed_request_is_explained_by_every_check(plane: DecidedPlane) -> None:
    told = plane.ok("GET", f"{ANYWHERE}/{plane.decide()}")
    assert told["verdict"] == "allow"
    assert steps(told) == dict.fromkeys(
        [
            "caller",
            "address",
            "network",
            "credential",
            "local-auth",
            "operation",
            "role",
            "customer-key",
            "outbound",
            "quota",
            "engine",
            "reply",
        ],
        "passed",
    )
    assert (told["wouldHelp"], told["now"]["verdict"]) == ([], "allow")


def test_refusal_stops_the_chain_and_says_what_helps(plane: DecidedPlane) -> None:
    because = {"address": "192.0.2.7", "mechanism": "networkAcls", "nearestRule": "192.0.2.0/29"}
    told = plane.ok("GET", f"{ANYWHERE}/{plane.refuse('network', 'NetworkDenied', because)}")
    assert (steps(told)["address"], steps(told)["network"], steps(told)["credential"], steps(told)["engine"]) == (
        "passed", "refused", "notReached", "notReached",
    )  # fmt: skip
    assert "192.0.2.0/29" in told["wouldHelp"][0]["what"]
    assert (
        told["wouldHelp"][1]["command"]
        == "az cognitiveservices account network-rule add -g Group1 -n a1 --ip-address 192.0.2.7"
    )
    assert told["now"] | {"policyGeneration": 0} == {
        "verdict": "allow",
        "reported": [],
        "policyGeneration": 0,
        "policyChanged": True,
    }


def test_missing_role_names_the_smallest_one_with_its_command(plane: DecidedPlane) -> None:
    app = plane.principal("app")
    because = {
        "principal": app.object_id,
        "dataAction": "Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action",
    }
    who = {"credential": "token", "slot": "", "principal": app.object_id, "tenant": plane.tenant_id}
    told = plane.ok("GET", f"{ANYWHERE}/{plane.refuse('role', 'PermissionDenied', because, **who)}")
    assert told["wouldHelp"][0]["command"] == (
        f"az role assignment create --assignee-object-id {app.object_id} --assignee-principal-type ServicePrincipal "
        f"--role 'Cognitive Services OpenAI User' --scope {ACCOUNT}"
    )
    assert told["now"]["rule"] == "role"


def test_refused_host_and_report_are_told_apart(plane: DecidedPlane) -> None:
    told = plane.ok(
        "GET", f"{ANYWHERE}/{plane.refuse_host('evil.example', modes={'network': 'report', 'rbac': 'off'})}"
    )
    assert """--set 'properties.allowedFqdnList=["evil.example"]'""" in told["wouldHelp"][0]["command"]
    assert steps(told)["role"] == "off"
    assert [step["mode"] for step in told["steps"] if step["step"] == "network"] == ["report"]


def test_host_is_added_where_there_is_a_list(plane: DecidedPlane) -> None:
    plane.ok(
        "PATCH", ACCOUNT, {"properties": {"restrictOutboundNetworkAccess": True, "allowedFqdnList": ["a.example"]}}
    )
    told = plane.ok("GET", f"{ANYWHERE}/{plane.refuse_host('evil.example')}")
    assert told["wouldHelp"][0]["command"].endswith("--add properties.allowedFqdnList evil.example")


def test_host_in_a_reply_is_told_and_helped(plane: DecidedPlane) -> None:
    seen = (OutputSeen("links.example", "choices[0].message.content", count=2),)
    told = plane.ok("GET", f"{ANYWHERE}/{plane.decide(output=seen, modes={'output': 'report'})}")
    [step] = [one for one in told["steps"] if one["step"] == "output"]
    assert (step["outcome"], step["facts"]["found"][0]["host"]) == ("reported", "links.example")
    assert "links.example" in told["wouldHelp"][0]["command"]


def test_key_that_was_regenerated_since_is_refused_now(plane: DecidedPlane) -> None:
    decision_id = plane.decide()
    plane.clock.advance(60)
    plane.ok("POST", f"{ACCOUNT}/regenerateKey", {"keyName": "Key1"})
    assert plane.ok("GET", f"{ANYWHERE}/{decision_id}")["now"]["rule"] == "credential"
    assert plane.ok("GET", f"{ANYWHERE}/{plane.decide(slot='Key2')}")["now"]["verdict"] == "allow"


@pytest.mark.parametrize(
    ("role", "may"), [(CONTRIBUTOR, True), (COGNITIVE_CONTRIBUTOR, True), (READER, False), (AI_USER, False)]
)
def test_reading_takes_an_action_that_readers_and_users_lack(plane: DecidedPlane, role: str, may: bool) -> None:
    caller, decision_id = plane.principal("caller", (role, RG)), plane.decide()
    assert plane.send("GET", f"{ANYWHERE}/{decision_id}", by=caller).status_code == (200 if may else 404)
    for path in (f"decisions/{decision_id}", "decisions", "controlReport?control=dlp"):
        assert plane.send("GET", f"{ACCOUNT}/{path}", by=caller).status_code == (200 if may else 403)
    assert plane.send("POST", f"{ACCOUNT}/whatIf", {"last": 1}, by=caller).status_code == (200 if may else 403)


def test_who_may_not_read_a_decision_learns_nothing_of_it(plane: DecidedPlane) -> None:
    elsewhere = plane.principal("elsewhere", (CONTRIBUTOR, f"/subscriptions/{OTHER_SUB}"))
    known, unknown = plane.decide(), str(uuid.uuid4())
    replies = [plane.send("GET", f"{ANYWHERE}/{one}", by=elsewhere) for one in (known, unknown)]
    assert replies[0].status_code == replies[1].status_code == 404
    assert replies[0].text.replace(known, "") == replies[1].text.replace(unknown, "")


def test_decision_about_no_account_is_for_who_may_at_a_subscription(plane: DecidedPlane) -> None:
    decision_id = plane.refuse("address", "NotFound", account="", account_id="", credential="none", slot="")
    of_group = plane.principal("of-group", (CONTRIBUTOR, RG))
    plane.fails(404, "DecisionNotFound", "GET", f"{ANYWHERE}/{decision_id}", by=of_group)
    told = plane.ok("GET", f"{ANYWHERE}/{decision_id}")
    assert (told["rule"], told["now"]["verdict"]) == ("address", "unknown")


def test_decision_of_another_account_is_not_found_below_this_one(plane: DecidedPlane) -> None:
    other = plane.decide(account=ACCOUNT.lower() + "2", account_id=ACCOUNT + "2")
    plane.fails(404, "DecisionNotFound", "GET", f"{ACCOUNT}/decisions/{other}")
    assert plane.ok("GET", f"{ACCOUNT}/decisions/{plane.decide()}")["verdict"] == "allow"


@pytest.mark.parametrize("text", ["x", "..%2f..", "' OR 1=1 --", "0" * 36])
def test_what_is_no_id_is_not_found(plane: DecidedPlane, text: str) -> None:
    assert plane.send("GET", f"{ANYWHERE}/{text}").status_code in (400, 404)


def test_list_has_pages_and_filters(plane: DecidedPlane) -> None:
    allowed = [plane.decide() for _ in range(5)]
    refused = plane.refuse("network", "NetworkDenied")
    page = plane.ok("GET", f"{ACCOUNT}/decisions?$top=4")
    assert [entry["id"] for entry in page["value"]] == [refused, *allowed[:1:-1]]
    following = plane.client.get(page["nextLink"], headers={"authorization": f"Bearer {plane.owner.object_id}"}).json()
    assert [entry["id"] for entry in following["value"]] == allowed[1::-1]
    assert "nextLink" not in following
    [only] = plane.ok("GET", f"{ACCOUNT}/decisions?$filter=rule eq 'network' and verdict eq 'deny'")["value"]
    assert only["id"] == refused
    plane.clock.advance(7200)
    assert plane.ok("GET", f"{ACCOUNT}/decisions?since=1h")["value"] == []


@pytest.mark.parametrize("query", ["$filter=address eq '1'", "$top=0", "since=yesterday", "since=400d", "$skiptoken=x"])
def test_list_refuses_what_it_does_not_know(plane: DecidedPlane, query: str) -> None:
    assert plane.send("GET", f"{ACCOUNT}/decisions?{query}").status_code == 400


def test_permission_stands_where_the_platform_lists_its_actions(plane: DecidedPlane) -> None:
    listed = plane.ok("GET", "/providers/Microsoft.Authorization/providerOperations/Microsoft.CognitiveServices")
    assert PERMISSION in {one["name"] for kind in listed["resourceTypes"] for one in kind["operations"]}
    assert PERMISSION in {
        one["name"] for one in plane.ok("GET", "/providers/Microsoft.CognitiveServices/operations")["value"]
    }


def test_nothing_is_kept_yet(plane: DecidedPlane) -> None:
    assert plane.ok("GET", f"{ACCOUNT}/decisions")["value"] == []
    assert not (plane.settings.data_dir / "decisions.db").exists()


def test_purged_account_takes_its_decisions_with_it(plane: DecidedPlane) -> None:
    refused = plane.refuse_host("evil.example")
    plane.ok("DELETE", ACCOUNT)
    assert plane.ok("GET", f"{ANYWHERE}/{refused}")["now"]["rule"] == "address"
    place = f"{S}/providers/Microsoft.CognitiveServices/locations/local/resourceGroups/Group1/deletedAccounts/a1"
    plane.ok("DELETE", place)
    plane.fails(404, "DecisionNotFound", "GET", f"{ANYWHERE}/{refused}")
    body = {"kind": "OpenAI", "location": "local", "sku": {"name": "S0"}, "properties": {"customSubDomainName": "a1"}}
    plane.ok("PUT", ACCOUNT, body)
    assert plane.ok("GET", f"{ACCOUNT}/decisions")["value"] == []
    assert plane.ok("GET", f"{ACCOUNT}/controlReport?control=dlp")["findings"] == []
