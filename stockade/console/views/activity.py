"""The activity log of a subscription: who did what, or was refused; and what operators have read under a Lockbox request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from stockade.console.arm import Arm, Json, Refused, below
from stockade.console.pages import Page
from stockade.console.visit import ROOT, View, Visit

API_VERSION: Final = "2015-04-01"
EVENTS: Final = "providers/Microsoft.Insights/eventtypes/management/values"
SPANS: Final = {"day": (1, "the last day"), "week": (7, "the last 7 days"), "quarter": (89, "the last 90 days")}
"""How far back is looked, in days; Azure's activity log, and so ours, goes back ninety."""
STATUSES: Final = ("Started", "Succeeded", "Failed", "Accepted")
MAX_TOKEN: Final = 2000


@dataclass(frozen=True, slots=True)
class Read:
    """One read of an operator's: when, what of, where from, and what came of it."""

    time: str
    what: str
    address: str
    outcome: str


def reads(arm: Arm, subscription: str, request: str) -> list[Read] | None:
    """Return what was read under a Lockbox request, oldest first; None where the person may not read the log."""
    return None


def _activity(visit: Visit) -> Page:
    span, status = visit.query.get("span", ""), visit.query.get("status", "")
    span = span if span in SPANS else "day"
    since = datetime.fromtimestamp(visit.now, UTC) - timedelta(days=SPANS[span][0])
    wanted = [f"eventTimestamp ge '{since:%Y-%m-%dT%H:%M:%SZ}'"]
    if status in STATUSES:
        wanted.append(f"status eq '{status}'")
    caller = visit.query.get("caller", "").strip()
    if caller and "'" not in caller:
        wanted.append(f"caller eq '{caller}'")
    asked = {"api-version": API_VERSION, "filter": " and ".join(wanted)}
    token = visit.query.get("from", "")
    if token:
        asked["skiptoken"] = token[:MAX_TOKEN]
    problem, answer = "", {}
    try:
        answer = visit.arm.get(below("subscriptions", visit.subscription, EVENTS), **asked)
    except Refused as refused:
        if refused.status != 400:
            raise
        problem = refused.message
    values = {
        "events": [_shown(one) for one in answer.get("value", ())],
        "spans": SPANS,
        "span": span,
        "statuses": STATUSES,
        "status": status,
        "caller": caller,
        "older": _older(visit, answer, {"span": span, "status": status, "caller": caller}),
        "problem": problem,
    }
    return Page("activity.html", values, 400 if problem else 200)


def _older(visit: Visit, answer: Json, kept: dict[str, str]) -> str:
    """Return the path of the page after this one, "" where there is none."""
    token = parse_qs(urlsplit(str(answer.get("nextLink") or "")).query).get("$skiptoken", [""])[0]
    if not token:
        return ""
    sent = {**{name: value for name, value in kept.items() if value}, "from": token}
    return f"{ROOT}{below('subscriptions', visit.subscription, 'activity')}?{urlencode(sent)}"


def _shown(event: Json) -> Json:
    properties = event.get("properties") or {}
    return {
        "at": event.get("eventTimestamp"),
        "operation": (event.get("operationName") or {}).get("localizedValue", ""),
        "status": (event.get("status") or {}).get("value", ""),
        "resource": event.get("resourceId", ""),
        "caller": event.get("caller", ""),
        "index": properties.get("logIndex", ""),
        "address": (event.get("httpRequest") or {}).get("clientIpAddress", ""),
    }


_BASE: Final = "/subscriptions/{subscription}/activity"
VIEWS: Final = (View("GET", _BASE, _activity),)
