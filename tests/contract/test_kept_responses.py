"""Responses over the gateway: what the engine is asked, what comes of it, and what is kept."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import pytest

from stockade.kernel.faults import Fault, FaultKind
from tests.factories.data_plane import JSON_TYPE, VERSION, Answer, DataPlane, Scope, ask
from tests.factories.engine import Engine, answers, chunked, engine, reply, says_and_closes
from tests.live import free_ports

RESPONSES = "/openai/responses"
SSE = b"content-type: text/event-stream\r\n"


def completion(content: str | None = "Hello.", finish_reason: str = "stop", **message: Any) -> bytes:
    said = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "real-chatty",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "finish_reason": finish_reason,
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    return reply(json.dumps(said).encode(), b"content-type: application/json")


def events(*deltas: dict[str, Any], finish_reason: str = "stop", done: bool = True) -> list[bytes]:
    chunks: list[dict[str, Any]] = [{"id": "c", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    chunks.append({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
    lines = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return [*lines, b"data: [DONE]\n\n"] if done else lines


[PORT] = free_ports(1)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> DataPlane:
    return DataPlane(tmp_path_factory.mktemp("kept"), f"http://127.0.0.1:{PORT}/v1")


class Ground:
    """An account of its own on a data plane that the tests of this file share, and a gateway of this test's loop."""

    def __init__(self, plane: DataPlane, **properties: Any) -> None:
        self.plane = plane
        plane.contents.items.clear()
        plane.contents.failure = None
        self.account = plane.account(f"a{secrets.token_hex(4)}", deployments=("chat", "vectors"), **properties)
        self.gateway = plane.gateway()

    async def create(self, given: Any = "hello", **more: Any) -> Answer:
        body = {"model": "chat", "input": given, **more}
        key = ("api-key", self.account.key)
        return await ask(self.gateway, self.account.path(RESPONSES), key, body=json.dumps(body).encode())

    async def get(self, path: str, query: str = VERSION, method: str = "GET") -> Answer:
        key = ("api-key", self.account.key)
        return await ask(
            self.gateway, self.account.path(f"{RESPONSES}{path}"), key, body=None, method=method, query=query
        )


def asked_of(running: Engine) -> list[dict[str, Any]]:
    """Return what the engine was asked."""
    return [json.loads(request.body) for request in running.requests]


