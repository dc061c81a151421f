"""The rows, on both databases."""

from __future__ import annotations

import threading

import pytest

from stockade.content import writer
from stockade.content.rows import PENDING_S, ROW_BYTES, ContentRows, NewItem, Purged, Usage, Written, remove_account
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.database import Database

SHARE = 10**9
NOW = 1_800_000_000.25


def new(item_id: str, account: str = "/a", *, process: str = "", expires_at: float | None = None) -> NewItem:
    return NewItem(account, "files", item_id, "s", item_id * 2, expires_at, process)


def written(size: int = 100) -> Written:
    return Written(b"sealed", "d1", size, "bv", "bd")


def keep(rows: ContentRows, item: NewItem, size: int = 100, share: int = SHARE) -> int:
    ordinal = rows.begin(item, f"xx/{item.id}", NOW)
    rows.finish(ordinal, item.account, written(size), NOW + 1, share)
    return ordinal


def test_an_item_is_seen_once_it_is_written_and_as_it_was_written(database: Database) -> None:
    rows = ContentRows(database)
    ordinal = rows.begin(new("f", expires_at=NOW + 10), "xx/f", NOW)
    assert rows.get("/a", "files", "f", NOW) is None
    assert rows.usage("/a") == Usage(0, 0)
    rows.finish(ordinal, "/a", written(), NOW + 1, SHARE)
    row = rows.get("/a", "files", "f", NOW)
    assert row is not None
    assert (row.ordinal, row.state, row.size, row.sealed, row.data_key) == (ordinal, "live", 100, b"sealed", "d1")
    assert (row.location, row.body_version, row.body_data_key) == ("xx/f", "bv", "bd")
    assert (row.created_at, row.updated_at, row.expires_at) == (NOW, NOW + 1, NOW + 10)
    assert rows.usage("/a") == Usage(100 + 6 + ROW_BYTES, 1)
    assert rows.get("/a", "files", "f", NOW + 10) is None


def test_what_was_given_up_cannot_be_finished(database: Database) -> None:
    rows = ContentRows(database)
    ordinal = rows.begin(new("f"), "xx/f", NOW)
    rows.remove([ordinal], NOW)
    with pytest.raises(Fault) as caught:
        rows.finish(ordinal, "/a", written(), NOW, SHARE)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    rows.forget([ordinal])
    assert rows.begin(new("f"), "xx/f", NOW) > ordinal, "an ordinal is given once"


def test_a_share_is_not_exceeded_by_any_number_at_once(database: Database) -> None:
    rows = ContentRows(database)
    share = 5 * (100 + 6 + ROW_BYTES)
    refused: list[FaultKind] = []

    def one(number: int) -> None:
        try:
            keep(rows, new(f"f{number}"), share=share)
        except Fault as fault:
            refused.append(fault.kind)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [FaultKind.LIMIT] * 3
    assert rows.usage("/a") == Usage(share, 5)


def test_one_of_two_changes_of_the_same_version_is_made(database: Database) -> None:
    rows = ContentRows(database)
    keep(rows, new("f"))
    row = rows.get("/a", "files", "f", NOW)
    assert row is not None
    rows.change(row, "v2", "done", None, Written(b"", "d2", 100, "bv", "bd"), NOW, SHARE)
    with pytest.raises(Fault) as caught:
        rows.change(row, "v3", "failed", None, Written(b"", "d2", 100, "bv", "bd"), NOW, SHARE)
    assert caught.value.kind is FaultKind.CONFLICT
    found = rows.get("/a", "files", "f", NOW)
    assert found is not None
    assert (found.version, found.status, found.charged) == ("v2", "done", 100 + ROW_BYTES)
    assert rows.usage("/a").bytes == found.charged


def test_what_is_over_is_found_in_order_and_nothing_else(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ContentRows(database)
    ended = writer.here() + "999999999@1" if writer.here() else ""
    stays = [keep(rows, new("live")), rows.begin(new("writing", process=writer.this_process()), "xx/w", NOW)]
    expired = keep(rows, new("expired", expires_at=NOW + 5))
    removed = keep(rows, new("removed"))
    rows.remove([removed], NOW)
    killed = [rows.begin(new("killed", process=ended), "xx/k", NOW)] if ended else []
    elsewhere = rows.begin(new("elsewhere", process="another machine's"), "xx/e", NOW)
    assert [row.ordinal for row in rows.over(NOW + 5, 10)] == [expired, removed, *killed]
    assert [row.ordinal for row in rows.over(NOW + 5, 1)] == [expired]
    assert [row.ordinal for row in rows.over(NOW + 5, 10, first=removed, last=removed)] == [removed]
    later = [row.ordinal for row in rows.over(NOW + PENDING_S + 1, 10)]
    assert later == sorted([stays[1], expired, removed, *killed, elsewhere])


def test_an_account_goes_with_all_it_keeps_in_somebody_elses_transaction(database: Database) -> None:
    rows = ContentRows(database)
    keep(rows, new("f1"), 100)
    keep(rows, new("f2"), 200)
    pending = rows.begin(new("f3"), "xx/f3", NOW)
    keep(rows, new("f1", account="/b"))
    with database.write() as transaction:
        assert remove_account(transaction.connection, "/A", NOW) == Purged(2, 300)
    assert rows.usage("/a") == Usage(0, 0)
    assert rows.get("/a", "files", "f1", NOW) is None
    assert rows.get("/b", "files", "f1", NOW) is not None
    with pytest.raises(Fault):
        rows.finish(pending, "/a", written(), NOW, SHARE)
    assert [row.id for row in rows.removing("/a", 0, 10)] == ["f1", "f2", "f3"]


@pytest.mark.parametrize("name", ["nul\0", "a/b", "", "x" * 201, "ä"], ids=["nul", "slash", "empty", "long", "umlaut"])
def test_what_is_no_id_is_neither_found_nor_taken(database: Database, name: str) -> None:
    rows = ContentRows(database)
    assert rows.get("/a", "files", name, NOW) is None
    assert rows.page("/a", "files", NOW, after=None, limit=1, order="asc", statuses=[name]) == []
    with pytest.raises(Fault) as caught:
        rows.begin(new(name), "xx/f", NOW)
    assert caught.value.kind is FaultKind.INVALID
