"""Spools: records come to disk in order, nothing that was acknowledged is missing, and what is in the way is said and ends by itself."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from stockade.audit import spool as spool_module
from stockade.audit import spool_files
from stockade.audit.spool import Spool
from stockade.audit.standing import Sinks, Standing
from stockade.kernel.clock import CLOCK_FILE, SimulatedClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Audit, Settings
from tests.factories.audit import record

SUB = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def lines(settings: Settings) -> list[bytes]:
    folder = spool_files.folder_of(settings.audit_dir)
    return [line for one in spool_files.found(folder) for line in (folder / one.name).read_bytes().splitlines()]


def ids(settings: Settings) -> list[str]:
    return [json.loads(line.partition(b" ")[2])["id"] for line in lines(settings)]


def until(condition: Any, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class BrokenDisk:
    """Lets `os.write` and `os.fdatasync` of the spool fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write: OSError | None = None
        self.sync: OSError | None = None
        self.room: int | None = None
        write, sync = os.write, os.fdatasync

        def broken_write(file: int, data: Any) -> int:
            if self.room is not None:
                if not self.room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                data = data[: self.room]
                self.room -= len(data)
            if self.write is not None:
                raise self.write
            return write(file, data)

        def broken_sync(file: int) -> None:
            if self.sync is not None:
                raise self.sync
            sync(file)

        monkeypatch.setattr(spool_module.os, "write", broken_write)
        monkeypatch.setattr(spool_module.os, "fdatasync", broken_sync)


def test_records_are_on_disk_in_time_and_in_order(settings: Settings) -> None:
    spool = Spool(settings)
    spool.start()
    begun = time.monotonic()
    for number in range(500):
        spool.record(record(number))
    until(lambda: len(lines(settings)) == 500)
    assert time.monotonic() - begun < settings.audit.within_s
    assert ids(settings) == [str(number) for number in range(500)]
    spool.close()


def test_each_line_names_its_log(settings: Settings) -> None:
    spool = Spool(settings)
    spool.commit(record(1, resource=f"/subscriptions/{SUB.upper()}/resourceGroups/x"))
    spool.commit(record(2, resource="https://vault.example"))
    heads = [spool_files.read_head(line.partition(b" ")[0]) for line in lines(settings)]
    assert heads == [(False, SUB), (False, "platform")]


def test_close_writes_what_is_queued_and_lets_go_of_the_file(settings: Settings) -> None:
    spool = Spool(settings)
    spool.start()
    spool.record(record("last"))
    (one,) = (None,)  # nothing is there yet, or it is: close settles it either way
    spool.close()
    assert ids(settings) == ["last"]
    (one,) = spool_files.found(spool_files.folder_of(settings.audit_dir))
    assert spool_files.has_ended(spool_files.folder_of(settings.audit_dir) / one.name)


def test_spool_of_a_living_writer_has_not_ended(settings: Settings) -> None:
    spool = Spool(settings)
    spool.commit(record())
    folder = spool_files.folder_of(settings.audit_dir)
    (one,) = spool_files.found(folder)
    assert not spool_files.has_ended(folder / one.name)
    assert (folder.stat().st_mode & 0o777, (folder / one.name).stat().st_mode & 0o777) == (0o700, 0o600)


