"""The audit log: nothing taken is lost, nothing half is written, and whoever cannot record is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stockade.audit import log as log_module
from stockade.audit.log import AuditLog
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import AuditRecord


def record(number: int = 1, **changes: Any) -> AuditRecord:
    values: dict[str, Any] = {
        "time": 1.5,
        "id": str(number),
        "category": "RequestResponse",
        "phase": "decision",
        "operation": "Op",
    }
    return AuditRecord(**{**values, **changes})


def lines(folder: Path) -> list[dict[str, Any]]:
    files = [*sorted(folder.glob("audit-*.jsonl")), folder / "audit.jsonl"]
    return [json.loads(line) for file in files if file.exists() for line in file.read_bytes().split(b"\n") if line]


def test_everything_taken_is_written_by_the_time_it_is_closed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit")
    log.start()
    for number in range(5000):
        log.record(record(number))
    log.close()
    assert [line["id"] for line in lines(tmp_path / "audit")] == [str(number) for number in range(5000)]


def test_closing_writes_what_was_taken_without_a_thread(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.record(record())
    log.close()
    assert len(lines(tmp_path)) == 1


def test_line_is_camel_case_json_without_empty_members(tmp_path: Path) -> None:
    AuditLog(tmp_path).commit(record(caller_address="::1", decision="deny", because={"a": 'x"\n'}))
    assert lines(tmp_path) == [
        {"time": 1.5, "id": "1", "category": "RequestResponse", "phase": "decision", "operation": "Op", "callerAddress": "::1", "decision": "deny", "because": {"a": 'x"\n'}}  # noqa: E501
    ]  # fmt: skip
    assert (tmp_path / "audit.jsonl").read_bytes().count(b"\n") == 1


def test_files_and_folder_are_private(tmp_path: Path) -> None:
    AuditLog(tmp_path / "audit").commit(record())
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "audit", *(tmp_path / "audit").iterdir())}
    assert modes == {"audit": 0o700, "audit.jsonl": 0o600, "lock": 0o600}


def test_committed_record_is_in_the_file_when_commit_returns(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    for number in range(3):
        log.commit(record(number))
        assert len(lines(tmp_path)) == number + 1


def test_full_file_is_rotated_and_only_so_many_are_kept(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, rotate_bytes=150, keep_files=3)
    (tmp_path / "audit-notes.jsonl").write_text("an operator's own file")
    for number in range(20):
        log.commit(record(number))
    names = sorted(path.name for path in tmp_path.glob("audit*.jsonl"))
    assert len(names) == 3 + 1 + 1
    assert (tmp_path / "audit-notes.jsonl").exists()
    (tmp_path / "audit-notes.jsonl").unlink()
    kept = [int(line["id"]) for line in lines(tmp_path)]
    assert kept == list(range(kept[0], 20)), "the newest, in order, without a gap"


def test_record_that_is_no_unicode_is_written_escaped_and_stops_nothing(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.record(record(1, client="bad \ud800 agent"))
    log.record(record(2))
    log.close()
    assert [line["id"] for line in lines(tmp_path)] == ["1", "2"]
    assert log.healthy


def test_half_line_of_a_killed_writer_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_bytes(b'{"time":1,"id":"whole"}\n{"time":2,"id":"ha')
    AuditLog(tmp_path).commit(record(3))
    written = (tmp_path / "audit.jsonl").read_bytes().split(b"\n")
    assert json.loads(written[0])["id"] == "whole"
    assert json.loads(written[2])["id"] == "3"


def test_log_that_cannot_write_is_unhealthy_until_it_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(tmp_path)
    (tmp_path / "audit.jsonl").mkdir()
    for number in range(3):
        log.record(record(number))
    log._drain()
    assert not log.healthy
    with pytest.raises(Fault) as caught:
        log.commit(record(9))
    assert (caught.value.kind, caught.value.retry_after_s) == (FaultKind.UNAVAILABLE, 5)
    (tmp_path / "audit.jsonl").rmdir()
    log._drain()
    assert log.healthy
    assert [line["id"] for line in lines(tmp_path)] == ["0", "1", "2"]
    assert "cannot be written" in caplog.text
    assert "can be written again" in caplog.text


def test_whatever_goes_wrong_in_writing_is_survived_and_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path)
    log.record(record())
    with monkeypatch.context() as patch:

        def broken(*_: object, **__: object) -> None:
            raise ValueError("a bug")

        patch.setattr(AuditLog, "_append", broken)
        log._drain()
    assert not log.healthy
    log._drain()
    assert log.healthy
    assert len(lines(tmp_path)) == 1


def test_queue_is_bounded_refusals_sooner_than_what_was_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log_module, "QUEUE_LIMIT", 10)
    monkeypatch.setattr(log_module, "RESERVE", 5)
    log = AuditLog(tmp_path)
    for number in range(9):
        log.record(record(number))
    assert log.healthy
    for _ in range(50):
        log.record(record(decision="deny"))
    assert not log.healthy
    assert len(log._queue) == 10
    for _ in range(50):
        log.record(record(decision="allow"))
    assert len(log._queue) == 15
    log._drain()
    assert log.healthy
    assert len(lines(tmp_path)) == 15
    assert "not recorded" in caplog.text


def test_closing_with_records_that_cannot_be_written_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog(tmp_path)
    (tmp_path / "audit.jsonl").mkdir()
    log.record(record())
    log.close()
    assert "could not be written" in caplog.text
