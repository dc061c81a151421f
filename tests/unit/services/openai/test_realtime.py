"""Events of realtime sessions: what is read of them, what goes on, and how a fault is told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai.realtime import Event, error_event, event_text, look_at, read_event

MODEL = msgspec.Raw(b'"real"')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


def passed(text: str) -> Any:
    return json.loads(event_text(read_event(text, MODEL)))


@given(st.dictionaries(st.text(max_size=8).filter(lambda name: name not in {"model", "session", "response"}), VALUES))
def test_event_passes_as_it_means(event: dict[str, Any]) -> None:
    assert passed(json.dumps(event)) == event


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"session": {"model": "other", "x": 1}}, {"session": {"model": "real", "x": 1}}),
        ({"response": {"model": "other"}}, {"response": {"model": "real"}}),
        ({"model": "other"}, {"model": "real"}),
        ({"session": {}}, {"session": {}}),
        ({"session": {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}}, None),
    ],
)
def test_model_is_the_deployments_wherever_the_session_names_one(event: Any, expected: Any) -> None:
    assert passed(json.dumps(event)) == (expected or event)


def test_of_a_doubled_member_one_goes_on() -> None:
    assert event_text(read_event('{"session":{"model":"a","model":"b"},"x":1,"x":2}', MODEL)).count('"x"') == 1
    assert passed('{"session":{"model":"a"},"session":{"model":"b"}}') == {"session": {"model": "real"}}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', "1", "null", '{"session":1}', '{"response":[]}', "{'a':1}", "["]
)
def test_what_is_no_event_is_invalid(text: str) -> None:
    with pytest.raises(Fault) as caught:
        read_event(text, MODEL)
    assert (caught.value.kind, caught.value.code) == (FaultKind.INVALID, "invalid_json")


def test_members_that_are_looked_at_go_on_as_they_were_read() -> None:
    event = read_event('{"item":{"content":[{"image_url":"a","image_url":"b"}]},"audio":"AAAA"}', MODEL)
    assert look_at(event, ("item", "missing")) == {"item": {"content": [{"image_url": "b"}]}}
    assert json.loads(event_text(event)) == {"item": {"content": [{"image_url": "b"}]}, "audio": "AAAA"}
    assert event_text(event).count("image_url") == 1


def test_member_that_is_nested_without_end_is_invalid() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    with pytest.raises(Fault) as caught:
        look_at(read_event(f'{{"item":{deep}}}', MODEL), ("item",))
    assert caught.value.kind is FaultKind.INVALID


@pytest.mark.parametrize("raw", [b"1", b"{}", b'"' + b"x" * 1000 + b'"', None])
def test_error_names_the_event_it_answers(raw: bytes | None) -> None:
    event = Event("", {"event_id": msgspec.Raw(raw)} if raw is not None else {}, {})
    told = json.loads(error_event(Fault(FaultKind.INVALID, "no", target="x"), event))
    assert told["type"] == "error"
    assert told["event_id"].startswith("event_")
    assert told["error"]["event_id"] == ("x" * 128 if raw is not None and raw.startswith(b'"') else None)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_fault_can_be_told(kind: FaultKind) -> None:
    told = json.loads(error_event(Fault(kind, "because"), None))["error"]
    assert told["message"] == "because"
    assert told["type"] in {"invalid_request_error", "server_error"}
    assert told["code"]
