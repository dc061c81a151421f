"""The activity log: what was done to resources, in Azure's shape; nothing that was only read, and nothing of another subscription."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from stockade.kernel.clock import iso
from stockade.kernel.record import AuditRecord
from tests.factories.control_plane import CONTRIBUTOR, OTHER_SUB, READER, RG, SUB, ControlPlane, S
from tests.shelves.test_resource_types import ACCOUNT, ACCOUNT_BODY

VALUES = "/providers/Microsoft.Insights/eventtypes/management/values"
LOCKBOX = "Microsoft.CustomerLockbox/requests/activitylog"
DAY_S = 86_400.0
APPROVER = "4dae6930-7baf-46f5-909e-0383bc931c46"  # Azure Customer Lockbox Approver for Subscription


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path)
    yield plane
    plane.close()


def since(plane: ControlPlane, ago_s: float = 3600.0, rest: str = "") -> str:
    return f"eventTimestamp ge '{iso(plane.clock.now() - ago_s)}'{rest}"


def events(plane: ControlPlane, text: str | None = None, scope: str = S, **options: Any) -> list[dict[str, Any]]:
    text = since(plane) if text is None else text
    answer = plane.ok("GET", f"{scope}{VALUES}?$filter={quote(text)}", **options)
    assert "nextLink" not in answer
    found: list[dict[str, Any]] = answer["value"]
    return found


def told(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["operationName"]["value"], one["status"]["value"]) for one in found]


def test_a_change_has_two_events_and_reading_none(plane: ControlPlane) -> None:
    correlation = "aaaaaaaa-aaaa-4aaa-8aaa-AAAAAAAAAAAA"
    plane.ok("PUT", ACCOUNT, ACCOUNT_BODY, headers={"x-ms-correlation-request-id": correlation})
    plane.ok("GET", ACCOUNT)
    plane.ok("POST", f"{ACCOUNT}/listKeys", {})
    found = events(plane)
    write, keys = "Microsoft.CognitiveServices/accounts/write", "Microsoft.CognitiveServices/accounts/listKeys/action"
    assert told(found) == [(keys, "Succeeded"), (keys, "Started"), (write, "Succeeded"), (write, "Started")]
    done, started = found[2:]
    assert done["correlationId"] == started["correlationId"] == correlation.lower()
    assert done["operationId"] == started["operationId"] == done["properties"]["decisionId"]
    assert found[0]["correlationId"] == found[0]["operationId"]
    assert len({UUID(one["eventDataId"]) for one in found}) == 4
    assert found == events(plane)[:4]  # ids and all: an event stays what it was
    assert done["subStatus"] == {"value": "Created", "localizedValue": "Created (HTTP Status Code: 201)"}
    assert done["caller"] == plane.owner.object_id
    assert done["resourceId"].lower() == ACCOUNT.lower()
    assert (done["resourceGroupName"], done["resourceProviderName"]["value"]) == (
        "Group1",
        "Microsoft.CognitiveServices",
    )
    assert done["resourceType"]["value"] == "Microsoft.CognitiveServices/accounts"
    assert done["authorization"] == {"action": write, "role": "Owner", "scope": S.lower()}
    assert (done["eventName"]["value"], started["eventName"]["value"]) == ("EndRequest", "BeginRequest")
    assert done["operationName"]["localizedValue"] == "Create or Update Accounts"
    assert (done["level"], done["subscriptionId"]) == ("Informational", SUB)
    assert done["id"].startswith(f"{done['resourceId']}/events/{done['eventDataId']}/ticks/")


def test_what_was_refused_is_told_with_the_action(plane: ControlPlane) -> None:
    reader = plane.principal("reader", (READER, S))
    plane.fails(403, "AuthorizationFailed", "DELETE", ACCOUNT, by=reader)
    plane.fails(404, "ResourceNotFound", "POST", f"{ACCOUNT}/listKeys", {})
    plane.fails(403, "AuthorizationFailed", "GET", f"{S}/resourceGroups", by=plane.principal("nobody"))
    found = events(plane, since(plane, rest=" and status eq 'Failed' and levels eq 'Critical,Error'"))
    assert told(found) == [
        ("Microsoft.CognitiveServices/accounts/listKeys/action", "Failed"),
        ("Microsoft.CognitiveServices/accounts/delete", "Failed"),
    ]
    assert found[1]["caller"] == reader.object_id
    assert found[1]["properties"]["reason"] == "AuthorizationFailed"
    assert events(plane, since(plane, rest=" and levels eq 'Warning'")) == []


@pytest.mark.parametrize(
    ("operation", "shown"),
    [
        ("CreateLockboxRequest", "Create Lockbox Request"),
        ("ApproveLockboxRequest", "Approve Lockbox Request"),
        ("DenyLockboxRequest", "Deny Lockbox Request"),
        ("ExpireLockboxRequest", "Lockbox Request Expiry"),
    ],
)
def test_lockbox_events_have_azures_names(plane: ControlPlane, operation: str, shown: str) -> None:
    record = AuditRecord(
        time=plane.clock.now(),
        id="d1",
        category="Audit",
        phase="decision",
        operation=f"{LOCKBOX}/{operation}/action",
        resource=f"{S}/providers/Microsoft.CustomerLockbox/requests/LockboxRequest_1",
        outcome="success",
        because={"reason": "case 7"},
    )
    plane.audit.record(record)
    approver = plane.principal("approver", (APPROVER, S))
    (event,) = events(plane, by=approver)
    assert event["operationName"] == {"value": record.operation, "localizedValue": shown}
    assert (event["status"]["value"], event["properties"]["reason"]) == ("Succeeded", "case 7")


def test_keys_in_use_and_data_planes_are_no_activity(plane: ControlPlane) -> None:
    for category, operation in (
        ("Audit", "Stockade.Keys/content/read"),
        ("Audit", "KeySign"),
        ("Audit", "GET"),
        ("RequestResponse", "Microsoft.CognitiveServices/accounts/write"),
    ):
        plane.audit.record(
            AuditRecord(
                time=plane.clock.now(),
                id="x",
                category=category,
                phase="decision",
                operation=operation,
                resource=ACCOUNT,
            )  # type: ignore[arg-type]
        )
    assert events(plane) == []


def test_filters(plane: ControlPlane) -> None:
    plane.ok("PUT", ACCOUNT, ACCOUNT_BODY)
    plane.clock.advance(100)
    contributor = plane.principal("contributor", (CONTRIBUTOR, S))
    plane.ok("PUT", f"{S}/resourceGroups/Other", {"location": "local"}, by=contributor)
    group, account = (
        "Microsoft.Resources/subscriptions/resourceGroups/write",
        "Microsoft.CognitiveServices/accounts/write",
    )
    both = [operation for operation, _ in told(events(plane))]
    assert both == [both[0], both[0], account, account]
    assert both[0].lower() == group.lower()

    def chosen(rest: str) -> set[str]:
        return {operation for operation, _ in told(events(plane, since(plane, rest=rest)))}

    assert chosen(" and resourceGroupName eq 'gROUP1'") == {account}
    assert chosen(f" and resourceUri eq '{ACCOUNT.upper()}'") == {account}
    assert chosen(f" and resourceId eq '{RG}'") == {account}
    assert chosen(" and resourceProvider eq 'microsoft.cognitiveservices'") == {account}
    assert chosen(f" and caller eq '{contributor.object_id}'") == {both[0]}
    assert chosen(" and eventChannels eq 'Admin, Operation'") == {account, both[0]}
    one = events(plane)[0]["correlationId"]
    assert chosen(f" and correlationId eq '{one}'") == {both[0]}
    unquoted = f"eventTimestamp ge {iso(plane.clock.now() - 50)} and eventTimestamp le {iso(plane.clock.now())}"
    assert told(events(plane, unquoted)) == [(both[0], "Succeeded"), (both[0], "Started")]
    assert (
        events(
            plane,
            f"eventTimestamp ge {iso(1.0 + plane.clock.now() - 50)} and eventTimestamp le {iso(plane.clock.now() - 40)}",
        )
        == []
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "status eq 'Failed'",
        "eventTimestamp le 'NOW'",
        "eventTimestamp ge 'NOW' or status eq 'Failed'",
        "eventTimestamp ge 'yesterday'",
        "eventTimestamp eq 'NOW'",
        "eventTimestamp ge 'NOW' and",
        "eventTimestamp ge 'NOW' and category eq 'Security'",
        "eventTimestamp ge 'NOW' and resourceGroupName ge 'x'",
        "eventTimestamp ge 'NOW' and resourceGroupName eq ''",
        "eventTimestamp ge 'NOW' and resourceGroupName eq 'a/b'",
        "eventTimestamp ge 'NOW' and caller eq 'a' and caller eq 'b'",
        "eventTimestamp ge 'NOW' and resourceUri eq 'nonsense'",
        "eventTimestamp ge 'NOW' and levels eq 'Loud'",
        "eventTimestamp ge 'NOW' and eventTimestamp le '1999-01-01T00:00:00Z'",
        "eventTimestamp ge 'NOW' and resourceGroupName eq 'a' and resourceId eq '/subscriptions/11111111-1111-4111-8111-111111111111'",
    ],
    ids=str,
)
def test_other_filters_are_refused(plane: ControlPlane, text: str) -> None:
    asked = quote(text.replace("NOW", iso(plane.clock.now() - 5)))
    plane.fails(
        400,
        "InvalidFilterInQueryString" if "a/b" not in text and "nonsense" not in text else "InvalidResourceId",
        "GET",
        f"{S}{VALUES}?$filter={asked}",
    )


def test_it_goes_back_ninety_days(plane: ControlPlane) -> None:
    events(plane, since(plane, 90 * DAY_S))
    message = plane.fails(400, "BadRequest", "GET", f"{S}{VALUES}?$filter={quote(since(plane, 91 * DAY_S))}")
    assert "Stockade.Audit/records" in message


def test_select(plane: ControlPlane) -> None:
    plane.ok("PUT", ACCOUNT, ACCOUNT_BODY)
    asked = f"{S}{VALUES}?$filter={quote(since(plane))}&$select="
    assert set(plane.ok("GET", f"{asked}eventName,%20OPERATIONNAME")["value"][0]) == {"eventName", "operationName"}
    plane.fails(400, "InvalidSelectInQueryString", "GET", f"{asked}eventName,secrets")


def test_pages(plane: ControlPlane) -> None:
    for number in range(450):
        plane.audit.record(
            AuditRecord(
                time=plane.clock.now() - number,
                id=f"id{number}",
                category="Audit",
                phase="outcome",
                operation="A.B/c/write" if number % 2 else "A.B/c/read",
                resource=S,
            )
        )
    seen: list[str] = []
    link: str | None = f"{S}{VALUES}?$filter={quote(since(plane))}"
    while link is not None:
        answer = plane.ok("GET", link, version="2015-04-01" if "api-version" not in link else None)
        assert len(answer["value"]) <= 200
        seen += [one["eventDataId"] for one in answer["value"]]
        link = answer.get("nextLink")
    assert len(seen) == len(set(seen)) == 225


def test_other_subscriptions_and_the_tenant_are_apart(plane: ControlPlane) -> None:
    plane.ok("PUT", ACCOUNT, ACCOUNT_BODY)
    both = plane.principal("both", (READER, S), (READER, f"/subscriptions/{OTHER_SUB}"))
    assert len(events(plane, by=both)) == 2
    assert events(plane, by=both, scope=f"/subscriptions/{OTHER_SUB}") == []
    there = since(
        plane, rest=f" and resourceUri eq '{ACCOUNT}'"
    )  # to name another subscription's resource opens nothing
    assert events(plane, there, by=both, scope=f"/subscriptions/{OTHER_SUB}") == []
    for scope in (S, f"/subscriptions/{OTHER_SUB}", ""):
        plane.fails(
            403,
            "AuthorizationFailed",
            "GET",
            f"{scope}{VALUES}?$filter={quote(since(plane))}",
            by=plane.principal(f"no{len(scope)}"),
        )
    plane.fails(403, "AuthorizationFailed", "GET", f"{VALUES}", by=both)
    everywhere = plane.principal("everywhere", (READER, "/"))
    assert plane.ok("GET", VALUES, by=everywhere)["value"] == []  # of the platform itself


def test_categories(plane: ControlPlane) -> None:
    names = [
        one["value"]
        for one in plane.ok("GET", "/providers/Microsoft.Insights/eventcategories", by=plane.principal("anybody"))[
            "value"
        ]
    ]
    assert names[0] == "Administrative"
