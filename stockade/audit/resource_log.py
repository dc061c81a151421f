"""A record as it leaves the platform: in Azure Monitor's common schema for resource logs, with the members of Cognitive Services' and Key Vault's.

Ids are in upper case, as Azure's logs have them; `properties` has them in the caller's spelling, with everything else that the record holds and its
place in the log's tree, so that whoever receives it can ask for a proof. Members that a record has not are left out.
Source: Azure Monitor, resource logs' common and service-specific schemas.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from stockade.audit.sinks.sink import ResourceLog
from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault
from stockade.kernel.resource_id import ResourceId

VERSION: Final = "1.0"
"""`operationVersion`: of what stands in `properties`; records do not say which api-version was asked for."""
NOBODYS: Final = "/PROVIDERS/STOCKADE.AUDIT"
"""`resourceId` of what is about no resource."""
VAULT: Final = "microsoft.keyvault/vaults"
VAULT_CATEGORY: Final = "AuditEvent"
"""Azure's only category of a key vault's records, management and data plane alike."""
_AT_THE_TOP: Final = frozenset({"time", "category", "operation", "id", "status", "callerAddress", "durationMs"})


class NotARecord(Exception):
    """A line of the log that nobody here can read."""


def decoded(line: bytes) -> dict[str, Any]:
    """Return a record's members; NotARecord for a line that is none."""
    try:
        record = msgspec.json.decode(line)
    except msgspec.DecodeError as failure:
        raise NotARecord(str(failure)) from failure
    if not isinstance(record, dict) or not isinstance(record.get("time"), int | float):
        raise NotARecord("no object with a time")
    return record


def resource_log(log: str, index: int, line: bytes, record: Mapping[str, Any], location: str) -> ResourceLog:
    """Return a record on its way out.

    line:     as it stands in the log; its hash is the tree's leaf.
    record:   what it says, `decoded`.
    location: the platform's.
    """
    resource, category = _resource(str(record.get("resource", "")), str(record.get("category", "Audit")))
    result, level = _result(record), _level(record)
    principal, application = str(record.get("principal", "")), str(record.get("application", ""))
    properties = {name: value for name, value in record.items() if name not in _AT_THE_TOP}
    if principal:
        properties["objectId"] = principal  # as Cognitive Services' own records call it
    leaf = base64.b64encode(sha256(b"\0" + line).digest()).decode()
    body: dict[str, Any] = {
        "time": iso(float(record["time"])),
        "resourceId": resource,
        "category": category,
        "operationName": str(record.get("operation", "")),
        "operationVersion": VERSION,
        "resultType": result,
        "resultSignature": str(record.get("status") or ""),
        "resultDescription": _description(record),
        "durationMs": round(float(record.get("durationMs", 0.0))),
        "callerIpAddress": str(record.get("callerAddress", "")),
        "correlationId": str(record.get("id", "")),
        "identity": _identity(record, principal, application),
        "level": level,
        "location": location,
        "properties": {**properties, "log": log, "index": index, "leafHash": leaf},
    }
    kept = {name: value for name, value in body.items() if value not in ("", None)}
    return ResourceLog(
        log=log,
        index=index,
        time=float(record["time"]),
        level=level,
        category=category,
        decision=str(record.get("id", "")),
        resource=resource,
        body=msgspec.json.encode(kept),
    )


def _resource(text: str, category: str) -> tuple[str, str]:
    """Return the id and the category. What a refused caller put into a path is no id, and stays in `properties` alone."""
    try:
        found = ResourceId.parse(text)
    except Fault:
        return NOBODYS, category
    if found.key == "/":
        return NOBODYS, category
    return found.text.upper(), VAULT_CATEGORY if f"/providers/{VAULT}/" in found.key else category


def _result(record: Mapping[str, Any]) -> str:
    outcome, status = str(record.get("outcome", "")), int(record.get("status") or 0)
    if record.get("phase") == "intent":
        return "Started"
    if outcome == "cancelled":
        return "Canceled"
    if record.get("decision") == "deny" or outcome.startswith("failed") or status >= 400:
        return "Failed"
    return "Succeeded"


def _level(record: Mapping[str, Any]) -> str:
    if int(record.get("status") or 0) >= 500:
        return "Error"
    return "Warning" if _result(record) == "Failed" else "Informational"


def _description(record: Mapping[str, Any]) -> str:
    said = (str(record.get("reason", "")), str(record.get("rule", "")) if record.get("decision") == "deny" else "")
    return ": ".join(part for part in said if part)


def _identity(record: Mapping[str, Any], principal: str, application: str) -> dict[str, Any] | None:
    """Return who, as the activity log's records have it: what was asked for, why it was granted, and the token's claims."""
    claims = {name: value for name, value in (("oid", principal), ("appid", application)) if value}
    if not claims:
        return None
    granted = str(record.get("rule", "")) if record.get("decision") == "allow" else ""
    authorization: dict[str, Any] = {
        "scope": str(record.get("resource", "")),
        "action": str(record.get("operation", "")),
    }
    if granted:
        authorization["evidence"] = {"role": granted}
    return {"authorization": authorization, "claims": claims}
