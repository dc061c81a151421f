"""Batches as callers see them: what they may be, how they stand, when they can be cancelled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Batch

from stockade.kernel.evidence import CallerKey
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.broker import JobScope
from stockade.services.openai.batches import GRANT_S, Batches, endpoint_operation, plain
from stockade.services.openai.operations import OPERATIONS
from stockade.services.service import Call, Reply
from stockade.settings import Content
from tests.factories import policy
from tests.factories.content import AccountInMemory, KeptInMemory

NOW = 1_800_000_000.0
ASKED = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}


class Started:
    """A starter that remembers."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobScope] = {}
        self.refuses: Fault | None = None

    async def start(self, kind: str, piece: str, scope: JobScope) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.jobs[f"{kind}/{piece}"] = scope

    async def give_up(self, kind: str, piece: str) -> None:
        del self.jobs[f"{kind}/{piece}"]


class World:
    """One account, its things, and what it may be asked."""

    def __init__(self) -> None:
        self.kept = KeptInMemory(lambda: NOW)
        self.content: AccountInMemory = self.kept.of(policy.ACCOUNT, CallerKey(Secret(b"k")), "", "test")
        self.started = Started()
        self.handler = Batches(Content())

    async def file(self, purpose: str = "batch") -> None:
        await self.content.create("files", "file-1", {"purpose": purpose, "filename": "in.jsonl"})

    def call(self, name: str, body: bytes = b"", **values: str) -> Call:
        operation = next(one for one in OPERATIONS if one.name == name)
        found = Call(
            operation, policy.account(), policy.KEY, policy.snapshot(), values, {}, "application/json", body, "r", NOW
        )
        found.content, found.jobs = self.content, self.started
        return found

    async def ask(self, name: str, body: Any = None, query: dict[str, str] | None = None, **values: str) -> Any:
        call = self.call(name, json.dumps(body).encode() if body is not None else b"", **values)
        call.query = query or {}
        self.handler.read(call)
        reply = await self.handler.answer(call)
        assert isinstance(reply, Reply)
        assert reply.status == 200
        return json.loads(reply.body)

    async def create(self, **changes: Any) -> Batch:
        return Batch.model_validate(await self.ask("Batches_Create", {**ASKED, **changes}))

    async def refused(self, name: str, body: Any = None, **values: str) -> Fault:
        with pytest.raises(Fault) as refused:
            await self.ask(name, body, **values)
        return refused.value


@pytest.fixture
def world() -> World:
    return World()


async def test_a_batch_begins_with_a_job_that_may_read_its_input_and_write_its_output(world: World) -> None:
    await world.file()
    batch = await world.create(metadata={"a": "b"}, output_expires_after={"anchor": "created_at", "seconds": 3600})
    assert (batch.status, batch.metadata, batch.object) == ("validating", {"a": "b"}, "batch")
    assert (batch.created_at, batch.expires_at) == (int(NOW), int(NOW) + 86_400)
    assert world.started.jobs == {
        f"batches/{batch.id}": JobScope(("files/file-1",), ("files/*", "batches/*"), NOW + GRANT_S)
    }
    assert (await world.content.get("batches", batch.id)).metadata["output_expires_after_s"] == 3600
    again = Batch.model_validate(await world.ask("Batches_Get", batch_id=batch.id))
    assert again == batch


@pytest.mark.parametrize(
    ("changes", "kind", "target"),
    [
        ({"completion_window": "7d"}, FaultKind.INVALID, "completion_window"),
        ({"endpoint": "/v1/moderations"}, FaultKind.INVALID, "endpoint"),
        ({"input_file_id": 7}, FaultKind.INVALID, "input_file_id"),
        ({"input_file_id": "file-2"}, FaultKind.NOT_FOUND, "id"),
        ({"metadata": {str(n): "" for n in range(17)}}, FaultKind.INVALID, "metadata"),
        ({"metadata": {"k": "v" * 513}}, FaultKind.INVALID, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 10}}, FaultKind.INVALID, "output_expires_after"),
        ({"input_blob": "https://blob"}, FaultKind.UNSUPPORTED, "input_blob"),
    ],
    ids=["window", "endpoint", "file-type", "no-file", "pairs", "long-value", "expiry", "blob"],
)
async def test_what_a_batch_cannot_be_starts_nothing(
    world: World, changes: dict[str, Any], kind: FaultKind, target: str
) -> None:
    await world.file()
    fault = await world.refused("Batches_Create", {**ASKED, **changes})
    assert (fault.kind, fault.target) == (kind, target)
    assert world.started.jobs == {}
    assert world.kept.ids("batches") == []


