"""The index is a cache: deleted, damaged, of another version or another log's, it is made anew, and several may have it open."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from stockade.audit import index as indexes
from stockade.audit.criteria import Wanted
from stockade.audit.index import LogIndex
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import AuditRecord
from tests.factories.memory_log import MemoryLog


def record(number: int, **more: object) -> AuditRecord:
    named = {"category": "Audit", "phase": "outcome", "operation": f"A.B/c{number}/write", **more}
    return AuditRecord(time=float(number), id=f"id{number}", **named)  # type: ignore[arg-type]


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog("log", [record(number) for number in range(10)])


def places(index: LogIndex, wanted: Wanted | None = None) -> list[int]:
    return [place for place, stands in index.places(wanted or Wanted(), 2**62) if stands]


def caught_up(folder: Path, log: MemoryLog, wanted: Wanted | None = None) -> list[int]:
    with LogIndex(folder, log) as index:
        assert index.catch_up()
        return places(index, wanted)


def test_only_its_user_reads_the_file(tmp_path: Path, log: MemoryLog) -> None:
    folder = tmp_path / "index"
    caught_up(folder, log)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_what_is_new_is_added_and_nothing_read_twice(tmp_path: Path, log: MemoryLog) -> None:
    assert caught_up(tmp_path, log) == list(range(9, -1, -1))
    read: list[int] = []
    reading = log.records
    log.records = lambda start, end=None: (read.append(one[0]) or one for one in reading(start, end))  # type: ignore[method-assign,func-returns-value]
    log.add(record(10), record(11))
    assert caught_up(tmp_path, log)[:3] == [11, 10, 9]
    assert read == [9, 10, 11]  # 9: is it the log that was indexed?


def test_little_time_goes_on_where_it_stopped(tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "BATCH", 4)
    with LogIndex(tmp_path, log) as index:
        told: list[tuple[int, int]] = []
        assert not index.catch_up(0.0)
        assert index.indexed == 0
        assert index.catch_up(None, lambda done, size: told.append((done, size)))
        assert told == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize("damage", ["deleted", "damaged", "another version", "another program's"])
def test_what_cannot_be_used_is_made_anew(tmp_path: Path, log: MemoryLog, damage: str) -> None:
    caught_up(tmp_path, log)
    path = tmp_path / "log.db"
    if damage == "deleted":
        path.unlink()
    elif damage == "damaged":
        path.write_bytes(b"not a database, whatever it was" * 200)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("DELETE FROM records")
            connection.execute(
                "PRAGMA user_version = 99" if damage == "another version" else "PRAGMA application_id = 7"
            )
        connection.close()
    assert caught_up(tmp_path, log) == list(range(9, -1, -1))


def test_damage_within_is_mended_by_asking_again(tmp_path: Path) -> None:
    log = MemoryLog("log", [record(number) for number in range(3000)])
    caught_up(tmp_path, log)
    path = tmp_path / "log.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(Fault) as caught:
        caught_up(tmp_path, log)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert len(caught_up(tmp_path, log)) == 3000


@pytest.mark.parametrize("size", [4, 10, 30])
def test_another_log_of_the_name_is_indexed_anew(tmp_path: Path, log: MemoryLog, size: int) -> None:
    caught_up(tmp_path, log)
    other = MemoryLog("log", [record(number, principal="other") for number in range(size)])
    assert caught_up(tmp_path, other, Wanted(who="other")) == list(range(size - 1, -1, -1))


def test_what_is_pruned_is_forgotten_names_included(
    tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "BATCH", 3)
    monkeypatch.setattr(indexes, "BLOCK_BITS", 1)
    caught_up(tmp_path, log)
    log.prune(8)
    assert caught_up(tmp_path, log) == [9, 8]
    with sqlite3.connect(tmp_path / "log.db") as connection:
        names = {text for (text,) in connection.execute("SELECT text FROM names WHERE text LIKE 'a.b/%'")}
        assert names == {"a.b/c8/write", "a.b/c9/write"}
        assert connection.execute("SELECT min(block) FROM blocks").fetchone() == (4,)
    connection.close()
    log.prune(10)
    assert caught_up(tmp_path, log) == []
    log.add(record(10))
    assert caught_up(tmp_path, log) == [10]


def test_several_index_one_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexes, "BATCH", 50)
    log = MemoryLog("log", [record(number) for number in range(2000)])
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(caught_up(tmp_path, log))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(1999, -1, -1))] * 4


def test_whoever_writes_is_not_waited_for_long(tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    caught_up(tmp_path, log)
    log.add(record(10))
    monkeypatch.setattr(indexes, "BUSY_S", 0.05)
    with LogIndex(tmp_path, log) as index:
        other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Fault) as caught:
            index.catch_up()
        assert (caught.value.kind, caught.value.retry_after_s) == (FaultKind.UNAVAILABLE, 1)
        other.execute("ROLLBACK")
        other.close()
        assert index.catch_up()


@pytest.mark.parametrize(
    ("wanted", "by"),
    [
        (Wanted(decision_id="id1", decision="deny"), "by_id"),
        (Wanted(who="p", resource="/a", operation="x"), "by_who"),
        (Wanted(resource="/a", decision="deny"), "by_resource"),
        (Wanted(decision="deny", category="Audit"), "by_denied"),
        (Wanted(activity=True), "by_activity"),
        (Wanted(activity=True, correlation="c"), "by_correlation"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_the_rarest_is_looked_up(tmp_path: Path, wanted: Wanted, by: str) -> None:
    row = record(1, principal="p", resource="/a/b", decision="deny", correlation="c", operation="x")
    with LogIndex(tmp_path, MemoryLog("log", [row])) as index:
        index.catch_up()
        condition = index._condition(wanted)
        assert condition is not None
        plan = index._connection.execute(f"EXPLAIN QUERY PLAN {condition.query}", (0, 9, *condition.values)).fetchall()
        assert f"USING INDEX {by}" in str(plan) or f"USING COVERING INDEX {by}" in str(plan)
        assert "SCAN records" not in str(plan) or by in ("by_denied", "by_activity")
