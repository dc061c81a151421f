"""`GET {account}/decisions`, `GET {account}/decisions/{id}` and `GET /providers/Stockade.Policy/decisions/{id}`.

They take an action of their own, not a read: who calls an account, and from where, is not for everyone who may see it. Source: as for
`listKeyUsage`.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlencode

from stockade.decisions.explain import explain, summary
from stockade.decisions.record import Decision
from stockade.decisions.store import DecisionStore
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId, is_guid
from stockade.management.authorization import granted
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.odata import invalid_filter, parse_filter
from stockade.management.resource_type import Call, display_id
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

PERMISSION: Final = f"{ACCOUNTS}/decisions/explain/action"
PAGE: Final = 100
MAX_PAGE: Final = 1000
LONGEST_DAYS: Final = 366
_SPAN: Final = re.compile(r"(?P<count>\d{1,6})(?P<unit>[smhd])")
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def store(call: Call) -> DecisionStore:
    """Return the record of past decisions; close it when done."""
    settings = call.platform.settings
    return DecisionStore(settings.data_dir, settings.decisions)


def list_decisions(call: Call, reader: Reader, document: Document) -> Json:
    """Answer with the newest decisions of an account, newest first, in pages.

    `$filter`: `rule eq 'network'`, `verdict eq 'deny'`, joined by `and`; `since`: `7d`, `24h`; `$top`: of a page.
    """
    wanted = {"rule": "", "verdict": ""}
    for term in parse_filter(call.query.get("$filter", "")):
        if term.kind != "eq" or term.name not in wanted:
            raise invalid_filter(call.query["$filter"])
        wanted[term.name] = term.value
    size = number(call, "$top", PAGE, MAX_PAGE)
    before = number(call, "$skiptoken", 0, 2**62) or None
    since = call.now - span(call, "since") if "since" in call.query else 0.0
    with store(call) as kept:
        found = kept.newest(
            document.id, size + 1, before=before, rule=wanted["rule"], verdict=wanted["verdict"], since=since
        )
    answer: Json = {"value": [summary(entry.decision) for entry in found[:size]]}
    if len(found) > size:
        rest = {**call.query, "$skiptoken": str(found[size - 1].seq)}
        answer["nextLink"] = f"{call.base_url}{display_id(document)}/decisions?{urlencode(rest)}"
    return answer


def of_account(call: Call, reader: Reader) -> Json:
    """Explain a decision of one account; Fault(NOT_FOUND) also for one of another account's."""
    made = _found(call, call.parameters["decision"])
    if made is None or made.account != call.id.key:
        raise _not_found(call.parameters["decision"])
    return explained(call, reader, made)


def anywhere(call: Call, reader: Reader) -> Json:
    """Explain a decision by its id alone; Fault(NOT_FOUND) for every caller who may not, whether or not there is one.

    A decision about no account at all (an address that is nobody's) is for whoever has the permission on a subscription.
    """
    made = _found(call, call.parameters["decision"])
    if made is None or not _may(call, made):
        raise _not_found(call.parameters["decision"])
    return explained(call, reader, made)


def explained(call: Call, reader: Reader, made: Decision) -> Json:
    """Return the explanation, by the policy the caller was authorised under."""
    document = reader.get(made.account) if made.account else None
    return explain(made, call.snapshot, keys_made=keys_made(document))


def keys_made(document: Document | None) -> dict[str, float]:
    """Return when each slot's present key was made, epoch seconds."""
    keys = document.private.get("keys", {}) if document is not None else {}
    return {slot: float(entry["createdAt"]) for slot, entry in keys.items()}


def number(call: Call, name: str, default: int, most: int) -> int:
    """Return a whole number from the query, at most `most`; Fault(INVALID)."""
    text = call.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) == 0:
        raise Fault(FaultKind.INVALID, f"{name} is a positive number.", target=name)
    return min(int(text), most)


def span(call: Call, name: str, default_s: float = 0.0) -> float:
    """Return a span of time from the query in seconds: `30m`, `24h`, `7d`, at most a year; Fault(INVALID)."""
    text = call.query.get(name, "")
    if not text:
        return default_s
    match = _SPAN.fullmatch(text)
    seconds = int(match["count"]) * _UNITS[match["unit"]] if match is not None else 0.0
    if not 0 < seconds <= LONGEST_DAYS * 86_400:
        message = f"'{text[:40]}' is no span of time; write 30m, 24h or 7d, at most {LONGEST_DAYS}d."
        raise Fault(FaultKind.INVALID, message, target=name)
    return seconds


def _found(call: Call, decision_id: str) -> Decision | None:
    if not is_guid(decision_id):
        return None
    with store(call) as kept:
        return kept.find(decision_id)


def _may(call: Call, made: Decision) -> bool:
    if made.account:
        return granted(call.snapshot, call.credential, PERMISSION, made.account, now=call.now)
    subscriptions = {
        f"/subscriptions/{account.subscription}".lower()
        for key in call.snapshot.keys("account")
        if (account := ResourceId.parse(str(key))).subscription is not None
    }
    return any(granted(call.snapshot, call.credential, PERMISSION, scope, now=call.now) for scope in subscriptions)


def _not_found(decision_id: str) -> Fault:
    message = (
        f"There is no decision '{decision_id[:64]}', it is no longer kept, or you may not read it. "
        f"Reading it takes the action '{PERMISSION}' on its account."
    )
    return Fault(FaultKind.NOT_FOUND, message, code="DecisionNotFound")
