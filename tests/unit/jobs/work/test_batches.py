"""A batch from its first look to its files: with content in memory, and lines answered as a test says."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stockade.content.item import Item
from stockade.jobs.batch_requests import AccountGoneError, Answer, WaitError
from stockade.jobs.work import batches
from stockade.jobs.work.batches import PLUGIN, Batches
from stockade.kernel.clock import ManualClock
from stockade.kernel.evidence import CallerKey, JobGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation
from stockade.kernel.secret import Secret
from stockade.keys.broker import JobScope
from stockade.services.openai.operations import OPERATIONS
from stockade.settings import Jobs, Settings
from stockade.storage.database import Database
from tests.factories import policy
from tests.factories.content import KeptInMemory
from tests.factories.jobs import InProcessRun, workplace

BATCH = "batch_00000000-0000-4000-8000-000000000000"
CHAT = next(one for one in OPERATIONS if one.path == "/openai/v1/chat/completions")


@dataclass
class Lines:
    """Stands for `LineRequests`: answers as the test says, and counts."""

    asked: Counter[str] = field(default_factory=Counter)
    account_now: Any = None
    failure: Exception | None = None
    reply: Callable[[str], Awaitable[Answer]] | None = None

    def operation(self, endpoint: str) -> Operation:
        return CHAT

    def account(self, account_id: str) -> Any:
        if self.failure is not None:
            raise self.failure
        return policy.snapshot(("deployment", (policy.ACCOUNT, "chat"), policy.deployment())), self.account_now

    async def answer(self, account_id: str, batch_id: str, operation: Operation, body: bytes) -> Answer:
        self.account(account_id)
        said = json.loads(body)["messages"]
        self.asked[said] += 1
        if self.reply is not None:
            return await self.reply(said)
        return Answer(200, json.dumps({"said": said}).encode(), "r")


class World:
    """One batch, and what it is done in."""

    def __init__(self, tmp_path: Path, database: Database, count: int = 5) -> None:
        self.clock = ManualClock()
        self.kept = KeptInMemory(self.clock.now)
        self.lines = Lines(account_now=policy.account())
        settings = Settings(data_dir=tmp_path, jobs=Jobs(lines_at_a_time=2, max_batch_lines=1000))
        self.place = workplace(tmp_path, database, clock=self.clock, settings=settings, open_content=self.kept.of)
        self.content = self.kept.of(policy.ACCOUNT, JobGrant(Secret(b"")), "", "test")
        self.work = Batches()
        self.work._requests = self.lines  # type: ignore[assignment]
        self.text = b"".join(line(number) for number in range(1, count + 1))

    async def begin(self, **metadata: Any) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield self.text

        await self.content.create("files", "file-in", {"purpose": "batch", "filename": "in.jsonl"}, body())
        said = {
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file-in",
            "completion_window": "24h",
            "expires_at": self.clock.now() + 86_400,
            **metadata,
        }
        scope = JobScope((), (), self.clock.now() + 6 * 86_400)
        self.place.grants.keep("batches", BATCH, policy.ACCOUNT, scope, "", CallerKey(Secret(b"k")))
        await self.content.create("batches", BATCH, said, status="validating")

    async def do(self, run: InProcessRun | None = None) -> Item:
        await self.work.do(self.place, run or InProcessRun(BATCH))
        return await self.batch()

    async def batch(self) -> Item:
        return await self.content.get("batches", BATCH)

    async def file(self, which: str) -> list[Any]:
        """Return the lines of a file of the batch; none where there is no file."""
        file_id = (await self.batch()).metadata.get(f"{which}_file_id")
        if file_id is None:
            return []
        item = await self.content.get("files", file_id)
        assert (item.metadata["purpose"], item.status) == ("batch_output", "processed")
        whole = b"".join([piece async for piece in self.content.read(item)])
        return [json.loads(row) for row in whole.splitlines()]

    async def ids(self, which: str) -> list[str]:
        return sorted(row["custom_id"] for row in await self.file(which))

    @property
    def due(self) -> list[str]:
        return list(self.work.due(self.place))


def line(number: int, **changes: Any) -> bytes:
    body = {"model": "chat", "messages": f"m{number}"}
    said = {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body, **changes}
    return json.dumps(said).encode() + b"\n"


@pytest.fixture
def database(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Database]:
    shutil.copy(migrated_sqlite, tmp_path / "stockade.db")
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    yield database
    database.close()


@pytest.fixture
def world(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(batches, "LOOK_S", 0.01)
    monkeypatch.setattr(batches, "GRACE_S", 0.05)
    monkeypatch.setattr(batches, "LONGEST_PAUSE_S", 0.01)
    return World(tmp_path, database)


def test_the_shelf_has_it() -> None:
    assert isinstance(PLUGIN, Batches)


async def test_every_line_is_answered_once_and_the_batch_says_so(world: World) -> None:
    await world.begin()
    assert world.due == [BATCH]
    item = await world.do()
    assert item.status == "completed"
    assert item.metadata["counts"] == {"total": 5, "completed": 5, "failed": 0}
    assert item.metadata["model"] == "chat"
    assert {"in_progress_at", "finalizing_at", "completed_at"} <= item.metadata.keys()
    assert await world.ids("output") == ["c1", "c2", "c3", "c4", "c5"]
    assert item.metadata["error_file_id"] is None
    assert set(world.lines.asked.values()) == {1}
    assert world.due == []
    assert world.kept.ids("batches") == [BATCH]


async def test_failed_lines_stand_in_the_error_file(world: World) -> None:
    async def reply(said: str) -> Answer:
        return Answer(400 if said == "m2" else 200, b"{}", "r")

    world.lines.reply = reply
    await world.begin()
    item = await world.do()
    assert item.status == "completed"
    assert item.metadata["counts"] == {"total": 5, "completed": 4, "failed": 1}
    assert [row["response"]["status_code"] for row in await world.file("error")] == [400]
    assert await world.ids("output") == ["c1", "c3", "c4", "c5"]


async def test_a_bad_file_fails_the_batch_with_line_numbers_and_asks_nobody(world: World) -> None:
    world.text = line(1) + b"{\n" + line(1)
    await world.begin()
    item = await world.do()
    assert item.status == "failed"
    assert [(error["code"], error["line"]) for error in item.metadata["errors"]] == [
        ("invalid_json_line", 2),
        ("duplicate_custom_id", 3),
    ]
    assert not world.lines.asked
    assert world.due == []


async def test_a_file_that_has_gone_fails_the_batch(world: World) -> None:
    await world.begin()
    await world.content.delete(await world.content.get("files", "file-in"))
    assert (await world.do()).status == "failed"


async def test_a_file_that_goes_while_its_lines_are_answered_leaves_what_there_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, times = type(world.content).read, 0

    async def going(self: Any, item: Item, *arguments: Any) -> AsyncIterator[bytes]:
        nonlocal times
        times += item.id == "file-in"
        async for piece in read(self, item, *arguments):
            yield piece
            if item.id == "file-in" and times == 2:  # the first time it was checked
                await asyncio.sleep(0.01)
                raise Fault(FaultKind.NOT_FOUND, "There is no 'file-in'.")

    monkeypatch.setattr(type(world.content), "read", going)
    world.text = b"".join(line(number).rstrip() + b" " * 40_000 + b"\n" for number in range(1, 6))
    await world.begin()
    item = await asyncio.wait_for(world.do(), 5)
    assert (item.status, item.metadata["errors"][0]["message"]) == ("failed", "The input file is gone.")
    assert await world.ids("output") == ["c1"]
    assert item.metadata["counts"] == {"total": 5, "completed": 1, "failed": 0}
    assert world.due == []


async def test_what_a_killed_process_had_kept_is_not_asked_again(world: World) -> None:
    stuck = asyncio.Event()

    async def reply(said: str) -> Answer:
        if said == "m4":
            stuck.set()
            await asyncio.Event().wait()
        return Answer(200, b"{}", "r")

    batches.KEEP_LINES, before = 1, batches.KEEP_LINES
    try:
        world.lines.reply = reply
        await world.begin()
        task = asyncio.create_task(world.do())
        await asyncio.wait_for(stuck.wait(), 5)
        while (await world.batch()).metadata.get("counts", {}).get("completed", 0) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        batches.KEEP_LINES = before
    asked = dict(world.lines.asked)
    assert asked["m1"] == 1

    world.lines.reply = None
    item = await world.do()
    assert item.status == "completed"
    assert await world.ids("output") == ["c1", "c2", "c3", "c4", "c5"]
    assert [world.lines.asked[f"m{number}"] for number in (1, 2, 3)] == [1, 1, 1]


async def test_a_process_that_ends_in_order_keeps_what_it_has(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "KEEP_S", 1000.0)
    stuck = asyncio.Event()

    async def reply(said: str) -> Answer:
        if said == "m5":
            stuck.set()
            await asyncio.Event().wait()
        return Answer(200, b"{}", "r")

    world.lines.reply = reply
    await world.begin()
    task = asyncio.create_task(world.do())
    await asyncio.wait_for(stuck.wait(), 5)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    world.lines.reply = None
    item = await world.do()
    assert item.status == "completed"
    assert {said: times for said, times in world.lines.asked.items() if times > 1} == {"m5": 2}


async def test_killed_while_the_files_are_written_it_ends_with_the_same_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.begin()
    create = type(world.content).create

    async def dies(self: Any, kind: Any, item_id: str, *arguments: Any, **named: Any) -> Item:
        made = await create(self, kind, item_id, *arguments, **named)
        if kind == "files":
            raise asyncio.CancelledError
        return made

    with monkeypatch.context() as patch:
        patch.setattr(type(world.content), "create", dies)
        with pytest.raises(asyncio.CancelledError):
            await world.do()
    written = [one for one in world.kept.ids("files") if one != "file-in"]
    item = await world.do()
    assert [item.metadata["output_file_id"]] == written
    assert await world.ids("output") == ["c1", "c2", "c3", "c4", "c5"]
    assert set(world.lines.asked.values()) == {1}


async def test_killed_between_its_end_and_its_forgetting_it_only_forgets(world: World) -> None:
    await world.begin()
    await world.do()
    scope = JobScope((), (), world.clock.now() + 86_400)
    world.place.grants.keep("batches", BATCH, policy.ACCOUNT, scope, "", CallerKey(Secret(b"k")))
    await world.do()
    assert world.due == []
    assert set(world.lines.asked.values()) == {1}


async def test_cancelled_it_keeps_what_it_has_and_begins_nothing_more(world: World) -> None:
    under_way = asyncio.Event()

    async def reply(said: str) -> Answer:
        if said in ("m1", "m2"):
            return Answer(200, b"{}", "r")
        under_way.set()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    world.lines.reply = reply
    await world.begin()
    task = asyncio.create_task(world.do())
    await asyncio.wait_for(under_way.wait(), 5)
    item = await world.batch()
    await world.content.update(item, metadata={**item.metadata, "cancelling_at": 1.0}, status="cancelling")
    item = await asyncio.wait_for(task, 5)
    assert item.status == "cancelled"
    assert item.metadata["cancelled_at"]
    assert await world.ids("output") == ["c1", "c2"]
    assert item.metadata["counts"] == {"total": 5, "completed": 2, "failed": 0}


async def test_at_the_end_of_its_time_it_gives_what_it_has_and_says_what_it_has_not(world: World) -> None:
    async def reply(said: str) -> Answer:
        if said == "m3":
            world.clock.jump(86_401)
        if said in ("m4", "m5"):
            return await asyncio.Event().wait()  # type: ignore[return-value]
        return Answer(200, b"{}", "r")

    world.lines.reply = reply
    await world.begin()
    item = await asyncio.wait_for(world.do(), 5)
    assert item.status == "expired"
    assert item.metadata["expired_at"]
    assert await world.ids("output") == ["c1", "c2", "c3"]
    assert {row["custom_id"]: row["error"]["code"] for row in await world.file("error")} == {
        "c4": "batch_expired",
        "c5": "batch_expired",
    }


async def test_without_the_accounts_key_it_waits_and_with_it_it_goes_on(world: World) -> None:
    async def reply(said: str) -> Answer:
        if said == "m3" and world.lines.failure is None and world.lines.asked["m3"] == 1:
            world.lines.failure = Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, "The key is disabled.")
            raise world.lines.failure
        return Answer(200, b"{}", "r")

    world.lines.reply = reply
    await world.begin()
    with pytest.raises(Fault) as put_off:
        await asyncio.wait_for(world.do(), 5)
    assert put_off.value.kind is FaultKind.UNAVAILABLE
    assert world.due == [BATCH]
    world.lines.failure = None
    item = await world.do()
    assert item.status == "completed"
    assert await world.ids("output") == ["c1", "c2", "c3", "c4", "c5"]


async def test_an_account_that_has_gone_ends_it(world: World) -> None:
    await world.begin()
    world.lines.failure = AccountGoneError()
    await world.work.do(world.place, InProcessRun(BATCH))
    assert world.due == []


async def test_an_account_that_keeps_nothing_any_more_gets_nothing_kept(world: World) -> None:
    await world.begin()
    world.lines.account_now = policy.account(keeps_content=False)
    item = await world.do()
    assert (item.status, item.metadata["errors"][0]["code"]) == ("failed", "ContentStorageDisabled")
    assert world.kept.ids("files") == ["file-in"]
    assert not world.lines.asked


async def test_a_grant_that_no_longer_holds_ends_it(world: World) -> None:
    await world.begin()
    world.kept.failure = Fault(FaultKind.UNAUTHENTICATED, "The job's grant does not hold.")
    await world.work.do(world.place, InProcessRun(BATCH))
    assert world.due == []


async def test_a_batch_that_is_not_there_yet_is_waited_for_and_then_given_up(world: World) -> None:
    await world.begin()
    await world.content.delete(await world.batch())
    with pytest.raises(Fault) as put_off:
        await world.work.do(world.place, InProcessRun(BATCH))
    assert put_off.value.kind is FaultKind.UNAVAILABLE
    world.clock.advance(61)
    await world.work.do(world.place, InProcessRun(BATCH))
    assert world.due == []


async def test_an_engine_that_fails_is_asked_again_and_not_for_ever(world: World) -> None:
    async def reply(said: str) -> Answer:
        if said == "m1" and world.lines.asked[said] < 3:
            raise WaitError(0.1, Fault(FaultKind.UPSTREAM_FAILED, "broke off"), Answer(502, b"{}", "r"))
        if said == "m2":
            raise WaitError(0.1, Fault(FaultKind.UPSTREAM_FAILED, "broke off"), Answer(502, b"{}", "r"))
        if said == "m3" and world.lines.asked[said] < 20:
            raise WaitError(0.1)  # its quota is used up: that is no failure
        return Answer(200, b"{}", "r")

    world.lines.reply = reply
    await world.begin()
    item = await asyncio.wait_for(world.do(), 30)
    assert item.metadata["counts"] == {"total": 5, "completed": 4, "failed": 1}
    assert [row["error"]["code"] for row in await world.file("error")] == ["BadGateway"]
    assert (world.lines.asked["m1"], world.lines.asked["m2"], world.lines.asked["m3"]) == (3, 8, 20)


async def test_a_bug_fails_the_batch_and_does_not_come_back(world: World) -> None:
    async def reply(said: str) -> Answer:
        raise RuntimeError("a bug")

    world.lines.reply = reply
    await world.begin()
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(world.do(), 5)
    assert (await world.batch()).status == "failed"
    assert world.due == []


async def test_output_files_expire_as_was_asked(world: World) -> None:
    await world.begin(output_expires_after_s=3600)
    item = await world.do()
    file = await world.content.get("files", item.metadata["output_file_id"])
    assert file.expires_at == pytest.approx(world.clock.now() + 3600)
