"""Events of the dialects that stream: which strings are pieces of a text, when a text ends, and what goes with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stockade.gateway.output import events
from stockade.gateway.output.events import EventFilter
from stockade.gateway.output.findings import Findings
from stockade.gateway.output.text import IN_LINK, IN_TEXT, TextFilter
from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.uris.allowed import compile_allowed

ALLOWED = compile_allowed(["good.example"])
EVIL = "https://evil.example/c2VjcmV0"


class Stream:
    def __init__(self) -> None:
        self.findings = Findings(enforced=True)
        self.filter = EventFilter(ALLOWED, self.findings)

    def send(self, document: Any) -> list[Any]:
        data = json.dumps(document, separators=(",", ":")).encode()
        passed = self.filter.event(data)
        return [document] if passed is None else [json.loads(one) for one in passed]

    def end(self) -> list[Any]:
        return [json.loads(one) for one in self.filter.end()]

    @property
    def places(self) -> list[Any]:
        return [
            (found.because["host"], found.because["path"], found.because["count"]) for found in self.findings.told()
        ]


@pytest.fixture
def stream() -> Stream:
    return Stream()


def chat(delta: Any, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "gpt",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish, **more}],
    }


def test_event_that_holds_nothing_passes_as_it_came(stream: Stream) -> None:
    for document in (chat({"role": "assistant", "content": ""}), chat({"content": "Hello"}), chat({}, finish="stop")):
        assert stream.filter.event(json.dumps(document).encode()) is None


def test_uri_in_pieces_is_found_and_the_events_stay_events(stream: Stream) -> None:
    sent = [
        chat({"content": piece}) for piece in ("Look: ", "htt", "ps", "://", "evil", ".example", "/c2V", "jcmV0", " so")
    ]
    out = [one for document in sent for one in stream.send(document)]
    assert "".join(one["choices"][0]["delta"]["content"] for one in out) == f"Look: {IN_TEXT} so"
    assert [{**one, "choices": None} for one in out] == [{**one, "choices": None} for one in sent]
    assert stream.places == [("evil.example", "choices[0].delta.content", 1)]


def test_what_waits_is_sent_before_the_choice_ends(stream: Stream) -> None:
    stream.send(chat({"role": "assistant", "content": "see "}))
    stream.send(chat({"content": "http"}))
    before, finish = stream.send(chat({}, finish="stop"))
    assert before["choices"] == [{"index": 0, "delta": {"content": "http"}, "finish_reason": None}]
    assert before["id"] == "chatcmpl-1"
    assert finish == chat({}, finish="stop")
    assert stream.end() == []


def test_what_waits_is_sent_in_the_last_event_that_has_text_itself(stream: Stream) -> None:
    stream.send(chat({"content": "see ht"}))
    [last] = stream.send(chat({"content": "tp"}, finish="length"))
    assert last == chat({"content": "http"}, finish="length")


def test_what_waits_in_one_choice_does_not_end_with_another(stream: Stream) -> None:
    stream.send(chat({"content": "a https://go"}, index=1))
    stream.send(chat({"content": "b http"}, index=10))
    assert len(stream.send(chat({}, index=0, finish="stop"))) == 1
    out = [one for one in stream.send(chat({}, index=10, finish="stop")) if one["choices"][0]["finish_reason"] is None]
    assert [one["choices"][0]["delta"] for one in out] == [{"content": "http"}]
    [left] = stream.send(chat({"content": "od.example/ c"}, index=1))
    assert left["choices"][0]["delta"]["content"] == "https://good.example/ c"


def test_what_waits_when_nothing_says_so_is_sent_at_the_end(stream: Stream) -> None:
    stream.send(chat({"content": "www"}))
    [left] = stream.end()
    assert left["choices"][0]["delta"] == {"content": "www"}


def test_rest_of_a_tool_call_repeats_neither_its_id_nor_its_name(stream: Stream) -> None:
    call = {"index": 1, "id": "call_1", "type": "function", "function": {"name": "get", "arguments": '{"u":"ht'}}
    stream.send(chat({"role": "assistant", "tool_calls": [call]}))
    before, _ = stream.send(chat({}, finish="tool_calls"))
    assert before["choices"][0]["delta"] == {"tool_calls": [{"index": 1, "function": {"arguments": "ht"}}]}


@pytest.mark.parametrize(
    "delta",
    [
        {"content": EVIL},
        {"refusal": EVIL},
        {"reasoning_content": EVIL},
        {"tool_calls": [{"index": 0, "function": {"arguments": EVIL}}]},
        {"function_call": {"arguments": EVIL}},
        {"audio": {"transcript": EVIL}},
        {"annotations": [{"type": "url_citation", "url_citation": {"url": EVIL, "title": "t"}}]},
        {"context": {"citations": [{"url": EVIL, "content": "x"}]}},
        {"content": [{"type": "text", "text": EVIL}]},
        {"something_new": {"deep": [[EVIL]]}},
        {f"see {EVIL} now": 1},
    ],
    ids=lambda delta: next(iter(delta)),
)
def test_every_string_is_looked_at(delta: Any, stream: Stream) -> None:
    out = json.dumps([*stream.send(chat(delta)), *stream.end()])
    assert "c2VjcmV0" not in out
    assert "evil" not in out
    assert len(stream.places) == 1


def test_completions_are_put_together_too(stream: Stream) -> None:
    def piece(text: str, finish: str | None = None) -> dict[str, Any]:
        return {"id": "c", "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}]}

    out = [one for text in ("a https:", "//evil.ex", "ample/x y") for one in stream.send(piece(text))]
    assert "".join(one["choices"][0]["text"] for one in out) == f"a {IN_TEXT} y"


def test_tokens_go_where_the_text_does_not_pass_as_it_came(stream: Stream) -> None:
    tokens = {"content": [{"token": " https", "logprob": -1.0, "bytes": [32], "top_logprobs": []}]}
    [held] = stream.send(chat({"content": " https"}, logprobs=tokens))
    assert held["choices"][0]["logprobs"] is None
    [passed] = stream.send(chat({"content": " is"}, index=1, logprobs=tokens))
    assert passed["choices"][0]["logprobs"] == tokens


RESPONSE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def test_responses_are_put_together_by_item(stream: Stream) -> None:
    def delta(text: str, number: int, **ids: Any) -> dict[str, Any]:
        return {"type": "response.output_text.delta", **RESPONSE, **ids, "delta": text, "sequence_number": number}

    out = stream.send(delta("see https://ev", 1))
    out += stream.send(delta("https://good.example ", 2, output_index=1, item_id="msg_2"))
    out += stream.send(delta("il.example/x and http", 3))
    done = {"type": "response.output_text.done", **RESPONSE, "text": f"see {EVIL} and http", "sequence_number": 4}
    before, last = stream.send(done)
    assert (before["type"], before["delta"], before["item_id"]) == ("response.output_text.delta", "http", "msg_1")
    assert last["text"] == f"see {IN_TEXT} and http"
    assert [one["delta"] for one in out] == ["see ", "https://good.example ", f"{IN_TEXT} and "]


def test_sound_is_not_read(stream: Stream) -> None:
    sound = {"type": "response.output_audio.delta", **RESPONSE, "delta": "AA//h"}
    assert stream.send(sound) == [sound]
    assert stream.end() == []


def test_messages_in_another_dialect_are_put_together_too(stream: Stream) -> None:
    def delta(text: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}

    out = [one for text in ("a https://evil", ".example/x b", " http") for one in stream.send(delta(text))]
    before, stop = stream.send({"type": "content_block_stop", "index": 0})
    assert "".join(one["delta"]["text"] for one in [*out, before]) == f"a {IN_TEXT} b http"
    assert stop == {"type": "content_block_stop", "index": 0}


def test_whole_reply_is_redacted_and_loses_its_tokens() -> None:
    findings = Findings(enforced=True)
    body = {
        "id": "x",
        "choices": [
            {"index": 0, "message": {"content": f"![a]({EVIL})"}, "logprobs": {"content": [{"token": "a"}]}},
            {"index": 1, "message": {"content": "fine"}, "logprobs": {"content": [{"token": "b"}]}},
        ],
        "usage": {"total_tokens": 9},
    }
    passed = EventFilter(ALLOWED, findings).whole(json.dumps(body).encode())
    assert passed is not None
    read = json.loads(passed)
    assert read["choices"][0] == {"index": 0, "message": {"content": f"![a]({IN_LINK})"}, "logprobs": None}
    assert read["choices"][1] == body["choices"][1]
    assert read["usage"] == body["usage"]
    assert EventFilter(ALLOWED, findings).whole(json.dumps(body["choices"][1]).encode()) is None


@pytest.mark.parametrize("data", [b"{", b"no json", b'{"a":"\xff"}', b"[" * 100_000, b"[" * 80 + b'"/"' + b"]" * 80])
def test_what_cannot_be_read_is_a_fault(data: bytes, stream: Stream) -> None:
    with pytest.raises(Fault) as raised:
        stream.filter.event(data)
    assert raised.value.kind is FaultKind.UPSTREAM_FAILED


def test_texts_at_the_same_time_are_limited(stream: Stream) -> None:
    for index in range(events.MAX_TEXTS):
        stream.send(chat({"content": "x"}, index=index))
    with pytest.raises(Fault):
        stream.send(chat({"content": "x"}, index=events.MAX_TEXTS))


def test_event_like_the_one_before_is_not_parsed(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    stream.send(chat({"content": "a"}))
    monkeypatch.setattr(stream.filter, "_parsed", lambda _: pytest.fail("parsed"))
    for text in ("b", ' "quoted"\n', "\u00e9", "\\", "see htt", "p"):
        stream.send(chat({"content": text}))


@pytest.mark.parametrize(
    "inside",
    ['x","url":"https://evil.example/c2VjcmV0', 'x"},"refusal":"https://evil.example/c2VjcmV0","x":{"content":"'],
)
def test_event_that_only_looks_like_the_one_before_is_parsed(inside: str, stream: Stream) -> None:
    like = chat({"content": "@"})
    stream.send(like)
    data = json.dumps(like, separators=(",", ":")).replace("@", inside).encode()
    passed = stream.filter.event(data)
    assert passed is not None
    assert b"c2VjcmV0" not in b"".join(passed)


def test_event_that_differs_in_what_it_counts_is_not_parsed(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(text: str, number: int, index: int = 0) -> dict[str, Any]:
        return {**chat({"content": text}, index=index), "usage": {"completion_tokens": number}}

    for number in range(10):
        stream.send(counted("a", number))
    parsed: list[bytes] = []
    real = stream.filter._parsed
    monkeypatch.setattr(stream.filter, "_parsed", lambda data: parsed.append(data) or real(data))
    out = [
        one
        for number, text in enumerate(("see https:", "//evil.example/", "c2V x"))
        for one in stream.send(counted(text, 100 + number))
    ]
    assert parsed == []
    assert "".join(one["choices"][0]["delta"]["content"] for one in out) == f"see {IN_TEXT} x"
    assert [one["usage"]["completion_tokens"] for one in out] == [100, 101, 102]
    stream.send(counted("other", 103, index=1))
    assert len(parsed) == 1


def test_vectors_pass_unread_as_numbers_and_in_base64(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = EventFilter(ALLOWED, Findings(enforced=True))
    monkeypatch.setattr(TextFilter, "whole", lambda _, text: text if len(text) < 64 else pytest.fail("read"))
    vector = "+//1234567/" + "AbC/" * 500 + "=="
    assert looking.whole(json.dumps({"data": [{"embedding": vector}], "usage": {}}).encode()) is None
    monkeypatch.setattr(events, "_document", lambda _: pytest.fail("parsed"))
    assert looking.whole(json.dumps({"data": [{"embedding": [0.1, -2e-5] * 700, "index": 0}]}).encode()) is None
