"""Who uses which key, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from stockade.gateway import usage as usage_module
from stockade.gateway.usage import OTHERS, KeyUsage
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import KeyCredential
from stockade.storage.database import Database
from stockade.storage.tables import key_callers

KEY = KeyCredential("/accounts/a", "Key1", b"d" * 32)
OTHER = KeyCredential("/accounts/a", "Key2", b"e" * 32)


@pytest.fixture
def usage(database: Database) -> Iterator[KeyUsage]:
    counted = KeyUsage(database)
    yield counted
    counted.close()


def rows(database: Database) -> dict[tuple[str, str, str], tuple[int, float, float]]:
    with database.read() as reader:
        found = reader.connection.execute(select(key_callers)).all()
    return {(row.digest[:2], row.address, row.client): (row.count, row.first_seen, row.last_seen) for row in found}


def test_calls_are_counted_per_key_address_and_client_with_first_and_last(usage: KeyUsage, database: Database) -> None:
    for now, credential, address, client in (
        (5.0, KEY, "1.1.1.1", "a"),
        (6.0, KEY, "1.1.1.1", "a"),
        (7.0, KEY, "1.1.1.1", "b"),
        (8.0, OTHER, "::1", ""),
    ):
        usage.note(credential, address, client, now)
    usage._flush()
    usage.note(KEY, "1.1.1.1", "a", 9.0)
    usage._flush()
    assert rows(database) == {
        ("64", "1.1.1.1", "a"): (3, 5.0, 9.0),
        ("64", "1.1.1.1", "b"): (1, 7.0, 7.0),
        ("65", "::1", ""): (1, 8.0, 8.0),
    }


def test_closing_writes_what_is_pending(database: Database) -> None:
    usage = KeyUsage(database)
    usage.start()
    usage.note(KEY, "a", "b", 1.0)
    usage.close()
    assert sum(count for count, _, _ in rows(database).values()) == 1


def test_callers_of_one_key_are_bounded_and_none_goes_uncounted(
    usage: KeyUsage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "CALLERS_PER_KEY", 10)
    for number in range(50):
        usage.note(KEY, f"10.0.0.{number}", "c", float(number))
    usage._flush()
    usage.note(KEY, "10.0.0.0", "c", 100.0)
    usage.note(KEY, "10.9.9.9", "c", 100.0)
    usage._flush()
    found = rows(database)
    assert len(found) == 10 + 1
    assert found["64", *OTHERS][0] == 41
    assert found["64", "10.0.0.0", "c"] == (2, 0.0, 100.0)


def test_pending_callers_are_bounded_and_none_goes_uncounted(
    usage: KeyUsage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "PENDING_LIMIT", 10)
    for number in range(50):
        usage.note(KEY, str(number), "c", 1.0)
    assert len(usage._pending) == 11
    usage._flush()
    assert sum(count for count, _, _ in rows(database).values()) == 50


@pytest.mark.parametrize("failure", [Fault(FaultKind.UNAVAILABLE, "gone"), ValueError("a bug")])
def test_counts_wait_for_a_database_that_comes_back(
    usage: KeyUsage,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
) -> None:
    usage.note(KEY, "a", "c", 5.0)
    with monkeypatch.context() as patch:

        def lost(*_: object) -> None:
            usage.note(KEY, "a", "c", 7.0)  # one more call while the first is being written
            raise failure

        patch.setattr(Database, "bookkeeping", lost)
        usage._flush()
    usage.note(KEY, "a", "c", 6.0)
    usage._flush()
    assert rows(database) == {("64", "a", "c"): (3, 5.0, 7.0)}
    assert "tried again" in caplog.text


def test_two_workers_add_up(database: Database) -> None:
    def work(_: int) -> None:
        usage = KeyUsage(database)
        for _ in range(50):
            usage.note(KEY, "a", "c", 1.0)
        usage.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert rows(database)["64", "a", "c"][0] == 200
