"""One reply: redacted, or passed byte for byte and recorded; by what its content type says it is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from stockade.gateway.output.reply import OutputReview
from stockade.gateway.output.text import IN_TEXT
from stockade.kernel.faults import Fault
from stockade.policy.uris.allowed import compile_allowed

ALLOWED = compile_allowed(["good.example"])
SSE = "text/event-stream; charset=utf-8"


def review(*, enforced: bool) -> OutputReview:
    return OutputReview(ALLOWED, enforced=enforced)


async def passed(looking: OutputReview, chunks: list[bytes], content_type: str = SSE) -> list[bytes]:
    async def engine() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [chunk async for chunk in looking.stream(engine(), content_type)]


def chat(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


async def test_reporting_passes_each_chunk_before_it_is_looked_at_and_as_it_came() -> None:
    looking = review(enforced=False)
    stream = chat("see https:") + chat("//evil.example/x") + b"data: [DONE]\n\n"
    chunks = [stream[at : at + 11] for at in range(0, len(stream), 11)]
    out = await passed(looking, chunks)
    assert all(one is other for one, other in zip(out, chunks, strict=True))
    [found] = looking.found
    assert (found.because["host"], found.because["action"]) == ("evil.example", "passed")


async def test_redacting_gives_out_no_empty_chunk() -> None:
    looking = review(enforced=True)
    stream = chat("see https:") + chat("//evil.example/x y") + b"data: [DONE]\n\n"
    out = await passed(looking, [stream[at : at + 11] for at in range(0, len(stream), 11)])
    assert all(out)
    assert IN_TEXT.encode() in b"".join(out)
    assert looking.found[0].because["action"] == "redacted"


async def test_what_cannot_be_read_ends_a_redacted_stream_and_is_recorded_in_a_reported_one() -> None:
    chunks = [chat("a"), b"data: no json\n\n", chat("https://evil.example/ ")]
    with pytest.raises(Fault):
        await passed(review(enforced=True), chunks)
    looking = review(enforced=False)
    assert await passed(looking, chunks) == chunks
    assert [found.because["why"] for found in looking.found] == ["unchecked"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-ndjson", "text/html", "application/jsonl"])
async def test_text_of_other_types_is_one_text(content_type: str) -> None:
    looking = review(enforced=True)
    text = '{"a":"\u00e9 https://evil.example/x"}\n{"b":1}\n'.encode()
    out = b"".join(await passed(looking, [text[at : at + 1] for at in range(len(text))], content_type))
    assert out.decode().splitlines()[1] == '{"b":1}'
    assert b"evil" not in out
    json.loads(out.splitlines()[0])
    assert looking.body(text, content_type) == out


async def test_text_that_is_not_utf_8_is_not_given_out_unread() -> None:
    with pytest.raises(Fault):
        await passed(review(enforced=True), [b"\xff\xfe"], "text/plain")


@pytest.mark.parametrize("content_type", ["audio/mpeg", "image/png", "application/octet-stream"])
async def test_sound_and_pictures_pass(content_type: str) -> None:
    chunk = b"\xff https://evil.example/ "
    assert await passed(review(enforced=True), [chunk], content_type) == [chunk]
    assert review(enforced=True).body(chunk, content_type) is chunk


@pytest.mark.parametrize("content_type", ["application/json", "application/problem+json; charset=utf-8"])
def test_whole_json(content_type: str) -> None:
    body = b'{"message":{"content":"[a](https://evil.example/x)"}}'
    looking = review(enforced=True)
    assert b"evil" not in looking.body(body, content_type)
    assert looking.found[0].because["path"] == "message.content"
    assert review(enforced=False).body(body, content_type) is body
    fine = b'{ "data":[1.0,-2e5], "content":"https://good.example/" }'
    assert review(enforced=True).body(fine, content_type) is fine


def test_whole_json_that_is_none() -> None:
    with pytest.raises(Fault):
        review(enforced=True).body(b"{/", "application/json")
    looking = review(enforced=False)
    assert looking.body(b"{/", "application/json") == b"{/"
    assert looking.found
    assert review(enforced=True).body(b"", "application/json") == b""


def test_messages_of_a_connection_share_its_findings() -> None:
    looking = review(enforced=True)
    messages = looking.messages()
    [out] = messages.event(b'{"type":"error","error":{"message":"https://evil.example/x"}}') or []
    assert b"evil" not in out
    assert looking.found[0].because["path"] == "error.message"
