"""Azure's activity log (`Microsoft.Insights/eventtypes/management/values`): what was done to resources and by whom, out of the audit log.

A change that was carried out has two events with the same correlation id, as in Azure: `Started`, recorded before it, and what came of it. What
was only read has none. Source: azure-mgmt-monitor's `activity_logs.list` (api-version 2015-04-01), whose documentation lists the filters.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from stockade.audit.criteria import Indexed
from stockade.audit.search import Found
from stockade.kernel.faults import Fault
from stockade.kernel.record import AuditRecord
from stockade.kernel.resource_id import ResourceId
from stockade.management.audit.activity_filter import read_filter, read_select
from stockade.management.audit.operation_names import display_name
from stockade.management.audit.reading import log_name, page_of
from stockade.management.resource_type import Call
from stockade.storage.database import Reader
from stockade.storage.documents import Json

PERMISSION: Final = "Microsoft.Insights/eventtypes/values/read"
PAGE: Final = 200
CATEGORIES: Final = (
    "Administrative",
    "Security",
    "ServiceHealth",
    "Alert",
    "Recommendation",
    "Policy",
    "Autoscale",
    "ResourceHealth",
)
"""Of Azure's event categories; events here are all administrative."""
_TICKS_BEFORE_EPOCH: Final = 621_355_968_000_000_000
_OBJECT_ID: Final = "http://schemas.microsoft.com/identity/claims/objectidentifier"

_decode = msgspec.json.Decoder(AuditRecord).decode


def events(call: Call, reader: Reader) -> Json:
    """Answer with a page of events, newest first."""
    chosen = read_select(call.query.get("$select", ""))
    asked = read_filter(call)

    def also(record: Indexed) -> bool:
        return asked.status in ("", status_of(record).lower()) and (
            not asked.levels or level_of(record).lower() in asked.levels
        )

    page = page_of(call, asked.wanted, PAGE, also)
    bodies = [_event(call, found) for found in page.found]
    if chosen:
        bodies = [{name: value for name, value in body.items() if name in chosen} for body in bodies]
    answer: Json = {"value": bodies}
    if page.token:
        rest = {name: value for name, value in call.query.items() if name != "$skiptoken"}
        where = f"{call.base_url}{call.id.text.rstrip('/')}/providers/Microsoft.Insights/eventtypes/management/values"
        answer["nextLink"] = f"{where}?{urlencode({**rest, '$skiptoken': page.token})}"
    return answer


def categories(call: Call, reader: Reader) -> Json:
    """Answer with Azure's categories of events."""
    return {"value": [_localizable(name) for name in CATEGORIES]}


# What an event looks like


def _event(call: Call, found: Found) -> Json:
    record = _decode(found.line)
    indexed = msgspec.convert(msgspec.to_builtins(record), Indexed)
    resource, (role, scope) = _resource(record.resource), _role(record.rule)
    leaf = sha256(b"\0" + found.line).digest()
    # Two events of one operation are two records, so the record's own hash names an event, the same whoever asks.
    event_id = str(UUID(bytes=sha256(f"{log_name(call)}/{found.index}/".encode() + leaf).digest()[:16], version=5))
    at = _iso(record.time)
    kind = resource.type if resource is not None and resource.type is not None else ""
    body: Json = {
        "authorization": {"action": record.operation, "role": role, "scope": scope or record.resource},
        "caller": record.principal,
        "category": _localizable("Administrative"),
        "claims": {
            name: value for name, value in ((_OBJECT_ID, record.principal), ("appid", record.application)) if value
        },
        "correlationId": record.correlation or record.id,
        "description": "",
        "eventDataId": event_id,
        "eventName": _localizable("BeginRequest", "Begin request")
        if record.phase == "intent"
        else _localizable("EndRequest", "End request"),
        "eventTimestamp": at,
        "httpRequest": {
            "clientRequestId": record.id,
            "clientIpAddress": record.caller_address,
            "method": _method(record.operation),
        },
        "id": f"{record.resource.rstrip('/')}/events/{event_id}/ticks/{_TICKS_BEFORE_EPOCH + int(record.time * 10_000_000)}",
        "level": level_of(indexed),
        "operationId": record.id,
        "operationName": {"value": record.operation, "localizedValue": display_name(record.operation)},
        "properties": _properties(record, found, leaf),
        "resourceId": record.resource,
        "resourceProviderName": _localizable(record.operation.partition("/")[0]),
        "status": _localizable(status_of(indexed)),
        "subStatus": __sub_status(record.status),
        "submissionTimestamp": at,
        "tenantId": call.platform.tenant_id,
    }
    if kind:
        body["resourceType"] = _localizable(kind)
    if resource is not None and resource.resource_group is not None:
        body["resourceGroupName"] = resource.resource_group
    if call.id.subscription is not None:
        body["subscriptionId"] = call.id.subscription
    return body


def _properties(record: AuditRecord, found: Found, leaf: bytes) -> dict[str, str]:
    """Return what else is known, and where the record stands in the log: with that whoever reads an event can ask for its proof."""
    named = {
        "statusCode": HTTPStatus(record.status).phrase.replace(" ", "") if record.status in list(HTTPStatus) else "",
        "reason": record.reason,
        "client": record.client,
        **(record.because or {}),
        "decisionId": record.id,
        "logIndex": str(found.index),
        "leafHash": leaf.hex(),
    }
    return {name: value for name, value in named.items() if value}


def status_of(record: Indexed) -> str:
    """Return an event's status in Azure's words."""
    if record.phase == "intent":
        return "Started"
    if record.decision == "deny" or record.outcome.startswith("failed") or record.status >= HTTPStatus.BAD_REQUEST:
        return "Failed"
    return "Accepted" if record.status == HTTPStatus.ACCEPTED else "Succeeded"


def level_of(record: Indexed) -> str:
    """Return an event's level in Azure's words."""
    return "Error" if status_of(record) == "Failed" else "Informational"


def __sub_status(status: int) -> Json:
    if status not in list(HTTPStatus):
        return _localizable("")
    phrase = HTTPStatus(status).phrase
    return {"value": phrase.replace(" ", ""), "localizedValue": f"{phrase} (HTTP Status Code: {status})"}


def _method(operation: str) -> str:
    return {"write": "PUT", "delete": "DELETE", "action": "POST"}.get(operation.rpartition("/")[2].lower(), "")


def _role(rule: str) -> tuple[str, str]:
    """Return role and scope out of `Owner at /subscriptions/...`."""
    role, joint, scope = rule.rpartition(" at ")
    return (role, scope) if joint else ("", "")


def _resource(text: str) -> ResourceId | None:
    try:
        return ResourceId.parse(text)
    except Fault:
        return None


def _localizable(value: str, shown: str = "") -> Json:
    return {"value": value, "localizedValue": shown or value}


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
