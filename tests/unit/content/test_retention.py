from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from stockade.content.retention import DAY_S, PIECE, Sweeper, expires_at
from stockade.jobs.job import Work
from stockade.jobs.work.retention import PLUGIN
from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Content, Settings
from stockade.storage.database import Database
from stockade.storage.tables import content_items
from tests.factories.audit import read_back
from tests.factories.contents import ACCOUNT, Kept, pieces
from tests.factories.jobs import InProcessRun, workplace


@pytest.fixture
def database(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Database]:
    shutil.copy(migrated_sqlite, tmp_path / "stockade.db")
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    yield database
    database.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def kept(tmp_path: Path, database: Database, clock: ManualClock) -> Kept:
    return Kept(tmp_path, database, clock=clock)


@pytest.fixture
def sweeper(kept: Kept, clock: ManualClock) -> Sweeper:
    return Sweeper(kept.contents.rows, clock)


async def sweep_all(kept: Kept, sweeper: Sweeper) -> int:
    count = 0
    while due := sweeper.due():
        for piece in due:
            count += await sweeper.sweep(piece, kept.contents.bodies)
    return count


def audit_lines(folder: Path) -> list[dict[str, Any]]:
    return read_back(Settings(data_dir=folder))


def test_each_kind_is_kept_as_long_as_the_settings_say() -> None:
    content = Content(files_days=0, batches_days=1, responses_days=2, completions_days=3)
    assert expires_at("files", content, 100.0) is None
    assert expires_at("batches", content, 100.0) == 100.0 + DAY_S
    assert expires_at("responses", content, 100.0) == 100.0 + 2 * DAY_S
    assert expires_at("completions", content, 100.0) == 100.0 + 3 * DAY_S


async def test_the_work_removes_what_has_expired_and_nothing_else(
    tmp_path: Path, kept: Kept, clock: ManualClock, database: Database
) -> None:
    assert isinstance(PLUGIN, Work)
    place = workplace(tmp_path, database, clock=clock, settings=Settings(data_dir=tmp_path))
    await kept.of().create("files", "stays", {}, pieces(b"x"))
    await kept.of().create("files", "goes", {}, pieces(b"y"), expires_at=clock.now() + 60)
    await kept.of().create("responses", "goes-too", {}, expires_at=clock.now() + 60)
    assert list(PLUGIN.due(place)) == []
    clock.advance(61)
    (piece,) = PLUGIN.due(place)
    await PLUGIN.do(place, InProcessRun(piece))
    await PLUGIN.do(place, InProcessRun(piece))
    assert list(PLUGIN.due(place)) == []
    lines = audit_lines(tmp_path)
    assert [(line["operation"], line["resource"], line["because"]) for line in lines] == [
        ("Stockade.Content/expired/delete", ACCOUNT, {"files": "1", "responses": "1"})
    ]
    assert len(kept.stored()) == 1
    assert [item.id for item in await kept.of().find("files")] == ["stays"]
    assert (await kept.contents.usage(ACCOUNT)).items == 1


async def test_a_clock_that_jumps_back_brings_nothing_back_and_takes_nothing(
    kept: Kept, sweeper: Sweeper, clock: ManualClock
) -> None:
    now = clock.now()
    await kept.of().create("files", "file-1", {}, pieces(b"x"), expires_at=now + 60)
    clock.jump(-10 * DAY_S)
    assert await sweep_all(kept, sweeper) == 0
    clock.jump(20 * DAY_S)
    assert await sweep_all(kept, sweeper) == 1
    clock.jump(-10 * DAY_S)
    assert await kept.of().find("files") == []
    assert kept.stored() == []


async def test_an_upload_under_way_is_left_alone_whatever_the_clock_did_for_a_day(
    kept: Kept, sweeper: Sweeper, clock: ManualClock
) -> None:
    swept: list[str] = []

    async def body():
        yield b"one"
        clock.jump(DAY_S / 2)
        swept.extend(sweeper.due())
        yield b"two"

    await kept.of().create("files", "file-1", {}, body())
    assert swept == []
    assert len(await kept.of().find("files")) == 1


async def test_an_upload_that_was_given_up_meanwhile_fails_and_leaves_nothing(
    kept: Kept, sweeper: Sweeper, clock: ManualClock
) -> None:
    async def body():
        yield b"one"
        clock.jump(2 * DAY_S)
        assert await sweep_all(kept, sweeper) == 1
        yield b"two"

    with pytest.raises(Fault) as caught:
        await kept.of().create("files", "file-1", {}, body())
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert kept.stored() == []
    assert await kept.of().find("files") == []


async def test_what_the_store_did_not_remove_is_removed_later(
    kept: Kept, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [await kept.of().create("files", f"file-{number}", {}, pieces(b"x")) for number in range(3)]
    bodies = kept.contents.bodies

    async def away(location: str) -> None:
        raise Fault(FaultKind.UNAVAILABLE, "The store does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(bodies, "delete", away)
        await kept.of().delete(made[0])
        assert await kept.contents.purge_account(ACCOUNT) == (2, 2)
        assert len(kept.stored()) == 3
        assert await kept.of().find("files") == []
        (piece,) = sweeper.due()
        with pytest.raises(Fault) as caught:
            await sweeper.sweep(piece, bodies)
        assert caught.value.kind is FaultKind.UNAVAILABLE
        assert sweeper.due() == [piece], "the same piece until it is done"
    assert await sweep_all(kept, sweeper) == 3
    assert kept.stored() == []


async def test_pieces_are_bounded(kept: Kept, sweeper: Sweeper, database: Database) -> None:
    now = kept.clock.now()
    row = {"account": ACCOUNT, "kind": "responses", "state": "live", "status": "", "size": 0, "charged": 0}
    row |= {"created_at": now, "updated_at": now, "expires_at": now - 1, "data_key": "", "sealed": b"", "location": ""}
    row |= {"body_version": "", "body_data_key": "", "writer": ""}
    rows = [{**row, "id": f"r{number}", "version": f"{number:032x}"} for number in range(PIECE + 5)]
    with database.bookkeeping() as connection:
        connection.execute(insert(content_items), rows)
    first, second = sweeper.due()
    assert await sweeper.sweep(second, kept.contents.bodies) == 5
    assert sweeper.due() == [first]
    assert await sweeper.sweep(first, kept.contents.bodies) == PIECE
