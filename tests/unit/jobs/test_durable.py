"""What the library remembers, and for how long; what it is not told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.jobs import durable as durable_module
from stockade.jobs.durable import Durable, Memory
from stockade.kernel.clock import SystemClock
from stockade.storage.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    yield database
    database.close()


async def test_a_piece_is_begun_once_until_it_is_forgotten(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable_module, "POLL_S", 0.01)
    monkeypatch.setenv("DBOS_CONDUCTOR_KEY", "somebody's")
    done: asyncio.Queue[str] = asyncio.Queue()

    async def do(name: str, piece: str, memory: Memory) -> dict[str, str]:
        done.put_nowait(f"{name}/{piece}")
        return {"ended": "done"}

    durable = Durable(database, tmp_path, "one")
    durable.open(do)
    try:
        assert not [name for name in os.environ if name.startswith("DBOS_")]
        assert await durable.start("trial", "a")
        assert await done.get() == "trial/a"
        assert not await durable.start("trial", "a")
        before = SystemClock().now()
        assert await durable.forget(before - 60) == 0
        while not await durable.forget(before + 60):  # noqa: ASYNC110 - its end is written a moment after it
            await asyncio.sleep(0.01)
        assert await durable.start("trial", "a")
        assert await done.get() == "trial/a"
    finally:
        await durable.close()