def streamed(answer: Answer) -> list[dict[str, Any]]:
    found = []
    for block in answer.body.split(b"\n\n")[:-1]:
        kind, data = block.split(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert kind == b"event: " + event["type"].encode()
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


async def test_response_is_made_kept_listed_and_deleted(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT) as running:
        ground = Ground(plane)
        answer = await ground.create(
            "hello", instructions="Be brief.", metadata={"a": "b"}, max_output_tokens=9, user="me"
        )
        assert answer.status == 200, answer.body
        made = answer.json
        assert (made["status"], made["model"], made["store"], made["metadata"]) == (
            "completed",
            "chat",
            True,
            {"a": "b"},
        )
        assert made["output"][0]["content"] == [
            {"type": "output_text", "text": "Hello.", "annotations": [], "logprobs": []}
        ]
        assert (made["usage"]["input_tokens"], made["usage"]["output_tokens"]) == (3, 2)
        assert asked_of(running) == [
            {
                "model": "real-chatty",
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
                "stream": False,
                "max_completion_tokens": 9,
            }
        ]
        assert (await ground.get(f"/{made['id']}")).json == made
        listed = (await ground.get(f"/{made['id']}/input_items")).json
        assert [(item["type"], item["role"], item["content"]) for item in listed["data"]] == [
            ("message", "user", [{"type": "input_text", "text": "hello"}])
        ]
        assert (await ground.get(f"/{made['id']}", method="DELETE")).json["deleted"] is True
        for path in (f"/{made['id']}", f"/{made['id']}/input_items"):
            assert (await ground.get(path)).status == 404


async def test_response_goes_on_from_those_before_it(plane: DataPlane) -> None:
    async with engine(answers(completion("one"), completion("two"), completion("three")), port=PORT) as running:
        ground = Ground(plane)
        first = (await ground.create("a", instructions="only now")).json
        second = (await ground.create("b", previous_response_id=first["id"])).json
        third = (await ground.create("c", previous_response_id=second["id"])).json
        assert [(said["role"], said["content"]) for said in asked_of(running)[2]["messages"]] == [
            ("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two"), ("user", "c"),
        ]  # fmt: skip
        assert third["previous_response_id"] == second["id"]
        # What is deleted is gone for those that went on from it too.
        await ground.get(f"/{first['id']}", method="DELETE")
        refused = await ground.create("d", previous_response_id=second["id"])
        assert (refused.status, refused.code) == (400, "previous_response_not_found")
        assert len(asked_of(running)) == 3


async def test_items_of_every_kind_become_messages(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT) as running:
        ground = Ground(plane)
        image = "data:image/png;base64,aaaa"
        answer = await ground.create(
            [
                {"role": "developer", "content": "d"},
                {"type": "message", "role": "user", "content": [
                    {"type": "input_text", "text": "what"}, {"type": "input_image", "image_url": image, "detail": "low"},
                    {"type": "input_file", "file_data": "data:application/pdf;base64,aa", "filename": "a.pdf"},
                ]},
                {"role": "assistant", "content": [{"type": "output_text", "text": "x"}, {"type": "refusal", "refusal": "y"}]},
                {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": "r"},
                {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "s"}]},
            ],
            tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
            tool_choice={"type": "function", "name": "f"},
            text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
            reasoning={"effort": "low"},
            temperature=0.5,
        )  # fmt: skip
        assert answer.status == 200, answer.body
        assert asked_of(running) == [
            {
                "model": "real-chatty",
                "stream": False,
                "messages": [
                    {"role": "developer", "content": "d"},
                    {"role": "user", "content": [
                        {"type": "text", "text": "what"},
                        {"type": "image_url", "image_url": {"url": image, "detail": "low"}},
                        {"type": "file", "file": {"file_data": "data:application/pdf;base64,aa", "filename": "a.pdf"}},
                    ]},
                    {"role": "assistant", "content": "xy", "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                        {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                    ]},
                    {"role": "tool", "tool_call_id": "1", "content": "r"},
                    {"role": "tool", "tool_call_id": "2", "content": "s"},
                ],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "parallel_tool_calls": True,
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}},
                "reasoning_effort": "low",
                "temperature": 0.5,
            }
        ]  # fmt: skip


