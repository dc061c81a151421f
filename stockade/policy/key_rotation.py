"""When a vault key's rotation policy wants something done. Pure; the vault runs by it, and the key broker makes a version by it when nobody asks.

Durations are ISO 8601 in whole years, months, weeks and days (`P1Y6M`, `P90D`); years and months are those of the calendar (UTC).
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

_DURATION: Final = re.compile(r"P(?=\d)(?:(\d{1,3})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?")


class LifetimeAction(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action of a rotation policy, with exactly one of the two triggers: an ISO 8601 duration (`P90D`)."""

    action: Literal["Rotate", "Notify"]
    after_create: str | None = None
    before_expiry: str | None = None


class RotationPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a key gets its next version, and how long each is valid (`expiry_time`, an ISO 8601 duration)."""

    created: float
    updated: float
    actions: tuple[LifetimeAction, ...] = ()
    expiry_time: str | None = None


def later(instant: float, duration: str, sign: Literal[1, -1] = 1) -> float:
    """Return an instant moved by a duration. ValueError for what is none, or leads out of the calendar."""
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise ValueError(duration)
    years, months, weeks, days = (int(text or 0) for text in found.groups())
    moment = datetime.fromtimestamp(instant, UTC)
    month = moment.year * 12 + moment.month - 1 + sign * (years * 12 + months)
    year, month = month // 12, month % 12 + 1
    if not 1 <= year <= 9998:
        raise ValueError(duration)
    day = min(moment.day, calendar.monthrange(year, month)[1])
    try:
        return (moment.replace(year=year, month=month, day=day) + sign * timedelta(days=weeks * 7 + days)).timestamp()
    except OverflowError as failure:
        raise ValueError(duration) from failure


def due_at(
    policy: RotationPolicy, created: float, expires: float | None, kind: Literal["Rotate", "Notify"]
) -> float | None:
    """Return when an action falls due for a key's newest version; None when it never does. created, expires: of that version."""
    for action in policy.actions:
        if action.action != kind:
            continue
        if action.after_create is not None:
            return later(created, action.after_create)
        if action.before_expiry is not None and expires is not None:
            return later(expires, action.before_expiry, -1)
    return None
