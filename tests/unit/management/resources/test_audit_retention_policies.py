"""How long a subscription's audit records are kept: longer at once, shorter a week later, said by an Owner, and in the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.policy.audit_retention import keep_days
from tests.factories.control_plane import ACCESS_ADMIN, CONTRIBUTOR, OTHER_SUB, READER, SUB, ControlPlane, S

POLICY = f"{S}/providers/Stockade.Audit/retentionPolicies/default"
DAY_S = 86_400.0


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path)
    yield plane
    plane.close()


def kept(plane: ControlPlane, subscription: str = SUB) -> int:
    return keep_days(plane.source.current(), subscription, plane.settings.audit.keep_days, plane.clock.now())


def put(plane: ControlPlane, days: int, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = plane.ok("PUT", POLICY, {"properties": {"days": days}}, **options)["properties"]
    return found


def test_there_is_one_from_the_start(plane: ControlPlane) -> None:
    shown = plane.ok("GET", POLICY)
    assert shown["properties"] == {"days": 400, "inForceDays": 400, "setBy": "settings"}
    assert plane.ok("GET", POLICY.rpartition("/")[0])["value"] == [shown]
    assert plane.send("GET", POLICY.replace("default", "other")).status_code == 404
    assert kept(plane) == 400


def test_longer_at_once_for_good_included(plane: ControlPlane) -> None:
    assert put(plane, 500) == {"days": 500, "inForceDays": 500, "setBy": "subscription"}
    assert kept(plane) == 500
    assert put(plane, 0)["inForceDays"] == kept(plane) == 0
    assert kept(plane, OTHER_SUB) == kept(plane, "platform") == 400


@pytest.mark.parametrize("before", [None, 0, 500])
def test_shorter_a_week_later(plane: ControlPlane, before: int | None) -> None:
    if before is not None:
        put(plane, before)
    in_force = 400 if before is None else before
    shown = put(plane, 60)
    assert (shown["days"], shown["inForceDays"]) == (60, in_force)
    plane.clock.advance(6 * DAY_S)
    assert put(plane, 60) == shown  # said again, it does not begin again
    assert kept(plane) == in_force
    plane.clock.advance(DAY_S)
    assert kept(plane) == 60
    assert plane.ok("GET", POLICY)["properties"] == {"days": 60, "inForceDays": 60, "setBy": "subscription"}


def test_a_shortening_can_be_undone_and_begun_again(plane: ControlPlane) -> None:
    put(plane, 60)
    plane.clock.advance(6 * DAY_S)
    put(plane, 400)
    plane.clock.advance(2 * DAY_S)
    assert kept(plane) == 400
    put(plane, 60)
    plane.clock.advance(6 * DAY_S)
    put(plane, 30)
    plane.clock.advance(2 * DAY_S)
    assert kept(plane) == 400
    plane.clock.advance(5 * DAY_S)
    assert kept(plane) == 30


def test_only_an_owner_says(plane: ControlPlane) -> None:
    for number, role in enumerate((CONTRIBUTOR, READER, ACCESS_ADMIN)):
        somebody = plane.principal(f"somebody{number}", (role, S))
        plane.fails(403, "AuthorizationFailed", "PUT", POLICY, {"properties": {"days": 30}}, by=somebody)
        plane.ok("GET", POLICY, by=somebody)
    plane.fails(405, "MethodNotAllowed", "DELETE", POLICY)
    assert kept(plane) == 400


@pytest.mark.parametrize("days", [-1, 1, 29, 3651, "60", 60.5, True, None])
def test_days_are_bounded(plane: ControlPlane, days: object) -> None:
    plane.fails(400, "InvalidRequestContent", "PUT", POLICY, {"properties": {"days": days}})
    assert kept(plane) == 400


def test_what_was_changed_is_in_the_log_before_it_is(plane: ControlPlane) -> None:
    put(plane, 60)
    (intent,) = [record for record in plane.audit.records if record.phase == "intent"]
    assert intent.operation == "Stockade.Audit/retentionPolicies/write"
    assert intent.because is not None
    assert (intent.because["daysBefore"], intent.because["days"]) == ("400", "60")
    assert intent.because["inForceFrom"] > "2026"
