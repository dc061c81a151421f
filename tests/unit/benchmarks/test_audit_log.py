"""What is measured of the audit log is a log, and its rows say what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import audit_log
from stockade.audit.store import Logs
from tests.factories.logs import LOG


def test_every_row_is_measured_on_a_log_that_is_one(tmp_path: Path) -> None:
    lines = audit_log.records(4_500)
    rows = audit_log.appending(tmp_path, lines)
    reader = Logs(tmp_path).reader(LOG)
    assert [line for _, line in reader.records(0)] == lines
    assert 450 < sum(map(len, lines)) / len(lines) < 500
    rows += audit_log.verifying(tmp_path)
    hashes = audit_log.only_hashes(tmp_path / "logs" / "platform", 3_000)
    assert hashes.size == 3_000
    rows += audit_log.proving(hashes, 30)
    assert len({row.name for row in rows}) == len(rows) == 12
    assert sum(row.aim is not None for row in rows) == 7


@pytest.mark.parametrize(("value", "said"), [(1.0, "met (3)"), (3.5, "missed (3)")])
def test_a_row_says_whether_its_aim_is_met(value: float, said: str) -> None:
    assert str(audit_log.Row("x", value, "ms", 3.0)).endswith(said)
