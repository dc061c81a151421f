"""What the activity log can be asked for: `$filter` and `$select` as Azure documents them, and what `az monitor activity-log list` sends beside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from stockade.audit.criteria import Wanted
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.odata import invalid_filter, parse_comparisons, parse_time
from stockade.management.resource_type import Call

LONGEST_S: Final = 90 * 86_400.0
"""How far back Azure's activity log goes. What is older is in `Stockade.Audit/records` for as long as the subscription keeps it."""
LEEWAY_S: Final = 60.0
"""For clients that have counted back ninety days before they asked."""
MAX_VALUE: Final = 2048
PROPERTIES: Final = (
    "authorization", "caller", "category", "claims", "correlationId", "description", "eventDataId", "eventName", "eventTimestamp",
    "httpRequest", "id", "level", "operationId", "operationName", "properties", "resourceGroupName", "resourceId", "resourceProviderName",
    "resourceType", "status", "subStatus", "submissionTimestamp", "subscriptionId", "tenantId",
)  # fmt: skip
_LEVELS: Final = frozenset({"critical", "error", "warning", "informational", "verbose"})
_NAMES: Final = frozenset(
    {
        "resourcegroupname",
        "resourceid",
        "resourceuri",
        "resourceprovider",
        "correlationid",
        "caller",
        "status",
        "levels",
        "eventchannels",
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a filter asks for. status, levels: in lower case; they follow from a record and are not searched by."""

    wanted: Wanted
    status: str = ""
    levels: frozenset[str] = field(default_factory=frozenset)


def read_select(select: str) -> frozenset[str]:
    """Return the properties that are asked for, none: all; Fault(INVALID) for one there is not."""
    known = {name.lower(): name for name in PROPERTIES}
    names = [name.strip() for name in select.split(",") if name.strip()]
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        message = f"'{unknown[0][:60]}' is no property of events; there is: {', '.join(PROPERTIES)}."
        raise Fault(FaultKind.INVALID, message, code="InvalidSelectInQueryString", target="$select")
    return frozenset(known[name.lower()] for name in names)


def read_filter(call: Call) -> Asked:
    """Return what a filter asks for; Fault(INVALID) with what is wrong with it."""
    text = call.query.get("$filter", "")
    since: float | None = None
    until = call.now
    asked: dict[str, str] = {}
    for one in parse_comparisons(text):
        name = one.field.lower()
        if name == "eventtimestamp" and one.operator == "ge":
            since = parse_time(one.value)
        elif name == "eventtimestamp" and one.operator == "le":
            until = parse_time(one.value)
        elif one.operator != "eq" or name not in _NAMES:
            raise _refused(f"The filter cannot ask for '{one.field} {one.operator}'. {_POSSIBLE}")
        elif asked.setdefault(name, one.value) != one.value or not one.value or len(one.value) > MAX_VALUE:
            raise invalid_filter(text)
    levels = frozenset(level.strip().lower() for level in asked.get("levels", "").split(",") if level.strip())
    if not levels <= _LEVELS:
        raise _refused("Levels are Critical, Error, Warning, Informational and Verbose.")
    provider = asked.get("resourceprovider", "")
    wanted = Wanted(
        activity=True,
        since=_start(call, since, until),
        until=until,
        resource=_resource(call, asked),
        operation=f"{provider}/*" if provider else "",
        correlation=asked.get("correlationid", ""),
        who=asked.get("caller", ""),
    )
    return Asked(wanted, asked.get("status", "").lower(), levels)


def _resource(call: Call, asked: dict[str, str]) -> str:
    named = asked.get("resourceuri") or asked.get("resourceid") or ""
    group = asked.get("resourcegroupname", "")
    if named and group:
        raise _refused("The filter asks for a resource group and for a resource; one of them is enough.")
    if group:
        return ResourceId.parse(f"{call.id.text}/resourceGroups/{group}").text
    return ResourceId.parse(named).text if named else ""


def _start(call: Call, since: float | None, until: float) -> float:
    if since is None and call.id.subscription is None:
        return max(0.0, call.now - LONGEST_S)  # Azure's tenant log can be asked without a filter
    if since is None:
        raise _refused("The filter has to say from when on: $filter=eventTimestamp ge '2026-01-31T12:00:00Z'.")
    if since > until:
        raise _refused("The filter's time range ends before it begins.")
    if since < call.now - LONGEST_S - LEEWAY_S:
        raise _refused("The activity log goes back 90 days. What is older is in Stockade.Audit/records.", "BadRequest")
    return since


_POSSIBLE: Final = (
    "Beside eventTimestamp ge and le there is, joined by 'and': resourceGroupName, resourceId, resourceUri, resourceProvider, "
    "correlationId, caller, status and levels, each with eq."
)


def _refused(message: str, code: str = "InvalidFilterInQueryString") -> Fault:
    return Fault(FaultKind.INVALID, message, code=code, target="$filter")
