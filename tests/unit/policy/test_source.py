"""The snapshot keeps in step with the documents, and is never used once it is known to be old."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.compile import Compiler
from stockade.policy.source import SnapshotSource
from stockade.storage.database import Database
from stockade.storage.generation import GenerationCell


class World:
    def __init__(self, url: str, folder: Path) -> None:
        self.cell = GenerationCell(folder / "run" / "generation")
        self.database = Database(url, published=self.cell.publish)
        self.reads = 0

    def source(self) -> SnapshotSource:
        def entries(document):  # type: ignore[no-untyped-def]
            self.reads += 1
            return [("value", document.id, document.body["v"])]

        return SnapshotSource(self.database, Compiler({"t": entries}), self.cell, [("base", 1, "built in")])

    def put(self, name: str, value: int) -> None:
        with self.database.write() as writer:
            writer.put("/" + name, "t", {"v": value})


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    made = World(database_url, tmp_path)
    yield made
    made.database.close()


def test_first_snapshot_holds_everything_even_when_nothing_was_published(world: World) -> None:
    world.put("a", 1)
    world.cell.restart(0)
    source = world.source()
    assert source.current().only("value", "/a") == 1
    assert source.current().only("base", 1) == "built in"


def test_commit_is_in_the_very_next_snapshot_of_every_source(world: World) -> None:
    sources = [world.source() for _ in range(3)]
    for value in range(5):
        world.put("a", value)
        assert [source.current().only("value", "/a") for source in sources] == [value] * 3
    with world.database.write() as writer:
        document = writer.get("/a")
        assert document is not None
        writer.remove(document)
    assert [source.current().only("value", "/a") for source in sources] == [None] * 3


def test_only_what_changed_is_read(world: World) -> None:
    for number in range(5):
        world.put(str(number), 0)
    source = world.source()
    source.current()
    world.reads = 0
    world.put("3", 1)
    for _ in range(10):
        source.current()
    assert world.reads == 1


def test_snapshot_is_the_same_object_while_nothing_changes(world: World) -> None:
    source = world.source()
    assert source.current() is source.current()


def test_old_snapshot_is_refused_once_a_newer_one_is_known(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    source = world.source()
    world.put("a", 1)
    source.current()
    with monkeypatch.context() as patch:

        def lost(*_: object) -> None:
            raise Fault(FaultKind.UNAVAILABLE, "gone")

        patch.setattr(Database, "read", lost)
        assert source.current().only("value", "/a") == 1, "nothing newer is known"
        world.put("a", 2)
        for _ in range(3):
            with pytest.raises(Fault) as caught:
                source.current()
            assert caught.value.kind is FaultKind.UNAVAILABLE
    assert source.current().only("value", "/a") == 2


def test_restored_backup_is_followed_back(migrated_sqlite: Path, tmp_path: Path) -> None:
    file = tmp_path / "stockade.db"
    shutil.copy(migrated_sqlite, file)
    world = World(f"sqlite:///{file}", tmp_path)
    world.put("a", 1)
    world.database.engine.dispose()
    shutil.copy(file, tmp_path / "backup")
    world.put("a", 2)
    world.put("b", 2)
    source = world.source()
    assert source.current().only("value", "/b") == 2
    for leftover in tmp_path.glob("stockade.db*"):
        leftover.unlink()
    shutil.copy(tmp_path / "backup", file)
    world.cell.restart(1)
    assert (source.current().only("value", "/a"), source.current().only("value", "/b")) == (1, None)
    assert source.current().only("base", 1) == "built in"
    world.put("c", 3)
    assert source.current().only("value", "/c") == 3
