"""A node's place among others: one process has it, and it goes with the process's connection."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from stockade.jobs import nodes as module
from stockade.jobs.nodes import ALONE, Nodes, node_name
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.database import Database
from tests.factories.databases import PostgreSQL


class Unfinished:
    """Stands for the library: nodes that have left something, and what is taken over from them."""

    def __init__(self, *nodes: str) -> None:
        self.left, self.taken = set(nodes), asyncio.Event()

    async def nodes(self) -> set[str]:
        return self.left

    async def take_over(self, nodes: Any) -> None:
        self.left -= set(nodes)
        self.taken.set()


def test_alone_a_node_has_one_name_and_no_place_to_take(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    assert node_name(database, tmp_path) == ALONE
    Nodes(database, ALONE).enter()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.postgresql
async def test_a_place_is_taken_once_and_free_again_when_it_is_left(
    tmp_path: Path, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTER_S", 1)
    database = Database(postgresql.create())
    try:
        own = node_name(database, tmp_path)
        assert node_name(database, tmp_path) == own
        assert (tmp_path / "jobs.node").stat().st_mode & 0o077 == 0
        first, second, other = Nodes(database, own), Nodes(database, own), Nodes(database, "other", look_s=0.01)
        first.enter()
        with pytest.raises(Fault) as refused:
            second.enter()
        assert refused.value.kind is FaultKind.UNAVAILABLE
        other.enter()

        unfinished = Unfinished(own, "other")
        watching = asyncio.create_task(other.watch(unfinished))  # type: ignore[arg-type]
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(unfinished.taken.wait(), 0.2)
        assert unfinished.left == {own, "other"}
        first.leave()
        await asyncio.wait_for(unfinished.taken.wait(), 5)
        assert unfinished.left == {"other"}
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        second.enter()
        second.leave()
        other.leave()
    finally:
        database.close()
