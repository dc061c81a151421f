"""Whatever callers upload or ask a response for, and whatever engines answer: read, or refused in words; never an exception of another sort."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai import bodies, responses_reply
from stockade.services.openai.chat_stream import Collected, Events
from stockade.services.openai.responses_request import chat_members, read_wanted
from stockade.services.openai.upload import UploadForm

CLIENTS_FAULT = {FaultKind.INVALID, FaultKind.UNSUPPORTED, FaultKind.UNSUPPORTED_MEDIA_TYPE}
TYPE = "multipart/form-data; boundary=mark"
CUTS = st.lists(st.integers(0, 2000), max_size=12)


def clients_fault(fault: Fault) -> str:
    assert fault.kind in CLIENTS_FAULT
    return fault.message


def engines_fault(fault: Fault, kept: Sequence[Any] = ()) -> None:
    assert fault.kind is FaultKind.UPSTREAM_FAILED
    assert not kept


# Uploads


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({min(place, len(body)) for place in places})
    return [body[a:b] for a, b in zip([0, *ends], [*ends, len(body)], strict=True)]


def upload(chunks: Sequence[bytes], content_type: str = TYPE) -> Any:
    """Return name, bytes and fields of an upload, or the fault that refuses it."""

    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def read() -> Any:
        form = UploadForm(content_type, source())
        await form.begin()
        data = b"".join([piece async for piece in form.file()])
        return form.filename, data, form.fields

    try:
        return asyncio.run(read())
    except Fault as fault:
        return clients_fault(fault)


def form(data: bytes, filename: str, fields: dict[str, str], *, last: bool) -> bytes:
    quoted = filename.replace('"', "%22")
    file = f'content-disposition: form-data; name="file"; filename="{quoted}"\r\n\r\n'.encode() + data
    others = [f'content-disposition: form-data; name="{n}"\r\n\r\n{v}'.encode() for n, v in fields.items()]
    parts = [*others, file] if last else [file, *others]
    return b"".join(b"--mark\r\n" + part + b"\r\n" for part in parts) + b"--mark--\r\n"


FIELDS = st.dictionaries(st.sampled_from(["purpose", "a", "b[c]"]), st.text("abcé -", max_size=20), max_size=3)
FORMS = st.builds(
    form, st.binary(max_size=300), st.text("abc.é", min_size=1, max_size=20), FIELDS, last=st.booleans()
)  # fmt: skip


@given(st.binary(max_size=300), st.text("abc.é", min_size=1, max_size=20), FIELDS, st.booleans(), CUTS)
@example(b"\r\n--mar", "a", {}, True, [1, 2, 3])
@example(b"\r\n--mark", "a", {}, False, [])
def test_form_is_read_alike_however_it_is_cut(
    data: bytes, filename: str, fields: dict[str, str], last: bool, cuts: list[int]
) -> None:
    body = form(data, filename, fields, last=last)
    whole = upload([body])
    if b"\r\n--mark" not in data:
        assert whole == (filename, data, {name.casefold(): value for name, value in fields.items()})
    assert upload(cut(body, cuts)) == whole


@given(FORMS, st.integers(0, 600), st.binary(max_size=4), CUTS)
def test_form_that_is_damaged_is_read_alike_or_refused_however_it_is_cut(
    body: bytes, place: int, instead: bytes, cuts: list[int]
) -> None:
    damaged = body[:place] + instead + body[place + len(instead) + 1 :]
    assert isinstance(upload([damaged]), str) == isinstance(upload(cut(damaged, cuts)), str)


@given(st.binary(max_size=300), st.text(max_size=60))
def test_what_is_no_form_is_refused(body: bytes, content_type: str) -> None:
    upload([body], content_type)
    upload([body])


# Responses

SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text("ab", max_size=3)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
)


def mostly(*likely: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(likely) | JSON


PARTS = st.fixed_dictionaries(
    {"type": mostly("input_text", "output_text", "refusal", "input_image", "input_file", "text")},
    optional={
        name: mostly("x") for name in ("text", "refusal", "image_url", "file_data", "file_id", "filename", "detail")
    },
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "type": mostly("message", "function_call", "function_call_output", "reasoning"),
        "role": mostly("user", "assistant", "system", "developer"),
        "content": mostly("x") | st.lists(PARTS | JSON, max_size=3),
        "output": mostly("x") | st.lists(PARTS | JSON, max_size=3),
        "call_id": mostly("c"),
        "name": mostly("f"),
        "arguments": mostly("{}"),
        "id": mostly("msg_1"),
    },
)
REQUESTS = st.fixed_dictionaries(
    {"model": st.just("chat"), "input": mostly("hello") | st.lists(ITEMS | JSON, max_size=4)},
    optional={
        "instructions": mostly("x"),
        "include": mostly([], ["reasoning.encrypted_content"]),
        "max_output_tokens": mostly(1),
        "metadata": mostly({"a": "b"}),
        "parallel_tool_calls": mostly(True),
        "previous_response_id": mostly("resp_1"),
        "reasoning": mostly({"effort": "low"}, {"effort": None}),
        "store": mostly(True, False),
        "stream": mostly(True, False),
        "temperature": mostly(0.5),
        "text": mostly({"format": {"type": "json_schema", "name": "n", "schema": {}}}, {"verbosity": "low"}),
        "tool_choice": mostly("auto", {"type": "function", "name": "f"}),
        "tools": mostly([{"type": "function", "name": "f", "parameters": {}}]) | st.lists(JSON, max_size=2),
        "top_p": mostly(1),
        "background": mostly(False),
        "conversation": mostly(None),
        "truncation": mostly("disabled"),
        "user": mostly("x"),
    },
)


@given(REQUESTS)
def test_request_for_a_response_is_translated_or_refused(request: dict[str, Any]) -> None:
    members = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in request.items()}
    try:
        wanted = read_wanted(members)
        body = chat_members(wanted, wanted.items)  # what is kept can be gone on from
    except Fault as fault:
        clients_fault(fault)
        return
    assert all(message["role"] and ("content" in message) for message in body["messages"])
    ids = [item["id"] for item in wanted.items]
    assert all(isinstance(one, str) for one in ids)
    response = responses_reply.begun(wanted, "resp_1", 1.0, stored=True)
    assert json.loads(bodies.encode(response))["metadata"] == wanted.metadata


# Engines

CALLS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": mostly(0, 1),
            "id": mostly("call"),
            "function": mostly({"name": "f", "arguments": "{}"}, {"arguments": "x"}),
        },
    )
    | JSON,
    max_size=2,
)
DELTAS = st.fixed_dictionaries(
    {}, optional={"content": mostly("x"), "refusal": mostly("no"), "tool_calls": CALLS | JSON}
)
CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "id": mostly("c"),
        "choices": st.lists(
            st.fixed_dictionaries(
                {}, optional={"index": mostly(0), "delta": DELTAS | JSON, "finish_reason": mostly("stop", "length")}
            )
            | JSON,
            max_size=2,
        )
        | JSON,
        "usage": mostly({"prompt_tokens": 1, "completion_tokens": 1}, {"prompt_tokens_details": {"cached_tokens": 1}}),
    },
)


@given(st.lists(CHUNKS | JSON, max_size=5), CUTS)
def test_whatever_an_engine_streams_becomes_events_or_has_failed(chunks: list[Any], cuts: list[int]) -> None:
    sent = b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks) + b"data: [DONE]\n\n"
    wanted = read_wanted({"model": msgspec.Raw(b'"chat"'), "input": msgspec.Raw(b'"x"')})
    kept: list[dict[str, Any]] = []

    async def pieces() -> AsyncIterator[bytes]:
        for piece in cut(sent, cuts):
            yield piece

    async def keep(response: dict[str, Any]) -> None:
        kept.append(response)

    async def events() -> list[dict[str, Any]]:
        stream = responses_reply.Stream(responses_reply.begun(wanted, "resp_1", 1.0, stored=True), lambda: 2.0, keep)
        parser, found = Events(), []
        async for piece in stream.events(pieces()):
            found += [json.loads(data) for data in parser.feed(piece)]
        return found

    try:
        found = asyncio.run(events())
    except Fault as fault:
        engines_fault(fault, kept)
        return
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert found[-1]["response"] == kept[0]
    done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
    assert sorted(json.dumps(item["id"]) for item in done) == sorted(
        json.dumps(item["id"]) for item in kept[0]["output"]
    )


@given(st.lists(CHUNKS, max_size=6))
def test_chunks_add_up_to_a_completion_or_have_failed(chunks: list[Any]) -> None:
    collected = Collected()
    try:
        for chunk in chunks:
            collected.add(chunk)
    except Fault as fault:
        engines_fault(fault)
        return
    assert json.loads(bodies.encode(collected.completion()))["object"] == "chat.completion"


@given(JSON | CHUNKS)
def test_whatever_an_engine_answers_becomes_a_response_or_has_failed(completion: Any) -> None:
    wanted = read_wanted({"model": msgspec.Raw(b'"chat"'), "input": msgspec.Raw(b'"x"')})
    response = responses_reply.begun(wanted, "resp_1", 1.0, stored=True)
    if not isinstance(completion, dict):
        return
    try:
        bodies.encode(responses_reply.whole(response, completion, 2.0))
    except Fault as fault:
        engines_fault(fault)
