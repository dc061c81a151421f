"""Server-sent events as the standard has them, not only as most servers write them."""

from __future__ import annotations

import json

import pytest

from stockade.gateway.output import sse
from stockade.gateway.output.findings import Findings
from stockade.gateway.output.sse import SseFilter
from stockade.gateway.output.text import IN_TEXT
from stockade.kernel.faults import Fault
from stockade.policy.uris.allowed import compile_allowed

EVIL = "https://evil.example/c2VjcmV0 x"


def filtering() -> SseFilter:
    return SseFilter(compile_allowed(["good.example"]), Findings(enforced=True))


def chat(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}).encode()


def test_chunk_without_a_finding_is_the_very_same_object() -> None:
    one = filtering()
    chunk = b"data: " + chat("Hello") + b"\n\ndata: " + chat(" you") + b"\n\n: keep-alive\n\n"
    assert one.feed(chunk) is chunk
    again = b"data: " + chat(" there") + b"\n\n"
    assert one.feed(again) is again


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_may_end_in_three_ways(end: bytes) -> None:
    one = filtering()
    stream = b"event: message" + end + b"data:" + chat(EVIL) + end * 2 + b"data: [DONE]" + end * 2
    out = b"".join(one.feed(stream[at : at + 1]) for at in range(len(stream))) + one.end()
    assert b"c2VjcmV0" not in out
    assert IN_TEXT.encode() in out
    assert out.startswith(b"event: message\ndata: ")
    assert out.endswith(b"data: [DONE]" + end * 2)


def test_data_over_several_lines_is_one() -> None:
    stream = b'data: {"choices":[{"index":0,"delta":\ndata: {"content":"https://evil.example/c2VjcmV0 x"}}]}\n\n'
    out = filtering().feed(stream)
    assert json.loads(out.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == f"{IN_TEXT} x"


def test_byte_order_mark_hides_nothing() -> None:
    assert b"c2VjcmV0" not in filtering().feed(b"\xef\xbb\xbfdata: " + chat(EVIL) + b"\n\n")


def test_comments_and_other_lines_pass() -> None:
    chunk = b": ping\n\nretry: 5\n\nid: 4\ndata: " + chat("a") + b"\n\n"
    assert filtering().feed(chunk) == chunk


def test_what_waits_comes_before_done_and_has_the_events_name() -> None:
    one = filtering()
    ids = '"item_id":"m","output_index":0,"content_index":0'
    delta = f'event: response.output_text.delta\ndata: {{"type":"response.output_text.delta",{ids},"delta":"http"}}\n\n'
    one.feed(delta.encode())
    out = one.feed(f'event: x.done\ndata: {{"type":"response.output_text.done",{ids},"text":"http"}}\n\n'.encode())
    first, second, rest = out.split(b"\n\n")
    assert first.split(b"\n")[0] == b"event: response.output_text.delta"
    assert json.loads(first.split(b"\n")[1][6:])["delta"] == "http"
    assert second.startswith(b"event: x.done\n")
    assert rest == b""


def test_done_ends_every_text() -> None:
    one = filtering()
    one.feed(b"data: " + chat("www") + b"\n\n")
    first, second, _ = one.feed(b"data: [DONE]\n\n").split(b"\n\n")
    assert b"www" in first
    assert second == b"data: [DONE]"


def test_last_event_without_its_empty_line_is_looked_at() -> None:
    one = filtering()
    assert one.feed(b"data: " + chat(EVIL)) == b""
    out = one.end()
    assert IN_TEXT.encode() in out
    assert b"c2VjcmV0" not in out


def test_event_that_is_no_json_is_a_fault() -> None:
    with pytest.raises(Fault):
        filtering().feed(b"data: see https://evil.example/\n\n")


def test_event_of_a_megabyte_passes_and_one_without_end_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    one = filtering()
    stream = b"data: " + chat("a" * 1_000_000) + b"\n\n"
    out = b"".join(one.feed(stream[at : at + 4096]) for at in range(0, len(stream), 4096)) + one.end()
    assert out == stream
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    endless = filtering()
    for _ in range(100):
        assert endless.feed(b"data: aaaa") == b""
    with pytest.raises(Fault):
        endless.feed(b"data: aaaa")
