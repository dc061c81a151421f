"""All logs by name: names are checked, few are open at once, and those that rest go on when they are asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.audit.ledger import PLATFORM_LOG, LogReader, LogWriter
from stockade.audit.store import Logs
from stockade.kernel.faults import Fault, FaultKind
from tests.factories.logs import LOG, lines


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_log_that_has_not_begun_is_empty(tmp_path: Path) -> None:
    reader: LogReader = Logs(tmp_path).reader(PLATFORM_LOG)
    assert (reader.size, reader.first, list(reader.records(0)), reader.consistency(0, 0)) == (0, 0, [], [])
    assert Logs(tmp_path).names() == []
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "platform/..", "Platform", LOG.upper().replace("1", "A"), LOG + "0", "a" * 36, "platform\n"],
)
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    for ask in (Logs(tmp_path).reader, Logs(tmp_path).writer):
        with pytest.raises(Fault) as raised:
            ask(name)
        assert raised.value.kind is FaultKind.INVALID
    assert list(tmp_path.iterdir()) == []


def test_few_are_open_at_once_and_all_go_on(tmp_path: Path) -> None:
    logs = Logs(tmp_path, open_at_once=3)
    names = [f"{number:08d}-0000-0000-0000-000000000000" for number in range(8)]
    before = open_files()
    for turn in range(3):
        for name in names:
            writer: LogWriter = logs.writer(name)
            assert writer.append(lines(2, 2 * turn)) == 2 * turn
            writer.sync()
    assert open_files() <= before + 3 * 4
    assert logs.names() == names
    assert all(list(logs.reader(name).records(0)) == list(enumerate(lines(6))) for name in names)
    logs.close()
    assert open_files() == before


def test_one_that_is_not_synced_does_not_rest(tmp_path: Path) -> None:
    logs = Logs(tmp_path, open_at_once=1)
    first = logs.writer(LOG)
    first.append(lines(3))
    logs.writer(PLATFORM_LOG)
    first.sync()
    assert list(first.records(0)) == list(enumerate(lines(3)))
