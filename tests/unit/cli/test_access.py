"""`stockade access` as it is typed, on a control plane."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from stockade.cli import access
from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.builtin_roles import ACCESS_APPROVER, ACCESS_REQUESTER
from tests.factories.control_plane import ACCESS_ADMIN, RG, ControlPlane, S
from tests.factories.plane_arm import PlaneArm


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path)
    people: dict[str, Any] = {
        "OPERATOR": plane.principal("nora", (ACCESS_REQUESTER, S)),
        "APPROVER": plane.principal("dora", (ACCESS_APPROVER, S), (ACCESS_ADMIN, S)),
    }
    plane.clock.advance(1)
    monkeypatch.setattr(access, "speaking", lambda part: PlaneArm(plane, people[part]))
    yield plane
    plane.close()


def test_asking_listing_deciding_and_taking_away(plane: ControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    access.request(role="Reader", period="1h30m", reason="look\nat it", scope=RG, name="look")
    said = capsys.readouterr().out
    assert "look  Pending" in said and f"Reader for 1h30m at {RG}" in said and "Lapses" in said
    access.list_requests()
    said = capsys.readouterr().out
    assert "look" in said and "1h30m" in said and "nora" in said
    access.approve("LOOK", reason="go on")
    said = capsys.readouterr().out
    assert "look  Approved" in said and "Ends  " in said and "Assignment" in said and "go on" in said
    access.revoke("look", reason="enough")
    assert "look  Revoked" in capsys.readouterr().out
    access.list_requests()
    assert "Nobody waits" in capsys.readouterr().err
    access.list_requests(everything=True, form="json")
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["look"]


def test_a_name_is_made_where_none_is_given_and_own_requests_are_taken_back(
    plane: ControlPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    access.request(role="Reader", period="30m", reason="r", contact="nora@example.com", form="json")
    made = json.loads(capsys.readouterr().out)
    assert made["name"].startswith("role-") and made["properties"]["scope"] == S
    access.cancel(made["id"])
    assert "Revoked" in capsys.readouterr().out


def test_a_denial_and_what_is_not_there(plane: ControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    access.request(role="Reader", period="2h", reason="r", name="one")
    access.deny("one", reason="no")
    assert "one  Denied" in capsys.readouterr().out
    with pytest.raises(Fault) as refused:
        access.show("two")
    assert refused.value.kind is FaultKind.NOT_FOUND
    access.request(role="Reader", period="2h", reason="r", name="one", scope=RG)
    with pytest.raises(Fault, match="use one of the ids") as several:
        access.show("one")
    assert several.value.kind is FaultKind.CONFLICT
    with pytest.raises(typer.BadParameter, match="is no period"):
        access.request(role="Reader", period="a while", reason="r")
