"""What a resource's records are called where diagnostic settings choose among them, as Azure calls them, and which records that are.

A subscription's records are the activity log's. Of its categories `Administrative` is every record of the category `Audit` in the subscription:
management's changes and refusals, Lockbox, keys. Azure's others may be asked for and bring nothing, because nothing of theirs happens here: there
are no alerts, recommendations, health events, scaling or policy engine of Azure's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId

AUDIT, REQUESTS = "Audit", "RequestResponse"
ALL_LOGS: Final = "allLogs"


@dataclass(frozen=True, slots=True)
class Categories:
    """Of one kind of resource.

    records: per category of Azure's, the categories of our records that it stands for. groups: per group, the categories in it.
    """

    records: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, ...]]


_NOTHING_HAPPENS = ("Security", "ServiceHealth", "Alert", "Recommendation", "Policy", "Autoscale", "ResourceHealth")
_SUBSCRIPTION: Final = Categories(
    {"Administrative": (AUDIT,), **dict.fromkeys(_NOTHING_HAPPENS, ())},
    {ALL_LOGS: ("Administrative", *_NOTHING_HAPPENS)},
)
_BY_TYPE: Final[Mapping[str, Categories]] = {
    "microsoft.cognitiveservices/accounts": Categories(
        {AUDIT: (AUDIT,), REQUESTS: (REQUESTS,)}, {ALL_LOGS: (AUDIT, REQUESTS), "audit": (AUDIT,)}
    ),
    # Azure has one category for a vault's requests, whichever plane they come to.
    "microsoft.keyvault/vaults": Categories(
        {"AuditEvent": (AUDIT, REQUESTS)}, {ALL_LOGS: ("AuditEvent",), "audit": ("AuditEvent",)}
    ),
}


def categories_of(scope: ResourceId) -> Categories:
    """Return them; Fault(INVALID) for what has no diagnostic settings."""
    if scope.type is None and scope.subscription is not None and scope.resource_group is None:
        return _SUBSCRIPTION
    found = _BY_TYPE.get((scope.type or "").lower())
    if found is None:
        shown = scope.type or ("Microsoft.Resources/resourceGroups" if scope.resource_group is not None else "tenant")
        message = f"The resource type '{shown.lower()}' does not support diagnostic settings."
        raise Fault(FaultKind.INVALID, message, code="ResourceTypeNotSupported")
    return found
