"""Which key goes first, and how long the other waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from stockade.cli.keys import Usage, order, wait_until_quiet

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=100)


def used(slot: str, minutes_ago: float | None, *, created: datetime = LONG_AGO) -> Usage:
    last = NOW - timedelta(minutes=minutes_ago) if minutes_ago is not None else None
    callers = ({"address": "10.0.0.1", "client": "c", "lastSeen": last.isoformat()},) if last is not None else ()
    return Usage("Key1" if slot == "Key1" else "Key2", created, last, callers)


@pytest.mark.parametrize(
    ("key1", "key2", "first"),
    [
        (used("Key1", None), used("Key2", 1), "Key1"),
        (used("Key1", 1), used("Key2", None), "Key2"),
        (used("Key1", 1), used("Key2", 1000), "Key2"),
        (used("Key1", 2), used("Key2", 1), "Key1"),
        (used("Key1", None, created=NOW), used("Key2", None), "Key2"),
        (used("Key1", None), used("Key2", None), "Key1"),
    ],
)
def test_the_quieter_key_goes_first_and_of_two_quiet_ones_the_older(key1: Usage, key2: Usage, first: str) -> None:
    assert order((key1, key2), NOW, 15)[0].slot == first


class Time:
    """A clock that moves when someone pauses."""

    def __init__(self) -> None:
        self.now = NOW

    def pause(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def test_a_quiet_key_is_not_waited_for() -> None:
    time = Time()
    assert wait_until_quiet(lambda: used("Key1", None), NOW, 15, 60, pause=time.pause, clock=lambda: time.now)
    assert time.now == NOW


def test_a_key_is_quiet_once_its_last_call_is_old_enough(capsys: pytest.CaptureFixture[str]) -> None:
    time = Time()
    assert wait_until_quiet(lambda: used("Key1", 0), NOW, 15, 3600, pause=time.pause, clock=lambda: time.now)
    assert timedelta(minutes=15) <= time.now - NOW < timedelta(minutes=16)
    assert capsys.readouterr().err.count("10.0.0.1 (c)") == 1, "said once, not at every look"


def test_waiting_ends_with_its_time() -> None:
    time = Time()

    def still_used() -> Usage:
        return Usage(
            "Key1", LONG_AGO, time.now, ({"address": "10.0.0.1", "client": "", "lastSeen": time.now.isoformat()},)
        )

    assert not wait_until_quiet(still_used, NOW, 15, 600, pause=time.pause, clock=lambda: time.now)
    assert time.now - NOW < timedelta(minutes=11)
