"""Reports: what was counted, and proposals that are patches of the account."""

from __future__ import annotations

from typing import Any

import pytest

from stockade.decisions.record import OutputSeen, Refusal
from tests.factories.decisions import ACCOUNT, DecidedPlane


def report(plane: DecidedPlane, control: str, more: str = "") -> Any:
    return plane.ok("GET", f"{ACCOUNT}/controlReport?control={control}{more}")


def test_hosts_are_proposed_behind_those_that_are_listed(plane: DecidedPlane) -> None:
    plane.ok(
        "PATCH", ACCOUNT, {"properties": {"restrictOutboundNetworkAccess": True, "allowedFqdnList": ["good.example"]}}
    )
    for host in ("b.example", "a.example", "b.example"):
        plane.refuse_host(host)
    told = report(plane, "dlp")
    assert (told["refused"], told["wouldRefuse"]) == (3, 0)
    assert [(one["subject"], one["count"]) for one in told["findings"]] == [("b.example", 2), ("a.example", 1)]
    assert told["proposal"]["patch"] == {"properties": {"allowedFqdnList": ["good.example", "a.example", "b.example"]}}
    plane.ok("PATCH", ACCOUNT, told["proposal"]["patch"])
    assert report(plane, "dlp")["proposal"]["patch"] is None


def test_addresses_are_collapsed_and_may_be_widened(plane: DecidedPlane) -> None:
    plane.ok(
        "PATCH",
        ACCOUNT,
        {"properties": {"networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.0/24"}]}}},
    )
    for address in ("192.0.2.6", "192.0.2.7", "198.51.100.1", "2001:db8::1", "2001:db8::2"):
        plane.refuse("network", "NetworkDenied", {"address": address}, address=address)
    proposal = report(plane, "network")["proposal"]
    assert proposal["adds"] == ["192.0.2.6/31", "198.51.100.1", "2001:db8::1", "2001:db8::2"]
    rules = proposal["patch"]["properties"]["networkAcls"]["ipRules"]
    assert [rule["value"] for rule in rules] == ["203.0.113.0/24", *proposal["adds"]]
    assert proposal["patch"]["properties"]["networkAcls"]["defaultAction"] == "Deny"
    wider = report(plane, "network", "&aggregate=24")["proposal"]
    assert wider["adds"] == ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"]
    plane.ok("PATCH", ACCOUNT, wider["patch"])
    assert report(plane, "network", "&aggregate=24")["proposal"]["adds"] == []


def test_disabled_public_access_is_no_matter_of_rules(plane: DecidedPlane) -> None:
    plane.refuse("network", "PublicAccessDisabled")
    proposal = report(plane, "network")["proposal"]
    assert proposal["patch"] is None
    assert "private endpoint" in proposal["notes"][0]


def test_users_of_keys_are_named_with_the_role_they_will_need(plane: DecidedPlane) -> None:
    told = Refusal("local-auth", "LocalAuthDisabled")
    plane.decide(reported=(told,), modes={"localAuth": "report"})
    plane.decide(reported=(told,), modes={"localAuth": "report"}, slot="Key2", agent="other/2")
    answer = report(plane, "localAuth")
    assert (answer["wouldRefuse"], answer["proposal"]["patch"]) == (2, None)
    assert [(one["key"], one["client"], one["role"]) for one in answer["proposal"]["adds"]] == [
        ("Key1", "agent/1", "Cognitive Services OpenAI User"),
        ("Key2", "other/2", "Cognitive Services OpenAI User"),
    ]


def test_missing_roles_are_proposed_as_assignments(plane: DecidedPlane) -> None:
    app = plane.principal("app")
    who = {"credential": "token", "slot": "", "principal": app.object_id, "tenant": plane.tenant_id}
    plane.decide(reported=(Refusal("role", "PermissionDenied"),), modes={"rbac": "report"}, **who)
    [assignment] = report(plane, "rbac")["proposal"]["assignments"]
    assert (assignment["principalId"], assignment["principalType"], assignment["roleName"], assignment["scope"]) == (
        app.object_id, "ServicePrincipal", "Cognitive Services OpenAI User", ACCOUNT,
    )  # fmt: skip


def test_hosts_in_replies_are_a_report_of_their_own(plane: DecidedPlane) -> None:
    plane.decide(output=(OutputSeen("links.example"),), modes={"output": "report"})
    assert report(plane, "output")["proposal"]["adds"] == ["links.example"]
    assert report(plane, "dlp")["findings"] == []


def test_span_and_counting_together(plane: DecidedPlane) -> None:
    plane.refuse_host("old.example")
    plane.clock.advance(3 * 86_400)
    plane.refuse_host("new.example")
    assert [one["subject"] for one in report(plane, "dlp", "&since=2d")["findings"]] == ["new.example"]
    assert len(report(plane, "dlp", "&since=4d")["findings"]) == 2


@pytest.mark.parametrize(
    "query", ["", "?control=everything", "?control=dlp&since=ever", "?control=network&aggregate=x"]
)
def test_what_makes_no_sense_is_refused(plane: DecidedPlane, query: str) -> None:
    assert plane.send("GET", f"{ACCOUNT}/controlReport{query}").status_code == 400
