"""A streamed completion, however its bytes come."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai import chat_stream
from stockade.services.openai.chat_stream import Collected, Events, chunk_of

SENT = b': hello\r\n\r\nevent: x\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata:{}\n\nid: 5\n\ndata: [DONE]\n\n'
FOUND = [b'{"a":\n1}', b"{}", b"[DONE]"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_found_however_they_are_cut(size: int) -> None:
    events = Events()
    found = [data for at in range(0, len(SENT), size) for data in events.feed(SENT[at : at + size])]
    assert found == FOUND


@pytest.mark.parametrize(
    "piece", [b"data: " + b"x" * 60, b"data: " + b"x" * 60 + b"\n"], ids=["one line", "many lines"]
)
def test_event_without_an_end_is_not_held_for_ever(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(chat_stream, "MAX_EVENT_BYTES", 100)
    events = Events()
    assert events.feed(piece) == []
    with pytest.raises(Fault) as caught:
        events.feed(piece)
    assert caught.value.kind is FaultKind.UPSTREAM_FAILED


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b'"x"', b"null", b'{"error":{"message":"m"}}', b"[" * 10_000])
def test_what_is_no_chunk_is_a_failure(data: bytes) -> None:
    with pytest.raises(Fault) as caught:
        chunk_of(data)
    assert caught.value.kind is FaultKind.UPSTREAM_FAILED


def test_choices_and_tool_calls_are_put_together() -> None:
    collected = Collected()
    for chunk in (
        {
            "id": "c",
            "model": "m",
            "created": 1,
            "choices": [{"index": 1, "delta": {"role": "assistant", "content": "b"}}],
        },
        {"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "c"}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f"}}]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": {"total_tokens": 3}},
    ):
        collected.add(chunk)
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert collected.completion() == {
        "id": "c",
        "created": 1,
        "model": "m",
        "object": "chat.completion",
        "usage": {"total_tokens": 3},
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "a", "tool_calls": [call]},
                "finish_reason": "tool_calls",
            },
            {"index": 1, "message": {"role": "assistant", "content": "bc"}, "finish_reason": None},
        ],
    }


def test_reply_that_is_too_long_is_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_stream, "MAX_COLLECTED", 10)
    collected = Collected()
    collected.add({"choices": [{"delta": {"content": "x" * 10}}]})
    with pytest.raises(Fault):
        collected.add({"choices": [{"delta": {"content": "x"}}]})
