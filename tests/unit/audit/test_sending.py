"""Tests of everything that leaves the audit process: which records go where, and that nobody waits for anybody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stockade.audit import delivery, sending
from stockade.audit.delivery import Surroundings
from stockade.audit.ledger import LogReader
from stockade.audit.sending import Sending
from stockade.audit.sinks.sink import ResourceLog, Undelivered
from stockade.kernel.clock import SystemClock
from stockade.kernel.record import AuditRecord
from stockade.settings import Sink
from tests.factories.memory_log import MemoryLog

WITHIN_S = 10.0


class Pretend:
    """A sink in this process. hangs: until it is told to go on."""

    def __init__(self) -> None:
        self.got: list[ResourceLog] = []
        self.refuses = 0
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.changed = threading.Condition()

    async def deliver(self, batch: Sequence[ResourceLog]) -> None:
        while not self.goes_on.is_set():  # noqa: ASYNC110 - it is set from another thread
            await asyncio.sleep(0.005)
        if self.refuses:
            self.refuses -= 1
            raise Undelivered("not now")
        with self.changed:
            self.got += batch
            self.changed.notify_all()

    async def close(self) -> None:
        pass

    def until(self, count: int) -> list[int]:
        """Return the places of what it has got when that is so much."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, WITHIN_S)
            return [one.index for one in self.got]


class Routes:
    """By settings: one sink gets what is about one resource."""

    def __init__(self, **wanted: str) -> None:
        self._wanted = wanted

    def logs(self, sink: str) -> tuple[str, ...]:
        return ("a",) if sink in self._wanted else ()

    def wants(self, sink: str, record: Mapping[str, Any]) -> bool:
        return record.get("resource") == self._wanted.get(sink)


class Platform:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sinks: dict[str, Pretend] = {}
        self.logs = {"a": MemoryLog("a"), "b": MemoryLog("b")}
        self.routes = Routes()
        found: dict[str, LogReader] = dict(self.logs)
        self.around = Surroundings(folder, lambda: found, lambda: self.routes, SystemClock(), "local")
        monkeypatch.setattr(delivery, "open_sink", lambda one: self.sinks.setdefault(one.name, Pretend()))
        monkeypatch.setattr(delivery, "GATHER_S", 0.0)

    def sending(self, **everything: bool) -> Sending:
        sinks = [Sink(name, "file", "file:///x", everything=all_) for name, all_ in everything.items()]
        for one in sinks:
            self.sinks.setdefault(one.name, Pretend())
        return Sending(sinks, self.around)

    def add(self, log: str, *resources: str) -> None:
        self.logs[log].add(*(record(one) for one in resources))


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    return Platform(tmp_path, monkeypatch)


def record(resource: str) -> AuditRecord:
    return AuditRecord(time=1.0, id="d", category="Audit", phase="outcome", operation="o", resource=resource)


def test_one_that_hangs_keeps_no_other_waiting(platform: Platform) -> None:
    platform.add("a", "/1", "/2")
    made = platform.sending(slow=True, quick=True)
    platform.sinks["slow"].goes_on.clear()
    made.start()
    assert platform.sinks["quick"].until(2) == [0, 1]
    platform.add("a", "/3")
    made.wake()
    assert platform.sinks["quick"].until(3) == [0, 1, 2]
    assert platform.sinks["slow"].got == []
    platform.sinks["slow"].goes_on.set()
    assert platform.sinks["slow"].until(3) == [0, 1, 2]
    made.close()


def test_a_sink_that_hangs_does_not_keep_the_process_from_ending(platform: Platform) -> None:
    platform.add("a", "/1")
    made = platform.sending(slow=True)
    platform.sinks["slow"].goes_on.clear()
    made.start()
    made.close()
    assert not made._thread.is_alive()


def test_settings_say_what_goes_where_from_when_they_are_made(platform: Platform) -> None:
    platform.add("a", "/mine", "/mine")
    platform.add("b", "/mine")
    made = platform.sending(chosen=False, whole=True)
    made.start()
    platform.sinks["whole"].until(3)
    assert platform.sinks["chosen"].got == []
    _until(lambda: made._deliveries[0].state.logs["a"].next == 2)
    platform.routes = Routes(chosen="/mine")
    platform.add("a", "/other", "/mine", "/other", "/mine")
    platform.add("b", "/mine")
    made.wake()
    assert platform.sinks["chosen"].until(2) == [3, 5]
    assert {one.log for one in platform.sinks["chosen"].got} == {"a"}
    platform.routes = Routes()
    platform.add("a", "/mine")
    made.wake()
    _until(lambda: made._deliveries[0].state.logs["a"].next == 7)
    assert len(platform.sinks["chosen"].got) == 2
    made.close()


def test_a_batch_is_tried_until_it_is_taken(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT_S", 0.01)
    platform.add("a", "/1", "/2")
    made = platform.sending(only=True)
    platform.sinks["only"].refuses = 3
    made.start()
    assert platform.sinks["only"].until(2) == [0, 1]
    state = made._deliveries[0].state
    assert state.last_error == "not now"
    made.close()


def test_retention_waits_for_sinks_up_to_a_bound(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending, "HELD_RECORDS", 5)
    platform.add("a", *(["/1"] * 10))
    made = platform.sending(whole=True, nothing=False)
    assert made.prunable("a", 4) == 0
    assert "leaves audit records" in caplog.text
    assert made.prunable("a", 8) == 3
    assert "removes audit records that a sink has not got" in caplog.text
    made.start()
    platform.sinks["whole"].until(10)
    _until(lambda: made.prunable("a", 8) == 8)
    made.close()


def test_what_was_removed_before_is_said(platform: Platform, caplog: pytest.LogCaptureFixture) -> None:
    platform.add("a", *(["/1"] * 10))
    platform.logs["a"].prune(4)
    made = platform.sending(whole=True)
    made.start()
    assert platform.sinks["whole"].until(6) == [4, 5, 6, 7, 8, 9]
    made.close()
    assert made._deliveries[0].state.logs["a"].missed == 4
    assert "retention removed records before a sink got them" in caplog.text


@pytest.mark.parametrize("count", [1, 3, 5], ids=["shorter", "as long", "longer"])
def test_a_log_that_was_rolled_back_is_sent_again_whole(
    platform: Platform, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    platform.add("a", "/1", "/2", "/3")
    made = platform.sending(whole=True)
    made.start()
    platform.sinks["whole"].until(3)
    _until(lambda: delivery.states(platform.around.folder, [made._deliveries[0]._configured])[0].delivered == 3)
    made.close()
    platform.logs["a"].lines.clear()
    platform.add("a", *(f"/other{number}" for number in range(count)))
    made = platform.sending(whole=True)
    made.start()
    assert platform.sinks["whole"].until(3 + count)[3:] == list(range(count))
    made.close()
    assert "is not the one that a sink has got records of" in caplog.text


def test_lines_that_are_no_records_stop_nobody(platform: Platform, caplog: pytest.LogCaptureFixture) -> None:
    platform.logs["a"].add(b"{", record("/1"))
    made = platform.sending(whole=True)
    made.start()
    assert platform.sinks["whole"].until(1) == [1]
    made.close()
    assert "is no record" in caplog.text


def test_cursors_that_cannot_be_read_begin_anew(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "whole.json").write_text("{")
    platform.add("a", "/1")
    made = platform.sending(whole=True)
    made.start()
    assert platform.sinks["whole"].until(1) == [0]
    made.close()


def _until(condition: Any) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
