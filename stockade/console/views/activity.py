"""The activity log of a subscription: who did what, or was refused; and what operators have read under a Lockbox request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from stockade.console.arm import Arm, Json, Refused, below
from stockade.console.pages import Download, Page
from stockade.console.visit import ROOT, View, Visit

API_VERSION: Final = "2015-04-01"
EVENTS: Final = "providers/Microsoft.Insights/eventtypes/management/values"
RECORDS: Final = "providers/Stockade.Audit/records"
READ: Final = "Stockade.Lockbox/requests/content/read/action"
MAX_READS: Final = 200
SPANS: Final = {"day": (1, "the last day"), "week": (7, "the last 7 days"), "quarter": (89, "the last 90 days")}
"""How far back is looked, in days; Azure's activity log, and so ours, goes back ninety."""
STATUSES: Final = ("Started", "Succeeded", "Failed", "Accepted")
MAX_TOKEN: Final = 2000


@dataclass(frozen=True, slots=True)
class Read:
    """One read of an operator's: when, what of, where from, and the record's name."""

    time: Any
    what: str
    address: str
    record: str


def reads(arm: Arm, request_id: str) -> list[Read] | None:
    """Return what was read under a Lockbox request, newest first; None where the person may not read the log.

    request_id: the request's ARM id.
    """
    subscription = request_id.split("/")[2]
    wanted = f"resource eq '{request_id}' and operation eq '{READ}'"
    try:
        found = arm.get(below("subscriptions", subscription, RECORDS), filter=wanted, top=str(MAX_READS))
    except Refused as refused:
        if refused.status == 403:
            return None
        raise
    return [_read(one["properties"]["record"]) for one in found.get("value", ())]


def _read(record: Json) -> Read:
    what = (record.get("because") or {}).get("path", "")
    return Read(record.get("time"), str(what), str(record.get("callerAddress", "")), str(record.get("id", "")))


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
        "operation": _named(event.get("operationName") or {}),
        "status": (event.get("status") or {}).get("value", ""),
        "resource": event.get("resourceId", ""),
        "caller": event.get("caller", ""),
        "record": properties.get("decisionId", ""),
        "address": (event.get("httpRequest") or {}).get("clientIpAddress", ""),
    }


def _record(visit: Visit) -> Page:
    """Show all records of one request: a change has one from before it was made, and one of what came of it."""
    found = visit.arm.get(below("subscriptions", visit.subscription, RECORDS, visit.names["record"]))
    records = [one["properties"] for one in found.get("value", ())]
    return Page("record.html", {"records": records, "name": visit.names["record"]})


def _proof(visit: Visit) -> Download:
    """Give out what proves that a record stands in the log; `stockade audit verify` reads it, with the public key alone."""
    name, index = visit.names["record"], visit.query.get("index", "")
    path = below("subscriptions", visit.subscription, RECORDS, name, "proof")
    proof = visit.arm.get(path, **({"index": index} if index else {}))
    safe = "".join(one for one in name if one.isalnum() or one == "-")[:64]
    return Download(f"stockade-proof-{safe}.json", json.dumps(proof, ensure_ascii=False, indent=1).encode())


def _named(operation: Json) -> str:
    """Return an operation's name; of one that is a word alone, with what it is done to."""
    name, value = str(operation.get("localizedValue", "")), str(operation.get("value", ""))
    return f"{name} ({value.rpartition('/')[0].rpartition('/')[0]})" if value and name.isalpha() else name


_BASE: Final = "/subscriptions/{subscription}/activity"
VIEWS: Final = (
    View("GET", _BASE, _activity),
    View("GET", f"{_BASE}/{{record}}", _record),
    View("GET", f"{_BASE}/{{record}}/proof", _proof),
)
