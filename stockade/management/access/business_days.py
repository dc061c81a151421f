"""Until when an answer is promised, in business days: no Saturday, no Sunday, and no day that the settings name. Days are UTC's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta


def end_of_day_after(instant: float, days: int, holidays: Sequence[str]) -> float:
    """Return the end of the so-manieth business day after the day of an instant (epoch seconds).

    A request of a Friday, Saturday or Sunday with five days is due when the next Friday ends. holidays: `2026-12-25`.
    """
    import numpy as np  # only here: every process imports the resource types, and few requests are made

    asked = datetime.fromtimestamp(instant, UTC).date()
    # Back to the last business day first: what came on a day off is counted from there, so that the next one is the first.
    last = np.busday_offset(asked.isoformat(), days, roll="backward", holidays=[np.datetime64(day) for day in holidays])
    ends = date.fromisoformat(str(last)) + timedelta(days=1)
    return datetime.combine(ends, time(), UTC).timestamp()
