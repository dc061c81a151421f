"""Kept content whose writers are killed, whose disk is full, whose database is lost: all there, refused, or not there."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stockade.content.retention import Sweeper
from stockade.content.rows import PENDING_S, ROW_BYTES
from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.database import Database
from tests.factories.contents import Kept, pieces, whole
from tests.factories.killed_writes import ACTIONS, BODY, KILLED, SMALL
from tests.outside import ROOT

if TYPE_CHECKING:
    from tests.factories.databases import PostgreSQL

MIB = 1024 * 1024
OLD = ["old", {"name": "old"}, len(SMALL), sha256(SMALL).hexdigest()]
NEW = {
    "create": ["processed", {"name": "new"}, len(BODY), sha256(BODY).hexdigest()],
    "create_small": ["processed", {"name": "new"}, len(SMALL), sha256(SMALL).hexdigest()],
    "create_without_body": ["processed", {"name": "new"}, 0, sha256(b"").hexdigest()],
}
DONE: dict[str, dict[str, Any]] = {
    **{name: {"old": OLD, "new": new} for name, new in NEW.items()},
    "update": {"old": ["changed", {"name": "changed"}, *OLD[2:]]},
    "delete": {},
    "purge": {},
}
"""What is there when an action was done; what was there before is `OLD` alone."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> list[dict[str, Any]]:
    """What there was after every kill."""
    memory = Path("/dev/shm")  # a kill asks nothing of a disk
    folder = Path(tempfile.mkdtemp(dir=memory)) if memory.is_dir() else tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.factories.killed_writes", str(migrated_sqlite), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("action", ACTIONS)
def test_killed_at_any_write_it_is_all_there_or_not_there(action: str, killed: list[dict[str, Any]]) -> None:
    kills = [kill for kill in killed if kill["action"] == action]
    assert len(kills) > 1, "nothing was killed"
    assert [kill["ended"] for kill in kills] == [-KILLED] * (len(kills) - 1) + [0]
    whole, states = DONE[action], []
    for kill in kills:
        assert kill["looked"] == 0, kill
        assert kill["before"] in ({"old": OLD}, whole), kill
        assert kill["after"] == kill["before"], kill
        bodies = sum(1 for item in kill["after"].values() if item[2])
        assert kill["files"] == bodies, f"something is left in the store: {kill}"
        assert sorted(row[0] for row in kill["rows"]) == sorted(kill["after"]), kill
        assert {row[1] for row in kill["rows"]} <= {"live"}
        assert kill["usage"] == [sum(row[2] for row in kill["rows"]), len(kill["rows"])], kill
        assert all(row[2] > ROW_BYTES for row in kill["rows"])
        states.append(kill["after"] == whole)
    assert states == sorted(states), "what was done once stays done"
    assert states[-1]
    assert not states[0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here (root can): {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_refuses_and_keeps_what_is_there(
    small_disk: Path, tmp_path: Path, migrated_sqlite: Path
) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "stockade.db")
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    kept = Kept(small_disk, database)
    await kept.of().create("files", "old", {}, pieces(bytes(MIB)))
    for size in (20 * MIB, 7 * MIB + 900_000):
        with pytest.raises(Fault) as caught:
            await kept.of().create("files", "new", {}, pieces(bytes(size)))
        assert caught.value.kind is FaultKind.UNAVAILABLE
        assert len(kept.stored()) == 1
    old = await kept.of().get("files", "old")
    assert await whole(kept.of().read(old)) == bytes(MIB)
    await kept.of().create("files", "new", {}, pieces(bytes(2 * MIB)))
    assert [item.id for item in await kept.of().find("files")] == ["new", "old"]
    database.close()


async def test_a_full_disk_of_the_database_refuses_and_keeps_what_is_there(
    small_disk: Path, tmp_path: Path, migrated_sqlite: Path
) -> None:
    shutil.copy(migrated_sqlite, small_disk / "stockade.db")
    database = Database(f"sqlite:///{small_disk / 'stockade.db'}")
    kept = Kept(tmp_path, database)
    made = 0

    async def fill() -> None:
        nonlocal made
        for made in range(100):
            await kept.of().create("responses", f"r{made}", {"text": "x" * 500_000})

    with pytest.raises(Fault) as caught:
        await fill()
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert made > 3
    with pytest.raises(Fault) as caught:
        await kept.of().create("files", "f", {"text": "x" * 500_000}, pieces(b"x"))
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert len(await kept.of().find("responses")) == made
    database.close()


@pytest.mark.postgresql
async def test_an_upload_whose_database_is_lost_is_refused_and_swept_up(
    postgresql: PostgreSQL, migrated_postgresql: str, tmp_path: Path
) -> None:
    database = Database(postgresql.create(template=migrated_postgresql))
    clock = ManualClock()
    kept = Kept(tmp_path, database, clock=clock)
    await kept.of().create("files", "old", {}, pieces(b"old"))

    async def body() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        await asyncio.to_thread(postgresql.stop)
        yield bytes(MIB)

    try:
        with pytest.raises(Fault) as caught:
            await kept.of().create("files", "new", {}, body())
        assert caught.value.kind is FaultKind.UNAVAILABLE
        with pytest.raises(Fault) as caught:
            await kept.of().get("files", "old")
        assert caught.value.kind is FaultKind.UNAVAILABLE
    finally:
        postgresql.start()
    assert [item.id for item in await kept.of().find("files")] == ["old"]
    clock.advance(PENDING_S + 1)
    sweeper = Sweeper(kept.contents.rows, clock)
    (piece,) = sweeper.due()
    assert await sweeper.sweep(piece, kept.contents.bodies) == 1
    assert len(kept.stored()) == 1
    assert await whole(kept.of().read(await kept.of().get("files", "old"))) == b"old"
    database.close()


async def test_an_upload_whose_caller_goes_leaves_nothing(tmp_path: Path, migrated_sqlite: Path) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "stockade.db")
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    kept = Kept(tmp_path, database)
    for size in (0, 1000, 20 * MIB):
        waits = asyncio.Event()

        async def body(size: int = size, waits: asyncio.Event = waits) -> AsyncIterator[bytes]:
            async for piece in pieces(bytes(size)):
                yield piece
            waits.set()
            await asyncio.Event().wait()

        uploading = asyncio.create_task(kept.of().create("files", "new", {}, body()))
        await waits.wait()
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert kept.stored() == []
        assert kept.contents.rows.over(9e12, 10) == []
    database.close()
