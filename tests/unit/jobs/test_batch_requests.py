"""One line is a request like any other: refused, counted, looked at and recorded as a caller's would be, with the account as it is now."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stockade.jobs.batch_requests import AccountGoneError, Answer, LineRequests, WaitError
from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.snapshot import CustomerKey, Snapshot
from stockade.policy.uris.allowed import compile_allowed
from stockade.policy.uris.loss_prevention import LossPrevention
from stockade.settings import Model, Settings, Upstream
from stockade.storage.database import Database
from tests.factories import policy
from tests.factories.audit import read_back
from tests.factories.engine import Engine, Request, answers, engine, reply
from tests.factories.jobs import workplace

HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
SAID = {"choices": [{"message": {"role": "assistant", "content": "see https://evil.example/x"}}]}
OK = reply(json.dumps(SAID).encode(), b"content-type: application/json")


class World:
    """An account, and an engine that answers its deployment."""

    def __init__(self, tmp_path: Path, database: Database, running: Engine) -> None:
        self.engine, self.clock = running, ManualClock()
        model = Model("m", upstream=Upstream(url=f"http://127.0.0.1:{running.port}/v1", model="real"))
        self.settings = Settings(data_dir=tmp_path, models=(model,))
        self.settings.run_dir.mkdir()
        self.account: dict[str, Any] = {}
        self.deployment: dict[str, Any] = {}
        self.gone = False
        self.place = workplace(tmp_path, database, snapshot=self.snapshot, clock=self.clock, settings=self.settings)
        self.lines = LineRequests(self.place)

    def snapshot(self) -> Snapshot:
        account = [] if self.gone else [("account", policy.ACCOUNT, policy.account(**self.account))]
        return policy.snapshot(*account, ("deployment", (policy.ACCOUNT, "chat"), policy.deployment(**self.deployment)))

    async def ask(self, endpoint: str = "/v1/chat/completions", **changes: Any) -> Answer:
        operation = self.lines.operation(endpoint)
        body = json.dumps({name: value for name, value in {**HELLO, **changes}.items() if value is not None}).encode()
        return await self.lines.answer(policy.ACCOUNT, "batch_1", operation, body)

    @property
    def requests(self) -> list[Request]:
        return self.engine.requests

    def records(self) -> list[dict[str, Any]]:
        return read_back(self.settings, self.place.audit)


@pytest.fixture
async def world(tmp_path: Path, migrated_sqlite: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    shutil.copy(migrated_sqlite, tmp_path / "stockade.db")
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    async with engine(answers(*getattr(request, "param", (OK,)))) as running:
        found = World(tmp_path, database, running)
        yield found
        await found.lines.close()
    database.close()


async def test_a_line_is_answered_by_the_deployments_model_and_recorded(world: World) -> None:
    answer = await world.ask()
    assert (answer.status, json.loads(answer.body)) == (200, SAID)
    assert json.loads(world.requests[0].body)["model"] == "real"
    (record,) = world.records()
    assert record["operation"] == "ChatCompletions_Create"
    assert (record["credential"], record["decision"], record["status"]) == ("job:batches/batch_1", "allow", 200)
    assert record["id"] == answer.request_id


async def test_responses_are_answered_and_not_kept_beside_the_batch(world: World) -> None:
    answer = await world.ask("/v1/responses", input="hello", messages=None)
    said = json.loads(answer.body)
    assert (answer.status, said["object"], said["store"]) == (200, "response", False)
    assert (await world.ask("/responses", input="hello", previous_response_id="resp_1")).status == 400


def test_only_some_endpoints_have_batches(world: World) -> None:
    with pytest.raises(Fault) as refused:
        world.lines.operation("/v1/files")
    assert refused.value.kind is FaultKind.UNSUPPORTED


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"model": "other"}, 404, "DeploymentNotFound"),
        ({"stream": True}, 400, "BadRequest"),
        ({"messages": None}, 400, "BadRequest"),
    ],
    ids=["no-deployment", "stream", "no-model"],
)
async def test_what_is_wrong_with_a_line_is_its_answer(
    world: World, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = await world.ask(**changes)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (status, code)
    assert world.requests == []


async def test_loss_prevention_is_that_of_the_moment(world: World) -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://evil.example/x"}}]}]
    world.account = {"outbound": LossPrevention(compile_allowed(["good.example"]), inline=False)}
    answer = await world.ask(messages=image)
    assert (answer.status, json.loads(answer.body)["error"]["innererror"]["code"]) == (400, "OutboundUriNotAllowed")
    assert world.requests == []
    (record,) = world.records()
    assert (record["decision"], record["rule"], record["because"]["host"]) == ("deny", "outbound", "evil.example")
    world.account = {}
    assert (await world.ask(messages=image)).status == 200


async def test_an_account_that_looks_at_what_models_answer_does_so_here_too(world: World) -> None:
    world.account = {"output": compile_allowed(["good.example"])}
    assert b"evil.example" not in (await world.ask()).body


async def test_a_used_up_quota_is_waited_for_and_not_answered(world: World) -> None:
    world.deployment = {"calls_per_minute": 1}
    await world.ask()
    with pytest.raises(WaitError) as wait:
        await world.ask()
    assert wait.value.reply is None
    assert 0 < wait.value.seconds <= 60
    world.clock.advance(60)
    assert (await world.ask()).status == 200
    assert len(world.requests) == 2


async def test_without_its_key_an_account_is_asked_nothing(world: World) -> None:
    world.account = {"customer_key": CustomerKey("https://v.example", "k", "", "p")}
    with pytest.raises(Fault) as refused:
        await world.ask()
    assert refused.value.kind is FaultKind.CUSTOMER_KEY_UNAVAILABLE
    assert world.requests == []


async def test_of_an_account_that_has_gone_nothing_is_asked(world: World) -> None:
    world.gone = True
    with pytest.raises(AccountGoneError):
        await world.ask()


@pytest.mark.parametrize("world", [(reply(b"{}", status=b"500 Broken"), OK)], indirect=True, ids=["500"])
async def test_an_engine_that_fails_is_asked_again(world: World) -> None:
    with pytest.raises(WaitError) as wait:
        await world.ask()
    assert wait.value.fault is not None
    assert wait.value.reply is not None
    assert (wait.value.fault.kind, wait.value.reply.status) == (FaultKind.UPSTREAM_FAILED, 502)
    assert (await world.ask()).status == 200


@pytest.mark.parametrize(
    "world", [(reply(b"{}", b"retry-after: 7", status=b"429 Slow"), OK)], indirect=True, ids=["429"]
)
async def test_an_engine_that_says_later_is_waited_for(world: World) -> None:
    with pytest.raises(WaitError) as wait:
        await world.ask()
    assert wait.value.reply is not None
    assert (wait.value.seconds, wait.value.reply.status) == (7.0, 429)


@pytest.mark.parametrize(
    "world", [(reply(b'{"error":{"message":"bad"}}', status=b"400 Bad"),)], indirect=True, ids=["400"]
)
async def test_what_the_engine_refuses_is_the_answer(world: World) -> None:
    assert (await world.ask()).status == 400


async def test_nothing_is_done_that_cannot_be_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(world.place.audit), "healthy", False)
    with pytest.raises(Fault) as refused:
        await world.ask()
    assert refused.value.kind is FaultKind.UNAVAILABLE
    assert world.requests == []
