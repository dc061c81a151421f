"""Pages, tokens and limits of a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.audit import search as searching
from stockade.audit.criteria import Indexed, Wanted
from stockade.audit.search import records_of, search
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import AuditRecord
from tests.factories.memory_log import MemoryLog


def record(number: int, **more: object) -> AuditRecord:
    named = {"category": "Audit", "phase": "outcome", "operation": "A.B/c/write", "id": f"id{number}", **more}
    return AuditRecord(time=float(number), **named)  # type: ignore[arg-type]


def log_of(count: int) -> MemoryLog:
    return MemoryLog("log", [record(number) for number in range(count)])


def test_pages_are_whole_and_end(tmp_path: Path) -> None:
    log = log_of(5)
    first = search(log, tmp_path, Wanted(), limit=2)
    assert [one.index for one in first.found] == [4, 3]
    log.add(record(5))  # what comes meanwhile is on no later page
    second = search(log, tmp_path, Wanted(), limit=2, token=first.token)
    third = search(log, tmp_path, Wanted(), limit=2, token=second.token)
    assert [one.index for one in (*second.found, *third.found)] == [2, 1, 0]
    assert third.token == ""
    assert third.found[0].line == log.lines[0]


@pytest.mark.parametrize("token", ["x", "-1", "1.5", "9" * 30, "٣", " 1"])
def test_a_token_of_somebody_elses_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(Fault) as caught:
        search(log_of(1), tmp_path, Wanted(), token=token)
    assert caught.value.kind is FaultKind.INVALID


def test_a_log_far_behind_asks_to_be_asked_again(tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        search(log_of(3), tmp_path, Wanted(), within_s=0.0)
    assert (caught.value.kind, caught.value.retry_after_s) == (FaultKind.UNAVAILABLE, 1)
    assert "0 of 3" in caught.value.message


def test_looking_has_an_end_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MAX_LOOKED_AT", 4)
    log, asked, pages, token = log_of(10), [], 0, ""

    def also(one: Indexed) -> bool:
        asked.append(one.id)
        return one.id == "id1"

    while True:
        page = search(log, tmp_path, Wanted(), limit=1, token=token, also=also)
        pages, token = pages + 1, page.token
        if page.found:
            assert page.found[0].index == 1
        if not token:
            break
    assert pages == 3
    assert asked == [f"id{number}" for number in range(9, -1, -1)]


def test_all_records_of_a_request_oldest_first(tmp_path: Path) -> None:
    log = MemoryLog("log", [record(1, id="X"), record(2), record(3, id="x"), record(4, id="x2")])
    assert [one.index for one in records_of(log, tmp_path, "x")] == [0, 2]
