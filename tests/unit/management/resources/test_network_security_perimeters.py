"""Perimeters as documents: profiles, rules, associations, and how an account shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.factories.arm import account_body
from tests.factories.control_plane import OTHER_SUB, RG, SUB, ControlPlane, S

LINE = f"{RG}/providers/Microsoft.Network/networkSecurityPerimeters/Line1"
PROFILE = f"{LINE}/profiles/Main"
RULE = f"{PROFILE}/accessRules/Office"
JOINED = f"{LINE}/resourceAssociations/Chat"
ACCOUNT = f"{RG}/providers/Microsoft.CognitiveServices/accounts/a1"
CONFIGURATIONS = f"{ACCOUNT}/networkSecurityPerimeterConfigurations"
NETWORK_CONTRIBUTOR = "4d97b98b-1d4f-4787-a291-c67834d212e7"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """An account and a perimeter with one profile."""
    made = ControlPlane(tmp_path)
    made.ok("PUT", ACCOUNT, account_body({"customSubDomainName": "a1x"}))
    made.ok("PUT", LINE, {"location": "local"})
    made.ok("PUT", PROFILE, {})
    yield made
    made.close()


def association(mode: str | None = "Learning", account: str = ACCOUNT, profile: str = PROFILE) -> Any:
    named = {"accessMode": mode} if mode is not None else {}
    return {"properties": {"privateLinkResource": {"id": account}, "profile": {"id": profile}, **named}}


def inbound(*prefixes: str, **more: Any) -> Any:
    return {"properties": {"direction": "Inbound", **({"addressPrefixes": list(prefixes)} if prefixes else {}), **more}}


def joined(plane: ControlPlane) -> Any:
    return plane.source.current().only("perimeter", ACCOUNT.lower())


def test_association_and_rules_are_in_force(plane: ControlPlane) -> None:
    made = plane.ok("PUT", JOINED, association(None))
    assert (made["properties"]["accessMode"], made["properties"]["hasProvisioningIssues"]) == ("Learning", "no")
    assert (joined(plane).enforced, joined(plane).profile_id) == (False, PROFILE.lower())
    plane.ok("PUT", JOINED, association("enforced"))
    assert joined(plane).enforced
    assert plane.ok("PUT", JOINED, association("Audit"))["properties"]["accessMode"] == "Audit"
    assert not joined(plane).enforced
    plane.ok("PUT", RULE, inbound("203.0.113.0/24", "2001:DB8::/32"))
    subscriptions = [{"id": f"/subscriptions/{SUB.upper()}"}]
    plane.ok("PUT", f"{PROFILE}/accessRules/Ours", inbound(subscriptions=subscriptions))
    found = plane.source.current().all("perimeter-rule", PROFILE.lower())
    assert any(rule.addresses.contains("2001:db8::7") for rule in found)
    assert {SUB} in [set(rule.subscriptions) for rule in found]
    assert plane.send("DELETE", RULE).status_code == 200
    assert len(plane.source.current().all("perimeter-rule", PROFILE.lower())) == 1
    assert plane.send("DELETE", JOINED).status_code == 200
    assert joined(plane) is None


def test_account_shows_its_perimeter(plane: ControlPlane) -> None:
    assert plane.ok("GET", CONFIGURATIONS)["value"] == []
    plane.ok("PUT", JOINED, association("Enforced"))
    plane.ok("PUT", RULE, inbound("203.0.113.0/24"))
    [found] = plane.ok("GET", CONFIGURATIONS)["value"]
    guid = plane.ok("GET", LINE)["properties"]["perimeterGuid"]
    assert found["name"] == f"{guid}.Chat"
    assert plane.ok("GET", found["id"]) == found
    properties = found["properties"]
    assert properties["networkSecurityPerimeter"] == {"id": LINE, "perimeterGuid": guid, "location": "local"}
    assert properties["resourceAssociation"] == {"name": "Chat", "accessMode": "Enforced"}
    assert properties["profile"]["accessRulesVersion"] == "1"
    assert [rule["name"] for rule in properties["profile"]["accessRules"]] == ["Office"]
    assert plane.ok("POST", f"{found['id']}/reconcile") == found
    plane.fails(404, "ResourceNotFound", "GET", f"{CONFIGURATIONS}/other")
    plane.fails(405, "MethodNotAllowed", "PUT", found["id"], {})
    for path in (JOINED, RULE):
        assert plane.send("POST", f"{path}/reconcile", {}).status_code == 200


def test_an_account_is_in_one_perimeter(plane: ControlPlane) -> None:
    plane.ok("PUT", JOINED, association())
    plane.fails(409, "ResourceAlreadyAssociated", "PUT", f"{LINE}/resourceAssociations/Again", association())
    plane.ok("PUT", ACCOUNT + "b", account_body())
    plane.fails(400, "PropertyChangeNotAllowed", "PUT", JOINED, association(account=ACCOUNT + "b"))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (association(account=ACCOUNT + "x"), "PrivateLinkResourceNotFound"),
        (association(account=LINE), "InvalidResourceReference"),
        (association(profile=PROFILE + "x"), "ProfileNotFound"),
        (association(profile=PROFILE.replace("Line1", "Line2")), "ProfileNotFound"),
        (association("Sometimes"), "InvalidRequestContent"),
        ({"properties": {"profile": {"id": PROFILE}}}, "InvalidRequestContent"),
    ],
)
def test_association_with_what_is_not_there_is_refused(plane: ControlPlane, body: Any, code: str) -> None:
    plane.fails(400, code, "PUT", JOINED, body)
    assert joined(plane) is None


def test_joining_an_account_needs_a_right_on_it(plane: ControlPlane) -> None:
    someone = plane.principal("network", (NETWORK_CONTRIBUTOR, RG))
    for account in (ACCOUNT, ACCOUNT + "x"):
        message = plane.fails(403, "AuthorizationFailed", "PUT", JOINED, association(account=account), by=someone)
        assert "Microsoft.CognitiveServices/accounts/joinPerimeter/action" in message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (inbound(), "InvalidAccessRule"),
        (inbound("10.0.0.0/8", subscriptions=[{"id": f"/subscriptions/{OTHER_SUB}"}]), "InvalidAccessRule"),
        (inbound("10.0.0.1/8"), "InvalidCIDRNotation"),
        (inbound("x"), "InvalidCIDRNotation"),
        (inbound(subscriptions=[{"id": f"{S}/resourceGroups/g"}]), "InvalidAccessRule"),
        (inbound(subscriptions=[{}]), "InvalidResourceId"),
        (inbound("10.0.0.0/8", serviceTags=["AzureCloud"]), "AccessRuleNotAvailable"),
        (inbound(emailAddresses=["a@b.c"]), "AccessRuleNotAvailable"),
        ({"properties": {"direction": "Sideways"}}, "InvalidRequestContent"),
    ],
)
def test_rule_that_could_not_be_in_force_is_refused(plane: ControlPlane, body: Any, code: str) -> None:
    plane.fails(400, code, "PUT", RULE, body)
    assert plane.source.current().all("perimeter-rule", PROFILE.lower()) == ()


def test_outbound_rules_point_to_the_accounts_own_list(plane: ControlPlane) -> None:
    body = {"properties": {"direction": "Outbound", "fullyQualifiedDomainNames": ["example.com"]}}
    assert "allowedFqdnList" in plane.fails(400, "OutboundRulesNotAvailable", "PUT", RULE, body)


def test_what_is_in_use_stays(plane: ControlPlane) -> None:
    plane.ok("PUT", JOINED, association())
    plane.fails(409, "ProfileInUse", "DELETE", PROFILE)
    assert ACCOUNT in plane.fails(409, "NetworkSecurityPerimeterInUse", "DELETE", LINE)
    assert joined(plane) is not None
    assert plane.send("DELETE", f"{LINE}?forceDeletion=true").status_code == 200
    assert joined(plane) is None
    assert plane.send("GET", PROFILE).status_code == 404


def test_perimeter_goes_with_its_group_and_with_a_purged_account(plane: ControlPlane) -> None:
    plane.ok("PUT", JOINED, association())
    assert plane.send("DELETE", ACCOUNT).status_code == 200
    assert joined(plane) is not None  # a restored account is inside again
    place = f"{S}/providers/Microsoft.CognitiveServices/locations/local/resourceGroups/Group1/deletedAccounts/a1"
    assert plane.send("DELETE", place).status_code in (200, 202, 204)
    assert plane.send("GET", JOINED).status_code == 404
    plane.ok("PUT", ACCOUNT, account_body({"customSubDomainName": "a1x"}))
    plane.ok("PUT", JOINED, association())
    assert plane.send("DELETE", RG).status_code in (200, 202)
    assert joined(plane) is None


def test_perimeter_keeps_its_guid_and_says_what_can_join(plane: ControlPlane) -> None:
    guid = plane.ok("GET", LINE)["properties"]["perimeterGuid"]
    assert plane.ok("PATCH", LINE, {"tags": {"a": "b"}})["properties"]["perimeterGuid"] == guid
    listed = plane.ok("GET", f"{S}/providers/Microsoft.Network/locations/local/perimeterAssociableResourceTypes")
    assert [one["name"] for one in listed["value"]] == ["Microsoft.CognitiveServices/accounts"]
    assert [
        one["name"] for one in plane.ok("GET", f"{S}/providers/Microsoft.Network/networkSecurityPerimeters")["value"]
    ] == ["Line1"]