def test_one_sync_serves_all_who_wait(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, syncs = Spool(settings), []
    held, real = threading.Event(), os.fdatasync

    def slow(file: int) -> None:
        syncs.append(file)
        held.wait(5)
        real(file)

    monkeypatch.setattr(spool_module.os, "fdatasync", slow)

    async def flood() -> None:
        waiting = [asyncio.create_task(spool.durable(record(number))) for number in range(300)]
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(*waiting)

    spool.start()
    asyncio.run(flood())
    assert len(ids(settings)) == 300
    assert len(syncs) < 10
    spool.close()


def test_cancelled_request_is_recorded_all_the_same(settings: Settings) -> None:
    spool = Spool(settings)

    async def cancelled() -> None:
        task = asyncio.create_task(spool.durable(record("cancelled")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await spool.durable(record("next"))

    spool.start()
    asyncio.run(cancelled())
    spool.close()
    assert ids(settings) == ["cancelled", "next"]


def test_without_a_thread_those_who_wait_write_themselves(settings: Settings) -> None:
    spool = Spool(settings)
    asyncio.run(spool.durable(record("one")))
    spool.record(record("queued"))
    spool.commit(record("two"))
    assert ids(settings) == ["one", "queued", "two"]


def test_full_disk_is_said_and_ends_by_itself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", 0.01)
    disk, spool = BrokenDisk(monkeypatch), Spool(settings)
    spool.commit(record("first"))
    disk.room = 25  # half a line
    with pytest.raises(Fault) as refused:
        spool.commit(record("not-acknowledged"))
    assert refused.value.kind is FaultKind.UNAVAILABLE
    assert refused.value.retry_after_s
    assert "No space left on device" in refused.value.message
    assert (spool.healthy, spool.why) == (False, "spool: No space left on device")
    spool.record(record("waits"))
    disk.room = None
    spool.start()
    until(lambda: spool.healthy)
    spool.close()
    # What was begun was finished, nothing is torn, and nothing is there twice.
    assert ids(settings) == ["first", "not-acknowledged", "waits"]
    assert [entry.levelno for entry in caplog.records] == [logging.ERROR, logging.WARNING]


def test_all_who_wait_hear_of_a_failure_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "RETRY_S", 0.01)
    disk, spool = BrokenDisk(monkeypatch), Spool(settings)
    spool.start()
    disk.write = OSError(errno.ENOSPC, "No space left on device")

    async def flood() -> list[BaseException | None]:
        return await asyncio.gather(*(spool.durable(record(number)) for number in range(50)), return_exceptions=True)

    begun = time.monotonic()
    assert all(isinstance(one, Fault) for one in asyncio.run(flood()))
    assert time.monotonic() - begun < 2
    disk.write = None
    spool.close()


def test_file_that_cannot_be_synced_is_left_for_another(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, spool = BrokenDisk(monkeypatch), Spool(settings)
    disk.sync = OSError(errno.EIO, "Input/output error")
    with pytest.raises(Fault):
        spool.commit(record("unsure"))
    disk.sync = None
    spool.commit(record("sure"))
    folder = spool_files.folder_of(settings.audit_dir)
    assert [one.ended for one in spool_files.found(folder)] == [True, False]
    assert ids(settings) == ["unsure", "sure"]
    assert spool.healthy


def test_line_begun_in_a_broken_file_is_whole_in_the_next(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, spool = BrokenDisk(monkeypatch), Spool(settings)
    spool.commit(record("first"))
    disk.room = 25
    with pytest.raises(Fault):
        spool.commit(record("begun"))
    disk.room, disk.write = None, OSError(errno.EIO, "Input/output error")
    spool.flush()
    disk.write = None
    spool.flush()
    torn, whole = (
        (spool_files.folder_of(settings.audit_dir) / one.name).read_bytes()
        for one in spool_files.found(spool_files.folder_of(settings.audit_dir))
    )
    assert (torn.count(b"\n"), torn.endswith(b"\n")) == (1, False)
    assert json.loads(whole.partition(b" ")[2])["id"] == "begun"


def test_spool_that_is_removed_is_noticed(settings: Settings) -> None:
    spool = Spool(settings)
    spool.commit(record("gone"))
    folder = spool_files.folder_of(settings.audit_dir)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    spool.commit(record("kept"))
    assert ids(settings) == ["kept"]


def test_large_spool_is_followed_by_another(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, audit=Audit(buffer_bytes=640 * 1024))
    spool = Spool(settings)
    for number in range(30):
        spool.commit(record(number, client="x" * 2000))
    folder = spool_files.folder_of(settings.audit_dir)
    assert [one.ended for one in spool_files.found(folder)] == [True, True, False]
    assert ids(settings) == [str(number) for number in range(30)]


def test_full_buffer_is_unhealthy_until_it_is_taken_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "LOOK_S", 0.0)
    settings = Settings(data_dir=tmp_path, audit=Audit(buffer_bytes=40_000))
    spool, other = Spool(settings), Spool(settings)
    for number in range(25):
        spool.record(record(number, client="x" * 2000))
    spool.flush()
    other.flush()
    assert other.why == "spool: the buffer is full", "the spools of all processes count"
    with pytest.raises(Fault, match="the buffer is full"):
        other.commit(record("late"))
    other.record(record("flood", decision="deny"))
    other.record(record("admitted before", decision="allow"))
    other.flush()
    assert ids(settings)[25:] == ["admitted before"]
    for path in spool_files.folder_of(settings.audit_dir).iterdir():
        path.unlink()
    other.flush()
    assert other.healthy
    other.commit(record("again"))
    assert "refusals/omit" in b"".join(lines(settings)).decode()


def test_memory_is_bounded_and_what_was_left_out_is_owned_up_to(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "QUEUE_LIMIT", 10)
    monkeypatch.setattr(spool_module, "RESERVE", 5)
    clock = SimulatedClock.create(settings.data_dir / CLOCK_FILE)
    clock.advance(86_400)
    spool = Spool(settings)
    for number in range(100):
        spool.record(record(f"refused-{number}", decision="deny"))
    for number in range(100):
        spool.record(record(f"allowed-{number}", decision="allow"))
    assert spool.why == "spool: too many records are waiting to be written"
    with pytest.raises(Fault):
        spool.commit(record("late"))
    spool.flush()
    found = [json.loads(line.partition(b" ")[2]) for line in lines(settings)]
    assert [one["id"] for one in found[:15]] == [
        *(f"refused-{number}" for number in range(10)),
        *(f"allowed-{number}" for number in range(5)),
    ]
    assert (found[15]["operation"], found[15]["because"]) == ("Stockade.Audit/refusals/omit", {"count": "186"})
    assert abs(found[15]["time"] - clock.now()) < 60, "its time is the platform's, as all other records' is"
    assert spool.healthy


def test_disk_that_does_not_answer_holds_up_nobody_for_long(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "WAIT_S", 0.2)
    monkeypatch.setattr(spool_module, "STALLED_S", 0.05)
    hanging, real = threading.Event(), os.fdatasync
    monkeypatch.setattr(spool_module.os, "fdatasync", lambda file: (hanging.wait(20), real(file)))
    spool = Spool(settings)
    spool.start()
    with pytest.raises(Fault, match="does not answer"):
        asyncio.run(spool.durable(record("waits")))
    with pytest.raises(Fault, match="does not answer"):
        spool.commit(record("waits too"))
    assert spool.why == "spool: the disk does not answer"
    hanging.set()
    until(lambda: spool.healthy and len(lines(settings)) == 2)
    spool.close()


def test_who_starts_while_nothing_may_go_on_knows_it_at_once(settings: Settings) -> None:
    Standing(settings.run_dir).write(Sinks(problem="the log platform was rolled back"))
    spool = Spool(settings)
    spool.start()
    assert spool.why == "the log platform was rolled back"
    spool.close()


def test_two_failing_sinks_are_nowhere_to_go(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "LOOK_S", 0.0)
    spool, standing = Spool(settings), Standing(settings.run_dir)
    standing.write(Sinks(log="No space left on device"))
    spool.flush()
    assert spool.healthy, "one sink is enough"
    standing.write(Sinks(log="No space left on device", mirror="Read-only file system"))
    spool.flush()
    assert spool.why == "log: No space left on device; mirror: Read-only file system"
    standing.write(Sinks())
    spool.flush()
    assert spool.healthy


def test_what_callers_send_cannot_break_a_line(settings: Settings) -> None:
    spool = Spool(settings)
    spool.commit(record(1, client='a\n-platform {"id":"forged"}\r\n\x00'))
    spool.commit(record(2, client="lone \ud800 surrogate"))
    assert len(lines(settings)) == 2
    assert ids(settings) == ["1", "2"]


def test_place_without_an_audit_process_is_refused_in_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "PLACE_S", 0.3)
    spool, begun = Spool(settings), time.monotonic()
    with pytest.raises(Fault) as refused:
        spool.place(record())
    assert refused.value.kind is FaultKind.UNAVAILABLE
    assert time.monotonic() - begun < 2
    assert len(lines(settings)) == 1, "it is recorded, and was not done"
