"""Taking spools in: every record once and in order, whatever was killed when; and what cannot be written now, later."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.audit import sequencer as sequencer_module
from stockade.audit import spool_files
from stockade.audit.journal import Journal
from stockade.audit.ledger import PLATFORM_LOG, Placed
from stockade.audit.sequencer import NotAlone, Sequencer
from stockade.audit.spool import Spool
from stockade.kernel.record import AuditRecord
from stockade.settings import Audit, Settings
from tests.factories.audit import MemoryLog, MemoryLogs, record

SUB = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"


class KilledHere(BaseException):
    """Stands for the end of the process."""


class Desk:
    """A data directory, its logs (which outlive sequencers), and one sequencer at a time."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, audit=Audit(buffer_bytes=640 * 1024))
        self.logs, self.handed = MemoryLogs(), list[tuple[str, int, bytes]]()
        self.sequencer = self.new()

    def new(self, **options: Any) -> Sequencer:
        def hand(name: str, index: int, lines: Any) -> None:
            self.handed += [(name, index + number, line) for number, line in enumerate(lines)]

        self.sequencer = Sequencer(self.settings.audit_dir, self.logs.writer, hand=hand, **options)
        self.sequencer.open()
        return self.sequencer

    def again(self, **options: Any) -> Sequencer:
        """Return what follows when the sequencer was killed."""
        self.sequencer.close()
        for log in self.logs.values():
            log._unsynced = []
        return self.new(**options)

    def spool(self) -> Spool:
        return Spool(self.settings)

    @property
    def folder(self) -> Path:
        return spool_files.folder_of(self.settings.audit_dir)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def of(name: str, subscription: str = SUB) -> AuditRecord:
    return record(name, resource=f"/subscriptions/{subscription}/x")


def test_records_of_all_processes_come_to_their_logs_in_order(desk: Desk) -> None:
    one, two = desk.spool(), desk.spool()
    for number in range(40):
        one.record(of(f"one-{number}"))
        two.record(of(f"two-{number}", SUB if number % 2 else OTHER))
    one.commit(record("vault", resource="https://vault.example"))
    two.flush()
    assert desk.sequencer.take_in() == 81
    assert [name for name in desk.logs[SUB].ids() if name.startswith("one")] == [
        f"one-{number}" for number in range(40)
    ]
    assert desk.logs[OTHER].ids() == [f"two-{number}" for number in range(0, 40, 2)]
    assert desk.logs[PLATFORM_LOG].ids() == ["vault"]
    assert desk.sequencer.take_in() == 0
    assert sorted(desk.handed) == sorted(
        (name, index, line) for name, log in desk.logs.items() for index, line in enumerate(log.lines)
    )


def test_log_is_not_made_for_a_subscription_that_is_not_there(desk: Desk) -> None:
    sequencer, spool = desk.again(known=lambda name: name == SUB), desk.spool()
    spool.commit(of("known"))
    spool.commit(of("made up", OTHER))
    sequencer.take_in()
    assert {name: log.ids() for name, log in desk.logs.items()} == {SUB: ["known"], PLATFORM_LOG: ["made up"]}


def test_spools_of_ended_processes_are_removed_when_they_are_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer_module, "LOOK_FOR_ENDED_S", 0.0)
    spool = desk.spool()
    for number in range(30):
        spool.commit(of(str(number)))
        spool.commit(record("filler", client="x" * 2000))
    assert len(spool_files.found(desk.folder)) == 4
    desk.sequencer.take_in()
    (living,) = spool_files.found(desk.folder)
    spool.commit(of("one more"))
    spool.close()
    desk.sequencer.take_in()
    assert spool_files.found(desk.folder) == []
    assert not living.ended
    assert desk.logs[SUB].ids() == [*map(str, range(30)), "one more"]


def test_half_line_waits_for_its_writer_and_is_dropped_with_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sequencer_module, "LOOK_FOR_ENDED_S", 0.0)
    name = next(spool_files.names())
    writer = spool_files.create(desk.folder, name)
    path = desk.folder / name
    path.write_bytes(b'-platform {"id":"whole"}\n-platform {"id":"ha')
    desk.sequencer.take_in()
    assert path.exists()
    path.write_bytes(b'-platform {"id":"whole"}\n-platform {"id":"half"}\n-pla')
    desk.sequencer.take_in()
    assert desk.logs[PLATFORM_LOG].ids() == ["whole", "half"]
    os.close(writer)  # its process has ended
    desk.sequencer.take_in()
    assert not path.exists()
    assert desk.logs[PLATFORM_LOG].ids() == ["whole", "half"]
    assert "cut off" in caplog.text


def kill_points() -> Iterator[tuple[str, int]]:
    for place, times in (("journal", 2), ("append", 3), ("sync", 3), ("unlink", 2)):
        yield from itertools.product([place], range(times))


