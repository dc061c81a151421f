"""Whatever is kept, changed, deleted, expires and crashes in whatever order: readers see what was acknowledged, and the rest whole or not at all.

A crash here is a process in which from one write on nothing is done any more, its cleaning included; `tests/fault/test_content.py` kills real ones.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stockade.content import account_content, rows
from stockade.content.format import FIRST_BYTES
from stockade.content.item import Item
from stockade.content.objects import LocalBodies
from stockade.content.retention import Sweeper
from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.database import Database
from tests.factories.contents import ACCOUNT, FakeLender, Kept, whole

SHARE = 3_000_000
SIZES = st.sampled_from([None, 0, 1, 1000, FIRST_BYTES, FIRST_BYTES + 1, 1_200_000])


class CrashError(BaseException):
    """The end of the process."""


class Mortal:
    """Counts writes of one process down; from the last one on nothing is done."""

    def __init__(self) -> None:
        self.left: int | None = None

    @property
    def dead(self) -> bool:
        return self.left is not None and self.left <= 0

    def live(self) -> None:
        if self.dead:
            raise CrashError
        if self.left is not None:
            self.left -= 1

    def before(self, owner: Any, *names: str) -> None:
        for name in names:
            setattr(owner, name, self._wrapped(getattr(owner, name)))

    def _wrapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.live()
            return original(*arguments, **named)

        return call


class KeptContent(RuleBasedStateMachine):
    """The model is a dictionary: id to body, metadata and end."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="stockade-content-"))
        shutil.copy(self.template, self.folder / "stockade.db")
        self.runner = asyncio.Runner()
        self.clock, self.lender, self.model = (
            ManualClock(),
            FakeLender(),
            dict[str, tuple[bytes, dict[str, Any], float | None]](),
        )
        self.number = self.boots = 0
        self.databases: list[Database] = []
        self.boot()

    def teardown(self) -> None:
        self.runner.close()
        for database in self.databases:
            database.close()
        shutil.rmtree(self.folder)

    @initialize()
    def boot(self) -> None:
        """A new process on what there is; the one before is no more."""
        self.boots += 1
        name = f"{account_content.this_process.__module__}/{self.boots}"
        self.names = name
        database = Database(f"sqlite:///{self.folder / 'stockade.db'}")
        self.databases.append(database)
        bodies = LocalBodies(self.folder / "content")
        self.mortal = Mortal()
        self.mortal.before(bodies, "_put", "_make_durable", "delete")
        self.kept = Kept(
            self.folder, database, bodies=bodies, clock=self.clock, lender=self.lender, max_account_bytes=SHARE
        )
        self.mortal.before(self.kept.contents.rows, "begin", "finish", "add", "change", "remove", "forget")

    def run(self, call: Callable[[], Any]) -> Any:
        """Do something in this process, with its name."""

        async def named() -> Any:
            account_content.this_process = lambda: f"here/{self.names}"  # type: ignore[assignment]
            rows.here, rows.has_ended = lambda: "here/", lambda writer: writer != f"here/{self.names}"  # type: ignore[assignment]
            return await call()

        return self.runner.run(named())

    def pieces(self, data: bytes) -> AsyncIterator[bytes]:
        async def give() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 300_000):
                self.mortal.live()
                yield data[start : start + 300_000]

        return give()

    def crashing(self, writes: int, call: Callable[[], Any]) -> bool:
        """Do something in a process that crashes at its n-th write; return whether it did."""
        self.mortal.left = writes
        try:
            self.run(call)
        except CrashError:
            pass
        finally:
            # Put off by the event loop, what a dead process would not do is done by nobody.
            crashed = self.mortal.dead
        if crashed:
            self.boot()
        else:
            self.mortal.left = None
        return crashed

    def make(self, size: int | None, lasts: float | None) -> tuple[str, bytes, Callable[[], Any], float | None]:
        self.number += 1
        item_id, body = f"file-{self.number}", os.urandom(size or 0)
        ends = self.clock.now() + lasts if lasts is not None else None
        content = self.kept.of()

        async def create() -> Item:
            source = self.pieces(body) if size is not None else None
            return await content.create("files", item_id, {"n": self.number}, source, status="s", expires_at=ends)

        return item_id, body, create, ends

    @rule(size=SIZES, lasts=st.none() | st.integers(1, 100))
    def create(self, size: int | None, lasts: float | None) -> None:
        item_id, body, create, ends = self.make(size, lasts)
        try:
            self.run(create)
        except Fault as fault:
            refused_for_its_size(fault)
        else:
            self.model[item_id] = (body, {"n": self.number}, ends)

    @rule(size=SIZES, writes=st.integers(1, 9))
    def crash_while_creating(self, size: int | None, writes: int) -> None:
        item_id, body, create, ends = self.make(size, None)
        try:
            self.crashing(writes, create)
        except Fault as fault:
            refused_for_its_size(fault)
            return
        self.settle(item_id, (body, {"n": self.number}, ends), None)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), crash=st.booleans(), writes=st.integers(1, 2))
    def change(self, data: st.DataObject, crash: bool, writes: int) -> None:
        item_id = data.draw(st.sampled_from(sorted(self.model)))
        self.number += 1
        body, before, ends = self.model[item_id]
        content, after = self.kept.of(), {"n": self.number}

        async def update() -> None:
            await content.update(await content.get("files", item_id), metadata=after)

        if crash and self.crashing(writes, update):
            self.settle(item_id, (body, after, ends), (body, before, ends))
        elif not crash:
            self.run(update)
            self.model[item_id] = (body, after, ends)
        else:
            self.model[item_id] = (body, after, ends)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), crash=st.booleans(), writes=st.integers(1, 3))
    def delete(self, data: st.DataObject, crash: bool, writes: int) -> None:
        item_id = data.draw(st.sampled_from(sorted(self.model)))
        content, before = self.kept.of(), self.model[item_id]

        async def delete() -> None:
            await content.delete(await content.get("files", item_id))

        if crash and self.crashing(writes, delete):
            self.settle(item_id, None, before)
        else:
            if not crash:
                self.run(delete)
            self.model.pop(item_id, None)

    def settle(self, item_id: str, after: Any, before: Any) -> None:
        """Take what a crash has left into the model: it is one of two things."""
        found = self.seen().get(item_id)
        assert found in ((after and after[:2]), (before and before[:2]))
        kept = after if found == (after and after[:2]) else before
        self.model.pop(item_id, None)
        if kept is not None:
            self.model[item_id] = kept

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.model = {name: one for name, one in self.model.items() if one[2] is None or one[2] > self.clock.now()}

    @rule()
    def sweep(self) -> None:
        async def sweep() -> None:
            sweeper = Sweeper(self.kept.contents.rows, self.clock)
            while due := sweeper.due():
                for piece in due:
                    await sweeper.sweep(piece, self.kept.contents.bodies)

        self.run(sweep)
        with_body = sum(1 for body, _, _ in self.model.values() if body)
        empty = len(self.kept.stored()) - with_body
        assert 0 <= empty <= len(self.model) - with_body, "something is left in the store"
        usage = self.run(lambda: self.kept.contents.usage(ACCOUNT))
        assert usage.items == len(self.model)
        assert sum(len(body) for body, _, _ in self.model.values()) <= usage.bytes <= SHARE

    def seen(self) -> dict[str, tuple[bytes, dict[str, Any]]]:
        async def look() -> dict[str, tuple[bytes, dict[str, Any]]]:
            content = self.kept.of()
            items = await content.find("files")
            return {item.id: (await whole(content.read(item)), dict(item.metadata)) for item in items}

        found: dict[str, tuple[bytes, dict[str, Any]]] = self.run(look)
        return found

    @invariant()
    def readers_see_what_was_acknowledged(self) -> None:
        assert self.seen() == {name: one[:2] for name, one in self.model.items()}


def refused_for_its_size(fault: Fault) -> None:
    assert fault.kind is FaultKind.LIMIT


def test_what_was_acknowledged_is_there_whatever_happens(
    migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, names in ((account_content, ("this_process",)), (rows, ("here", "has_ended"))):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    monkeypatch.setattr(KeptContent, "template", migrated_sqlite, raising=False)
    run_state_machine_as_test(
        KeptContent, settings=settings(max_examples=settings().max_examples // 20, stateful_step_count=15)
    )
