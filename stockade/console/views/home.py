"""What waits for whoever is signed in, in all subscriptions that they see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from stockade.console.arm import Arm, Json, Refused, below
from stockade.console.pages import Page
from stockade.console.views import access, lockbox
from stockade.console.visit import ROOT, View, Visit

T = TypeVar("T")
_LABELS: Final[dict[access.Kind, str]] = {"sku": "Request for E0", "role": "Request for a role"}
MAX_SUBSCRIPTIONS: Final = 20
"""Looked into for the first page; the others are linked to."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that somebody has to decide on. until: when it lapses, or is promised an answer."""

    kind: str
    what: str
    by: str
    link: str
    since: Any
    until: Any


def subscriptions(arm: Arm) -> list[Json]:
    """Return the subscriptions the person sees, by name."""
    found, _ = arm.listed("/subscriptions")
    return sorted(found, key=lambda one: str(one.get("displayName", "")).lower())


def _home(visit: Visit) -> Page:
    seen = subscriptions(visit.arm)
    waiting = [one for entry in seen[:MAX_SUBSCRIPTIONS] for one in _waiting(visit.arm, str(entry["subscriptionId"]))]
    values = {"subscriptions": seen, "waiting": waiting, "looked_into": MAX_SUBSCRIPTIONS}
    return Page("home.html", values)


def _waiting(arm: Arm, subscription: str) -> Iterator[Waiting]:
    base = ROOT + below("subscriptions", subscription)
    for request in _if_allowed(partial(lockbox.pending, arm, subscription)):
        what = request["properties"]
        details = what.get("stockade") or {}
        yield Waiting(
            "Lockbox request",
            str(what.get("justification", "")),
            str((details.get("operator") or {}).get("name", "")),
            base + below("lockbox", str(what["requestId"])),
            what.get("createdDateTime"),
            what.get("expirationDateTime"),
        )
    for kind, label in _LABELS.items():
        for one in _if_allowed(partial(access.asked, arm, subscription, kind)):
            if one.waits:
                what = f"{one.summary}: {one.reason}"
                yield Waiting(label, what, one.by, f"{base}/access#{kind}", one.since, one.until)


def _if_allowed(read: Callable[[], list[T]]) -> list[T]:
    """Return a list, or nothing where the person may not read it, or this platform has none of it."""
    try:
        return read()
    except Refused as refused:
        if refused.status in (403, 404):
            return []
        raise


VIEWS: Final = (View("GET", "", _home),)
