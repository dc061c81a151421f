"""Stored completions over the gateway: kept under an id of ours, found by model and metadata, labelled, and gone."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from stockade.kernel.faults import Fault, FaultKind
from tests.factories.data_plane import CHAT, VERSION, Answer, DataPlane, ask
from tests.factories.engine import answers, chunked, engine, reply, says_and_closes
from tests.live import free_ports

COMPLETIONS = "/openai/chat/completions"
SSE = b"content-type: text/event-stream\r\n"
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "hello"}]},
]


def completion(model: str = "real-chatty") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
    said = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    return reply(json.dumps(said).encode(), b"content-type: application/json")


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
        self.account = plane.account(f"a{secrets.token_hex(4)}", deployments=("chat", "other"), **properties)
        self.gateway = plane.gateway()

    async def chat(self, deployment: str = "chat", **more: Any) -> Answer:
        body = {"messages": MESSAGES, "store": True, **more}
        path = self.account.path(CHAT.replace("/chat/", f"/{deployment}/", 1))
        return await ask(self.gateway, path, ("api-key", self.account.key), body=json.dumps(body).encode())

    async def ask(self, path: str = "", query: str = "", method: str = "GET", body: Any = None) -> Answer:
        return await ask(
            self.gateway,
            self.account.path(COMPLETIONS + path),
            ("api-key", self.account.key),
            body=json.dumps(body).encode() if body is not None else None,
            query=f"{VERSION}&{query}",
            method=method,
        )

    async def listed(self, query: str = "") -> list[str]:
        return [one["id"] for one in (await self.ask(query=query)).json["data"]]


async def test_completion_is_kept_found_labelled_and_deleted(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT) as running:
        ground = Ground(plane)
        answer = await ground.chat(metadata={"Case": "1"})
        made = answer.json
        assert (answer.status, made["choices"][0]["message"]["content"]) == (200, "Hello.")
        assert json.loads(running.requests[0].body) == {"messages": MESSAGES, "model": "real-chatty"}
        kept = (await ground.ask(f"/{made['id']}")).json
        assert kept == {**made, "metadata": {"Case": "1"}}
        messages = (await ground.ask(f"/{made['id']}/messages")).json["data"]
        assert [(one["id"], one["role"], one["content"], one["content_parts"]) for one in messages] == [
            (f"{made['id']}-0", "system", "Be brief.", None),
            (f"{made['id']}-1", "user", None, [{"type": "text", "text": "hello"}]),
        ]
        changed = await ground.ask(f"/{made['id']}", method="POST", body={"metadata": {"Case": "2"}})
        assert changed.json["metadata"] == {"Case": "2"}
        assert (await ground.listed("metadata[Case]=2"), await ground.listed("metadata[Case]=1")) == ([made["id"]], [])
        gone = await ground.ask(f"/{made['id']}", method="DELETE")
        assert gone.json == {"object": "chat.completion.deleted", "id": made["id"], "deleted": True}
        assert (await ground.ask(f"/{made['id']}")).status == 404


async def test_engines_ids_may_be_the_same_twice(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT):
        ground = Ground(plane)
        ids = [(await ground.chat(deployment)).json["id"] for deployment in ("chat", "other", "chat")]
        assert len(set(ids)) == 3
        assert await ground.listed() == ids
        assert await ground.listed("order=desc&limit=2") == ids[:0:-1]
        assert await ground.listed("model=other") == [ids[1]]
        assert await ground.listed("model=real-chatty") == ids
        assert await ground.listed("model=none") == []


async def test_streamed_completion_is_kept_before_its_end_is_told(plane: DataPlane) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{"}}
    rest = {"index": 0, "function": {"arguments": "}"}}
    deltas = [
        {"role": "assistant", "content": "Hel"},
        {"content": "lo."},
        {"tool_calls": [call]},
        {"tool_calls": [rest]},
    ]
    chunks = [{"id": "x", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    said = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    async with engine(says_and_closes(chunked(*said, b"data: [DONE]\n\n", headers=SSE)), port=PORT):
        ground = Ground(plane)
        answer = await ground.chat(stream=True)
        assert answer.body.endswith(b"data: [DONE]\n\n")
        [item_id] = await ground.listed()
        assert answer.body.count(item_id.encode()) == len(chunks)
        [choice] = (await ground.ask(f"/{item_id}")).json["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello.", "stop")
        assert choice["message"]["tool_calls"] == [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ]
    async with engine(says_and_closes(chunked(*said, headers=SSE)), port=PORT):
        broken = await ground.chat(stream=True)
        assert b"[DONE]" not in broken.body
        assert await ground.listed() == [item_id]


async def test_completion_that_cannot_be_kept_is_not_given_out_as_if_it_were(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT):
        ground = Ground(plane)
        ground.plane.contents.failure = Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, "The key is disabled.")
        refused = await ground.chat()
        assert (refused.status, refused.code) == (403, "CustomerManagedKeyUnavailable")
        assert (await ground.chat(store=False)).status == 200
        assert (await ground.chat(store=None)).status == 200


async def test_account_that_stores_none_refuses_before_the_engine_is_asked(plane: DataPlane) -> None:
    async with engine(answers(completion()), port=PORT) as running:
        ground = Ground(plane, storedCompletionsDisabled=True)
        for stream in (False, True):
            refused = await ground.chat(stream=stream)
            assert (refused.status, refused.code) == (400, "StoredCompletionsDisabled")
        ground.plane.change(ground.account, storedCompletionsDisabled=False, stockade={"content": {"store": "off"}})
        refused = await ground.chat()
        assert (refused.status, refused.code) == (400, "ContentStorageDisabled")
        assert running.requests == []
        assert (await ground.chat(store=False)).status == 200
        assert ground.plane.contents.items == {}


@pytest.fixture(scope="module")
def quiet(plane: DataPlane) -> Ground:
    return Ground(plane)


@pytest.mark.parametrize(
    "more",
    [
        {"store": "yes"},
        {"store": 1},
        {"metadata": {"a": 1}},
        {"metadata": ["a"]},
        {"metadata": {str(number): "" for number in range(17)}},
        {"metadata": {"a" * 65: ""}},
        {"metadata": {"a": "a" * 513}},
    ],
)
async def test_what_cannot_be_kept_is_refused(quiet: Ground, more: dict[str, Any]) -> None:
    assert (await quiet.chat(**more)).status == 400


@pytest.mark.parametrize("body", [{}, {"metadata": {"a": 1}}, {"metadata": {}, "model": "x"}])
async def test_only_metadata_is_changed(quiet: Ground, body: Any) -> None:
    assert (await quiet.ask("/x", method="POST", body=body)).status == 400


async def test_roles_that_may_chat_may_not_read_what_others_have_said(plane: DataPlane) -> None:
    ground = Ground(plane)
    _, token = ground.plane.caller()  # Cognitive Services OpenAI User
    bearer = ("authorization", f"Bearer {token}")
    answer = await ask(ground.gateway, ground.account.path(COMPLETIONS), bearer, body=None, method="GET")
    assert (answer.status, answer.code) == (401, "PermissionDenied")
