"""Tests of diagnostic settings: what they may say, and which records they send where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.policy.diagnostics import SnapshotRoutes
from stockade.settings import Audit, Limits, Settings, Sink
from tests.factories.control_plane import OTHER_SUB, READER, RG, SUB, ControlPlane, S

ACCOUNT = f"{RG}/providers/Microsoft.CognitiveServices/accounts/Account1"
VAULT = f"{RG}/providers/Microsoft.KeyVault/vaults/Vault-1"
TYPE = "providers/Microsoft.Insights/diagnosticSettings"
SETTING = f"{ACCOUNT}/{TYPE}/one"
SIEM = "/providers/Stockade.Audit/sinks/siem"
FILES = "/providers/Stockade.Audit/sinks/files"
ALL = [{"categoryGroup": "allLogs", "enabled": True}]
WORKSPACE = f"{RG}/providers/Microsoft.OperationalInsights/workspaces/w"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    sinks = (Sink("siem", "http", "https://siem.example/in?token=hidden"), Sink("files", "file", "file:///var/log/x"))
    settings = Settings(data_dir=tmp_path, limits=Limits(body_timeout_s=5), audit=Audit(sinks=sinks))
    made = ControlPlane(tmp_path, settings=settings)
    account = {"location": "local", "kind": "OpenAI", "sku": {"name": "S0"}, "properties": {}}
    made.ok("PUT", ACCOUNT, account)
    sku = {"family": "A", "name": "standard"}
    vault = {"tenantId": made.tenant_id, "sku": sku, "enableRbacAuthorization": True}
    made.ok("PUT", VAULT, {"location": "local", "properties": vault})
    yield made
    made.close()


def setting(logs: Any = ALL, **more: Any) -> dict[str, Any]:
    return {"properties": {"workspaceId": SIEM, "logs": logs, **more}}


def wants(plane: ControlPlane, sink: str, category: str, resource: str = ACCOUNT, after_s: float = 0.0) -> bool:
    routes = SnapshotRoutes(plane.source.current())
    record = {"time": plane.clock.now() + after_s, "category": category, "resource": resource}
    return routes.wants(sink, record)


def test_a_setting_is_shown_as_azure_shows_it(plane: ControlPlane) -> None:
    shown = plane.ok("PUT", SETTING, setting())
    assert shown["id"] == SETTING
    assert shown["type"] == "Microsoft.Insights/diagnosticSettings"
    assert shown["properties"] == {
        "storageAccountId": None,
        "serviceBusRuleId": None,
        "workspaceId": SIEM,
        "eventHubAuthorizationRuleId": None,
        "eventHubName": None,
        "marketplacePartnerId": None,
        "logAnalyticsDestinationType": None,
        "logs": [
            {
                "category": None,
                "categoryGroup": "allLogs",
                "enabled": True,
                "retentionPolicy": {"enabled": False, "days": 0},
            }
        ],
        "metrics": [],
    }
    assert plane.ok("GET", f"{ACCOUNT}/{TYPE}")["value"] == [plane.ok("GET", SETTING)]
    assert plane.ok("GET", f"{S}/{TYPE}")["value"] == []


def test_later_records_go_where_it_says_at_once(plane: ControlPlane) -> None:
    assert not wants(plane, "siem", "Audit")
    plane.ok("PUT", SETTING, setting())
    for category in ("Audit", "RequestResponse"):
        assert wants(plane, "siem", category)
        assert wants(plane, "siem", category, f"{ACCOUNT}/deployments/d")
        assert not wants(plane, "siem", category, after_s=-1), "what was before stays"
        assert not wants(plane, "siem", category, f"{ACCOUNT}2")
        assert not wants(plane, "siem", category, VAULT)
        assert not wants(plane, "siem", category, "not / an id")
        assert not wants(plane, "files", category)
    routes = SnapshotRoutes(plane.source.current())
    assert (routes.logs("siem"), routes.logs("files")) == ({SUB}, frozenset())
    assert plane.send("DELETE", SETTING).status_code == 200
    assert not wants(plane, "siem", "Audit")
    assert SnapshotRoutes(plane.source.current()).logs("siem") == frozenset()


def test_what_is_turned_on_later_begins_later(plane: ControlPlane) -> None:
    plane.ok("PUT", SETTING, setting([{"category": "audit", "enabled": True}]))
    began = plane.clock.now()
    plane.clock.advance(100)
    plane.ok("PUT", SETTING, setting())
    routes = SnapshotRoutes(plane.source.current())
    record = {"resource": ACCOUNT, "time": began + 50}
    assert routes.wants("siem", {**record, "category": "Audit"})
    assert not routes.wants("siem", {**record, "category": "RequestResponse"})
    plane.ok("PUT", SETTING, setting([{"category": "RequestResponse", "enabled": True}]))
    assert not wants(plane, "siem", "Audit")


def test_a_vault_and_a_subscription_have_categories_of_their_own(plane: ControlPlane) -> None:
    plane.ok("PUT", f"{VAULT}/{TYPE}/v", setting([{"category": "AuditEvent", "enabled": True}]))
    assert wants(plane, "siem", "RequestResponse", f"{VAULT}/keys/k")
    assert wants(plane, "siem", "Audit", VAULT)
    logs = [{"category": name, "enabled": True} for name in ("Administrative", "Security", "Policy", "Autoscale")]
    plane.ok("PUT", f"{S}/{TYPE}/s", {"location": "global", "properties": {"storageAccountId": FILES, "logs": logs}})
    assert wants(plane, "files", "Audit", ACCOUNT)
    assert wants(plane, "files", "Audit", S)
    assert not wants(plane, "files", "RequestResponse", ACCOUNT)
    assert not wants(plane, "files", "Audit", f"/subscriptions/{OTHER_SUB}")
    plane.fails(400, "BadRequest", "PUT", f"{S}/{TYPE}/t", setting([{"category": "Audit", "enabled": True}]))


def test_a_destination_may_be_named_with_the_subscription(plane: ControlPlane) -> None:
    plane.ok("PUT", SETTING, setting(workspaceId=f"{S}/providers/Stockade.Audit/sinks/SIEM"))
    assert wants(plane, "siem", "Audit")
    other = f"/subscriptions/{OTHER_SUB}/providers/Stockade.Audit/sinks/siem"
    plane.fails(400, "BadRequest", "PUT", f"{SETTING}2", setting(workspaceId=other))


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({"workspaceId": None}, "BadRequest", "At least one data sink"),
        ({"workspaceId": WORKSPACE}, "DestinationNotSupported", "not reached from here"),
        ({"workspaceId": f"{SIEM}2"}, "BadRequest", "no sink 'siem2'; there are: siem, files"),
        ({"workspaceId": "siem"}, "InvalidResourceId", "not a valid resource id"),
        ({"storageAccountId": SIEM}, "DestinationNotSupported", "storageAccountId takes file"),
        ({"eventHubAuthorizationRuleId": FILES}, "DestinationNotSupported", "is of type file"),
        ({"serviceBusRuleId": "x"}, "BadRequest", "Service Bus"),
        ({"logAnalyticsDestinationType": "Dedicated"}, "BadRequest", "Log Analytics"),
        ({"metrics": [{"category": "AllMetrics", "enabled": True}]}, "BadRequest", "Metrics are not sent on"),
        ({"logs": [{"category": "Trace", "enabled": True}]}, "BadRequest", "there are: Audit, RequestResponse"),
        ({"logs": [{"categoryGroup": "some", "enabled": True}]}, "BadRequest", "there are: allLogs, audit"),
        ({"logs": [{"enabled": True}]}, "BadRequest", "and not both"),
        (
            {"logs": [{"category": "Audit", "enabled": True, "retentionPolicy": {"enabled": True, "days": 9}}]},
            "BadRequest",
            "retentionPolicy",
        ),
        ({"logs": [{"category": "Audit"}]}, "InvalidRequestContent", "enabled"),
        ({"logs": "all"}, "InvalidRequestContent", "logs"),
    ],
)
def test_what_cannot_be_delivered_is_refused(plane: ControlPlane, more: dict[str, Any], code: str, said: str) -> None:
    body = setting()
    body["properties"] |= more
    assert said in plane.fails(400, code, "PUT", SETTING, body)
    assert plane.send("GET", SETTING).status_code == 404


def test_what_is_off_may_be_anything_of_azures(plane: ControlPlane) -> None:
    off = [{"category": "Trace", "enabled": False}, {"category": "Audit", "enabled": True}]
    plane.ok("PUT", SETTING, setting(off, metrics=[{"category": "AllMetrics", "enabled": False}]))
    assert wants(plane, "siem", "Audit")
    assert not wants(plane, "siem", "RequestResponse")


@pytest.mark.parametrize(
    "scope", [RG, f"{RG}/providers/Microsoft.Network/virtualNetworks/Net1"], ids=["group", "network"]
)
def test_other_resources_have_no_settings(plane: ControlPlane, scope: str) -> None:
    if scope != RG:
        space = {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}}
        plane.ok("PUT", scope, {"location": "local", "properties": space})
    plane.fails(400, "ResourceTypeNotSupported", "PUT", f"{scope}/{TYPE}/x", setting())
    plane.fails(400, "ResourceTypeNotSupported", "GET", f"{scope}/{TYPE}")


def test_there_are_five_at_most_and_no_two_say_the_same(plane: ControlPlane) -> None:
    plane.ok("PUT", SETTING, setting())
    message = plane.fails(409, "Conflict", "PUT", f"{SETTING}2", setting([{"category": "Audit", "enabled": True}]))
    assert "is already used in diagnostic setting 'one' for category 'Audit'" in message
    for number in range(4):
        plane.ok("PUT", f"{SETTING}-{number}", setting([{"category": "Audit", "enabled": False}]))
    plane.fails(409, "Conflict", "PUT", f"{SETTING}-5", setting([]))
    plane.ok("PUT", SETTING, setting())


def test_an_account_that_goes_takes_its_settings_along(plane: ControlPlane) -> None:
    plane.ok("PUT", SETTING, setting())
    assert plane.send("DELETE", ACCOUNT).status_code in (200, 202, 204)
    assert SnapshotRoutes(plane.source.current()).logs("siem") == frozenset()


def test_categories_can_be_listed(plane: ControlPlane) -> None:
    path = "providers/Microsoft.Insights/diagnosticSettingsCategories"
    found = {one["name"]: one["properties"] for one in plane.ok("GET", f"{ACCOUNT}/{path}")["value"]}
    assert found == {
        "Audit": {"categoryType": "Logs", "categoryGroups": ["allLogs", "audit"]},
        "RequestResponse": {"categoryType": "Logs", "categoryGroups": ["allLogs"]},
    }
    one = plane.ok("GET", f"{VAULT}/{path}/auditevent")
    assert (one["name"], one["id"]) == ("AuditEvent", f"{VAULT}/{path}/AuditEvent")
    assert plane.send("GET", f"{ACCOUNT}/{path}/Trace").status_code == 404
    assert "Administrative" in {one["name"] for one in plane.ok("GET", f"{S}/{path}")["value"]}


def test_roles_decide_who_may(plane: ControlPlane) -> None:
    reader = plane.principal("reader", (READER, S))
    plane.ok("PUT", SETTING, setting())
    assert plane.send("GET", SETTING, by=reader).status_code == 200
    assert plane.send("PUT", SETTING, setting(), by=reader).status_code == 403
    assert plane.send("DELETE", SETTING, by=reader).status_code == 403
