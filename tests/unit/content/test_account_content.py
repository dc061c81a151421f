from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from stockade.content.format import FIRST_BYTES, REST_BYTES
from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.database import Database
from stockade.storage.tables import content_items
from tests.factories.contents import ACCOUNT, Kept, pieces, whole

MIB = 1024 * 1024


@pytest.fixture
def database(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Database]:
    shutil.copy(migrated_sqlite, tmp_path / "stockade.db")
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    yield database
    database.close()


@pytest.fixture
def kept(tmp_path: Path, database: Database) -> Kept:
    return Kept(tmp_path, database)


async def test_what_was_kept_is_read_in_whole_and_in_part(tmp_path: Path, database_url: str) -> None:
    database = Database(database_url)
    kept = Kept(tmp_path, database)
    body = os.urandom(5 * MIB + 17)
    made = await kept.of().create("files", "file-1", {"filename": "q.jsonl"}, pieces(body), status="processed")
    assert (made.size, made.status, made.path) == (len(body), "processed", "files/file-1")
    found = await kept.of().get("files", "file-1")
    assert found == made
    assert await whole(kept.of().read(found)) == body
    for start, end in [
        (0, 1),
        (FIRST_BYTES - 1, FIRST_BYTES + 1),
        (FIRST_BYTES + REST_BYTES, None),
        (len(body) - 1, 10**12),
        (7, 7),
    ]:
        assert await whole(kept.of().read(found, start, end)) == body[start:end], (start, end)
    assert [item.id for item in await kept.of().find("files")] == ["file-1"]
    await kept.of().delete(await kept.of().update(found, status="s", metadata={}))
    assert kept.stored() == []
    database.close()


@pytest.mark.parametrize("size", [0, 1, FIRST_BYTES, FIRST_BYTES + 1, FIRST_BYTES + REST_BYTES])
async def test_a_body_of_any_size_comes_back(kept: Kept, size: int) -> None:
    body = os.urandom(size)
    await kept.of().create("files", "file-1", {}, pieces(body))
    assert await whole(kept.of().read(await kept.of().get("files", "file-1"))) == body


async def test_metadata_is_read_when_the_body_has_ended(kept: Kept) -> None:
    metadata = {"filename": "a"}

    async def body() -> AsyncIterator[bytes]:
        yield b"body"
        metadata["purpose"] = "batch"

    made = await kept.of().create("files", "file-1", metadata, body())
    assert made.metadata == {"filename": "a", "purpose": "batch"}
    assert await kept.of().get("files", "file-1") == made


async def test_names_and_bodies_are_in_no_file(kept: Kept) -> None:
    await kept.of().create("files", "file-1", {"filename": "canary-name"}, pieces(b"canary-body" * 100))
    on_disk = b"".join(path.read_bytes() for path in kept.folder.rglob("*") if path.is_file())
    assert b"canary" not in on_disk


async def test_an_id_is_given_once(kept: Kept) -> None:
    await kept.of().create("files", "file-1", {"n": 1}, pieces(b"one"))
    with pytest.raises(Fault) as caught:
        await kept.of().create("files", "file-1", {"n": 2}, pieces(b"two"))
    assert caught.value.kind is FaultKind.CONFLICT
    await kept.of().create("batches", "file-1", {"n": 3})
    await kept.of("/other").create("files", "file-1", {"n": 4})
    assert (await kept.of().get("files", "file-1")).metadata == {"n": 1}
    assert len(kept.stored()) == 1


async def test_an_update_keeps_the_body_and_wants_the_version_that_was_read(kept: Kept) -> None:
    made = await kept.of().create(
        "files", "file-1", {"n": 1}, pieces(b"body"), status="pending", expires_at=9_000_000_000
    )
    kept.lender.newest = "d00000000002"
    changed = await kept.of().update(made, status="processed")
    assert (changed.metadata, changed.status, changed.expires_at) == ({"n": 1}, "processed", 9e9)
    assert changed.version != made.version
    assert (made.data_key, changed.data_key) == ("d00000000001", "d00000000002")
    with pytest.raises(Fault) as caught:
        await kept.of().update(made, metadata={"n": 2})
    assert caught.value.kind is FaultKind.CONFLICT
    again = await kept.of().update(changed, metadata={"n": 3})
    assert await kept.of().get("files", "file-1") == again
    assert await whole(kept.of().read(made)) == b"body"