async def test_a_file_for_something_else_is_no_input(world: World) -> None:
    await world.file("fine-tune")
    assert (await world.refused("Batches_Create", ASKED)).target == "input_file_id"


async def test_a_missing_member_is_named(world: World) -> None:
    assert (await world.refused("Batches_Create", {"endpoint": "/v1/embeddings"})).target == "input_file_id"


async def test_where_the_broker_grants_nothing_there_is_no_batch(world: World) -> None:
    await world.file()
    world.started.refuses = Fault(FaultKind.PERMISSION_DENIED, "no")
    assert (await world.refused("Batches_Create", ASKED)).kind is FaultKind.PERMISSION_DENIED
    assert world.kept.ids("batches") == []


async def test_a_batch_that_cannot_be_kept_has_no_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.file()

    async def full(*_: Any, **__: Any) -> None:
        raise Fault(FaultKind.LIMIT, "full")

    monkeypatch.setattr(type(world.content), "create", full)
    assert (await world.refused("Batches_Create", ASKED)).kind is FaultKind.LIMIT
    assert world.started.jobs == {}


async def test_lists_are_pages_without_parts(world: World) -> None:
    await world.file()
    batches = [(await world.create()).id for _ in range(3)]
    await world.content.create("batches", f"{batches[0]}.part", {}, status="part.x")
    page = await world.ask("Batches_List", query={"limit": "2"})
    assert [one["id"] for one in page["data"]] == batches[:0:-1]
    assert page["has_more"]
    rest = await world.ask("Batches_List", query={"after": page["last_id"]})
    assert [one["id"] for one in rest["data"]] == batches[:1]
    assert not rest["has_more"]


@pytest.mark.parametrize("batch_id", ["batch_x", "file-1", "batch_00000000-0000-4000-8000-000000000000.part"])
async def test_what_is_no_batch_is_not_found(world: World, batch_id: str) -> None:
    await world.content.create("batches", "batch_00000000-0000-4000-8000-000000000000.part", {}, status="part.x")
    for name in ("Batches_Get", "Batches_Cancel"):
        assert (await world.refused(name, batch_id=batch_id)).kind is FaultKind.NOT_FOUND


async def test_cancelling_is_said_once_and_of_what_has_not_ended(world: World) -> None:
    await world.file()
    batch = await world.create()
    for _ in range(2):
        found = Batch.model_validate(await world.ask("Batches_Cancel", batch_id=batch.id))
        assert (found.status, found.cancelling_at) == ("cancelling", int(NOW))
    item = await world.content.get("batches", batch.id)
    await world.content.update(item, status="completed")
    assert (await world.refused("Batches_Cancel", batch_id=batch.id)).kind is FaultKind.CONFLICT


async def test_cancelling_wins_against_a_job_that_writes_how_far_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.file()
    batch = await world.create()
    update = type(world.content).update
    tries = 0

    async def contended(self: Any, item: Any, **changes: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise Fault(FaultKind.CONFLICT, "changed")
        return await update(self, item, **changes)

    monkeypatch.setattr(type(world.content), "update", contended)
    assert (await world.ask("Batches_Cancel", batch_id=batch.id))["status"] == "cancelling"


async def test_a_batch_that_nobody_could_end_is_shown_as_expired(world: World) -> None:
    await world.file()
    batch = await world.create()
    call = world.call("Batches_Get", batch_id=batch.id)
    call.now = NOW + GRANT_S + 86_401
    reply = await world.handler.answer(call)
    assert isinstance(reply, Reply)
    found = Batch.model_validate_json(reply.body)
    assert (found.status, found.expired_at) == ("expired", batch.expires_at)


def test_endpoints_are_told_with_and_without_what_stands_before_them() -> None:
    for endpoint in ("/chat/completions", "/v1/chat/completions", "/openai/v1/chat/completions"):
        assert plain(endpoint) == "/chat/completions"
        found = endpoint_operation(OPERATIONS, endpoint)
        assert found is not None
        assert found.name == "ChatCompletions_Create"
    assert endpoint_operation(OPERATIONS, "/v1/files") is None
