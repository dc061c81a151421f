"""Reading the audit log while others write, rotate and break off in the middle of a line."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec

from stockade.audit.mirror import FILE_NAME, Mirror
from stockade.cli.audit import describe, explain, find, records
from stockade.kernel.record import AuditRecord
from tests.factories.audit import MemoryLogs


def record(number: int) -> AuditRecord:
    return AuditRecord(
        time=1_800_000_000.0 + number, id=str(number), category="Audit", phase="decision", operation=f"op{number}"
    )


def copy(tmp_path: Path, rotate_bytes: int = 1 << 20) -> Callable[[AuditRecord], None]:
    """Return what adds a record to the plain copy."""
    logs = MemoryLogs()
    mirror = Mirror(tmp_path, tmp_path, logs.writer, lambda: (), rotate_bytes=rotate_bytes, keep_files=20)
    mirror.open({})
    numbers = itertools.count()

    def add(one: AuditRecord) -> None:
        mirror.hand("platform", next(numbers), [msgspec.json.encode(one)])
        assert mirror.write_out()

    return add


def test_newest_records_come_oldest_first(tmp_path: Path) -> None:
    add = copy(tmp_path)
    for number in range(5):
        add(record(number))
    found = list(records(tmp_path / FILE_NAME, 2, follow=False))
    assert [b'"op3"' in line or b'"op4"' in line for line in found] == [True, True]
    assert list(records(tmp_path / FILE_NAME, 0, follow=False)) == []


def test_following_survives_rotation_and_half_lines(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    add = copy(tmp_path, rotate_bytes=300)
    add(record(0))
    written = itertools.count(1)

    def half_a_line() -> None:
        with path.open("ab") as file:
            file.write(b'{"half":')

    def rest_of_it() -> None:
        with path.open("ab") as file:
            file.write(b'"whole"}\n')

    steps: list[Callable[[], None]] = [
        half_a_line,
        rest_of_it,
        *(lambda: add(record(next(written))) for _ in range(6)),
    ]

    def pause(_: float) -> None:
        if steps:
            steps.pop(0)()

    following = records(path, 10, follow=True, pause=pause)
    found = list(itertools.islice(following, 8))
    following.close()
    assert b'{"half":"whole"}' in found
    operations = [line for line in found if b'"op' in line]
    assert [f'"op{number}"'.encode() in line for number, line in enumerate(operations)] == [True] * 7
    assert len(list(tmp_path.glob("audit-*.jsonl"))) >= 1, "the file was rotated meanwhile"


def test_a_record_is_one_readable_line() -> None:
    line = (
        b'{"time":1800000000,"id":"1","category":"RequestResponse","phase":"decision","operation":"ChatCompletions_Create",'
        b'"resource":"/subscriptions/s/accounts/demo","callerAddress":"127.0.0.1","credential":"Key1","decision":"deny","rule":"network",'
        b'"status":403}'
    )
    assert describe(line) == (
        "2027-01-15 08:00:00  deny     403  ChatCompletions_Create  on demo  by Key1 from 127.0.0.1  network"
    )
    for strange in (b"no json", b"[]", b"{}", b'{"time":"x"}', b'{"time":1e300}', b"\xff"):
        assert describe(strange)


def test_every_record_of_a_decision_is_found_across_rotated_files(tmp_path: Path) -> None:
    add = copy(tmp_path, rotate_bytes=300)
    for number in (1, 2, 1, 12, 3, 1):
        add(record(number))
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b'no record, though it says "id":"1"\n{"id":"1","time":"soon"}\n{"id":"1"')
    assert len(list(tmp_path.glob("audit-*.jsonl"))) > 0
    assert [found["operation"] for found in find(tmp_path, "1")] == ["op1"] * 3
    assert find(tmp_path, "4") == find(tmp_path, "") == find(tmp_path, "1" * 1000) == []


def test_a_decision_is_explained_with_its_rule_and_facts() -> None:
    shown = list(
        explain(
            {"time": 0, "id": "1", "decision": "deny", "rule": "role", "status": 401, "because": {"principal": "p"}}
        )
    )
    assert shown == [
        ("Time", "1970-01-01 00:00:00.000+00:00"),
        ("Decision", "deny"),
        ("Rule", "role"),
        ("Status", "401"),
        ("  principal", "p"),
    ]


def test_what_the_network_let_in_is_told() -> None:
    record_of_bypass = {
        "time": 0,
        "id": "1",
        "decision": "allow",
        "callerAddress": "192.0.2.1",
        "network": "bypass AzureServices: /r",
    }
    assert ("Let in by", "bypass AzureServices: /r") in list(explain(record_of_bypass))