async def test_pages_follow_the_order_of_creation_whatever_the_clock_does(tmp_path: Path, database: Database) -> None:
    clock = ManualClock()
    kept = Kept(tmp_path, database, clock=clock)
    for number in range(5):
        await kept.of().create("responses", f"r{number}", {"n": number}, status="even" if number % 2 == 0 else "odd")
        clock.jump(-60)
    kept.lender.asked.clear()
    first = await kept.of().find("responses", limit=2)
    assert [item.id for item in first] == ["r4", "r3"]
    assert [item.metadata["n"] for item in first] == [4, 3]
    assert len(kept.lender.asked) == 1
    assert [item.id for item in await kept.of().find("responses", after="r3")] == ["r2", "r1", "r0"]
    assert [item.id for item in await kept.of().find("responses", after="r1", order="asc", statuses=["even"])] == [
        "r2",
        "r4",
    ]
    assert await kept.of().find("files") == []
    for unknown in ("r9", "nul\0", "x" * 300):
        with pytest.raises(Fault) as caught:
            await kept.of().find("responses", after=unknown)
        assert caught.value.kind is FaultKind.INVALID


async def test_what_has_expired_is_not_there(tmp_path: Path, database: Database) -> None:
    clock = ManualClock()
    kept = Kept(tmp_path, database, clock=clock)
    made = await kept.of().create("files", "file-1", {}, pieces(b"x"), expires_at=clock.now() + 60)
    clock.advance(60)
    for attempt in (kept.of().get("files", "file-1"), whole(kept.of().read(made)), kept.of().update(made, status="s")):
        with pytest.raises(Fault) as caught:
            await attempt
        assert caught.value.kind is FaultKind.NOT_FOUND
    assert await kept.of().find("files") == []


async def test_deleted_twice_is_deleted_once_and_leaves_nothing(kept: Kept) -> None:
    made = await kept.of().create("files", "file-1", {}, pieces(b"x" * MIB))
    assert (await kept.contents.usage(ACCOUNT)).items == 1
    await kept.of().delete(made)
    await kept.of().delete(made)
    assert kept.stored() == []
    assert await kept.contents.usage(ACCOUNT) == (0, 0)
    with pytest.raises(Fault) as caught:
        await kept.of().get("files", "file-1")
    assert caught.value.kind is FaultKind.NOT_FOUND
    await kept.of().create("files", "file-1", {}, pieces(b"another"))


async def test_without_its_key_nothing_is_kept_read_or_changed(kept: Kept) -> None:
    made = await kept.of().create("files", "file-1", {}, pieces(b"x"))
    kept.lender.refuse()
    for attempt in (
        kept.of().create("files", "file-2", {}, pieces(b"y")),
        kept.of().get("files", "file-1"),
        kept.of().find("files"),
        whole(kept.of().read(made)),
        kept.of().update(made, status="s"),
    ):
        with pytest.raises(Fault) as caught:
            await attempt
        assert caught.value.kind is FaultKind.CUSTOMER_KEY_UNAVAILABLE
    kept.lender.refusal = None
    assert await whole(kept.of().read(made)) == b"x"
    assert [item.id for item in await kept.of().find("files")] == ["file-1"]


async def test_a_download_is_cut_when_its_lease_is_not_renewed(tmp_path: Path, database: Database) -> None:
    clock = ManualClock()
    kept = Kept(tmp_path, database, clock=clock)
    made = await kept.of().create("files", "file-1", {}, pieces(os.urandom(12 * MIB)))
    kept.lender.asked.clear()
    got = 0

    async def download() -> None:
        nonlocal got
        async for piece in kept.of().read(made):
            got += len(piece)
            clock.advance(1)
            if len(kept.lender.asked) == 2:
                kept.lender.refuse()

    with pytest.raises(Fault) as caught:
        await download()
    assert caught.value.kind is FaultKind.CUSTOMER_KEY_UNAVAILABLE
    assert 0 < got < 12 * MIB
    assert len(kept.lender.asked) == 3


async def test_an_upload_is_cut_when_its_lease_is_not_renewed(tmp_path: Path, database: Database) -> None:
    clock = ManualClock()
    kept = Kept(tmp_path, database, clock=clock)

    async def slow():
        for _ in range(12):
            clock.advance(1)
            if len(kept.lender.asked) == 2:
                kept.lender.refuse(FaultKind.PERMISSION_DENIED)
            yield bytes(MIB)

    with pytest.raises(Fault) as caught:
        await kept.of().create("files", "file-1", {}, slow())
    assert caught.value.kind is FaultKind.PERMISSION_DENIED
    assert kept.stored() == []
    kept.lender.refusal = None
    assert await kept.of().find("files") == []
    await kept.of().create("files", "file-1", {}, pieces(b"again"))


async def test_a_broken_upload_leaves_nothing(kept: Kept) -> None:
    async def broken():
        for _ in range(12):
            yield bytes(MIB)
        raise Fault(FaultKind.TIMEOUT, "The caller was too slow.")

    with pytest.raises(Fault, match="too slow"):
        await kept.of().create("files", "file-1", {}, broken())
    assert kept.stored() == []
    assert await kept.contents.usage(ACCOUNT) == (0, 0)


