"""The console's questions walk the management pipeline like any client's: same authentication, roles, audit records and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.boot.console import asking
from stockade.console.arm import Answer, Question
from stockade.kernel.secret import Secret
from tests.factories.control_plane import READER, RG, SUB, ControlPlane


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path)
    yield made
    made.close()


def ask(plane: ControlPlane, method: str, path: str, body: bytes = b"", token: str = "") -> Answer:
    question = Question(
        method, f"{path}?api-version=2021-04-01", body, Secret(token or plane.owner.object_id), "192.0.2.7", "x"
    )
    return asking(plane.pipeline)(question)


def test_questions_are_answered_and_recorded_as_the_persons_own(plane: ControlPlane) -> None:
    answer = ask(plane, "PUT", f"/subscriptions/{SUB}/resourceGroups/new", b'{"location": "local"}')
    assert (answer.status, answer.body["name"]) == (201, "new")
    record = plane.audit.records[-1]
    assert (record.principal, record.caller_address, record.client) == (plane.owner.object_id, "192.0.2.7", "x")


def test_nobody_is_let_in_by_the_console_that_arm_would_not(plane: ControlPlane) -> None:
    reader = plane.principal("reader", (READER, RG))
    for token, method, status in (
        ("bad_signature", "GET", 401),
        (reader.object_id, "DELETE", 403),
    ):
        answer = ask(plane, method, RG, token=token)
        assert answer.status == status
        assert answer.body["error"]["code"]
        assert plane.audit.records[-1].status == status
    assert ask(plane, "GET", RG, token=reader.object_id).status == 200


def test_a_body_that_is_none_is_refused_like_any_clients(plane: ControlPlane) -> None:
    answer = ask(plane, "PUT", f"{RG}x", b'{"a": 1, "A": 2}')
    assert answer.body["error"]["code"] == "InvalidRequestContent"
