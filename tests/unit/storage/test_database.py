"""Transactions, generations and what is found below an id: the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from stockade.kernel.clock import ManualClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage import database as database_module
from stockade.storage.database import Database
from stockade.storage.documents import Document, State
from stockade.storage.tables import counters, key_callers

A = "/subscriptions/s/a"


def put(database: Database, document_id: str = A, **body: Any) -> Document:
    with database.write() as writer:
        return writer.put(document_id, "T/x", body)


def get(database: Database, document_id: str = A, *states: State) -> Document | None:
    with database.read() as reader:
        return reader.get(document_id, *states)


def test_document_is_found_whatever_the_case_of_its_id(database: Database) -> None:
    stored = put(database, "/Subscriptions/S/A", name="Näme")
    assert stored.id == A
    assert stored.type == "t/x"
    found = get(database, A.upper())
    assert found == stored
    assert found is not None and found.name == "Näme"


AWKWARD = {
    "nul": "a\x00b",
    "emoji": "\U0001f600",
    "quote": "'\"\\",
    "empty": "",
    "big": 2**62,
    "float": 0.1,
    "deep": {"b": [None, True, {"c": []}]},
    "long": "x" * 100_000,
    "é\x00": 1,
}


def test_body_comes_back_as_it_was_put_and_in_its_order(database: Database) -> None:
    stored = put(database, **AWKWARD)
    assert stored.body == AWKWARD
    assert list(stored.body) == list(AWKWARD)


def test_private_part_stays_unless_it_is_given(database: Database) -> None:
    with database.write() as writer:
        writer.put(A, "t", {"v": 1}, {"secret": 1})
        assert writer.put(A, "t", {"v": 2}).private == {"secret": 1}
        assert writer.put(A, "t", {"v": 3}, {}).private == {}


def test_ordinal_stays_and_etag_and_times_move(database_url: str) -> None:
    clock = ManualClock()
    database = Database(database_url, clock=clock)
    first = put(database, v=1)
    clock.advance(5)
    second = put(database, v=2)
    assert second.ordinal == first.ordinal
    assert second.etag != first.etag
    assert second.generation == first.generation + 1
    assert (second.created_at, second.updated_at) == (first.created_at, first.created_at + 5)
    assert put(database, A + "2").ordinal != first.ordinal
    database.close()


def test_write_that_fails_changes_nothing_and_publishes_nothing(database_url: str) -> None:
    published: list[int] = []
    database = Database(database_url, published=published.append)
    before = put(database, v=1)

    def fail() -> None:
        with database.write() as writer:
            writer.put(A, "t", {"v": 2})
            writer.put(A + "2", "t", {})
            raise KeyError("half way")

    with pytest.raises(KeyError):
        fail()
    assert get(database) == before
    assert get(database, A + "2") is None
    with database.read() as reader:
        assert reader.generation() == before.generation
    assert published == [before.generation]
    database.close()


def test_one_transaction_is_one_generation(database: Database) -> None:
    with database.write() as writer:
        documents = [writer.put(f"{A}{number}", "t", {}) for number in range(3)]
    assert len({document.generation for document in documents}) == 1
    with database.read() as reader:
        assert [document.id for document in reader.changed_since(documents[0].generation - 1)] == [
            d.id for d in documents
        ]
        assert not list(reader.changed_since(documents[0].generation))


def test_changes_come_in_the_order_of_their_commits_removals_included(database: Database) -> None:
    start = put(database, A + "0").generation - 1
    for number in range(1, 5):
        put(database, f"{A}{number}")
    with database.write() as writer:
        document = writer.get(A + "0")
        assert document is not None
        writer.remove(document)
    with database.read() as reader:
        changed = list(reader.changed_since(start))
    assert [document.id for document in changed] == [A + "1", A + "2", A + "3", A + "4", A + "0"]
    assert changed[-1].state is State.GONE
    assert (changed[-1].body, changed[-1].private) == ({}, {})


def test_many_changes_are_read_in_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "PAGE", 7)
    with database.write() as writer:
        for number in range(50):
            writer.put(f"{A}{number:02}", "t", {})
    with database.read() as reader:
        assert len(list(reader.changed_since(0))) == 50


def test_writers_at_the_same_time_get_generations_without_gap_or_repeat(database: Database) -> None:
    start = put(database).generation
    line = threading.Barrier(8)

    def write(number: int) -> list[int]:
        line.wait()
        return [put(database, f"{A}{number}", turn=turn).generation for turn in range(5)]

    with ThreadPoolExecutor(8) as pool:
        own = list(pool.map(write, range(8)))
    assert all(numbers == sorted(numbers) for numbers in own)
    assert sorted(number for numbers in own for number in numbers) == list(range(start + 1, start + 41))


def test_increments_at_the_same_time_lose_none(database: Database) -> None:
    put(database, count=0)

    def increment(_: int) -> None:
        with database.write() as writer:
            document = writer.get(A)
            assert document is not None
            writer.put(A, "t", {"count": document.body["count"] + 1})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(increment, range(30)))
    found = get(database)
    assert found is not None and found.body["count"] == 30


def test_stale_etag_is_refused_and_a_fresh_one_is_not(database: Database) -> None:
    first = put(database, v=1)
    second = put(database, v=2)
    for etag in (first.etag, "", second.etag.upper() + "x"):
        with pytest.raises(Fault) as caught, database.write() as writer:
            writer.put(A, "t", {"v": 3}, if_match=etag)
        assert caught.value.kind is FaultKind.PRECONDITION_FAILED
    with database.write() as writer:
        third = writer.put(A, "t", {"v": 3}, if_match=second.etag)
        writer.put(A, "t", {"v": 4}, if_match="*")
    assert third.body == {"v": 3}


def test_star_asks_that_the_document_is_there(database: Database) -> None:
    document = put(database)
    with database.write() as writer:
        writer.remove(document)
    for missing in (A, A + "-never"):
        with pytest.raises(Fault) as caught, database.write() as writer:
            writer.put(missing, "t", {}, if_match="*")
        assert caught.value.kind is FaultKind.PRECONDITION_FAILED


def test_document_made_again_after_its_removal_is_new(database_url: str) -> None:
    clock = ManualClock()
    database = Database(database_url, clock=clock)
    with database.write() as writer:
        first = writer.put(A, "t", {"v": 1}, {"secret": 1})
        writer.remove(first)
    clock.advance(10)
    again = put(database, v=2)
    assert (again.state, again.private, again.created_at) == (State.LIVE, {}, first.created_at + 10)
    database.close()


def test_soft_deleted_document_keeps_everything_and_is_out_of_sight(database: Database) -> None:
    document = put(database, v=1)
    with database.write() as writer:
        writer.move(document, State.SOFT_DELETED, purge_at=123.5)
    assert get(database) is None
    hidden = get(database, A, State.SOFT_DELETED)
    assert hidden is not None
    assert (hidden.body, hidden.purge_at) == ({"v": 1}, 123.5)
    with database.read() as reader:
        assert reader.list("t/x") == []
        assert [found.id for found in reader.list("T/X", state=State.SOFT_DELETED)] == [A]


BELOW = ["/p/a/x", "/p/a/x/y", "/p/a/-", "/p/a/z z", "/p/a/~", "/p/a/é", "/p/a/0"]
BESIDE = ["/p/a", "/p/a-b", "/p/a.b", "/p/a0", "/p/ab/x", "/p/a b/x", "/p", "/q/a/x", "/p/a-b/x", "/p/a!/x"]


def test_what_is_below_an_id_is_found_and_nothing_beside_it(database: Database) -> None:
    with database.write() as writer:
        for document_id in BELOW + BESIDE:
            writer.put(document_id, "t", {})
    with database.read() as reader:
        for prefix in ("/p/a", "/P/A/"):
            assert [d.id for d in reader.below(prefix)] == sorted(BELOW)
            assert [d.id for d in reader.list("t", under=prefix)] == sorted(BELOW)
        assert [d.id for d in reader.list("t", limit=3)] == sorted(BELOW + BESIDE)[:3]
        assert reader.below("/p/a/x/y") == []


def test_list_keeps_to_its_subscription_and_group(database: Database) -> None:
    with database.write() as writer:
        for name, subscription, group in (("1", "S1", "G1"), ("2", "S1", "G2"), ("3", "S2", "G1")):
            writer.put("/" + name, "t", {}, subscription=subscription, resource_group=group)
        writer.put("/4", "u", {}, subscription="s1", resource_group="g1")
    with database.read() as reader:
        assert [d.id for d in reader.list("T", subscription="s1")] == ["/1", "/2"]
        assert [d.id for d in reader.list("t", subscription="S1", resource_group="G1")] == ["/1"]


def test_reader_sees_one_state_while_others_write(database: Database) -> None:
    put(database, v=1)
    with database.read() as reader:
        before = reader.get(A), reader.generation(), [d.etag for d in reader.changed_since(0)]
        put(database, v=2)
        put(database, A + "2")
        assert (reader.get(A), reader.generation(), [d.etag for d in reader.changed_since(0)]) == before


def test_generation_is_published_after_the_commit_and_before_the_caller_goes_on(database_url: str) -> None:
    other = Database(database_url)
    seen: list[tuple[int, int]] = []

    def look(generation: int) -> None:
        with other.read() as reader:
            seen.append((generation, reader.generation()))

    database = Database(database_url, published=look)
    generation = put(database).generation
    assert seen == [(generation, generation)]
    database.close()
    other.close()


def test_bookkeeping_commits_whole_and_moves_no_generation(database: Database) -> None:
    generation = put(database).generation
    row = {
        "digest": "d",
        "address": "a",
        "client": "c",
        "account": "x",
        "count": 1,
        "first_seen": 0.0,
        "last_seen": 0.0,
    }
    with database.bookkeeping() as connection:
        connection.execute(insert(key_callers).values(**row))

    def twice() -> None:
        with database.bookkeeping() as connection:
            connection.execute(insert(key_callers).values({**row, "digest": "e"}))
            connection.execute(insert(key_callers).values(**row))

    with pytest.raises(IntegrityError):
        twice()
    with database.read() as reader:
        assert reader.generation() == generation
        assert reader.connection.execute(select(key_callers.c.digest)).scalars().all() == ["d"]


def test_migration_may_be_repeated(empty_database_url: str) -> None:
    for _ in range(2):
        database = Database(empty_database_url)
        database.migrate()
        put(database)
        database.close()
    database = Database(empty_database_url)
    with database.read() as reader:
        assert reader.generation() == 2
        assert reader.connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["0003"]
    database.close()


def test_tables_are_what_the_migrations_make(empty_database_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(empty_database_url)
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, counters.metadata) == []
    database.close()


def test_damaged_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"this is no database" * 1000)
    for database in (Database(f"sqlite:///{tmp_path / 'bad.db'}"), Database(f"sqlite:///{tmp_path}/none/at/all.db")):
        with pytest.raises(Fault) as caught:
            put(database)
        assert caught.value.kind is FaultKind.UNAVAILABLE
        with pytest.raises(Fault) as caught:
            get(database)
        assert caught.value.kind is FaultKind.UNAVAILABLE


def test_writer_that_waits_too_long_for_another_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    database.migrate()
    with database.write():
        with pytest.raises(Fault) as caught:
            put(database)
        assert (caught.value.kind, caught.value.retry_after_s) == (FaultKind.UNAVAILABLE, 1)
        assert get(database) is None, "readers are not held up"


@pytest.mark.postgresql
def test_pool_without_a_free_connection_is_unavailable(postgresql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    database = Database(postgresql.create())
    held = [database.engine.connect() for _ in range(16)]
    with pytest.raises(Fault) as caught:
        get(database)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    for connection in held:
        connection.close()
    database.close()


def test_what_is_removed_is_gone_from_the_disk(tmp_path: Path) -> None:
    store = Database(f"sqlite:///{tmp_path / 'a.db'}")
    store.migrate()
    canaries = [f"canary-{number}-{'x' * 3000}".encode() for number in range(4)]
    with store.write() as writer:
        documents = [
            writer.put(f"{A}{number}", "T/x", {}, {"secret": canary.decode()}) for number, canary in enumerate(canaries)
        ]
    on_disk = [file for file in tmp_path.iterdir() if canaries[0] in file.read_bytes()]
    assert on_disk, "the test would see them"
    with store.write() as writer:
        for document in documents[:2]:
            writer.remove(document)
        writer.put(documents[2].id, "T/x", {}, {})
    store.forget_deleted()
    store.close()
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert [canary in left for canary in canaries] == [False, False, False, True]
