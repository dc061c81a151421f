"""Floors: time does not go back, whoever sets the clock back and whatever is restarted; a rehearsal's time goes back to the machine's."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest

from stockade.broker.floors import FILE_NAME, TIME_STEP_S, Floors
from stockade.kernel.clock import CLOCK_FILE, Clock, ManualClock, SimulatedClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.root import RootKey

DAY = 86_400.0
KEY = RootKey(Secret(b"k" * 32))


def floors(folder: Path, clock: Clock) -> Floors:
    return Floors(folder, KEY, clock)


def test_time_does_not_go_back(tmp_path: Path) -> None:
    clock = ManualClock()
    known = floors(tmp_path, clock)
    clock.jump(DAY)
    latest = known.now()
    clock.jump(-2 * DAY)
    assert (known.now(), known.latest()) == (latest, latest)
    assert floors(tmp_path, clock).now() == latest


def test_what_is_only_looked_at_does_not_go_back_either(tmp_path: Path) -> None:
    clock = ManualClock()
    known = floors(tmp_path, clock)
    clock.jump(DAY)
    latest = known.latest()
    assert not (tmp_path / FILE_NAME).exists()
    clock.jump(-2 * DAY)
    assert (known.latest(), known.now()) == (latest, latest)


def test_a_rehearsal_goes_back_to_the_machines_time_and_no_further(tmp_path: Path) -> None:
    clock = SimulatedClock.create(tmp_path / CLOCK_FILE)
    known = floors(tmp_path, clock)
    before = known.now()
    clock.advance(10 * DAY)
    assert 10 * DAY <= known.now() - before < 10 * DAY + TIME_STEP_S
    assert known.latest() - time.time() == pytest.approx(10 * DAY, abs=TIME_STEP_S)
    clock.reset()
    for found in (known, floors(tmp_path, clock)):
        assert found.now() == pytest.approx(time.time(), abs=TIME_STEP_S)
        assert found.latest() >= before
    with (tmp_path / CLOCK_FILE).open(
        "r+b"
    ) as file:  # whoever has the data directory can, past the check when it is opened
        file.write(struct.pack("=d", -10 * DAY))
    assert clock.ahead_s == -10 * DAY
    assert known.now() >= before
    assert known.latest() >= before


def test_a_file_that_is_another_platforms_is_refused(tmp_path: Path) -> None:
    floors(tmp_path, ManualClock()).now()
    with pytest.raises(Fault) as raised:
        Floors(tmp_path, RootKey(Secret(b"o" * 32)), ManualClock())
    assert raised.value.kind is FaultKind.UNAVAILABLE
