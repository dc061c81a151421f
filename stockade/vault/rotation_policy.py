"""Rotation policies: what one may say. Pure; when it next wants something done is `policy/key_rotation.py`.

Source: contracts, control-plane sections 6.2 and 6.6 (at least 7 days after creation and before expiry); azure-keyvault-keys 4.11.3
(KeyRotationPolicy: new versions expire after 28 days at least).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from stockade.policy.key_rotation import LifetimeAction, RotationPolicy, later
from stockade.vault.documents import DAY_S, Attributes
from stockade.vault.wire import bad_parameter

MIN_TRIGGER_DAYS: Final = 7
MIN_EXPIRY_DAYS: Final = 28
MAX_YEARS: Final = 100
DEFAULT_NOTICE: Final = LifetimeAction("Notify", before_expiry="P30D")
"""What every key has whose policy nobody has written."""
_REFERENCE: Final = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""From where durations are compared with one another; the year that follows has no leap day, so nothing looks longer than it can be."""


class Trigger(msgspec.Struct, rename="camel"):
    """When: one of the two."""

    time_after_create: str | None = None
    time_before_expiry: str | None = None


class ActionType(msgspec.Struct):
    """What: Rotate or Notify, in any case."""

    type: str | None = None


class SentAction(msgspec.Struct):
    """One lifetime action as it is sent."""

    trigger: Trigger | None = None
    action: ActionType | None = None


class SentAttributes(msgspec.Struct, rename="camel"):
    """Of a policy."""

    expiry_time: str | None = None


class SentPolicy(msgspec.Struct, rename="camel"):
    """A rotation policy as it is sent."""

    lifetime_actions: list[SentAction] | None = None
    attributes: SentAttributes | None = None


def planned(sent: SentPolicy, before: RotationPolicy | None, newest: Attributes, now: float) -> RotationPolicy:
    """Return a policy as it is stored; Fault(INVALID) for one that could not run. newest: of the key's newest version."""
    expiry = sent.attributes.expiry_time if sent.attributes is not None else None
    if expiry is not None and _days(expiry, "attributes.expiryTime") < MIN_EXPIRY_DAYS:
        raise bad_parameter(f"expiryTime has to be at least P{MIN_EXPIRY_DAYS}D.", "attributes.expiryTime")
    actions = tuple(_action(action, index, expiry) for index, action in enumerate(sent.lifetime_actions or ()))
    kinds = [action.action for action in actions]
    if len(set(kinds)) != len(kinds):
        raise bad_parameter("A rotation policy has at most one action of each type.", "lifetimeActions")
    for action in actions:
        if action.action == "Rotate" and action.before_expiry and expiry is None:
            message = (
                "Rotation before expiry needs attributes.expiryTime, or the versions it makes would never be rotated."
            )
            raise bad_parameter(message, "attributes.expiryTime")
        if action.action == "Rotate" and action.before_expiry and newest.exp is None:
            message = "Rotation before expiry needs a key whose newest version expires; set its exp, or rotate after creation."
            raise bad_parameter(message, "lifetimeActions")
    return RotationPolicy(before.created if before is not None else now, now, actions, expiry)


def shown(policy: RotationPolicy | None, policy_id: str) -> dict[str, Any]:
    """Return a policy as clients see it; None: the one that a key has whose policy nobody has written."""
    actions = policy.actions if policy is not None and policy.actions else (DEFAULT_NOTICE,)
    attributes: dict[str, Any] = {}
    if policy is not None:
        attributes = {"created": int(policy.created), "updated": int(policy.updated)}
        if policy.expiry_time is not None:
            attributes["expiryTime"] = policy.expiry_time
    return {
        "id": policy_id,
        "lifetimeActions": [
            {
                "trigger": (
                    {"timeAfterCreate": action.after_create}
                    if action.after_create
                    else {"timeBeforeExpiry": action.before_expiry}
                ),
                "action": {"type": action.action},
            }
            for action in actions
        ],
        "attributes": attributes,
    }


def expiry_of_next(policy: RotationPolicy | None, now: float) -> int | None:
    """Return when a version that is made now by rotation expires; None when it does not."""
    if policy is None or policy.expiry_time is None:
        return None
    return int(later(now, policy.expiry_time))


def _action(sent: SentAction, index: int, expiry: str | None) -> LifetimeAction:
    where = f"lifetimeActions[{index}]"
    kind = (sent.action.type if sent.action is not None else None) or ""
    trigger = sent.trigger or Trigger()
    after, before = trigger.time_after_create, trigger.time_before_expiry
    if (after is None) == (before is None):
        raise bad_parameter(f"{where} needs exactly one of timeAfterCreate and timeBeforeExpiry.", where)
    text = after if after is not None else before
    assert text is not None
    days = _days(text, f"{where}.trigger")
    if days < MIN_TRIGGER_DAYS:
        raise bad_parameter(f"A trigger has to be at least P{MIN_TRIGGER_DAYS}D.", f"{where}.trigger")
    if expiry is not None and days > _days(expiry, "attributes.expiryTime") - MIN_TRIGGER_DAYS:
        message = f"A trigger has to leave {MIN_TRIGGER_DAYS} days of expiryTime at least."
        raise bad_parameter(message, f"{where}.trigger")
    match kind.lower():
        case "rotate":
            return LifetimeAction("Rotate", after, before)
        case "notify" if before is not None:
            return LifetimeAction("Notify", None, before)
        case "notify":
            raise bad_parameter("Notify takes timeBeforeExpiry only.", f"{where}.trigger")
    raise bad_parameter(f"{where}.action.type is Rotate or Notify.", f"{where}.action")


def _days(duration: str, target: str) -> float:
    try:
        days = (later(_REFERENCE, duration) - _REFERENCE) / DAY_S
    except ValueError as failure:
        raise bad_parameter(
            f"'{duration[:40]}' is no ISO 8601 duration in whole days, such as P90D.", target
        ) from failure
    if days > MAX_YEARS * 366:
        raise bad_parameter(f"Durations are at most {MAX_YEARS} years.", target)
    return days
