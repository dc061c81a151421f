"""`Stockade.Audit` in ARM: searching the records of a log, proving one, and the signed heads that proofs lead to.

For the log of a subscription, or at the tenant's root for the platform's own. Whoever may read there sees all of that log, and nothing of another.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from stockade.audit import proof
from stockade.audit.checkpoint import HeadKey, SignedHead
from stockade.audit.criteria import Wanted
from stockade.audit.heads import Heads
from stockade.audit.ledger import LogReader
from stockade.audit.search import Found, records_of
from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import AuditRecord
from stockade.kernel.resource_id import ResourceId
from stockade.keys import request_receipts
from stockade.management.audit.reading import WITHIN_S, existing_log, log_name, page_of, turn
from stockade.management.odata import Comparison, invalid_filter, parse_comparisons, parse_time
from stockade.management.resource_type import Call, Reply
from stockade.storage.database import Reader
from stockade.storage.documents import Json

PERMISSION: Final = "Stockade.Audit/records/read"
PLATFORM_PERMISSION: Final = "Stockade.Audit/platformRecords/read"
PAGE: Final = 100
MAX_PAGE: Final = 1000
MAX_VALUE: Final = 2048
_TEXTS: Final = {
    "resource": "resource", "account": "resource", "principal": "who", "decision": "decision", "operation": "operation",
    "outcome": "outcome", "category": "category", "id": "decision_id",
}  # fmt: skip
_POSSIBLE: Final = (
    "There is, joined by 'and': account or resource (an ARM id; what is below it counts), principal, decision (allow, deny), operation and "
    "outcome (in full, or up to a final *), category, id, each with eq; status with eq, ge, le; time with ge, le."
)


def search(call: Call, reader: Reader) -> Json:
    """Answer with a page of records, newest first. `$filter` as `_POSSIBLE` says, `$top`: of a page, at most a thousand."""
    page = page_of(call, read_filter(call.query.get("$filter", "")), _top(call))
    answer: Json = {"value": [_body(call, found) for found in page.found]}
    if page.token:
        answer["nextLink"] = _link(call, "records", page.token)
    return answer


def show(call: Call, reader: Reader) -> Json:
    """Answer with all records of one request, oldest first: a change has one before it was made and one of what came of it."""
    return {"value": [_body(call, found) for found in _records(call, existing_log(call))]}


def prove(call: Call, reader: Reader) -> Reply:
    """Answer with the proof of one record (`audit/proof.py`). `index`: which of the request's; without it the last."""
    log = existing_log(call)
    found = _records(call, log)
    wanted = number(call, "index", found[-1].index)
    if wanted not in {one.index for one in found}:
        places = ", ".join(str(one.index) for one in found)
        raise Fault(
            FaultKind.NOT_FOUND, f"The request's records have the indexes {places}.", code="AuditRecordNotFound"
        )
    bundle = proof.prove(log, _heads(call), wanted)
    return Reply(200, msgspec.Raw(msgspec.json.encode(bundle)), {"x-stockade-records": str(len(found))})


def receipt(call: Call, reader: Reader) -> Json:
    """Answer with the signed receipt that a request's caller asked for; Fault(NOT_FOUND) where nobody did."""
    for found in _records(call, existing_log(call)):
        record = msgspec.json.decode(found.line, type=AuditRecord)
        if record.receipt:
            sealed = b64decode(record.receipt)
            opened = call.platform.root_key.unseal(sealed, request_receipts.bound_to(record.id))
            return {"decisionId": record.id, "receipt": opened.reveal_text()}
    message = "No receipt was given for this request: its caller did not ask for one (x-stockade-receipt: 1)."
    raise Fault(FaultKind.NOT_FOUND, message, code="ReceiptNotFound")


def newest_head(call: Call, reader: Reader) -> Json:
    """Answer with the newest signed head."""
    newest = _heads(call).newest()
    if newest is None:
        raise Fault(FaultKind.NOT_FOUND, "No tree head has been signed here yet.", code="TreeHeadNotFound")
    return _head(call, newest, call.platform.broker.tree_head_key())


def heads(call: Call, reader: Reader) -> Json:
    """Answer with a page of signed heads, newest first."""
    before = number(call, "$skiptoken", 2**62)
    size = _top(call)
    with turn():
        found = [signed for signed in _heads(call).all() if signed.head.size < before][::-1]
    public = call.platform.broker.tree_head_key()
    answer: Json = {"value": [_head(call, signed, public) for signed in found[:size]]}
    if len(found) > size:
        answer["nextLink"] = _link(call, "treeHeads", str(found[size - 1].head.size))
    return answer