async def test_shares_and_sizes_are_held(tmp_path: Path, database: Database) -> None:
    kept = Kept(tmp_path, database, max_file_bytes=MIB, max_account_bytes=3 * MIB)
    with pytest.raises(Fault) as caught:
        await kept.of().create("files", "file-0", {}, pieces(bytes(MIB + 1)))
    assert caught.value.kind is FaultKind.TOO_LARGE
    for number in (1, 2):
        await kept.of().create("files", f"file-{number}", {}, pieces(bytes(MIB)))
    for body in (pieces(bytes(MIB)), pieces(bytes(MIB - 2500))):
        with pytest.raises(Fault) as caught:
            await kept.of().create("files", "file-3", {}, body)
        assert caught.value.kind is FaultKind.LIMIT
    with pytest.raises(Fault) as caught:
        await kept.of().create("responses", "r", {"text": "x" * (MIB - 100)})
    assert caught.value.kind is FaultKind.LIMIT
    assert len(kept.stored()) == 2
    await kept.of().delete(await kept.of().get("files", "file-1"))
    await kept.of().create("files", "file-3", {}, pieces(bytes(MIB)))


async def test_a_row_that_was_changed_by_hand_is_not_believed(kept: Kept, database: Database) -> None:
    await kept.of().create("batches", "b", {"n": 1}, status="failed")
    with database.bookkeeping() as connection:
        connection.execute(update(content_items).values(status="completed"))
    with pytest.raises(Fault) as caught:
        await kept.of().get("batches", "b")
    assert caught.value.kind is FaultKind.INTERNAL


@pytest.mark.parametrize("how", ["cut", "longer", "gone", "changed"])
async def test_a_body_that_was_changed_is_not_given_out(kept: Kept, how: str) -> None:
    made = await kept.of().create("files", "file-1", {}, pieces(os.urandom(3 * MIB)))
    (file,) = kept.stored()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    changed = {"cut": data[:-9], "longer": data + b"x", "changed": data}
    file.unlink()
    if how in changed:
        file.write_bytes(changed[how])
    with pytest.raises(Fault) as caught:
        await whole(kept.of().read(made))
    assert caught.value.kind is FaultKind.INTERNAL


async def test_bodies_do_not_stand_in_for_one_another(kept: Kept) -> None:
    one = await kept.of().create("files", "file-1", {}, pieces(b"one"))
    await kept.of().create("files", "file-2", {}, pieces(b"two"))
    first, second = kept.stored()
    one_data, two_data = first.read_bytes(), second.read_bytes()
    first.write_bytes(two_data)
    second.write_bytes(one_data)
    with pytest.raises(Fault) as caught:
        await whole(kept.of().read(one))
    assert caught.value.kind is FaultKind.INTERNAL


async def test_purging_an_account_takes_everything_and_nothing_else(kept: Kept) -> None:
    for number in range(3):
        await kept.of().create("files", f"file-{number}", {}, pieces(bytes(1000)))
    await kept.of("/other").create("files", "file-1", {}, pieces(b"stays"))
    kept.lender.refuse()
    assert await kept.contents.purge_account(ACCOUNT.upper()) == (3, 3000)
    assert len(kept.stored()) == 1
    assert await kept.contents.usage(ACCOUNT) == (0, 0)
    kept.lender.refusal = None
    assert await kept.of().find("files") == []
    assert [item.id for item in await kept.of("/other").find("files")] == ["file-1"]


async def test_a_part_of_a_body_takes_no_more_of_the_store_than_the_segments_it_lies_in(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 20 * MIB
    made = await kept.of().create("files", "file-1", {}, pieces(bytes(size)))
    bodies, touched = kept.contents.bodies, 0
    fetch = bodies.get

    async def counted(location: str, start: int, end: int, stored: int) -> memoryview:
        nonlocal touched
        touched += end - start
        return await fetch(location, start, end, stored)

    monkeypatch.setattr(bodies, "get", counted)
    for start in range(0, size - MIB, 1_234_567):
        touched = 0
        assert await whole(kept.of().read(made, start, start + MIB)) == bytes(MIB)
        assert touched <= 2_000_000, start


async def test_reading_that_is_given_up_lets_go_of_everything(kept: Kept) -> None:
    made = await kept.of().create("files", "file-1", {}, pieces(bytes(20 * MIB)))
    stream = kept.of().read(made)
    await anext(stream)
    await stream.aclose()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others or {asyncio.create_task(asyncio.sleep(0))})
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_deleted_while_it_is_read_ends_as_not_there(kept: Kept) -> None:
    made = await kept.of().create("files", "file-1", {}, pieces(bytes(20 * MIB)))
    stream = kept.of().read(made)
    await anext(stream)
    await kept.of().delete(made)
    with pytest.raises(Fault) as caught:
        await whole(stream)
    assert caught.value.kind is FaultKind.NOT_FOUND