@pytest.mark.parametrize(("place", "time"), list(kill_points()), ids=str)
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_kill_at_any_point_neither_loses_nor_repeats(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, place: str, time: int, done: bool
) -> None:
    monkeypatch.setattr(sequencer_module, "LOOK_FOR_ENDED_S", 0.0)
    monkeypatch.setattr(sequencer_module, "BATCH_BYTES", 4000)
    seen = itertools.count()

    def deadly(call: Any) -> Any:
        def killing(*arguments: Any, **named: Any) -> Any:
            at = next(seen)
            if at == time and not done:
                raise KilledHere
            answer = call(*arguments, **named)
            if at == time:
                raise KilledHere
            return answer

        return killing

    spools = [desk.spool() for _ in range(2)]
    for number in range(30):
        for which, spool in enumerate(spools):
            spool.record(of(f"{which}-{number}", SUB if number % 3 else OTHER))
    for spool in spools:
        spool.close()
    places: dict[str, tuple[Any, str]] = {"journal": (Journal, "append"), "unlink": (Path, "unlink")}
    owner, name = places.get(place, (MemoryLog, place))
    with monkeypatch.context() as patch, contextlib.suppress(KilledHere):
        patch.setattr(owner, name, deadly(getattr(owner, name)))
        desk.sequencer.take_in()
    desk.again().take_in()
    late = desk.spool()
    late.commit(of("0-30"))
    desk.again().take_in()
    for log, expected in ((SUB, [*(n for n in range(30) if n % 3), 30]), (OTHER, range(0, 30, 3))):
        found = desk.logs[log].ids()  # of both writers, who say the same
        assert [name for name in found if name.startswith("0-")] == [f"0-{number}" for number in expected]
        assert len(found) == len(set(found))
    assert {name for name, _, _ in desk.handed} == {SUB, OTHER}
    for name, index, line in desk.handed:
        assert desk.logs[name].lines[index] == line, "the copy is told the places that records have in the end"


def test_log_that_cannot_be_written_keeps_its_records_in_the_spools(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sequencer_module, "LOOK_FOR_ENDED_S", 0.0)
    spool = desk.spool()
    desk.logs[SUB].fails = OSError(errno.ENOSPC, "No space left on device")
    spool.commit(of("one"))
    desk.sequencer.take_in()
    spool.commit(of("two"))
    spool.close()
    desk.sequencer.take_in()
    assert desk.sequencer.why == "No space left on device"
    assert [json.loads(line)["id"] for _, _, line in desk.handed] == ["one", "two"], "the copy goes on"
    assert spool_files.found(desk.folder)
    desk.again().take_in()  # and is still there after a crash
    assert desk.sequencer.why
    desk.logs[SUB].fails = None
    assert desk.sequencer.take_in() == 2
    assert (desk.sequencer.why, desk.logs[SUB].ids()) == ("", ["one", "two"])
    assert spool_files.found(desk.folder) == []
    assert sum(entry.levelname == "ERROR" for entry in caplog.records) == 2


def test_place_is_told_once_it_is_for_good(desk: Desk) -> None:
    spool = desk.spool()
    spool.commit(of("before"))
    wanted = spool._committed(of("wanted"), spool_files.PLACED)
    assert desk.sequencer.placed(wanted.file, wanted.offset, 0.0) is None
    desk.logs[SUB].fails = OSError(errno.ENOSPC, "No space left on device")
    desk.sequencer.take_in()
    assert desk.sequencer.placed(wanted.file, wanted.offset, 0.0) is None
    desk.logs[SUB].fails = None
    desk.sequencer.take_in()
    leaf = hashlib.sha256(b"\0" + desk.logs[SUB].lines[1]).digest()
    assert desk.sequencer.placed(wanted.file, wanted.offset, 0.0) == Placed(SUB, 1, leaf)


def test_one_takes_in_at_a_time(desk: Desk) -> None:
    other = Sequencer(desk.settings.audit_dir, desk.logs.writer)
    with pytest.raises(NotAlone):
        other.open()
    desk.sequencer.close()
    other.open()
    other.close()


def test_what_it_remembers_stays_small(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.audit.journal.COMPACT_BYTES", 2000)
    monkeypatch.setattr(sequencer_module, "LOOK_FOR_ENDED_S", 0.0)
    spool = desk.spool()
    for number in range(60):
        spool.commit(of(str(number)))
        desk.sequencer.take_in()
    assert (desk.settings.audit_dir / sequencer_module.STATE_NAME).stat().st_size < 2500
    desk.again().take_in()
    assert desk.logs[SUB].ids() == list(map(str, range(60)))


def test_clock_that_jumps_changes_no_order(desk: Desk) -> None:
    spool = desk.spool()
    for number, time in enumerate((100.0, 5e9, -3.0, 100.5)):
        spool.record(record(number, time=time))
    spool.flush()
    desk.sequencer.take_in()
    found = [json.loads(line) for line in desk.logs[PLATFORM_LOG].lines]
    assert [(one["id"], one["time"]) for one in found] == [("0", 100.0), ("1", 5e9), ("2", -3.0), ("3", 100.5)]


def test_what_is_no_record_is_left_out_and_said(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    spool = desk.spool()
    spool.commit(of("good"))
    (one,) = spool_files.found(desk.folder)
    with (desk.folder / one.name).open("ab") as file:
        file.write(b"rubbish\n-../../etc {}\n")
    desk.sequencer.take_in()
    assert {name: log.ids() for name, log in desk.logs.items()} == {SUB: ["good"]}
    assert caplog.text.count("no audit record") == 2


def test_spools_that_others_have_removed_end_nothing(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    spool = desk.spool()
    desk.logs[SUB].fails = OSError(errno.ENOSPC, "No space left on device")
    spool.commit(of("lost"))
    desk.sequencer.take_in()
    for path in desk.folder.iterdir():
        path.unlink()
    desk.logs[SUB].fails = None
    desk.again().take_in()
    spool.commit(of("next"))
    desk.sequencer.take_in()
    desk.again().take_in()
    assert desk.logs[SUB].ids() == ["next"]
    assert "removed before they were taken in" in caplog.text
