"""Days by which an answer is promised."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.management.access.business_days import end_of_day_after

HOLIDAYS = ("2026-12-25", "2027-01-01")


def due(asked: str, days: int = 5, holidays: tuple[str, ...] = ()) -> str:
    instant = datetime.fromisoformat(asked).replace(tzinfo=UTC).timestamp()
    return datetime.fromtimestamp(end_of_day_after(instant, days, holidays), UTC).isoformat()[:16]


@pytest.mark.parametrize(
    ("asked", "days", "until"),
    [
        ("2026-11-23T00:00", 5, "2026-12-01T00:00"),  # Monday: Tuesday to Monday
        ("2026-11-23T23:59", 5, "2026-12-01T00:00"),
        ("2026-11-27T12:00", 5, "2026-12-05T00:00"),  # Friday: until the next one ends
        ("2026-11-28T12:00", 5, "2026-12-05T00:00"),  # Saturday
        ("2026-11-29T12:00", 5, "2026-12-05T00:00"),  # Sunday
        ("2026-11-30T12:00", 3, "2026-12-04T00:00"),
        ("2026-11-28T12:00", 1, "2026-12-01T00:00"),
    ],
)
def test_weekends_do_not_count(asked: str, days: int, until: str) -> None:
    assert due(asked, days) == until


def test_holidays_do_not_count() -> None:
    assert due("2026-12-23T12:00", 5, HOLIDAYS) == "2027-01-01T00:00"
    assert due("2026-12-23T12:00", 6, HOLIDAYS) == "2027-01-05T00:00"
    assert due("2026-12-25T12:00", 1, HOLIDAYS) == "2026-12-29T00:00"


@given(st.integers(0, 4_000_000_000), st.integers(1, 60))
def test_an_answer_is_never_promised_before_so_many_days_are_over(instant: int, days: int) -> None:
    until = end_of_day_after(instant, days, HOLIDAYS)
    assert until - instant > days * 86_400
    assert until - instant <= (days + 2 * (days // 5 + 1) + len(HOLIDAYS) + 1) * 86_400
    assert end_of_day_after(instant + 3600, days, HOLIDAYS) >= until