def consistency(call: Call, reader: Reader) -> Json:
    """Answer with what proves that the log of `second` records (all, where it is not named) continues the log of `first`."""
    log = existing_log(call)
    first, second = number(call, "first", -1), number(call, "second", log.size)
    if not 0 < first <= second <= log.size:
        message = f"'first' and 'second' are numbers of records, the smaller one first; the log has {log.size}."
        raise Fault(FaultKind.INVALID, message, target="first")
    return {
        "log": log.name,
        "first": first,
        "second": second,
        "firstRoot": _base64(log.root(first)),
        "secondRoot": _base64(log.root(second)),
        "proof": [_base64(value) for value in log.consistency(first, second)],
    }


# What is asked for


def read_filter(text: str) -> Wanted:
    """Return what a filter asks for; Fault(INVALID) saying what there is."""
    named: dict[str, Any] = {}
    low, high = 0, 999
    for one in parse_comparisons(text):
        name = one.field.lower()
        if not one.value or len(one.value) > MAX_VALUE:
            raise invalid_filter(text)
        if name == "status":
            code = _status(one)
            low, high = max(low, code if one.operator != "le" else 0), min(high, code if one.operator != "ge" else 999)
            named["statuses"] = (low, high)
        elif name == "time" and one.operator != "eq":
            named["since" if one.operator == "ge" else "until"] = parse_time(one.value)
        elif name in _TEXTS and one.operator == "eq":
            value = ResourceId.parse(one.value).text if _TEXTS[name] == "resource" else one.value
            if named.setdefault(_TEXTS[name], value) != value:
                raise invalid_filter(text)
        else:
            message = f"The filter cannot ask for '{one.field} {one.operator}'. {_POSSIBLE}"
            raise Fault(FaultKind.INVALID, message, code="InvalidFilterInQueryString", target="$filter")
    for name, values in (("decision", ("allow", "deny")), ("category", ("Audit", "RequestResponse"))):
        if name in named:
            named[name] = _one_of(named[name], values, name)
    return Wanted(**named)


def _one_of(value: str, values: tuple[str, ...], name: str) -> str:
    for one in values:
        if one.lower() == value.lower():
            return one
    message = f"'{value[:60]}' is no {name}; there is: {', '.join(values)}."
    raise Fault(FaultKind.INVALID, message, code="InvalidFilterInQueryString", target="$filter")


def _status(one: Comparison) -> int:
    if not (one.value.isascii() and one.value.isdigit()) or len(one.value) > 3:
        message = f"'{one.value[:60]}' is no HTTP status."
        raise Fault(FaultKind.INVALID, message, code="InvalidFilterInQueryString", target="$filter")
    return int(one.value)


def number(call: Call, name: str, default: int) -> int:
    """Return a number from the query; Fault(INVALID)."""
    text = call.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise Fault(FaultKind.INVALID, f"'{name}' is a number.", target=name)
    return int(text)


def _top(call: Call) -> int:
    return max(1, min(number(call, "$top", PAGE), MAX_PAGE))


def _records(call: Call, log: LogReader) -> tuple[Found, ...]:
    """Return a request's records; Fault(NOT_FOUND) where this log has none."""
    wanted = call.parameters["decision"]
    with turn():
        found = records_of(log, call.platform.settings.audit_dir, wanted, WITHIN_S)
    if not found:
        message = (
            f"There is no record of '{wanted[:64]}' here, or it is no longer kept. New ones are here within seconds."
        )
        raise Fault(FaultKind.NOT_FOUND, message, code="AuditRecordNotFound")
    return found


def _heads(call: Call) -> Heads:
    return Heads(call.platform.logs.folder / log_name(call))


# What it looks like


def _body(call: Call, found: Found) -> Json:
    record = msgspec.json.decode(found.line)
    name = str(record.get("id", "")) if isinstance(record, dict) else ""
    return {
        "id": f"{_where(call)}/records/{name}",
        "name": name,
        "type": "Stockade.Audit/records",
        "properties": {
            "log": log_name(call),
            "index": found.index,
            "leafHash": sha256(b"\0" + found.line).hexdigest(),
            "record": record,
        },
    }


def _head(call: Call, signed: SignedHead, public: bytes) -> Json:
    head = signed.head
    return {
        "id": f"{_where(call)}/treeHeads/{head.size}",
        "name": str(head.size),
        "type": "Stockade.Audit/treeHeads",
        "properties": {
            "log": head.log,
            "size": head.size,
            "root": _base64(head.root),
            "time": iso(head.time),
            "checkpoint": signed.note.decode(),
            "verifierKey": HeadKey(public).text(head.origin),
        },
    }


def _where(call: Call) -> str:
    return f"{call.id.text.rstrip('/')}/providers/Stockade.Audit"


def _link(call: Call, collection: str, token: str) -> str:
    rest = {name: value for name, value in call.query.items() if name != "$skiptoken"}
    return f"{call.base_url}{_where(call)}/{collection}?{urlencode({**rest, '$skiptoken': token})}"


def _base64(value: bytes) -> str:
    return b64encode(value).decode()
