"""Time as a value."""

from __future__ import annotations

import re

import pytest

from stockade.kernel.clock import ManualClock, SystemClock, iso


def test_manual_clock_moves_when_told() -> None:
    clock = ManualClock(100.0)
    before = clock.monotonic()
    clock.advance(5)
    clock.jump(-50)
    assert (clock.now(), clock.monotonic() - before) == (55.0, 5.0)


def test_system_clock_counts_seconds() -> None:
    clock = SystemClock()
    assert clock.now() > 1_700_000_000
    assert clock.monotonic() <= clock.monotonic()


@pytest.mark.parametrize(
    ("instant", "text"), [(0, "1970-01-01T00:00:00.0000000Z"), (1_800_000_000.25, "2027-01-15T08:00:00.2500000Z")]
)
def test_instant_is_written_as_arm_writes_it(instant: float, text: str) -> None:
    assert iso(instant) == text
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", iso(1_799_999_999.999_999))