async def test_function_calls_and_what_stopped_early_are_told(plane: DataPlane) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    async with engine(
        answers(completion(None, "tool_calls", tool_calls=[call]), completion("Hel", "length")), port=PORT
    ):
        ground = Ground(plane)
        made = (await ground.create(tools=[{"type": "function", "name": "f"}])).json
        assert [(item["type"], item["call_id"], item["name"], item["arguments"]) for item in made["output"]] == [
            ("function_call", "call_1", "f", '{"a":1}')
        ]
        short = (await ground.create()).json
        assert (short["status"], short["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


async def test_streamed_response_is_kept_when_its_last_event_says_so(plane: DataPlane) -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": "{}"}}
    said = events({"content": "Hel"}, {"content": "lo."}, {"tool_calls": [call]}, {"tool_calls": [more]})
    async with engine(says_and_closes(chunked(*said, headers=SSE)), port=PORT) as running:
        ground = Ground(plane)
        found = streamed(await ground.create(stream=True))
        assert [event["type"] for event in found] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
        last = found[-1]["response"]
        assert [item["type"] for item in last["output"]] == ["message", "function_call"]
        assert last["output"][0]["content"][0]["text"] == "Hello."
        assert last["usage"]["total_tokens"] == 5
        assert (await ground.get(f"/{last['id']}")).json == last
        assert asked_of(running)[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    "pieces",
    [
        events({"content": "Hel"}, done=False),
        [b'data: {"error": {"message": "secret"}}\n\n'],
        [b"data: nonsense\n\n"],
        [b'data: "text"\n\n'],
    ],
    ids=["no end", "an error", "no JSON", "no object"],
)
async def test_stream_that_breaks_off_ends_with_an_error_and_nothing_is_kept(
    plane: DataPlane, pieces: list[bytes]
) -> None:
    async with engine(says_and_closes(chunked(*pieces, headers=SSE)), port=PORT):
        ground = Ground(plane)
        answer = await ground.create(stream=True)
        assert answer.status == 200
        assert json.loads(answer.body.split(b"data: ")[-1])["error"]["code"] == "BadGateway"
        assert b"response.completed" not in answer.body
        assert b"secret" not in answer.body
        assert ground.plane.contents.ids("responses") == []


async def test_response_that_cannot_be_kept_is_not_given_out_as_if_it_were(plane: DataPlane) -> None:
    async with engine(
        answers(completion()), says_and_closes(chunked(*events({"content": "x"}), headers=SSE)), port=PORT
    ):
        ground = Ground(plane)
        ground.plane.contents.failure = Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, "The key is disabled.")
        refused = await ground.create()
        assert (refused.status, refused.code) == (403, "CustomerManagedKeyUnavailable")
        assert (await ground.create(store=False)).status == 200


async def test_what_is_not_to_be_kept_is_not(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT) as running:
        ground = Ground(plane)
        made = (await ground.create(store=False)).json
        assert (made["store"], ground.plane.contents.items) == (False, {})
        assert (await ground.get(f"/{made['id']}")).status == 404
        ground.plane.change(ground.account, stockade={"content": {"store": "off"}})
        for store in (True, None):
            assert (await ground.create(store=store)).json["store"] is False
        assert ground.plane.contents.items == {}
        assert all("store" not in asked and "metadata" not in asked for asked in asked_of(running))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "in the background": ({"background": True}, "background"),
    "a conversation": ({"conversation": "conv_1"}, "conversation"),
    "a web search": ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    "a file search": ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[0].type"),
    "somebody's server": ({"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://x"}]}, "tools[0].type"),
    "a prompt": ({"prompt": {"id": "p"}}, "prompt"),
    "truncation": ({"truncation": "auto"}, "truncation"),
    "log probabilities": ({"top_logprobs": 2}, "top_logprobs"),
    "including them": ({"include": ["message.output_text.logprobs"]}, "include"),
    "including what is no text": ({"include": [{}]}, "include"),
    "a summary": ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
    "an unknown parameter": ({"nonsense": 1}, "nonsense"),
    "a choice of tools that is none": ({"tool_choice": "some"}, "tool_choice"),
    "metadata that is no text": ({"metadata": {"a": 1}}, "metadata"),
    "a temperature too high": ({"temperature": 3}, "temperature"),
    "a truth as a temperature": ({"temperature": True}, "temperature"),
    "no tokens": ({"max_output_tokens": 0}, "max_output_tokens"),
    "a format that is none": ({"text": {"format": {"type": "xml"}}}, "text.format"),
    "a schema that is none": ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
    "a previous one that is no text": ({"previous_response_id": 1}, "previous_response_id"),
    "a previous one that is not there": ({"previous_response_id": "resp_1"}, "previous_response_id"),
    "a number as input": ({"given": 1}, "input"),
    "an item of another kind": ({"given": [{"type": "computer_call"}]}, "input[0]"),
    "an item by its name": ({"given": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
    "reasoning": ({"given": [{"type": "reasoning", "summary": []}]}, "input[0]"),
    "a role that is none": ({"given": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    "a file by its name": ({"given": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0].file_id"),
    "a file elsewhere": ({"given": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]}, "input[0].content[0].file_url"),
    "an image by its name": ({"given": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0].file_id"),
    "sound": ({"given": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].type"),
    "an empty input": ({"given": []}, "input"),
    "a model that embeds": ({"model": "vectors"}, ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def quiet(plane: DataPlane) -> Ground:
    return Ground(plane)


@pytest.mark.parametrize(("more", "target"), REFUSED.values(), ids=REFUSED)
async def test_what_is_not_offered_is_refused_by_its_name(quiet: Ground, more: dict[str, Any], target: str) -> None:
    answer = await quiet.create(**{"given": "x", **more})
    assert answer.status == 400, answer.body
    assert answer.json["error"].get("param", "") == target
    assert len(answer.body) < 1000


async def test_response_is_not_cancelled_nor_streamed_again(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT):
        ground = Ground(plane)
        made = (await ground.create()).json
        assert (await ground.get(f"/{made['id']}/cancel", method="POST")).status == 400
        assert (await ground.get(f"/{made['id']}", f"{VERSION}&stream=true")).status == 400
        for wrong in ("/resp_other", "/..%2f", f"/{'x' * 200}"):
            assert (await ground.get(wrong)).status == 404


async def test_earlier_input_is_judged_again_when_it_is_gone_on_from(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT) as running:
        ground = Ground(plane)
        image = {"type": "input_image", "image_url": "https://pictures.example/a.png"}
        first = (await ground.create([{"role": "user", "content": [image]}])).json
        ground.plane.change(ground.account, restrictOutboundNetworkAccess=True, allowedFqdnList=["other.example"])
        refused = await ground.create(previous_response_id=first["id"])
        assert (refused.status, refused.json["error"]["innererror"]["code"]) == (400, "OutboundUriNotAllowed")
        direct = await ground.create([{"role": "user", "content": [image]}])
        assert (direct.status, direct.json["error"]["innererror"]["path"]) == (400, "input[0].content[0].image_url")
        assert len(asked_of(running)) == 1


async def test_engines_refusal_is_passed_on_and_nothing_is_kept(plane: DataPlane) -> None:
    error = b'{"error":{"code":"context_length_exceeded","message":"too long"}}'
    async with engine(answers(reply(error, status=b"400 Bad Request")), port=PORT):
        ground = Ground(plane)
        for stream in (False, True):
            answer = await ground.create(stream=stream)
            assert (answer.status, answer.code) == (400, "context_length_exceeded")
        assert ground.plane.contents.items == {}


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{}]}', b"nonsense"])
async def test_engine_that_answers_nonsense_has_failed(plane: DataPlane, body: bytes) -> None:
    async with engine(answers(reply(body)), port=PORT):
        answer = await Ground(plane).create()
        assert answer.status == 502


async def test_client_that_goes_away_leaves_nothing(plane: DataPlane) -> None:
    async def forever(peer: Any) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" + SSE + b"\r\n")
        await peer.closed()

    async with engine(forever, port=PORT) as running:
        ground = Ground(plane)
        body = json.dumps({"model": "chat", "input": "x", "stream": True}).encode()

        class Leaving(Answer):
            async def send_bytes(self, data: bytes) -> None:
                raise RuntimeError("protocol closed")

        answer = Leaving([body])
        sent = [("api-key", ground.account.key), JSON_TYPE]
        await ground.gateway.__rsgi__(Scope(ground.account.path(RESPONSES), "POST", VERSION, sent), answer)
        await asyncio.wait_for(running.seen_closed.wait(), 10)
        assert ground.plane.contents.items == {}


async def test_what_a_model_answered_is_looked_at_whenever_it_is_given_out(plane: DataPlane) -> None:
    uri = "https://leak.example/secret"
    said = events({"content": "See https://leak.exa"}, {"content": "mple/secret now."})
    async with engine(answers(completion(f"See {uri} now.")), port=PORT):
        ground = Ground(plane)
        loose = (await ground.create()).json
        assert uri in loose["output"][0]["content"][0]["text"]
        ground.plane.change(
            ground.account,
            restrictOutboundNetworkAccess=True,
            allowedFqdnList=["other.example"],
            stockade={"controls": {"output": "enforce"}},
        )
        made = await ground.create()
        for answer in (made, await ground.get(f"/{loose['id']}"), await ground.get(f"/{made.json['id']}")):
            assert answer.status == 200
            assert b"leak.example" not in answer.body
            assert answer.json["output"][0]["content"][0]["text"].startswith("See ")
    async with engine(says_and_closes(chunked(*said, headers=SSE)), port=PORT):
        streamed_answer = await ground.create(stream=True)
        assert b"leak.exa" not in streamed_answer.body
        assert streamed(streamed_answer)[-1]["type"] == "response.completed"
