"""Tests of the listing of sinks and witnesses: who sees how much of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stockade.audit.delivery import LogPlace, SinkState
from stockade.audit.witnesses import STATE_FILE, Contradiction, WitnessesState, WitnessPlace, WitnessState
from stockade.settings import Audit, Limits, Settings, Sink
from tests.factories.control_plane import OTHER_SUB, READER, SUB, ControlPlane, S

SINKS = "/providers/Stockade.Audit/sinks"


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    sink = Sink("siem", "http", "https://siem.example:8443/in?token=hidden", credential_env="X")
    settings = Settings(data_dir=tmp_path, limits=Limits(body_timeout_s=5), audit=Audit(sinks=(sink,)))
    made = ControlPlane(tmp_path, settings=settings)
    logs = {SUB: LogPlace(3, 10, 1, 5.0), OTHER_SUB: LogPlace(7, 7), "platform": LogPlace(1, 2)}
    state = SinkState("siem", "http", "", logs=logs, delivered=11, last_error="it is away", failing_since=6.0)
    witness = WitnessState("https://witness.example", {SUB: WitnessPlace(3, 4.0)}, last_success=4.0)
    wrong = Contradiction(SUB, "file:///w", 9, "00", 3)
    settings.delivery_dir.mkdir(parents=True)
    (settings.delivery_dir / "siem.json").write_bytes(msgspec.json.encode(state))
    (settings.delivery_dir / STATE_FILE).write_bytes(msgspec.json.encode(WitnessesState([witness], [wrong])))
    yield made
    made.close()


def test_a_subscriptions_reader_sees_names_and_the_subscriptions_log(plane: ControlPlane) -> None:
    reader = plane.principal("reader", (READER, S))
    place = {"log": SUB, "next": 3, "behind": 7, "missed": 1, "waitingSince": "1970-01-01T00:00:05.0000000Z"}
    for path in (SINKS, f"{S}{SINKS}"):
        [found] = plane.ok("GET", path, by=reader)["value"]
        assert (found["id"], found["name"], found["type"]) == (f"{SINKS}/siem", "siem", "Stockade.Audit/sinks")
        assert found["properties"] == {
            "sinkType": "http",
            "everything": False,
            "failing": True,
            "failingSince": "1970-01-01T00:00:06.0000000Z",
            "lastSuccess": None,
            "logs": [place],
        }
    assert plane.send("GET", "/providers/Stockade.Audit/witnesses", by=reader).status_code == 403


def test_whoever_may_read_all_sees_all_and_no_secret(plane: ControlPlane) -> None:
    operator = plane.principal("operator", *((READER, f"/subscriptions/{one}") for one in (SUB, OTHER_SUB)))
    reply = plane.send("GET", SINKS, by=operator)
    [found] = reply.json()["value"]
    assert [one["log"] for one in found["properties"]["logs"]] == [SUB, OTHER_SUB, "platform"]
    assert found["properties"]["address"] == "https://siem.example:8443"
    assert found["properties"]["lastError"] == "it is away"
    assert "hidden" not in reply.text
    witnesses = plane.ok("GET", "/providers/Stockade.Audit/witnesses", by=operator)
    assert witnesses["value"][0]["properties"]["logs"] == [
        {"log": SUB, "size": 3, "pinnedAt": "1970-01-01T00:00:04.0000000Z"}
    ]
    assert witnesses["contradictions"] == [f"the log {SUB} has 3 records; file:///w has pinned 9 records of it"]


def test_a_stranger_sees_nothing(plane: ControlPlane) -> None:
    stranger = plane.principal("stranger")
    for path in (SINKS, f"{S}{SINKS}", "/providers/Stockade.Audit/witnesses"):
        assert plane.send("GET", path, by=stranger).status_code == 403
