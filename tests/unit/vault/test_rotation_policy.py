"""What a rotation policy may say, and when it falls due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.key_rotation import RotationPolicy, due_at, later
from stockade.vault.documents import Attributes
from stockade.vault.rotation_policy import SentPolicy, planned, shown

NOW = 1_800_000_000.0
NEWEST = Attributes(NOW, NOW, exp=int(NOW) + 90 * 86_400)


def sent(*actions: tuple[str, str, str], expiry: str | None = None) -> SentPolicy:
    body = {
        "lifetimeActions": [{"trigger": {name: text}, "action": {"type": kind}} for kind, name, text in actions],
        "attributes": {"expiryTime": expiry},
    }
    return msgspec.convert(body, SentPolicy)


def instant(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("start", "duration", "end"),
    [
        ("2026-01-31", "P1M", "2026-02-28"),
        ("2024-02-29", "P1Y", "2025-02-28"),
        ("2026-03-01", "P1Y2M3D", "2027-05-04"),
        ("2026-03-01", "P2W", "2026-03-15"),
    ],
)
def test_durations_follow_the_calendar(start: str, duration: str, end: str) -> None:
    assert later(instant(start), duration) == instant(end)


@pytest.mark.parametrize(
    "text", ["", "P", "P1", "PT1H", "1D", "P1D1M", "P-1D", "P1.5D", "P999999999D", "P9999Y", "p90d"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        later(NOW, text)
    with pytest.raises(Fault) as refused:
        planned(sent(("Rotate", "timeAfterCreate", text)), None, NEWEST, NOW)
    assert refused.value.kind is FaultKind.INVALID


@pytest.mark.parametrize(
    "policy",
    [
        sent(("Rotate", "timeAfterCreate", "P6D")),
        sent(("Notify", "timeBeforeExpiry", "P6D")),
        sent(("Notify", "timeAfterCreate", "P30D")),
        sent(("Fly", "timeAfterCreate", "P30D")),
        sent(("Rotate", "timeAfterCreate", "P30D"), expiry="P27D"),
        sent(("Rotate", "timeAfterCreate", "P24D"), expiry="P30D"),
        sent(("Rotate", "timeBeforeExpiry", "P30D")),
        sent(("Rotate", "timeAfterCreate", "P30D"), ("Rotate", "timeAfterCreate", "P40D")),
        sent(("Rotate", "both", "P30D")),
        sent(expiry="P101Y"),
    ],
    ids=[
        "early",
        "late-notice",
        "notice-after",
        "kind",
        "expiry",
        "no-room",
        "no-expiry",
        "twice",
        "no-trigger",
        "long",
    ],
)
def test_policies_that_could_not_run_are_refused(policy: SentPolicy) -> None:
    with pytest.raises(Fault) as refused:
        planned(policy, None, NEWEST, NOW)
    assert refused.value.kind is FaultKind.INVALID


def test_rotation_before_expiry_needs_a_version_that_expires() -> None:
    policy = sent(("rotate", "timeBeforeExpiry", "P10D"), expiry="P90D")
    assert planned(policy, None, NEWEST, NOW).actions[0].before_expiry == "P10D"
    with pytest.raises(Fault):
        planned(policy, None, Attributes(NOW, NOW), NOW)


def test_what_is_due_when() -> None:
    policy = planned(
        sent(("Rotate", "timeAfterCreate", "P30D"), ("Notify", "timeBeforeExpiry", "P10D"), expiry="P90D"),
        None,
        NEWEST,
        NOW,
    )
    assert due_at(policy, NEWEST.created, NEWEST.exp, "Rotate") == NOW + 30 * 86_400
    assert due_at(policy, NEWEST.created, NEWEST.exp, "Notify") == NOW + 80 * 86_400
    assert due_at(policy, NOW, None, "Notify") is None
    assert due_at(RotationPolicy(NOW, NOW), NEWEST.created, NEWEST.exp, "Rotate") is None


def test_how_policies_are_shown() -> None:
    default: Any = shown(None, "id")
    assert default["lifetimeActions"] == [{"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}]
    first = planned(sent(("ROTATE", "timeAfterCreate", "P30D")), None, NEWEST, NOW)
    second = planned(sent(("Rotate", "timeAfterCreate", "P40D")), first, NEWEST, NOW + 5)
    found = shown(second, "id")
    assert found["lifetimeActions"] == [{"trigger": {"timeAfterCreate": "P40D"}, "action": {"type": "Rotate"}}]
    assert found["attributes"] == {"created": int(NOW), "updated": int(NOW) + 5}
