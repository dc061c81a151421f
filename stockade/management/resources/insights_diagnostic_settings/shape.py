"""The body of a diagnostic setting, and what it says: destinations that are sinks of ours, categories that there are.

What cannot be delivered is refused: metrics, retention at the receiver, tables of Log Analytics, and resources of Azure's, which nothing reaches.
Source: the REST API of Microsoft.Insights, 2021-05-01-preview.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.audit.diagnostic_categories import Categories
from stockade.settings import Sink

SINKS: Final = "Stockade.Audit/sinks"
STREAMS: Final = ("syslog", "http", "otlp")
TAKES: Final[Mapping[str, tuple[str, ...]]] = {
    "workspaceId": ("file", *STREAMS),
    "storageAccountId": ("file",),
    "eventHubAuthorizationRuleId": STREAMS,
    "marketplacePartnerId": ("file", *STREAMS),
}
"""What a destination may be: where Azure keeps blobs a file, where it has a stream a stream, elsewhere any."""


class RetentionPolicy(Struct, rename="camel"):
    """Azure has retired it; off is the only value."""

    enabled: bool = False
    days: int = 0


class LogSettings(Struct, rename="camel"):
    """A category or a group of them, on or off."""

    enabled: bool
    category: str | None = None
    category_group: str | None = None
    retention_policy: RetentionPolicy | None = None


class MetricSettings(Struct, rename="camel"):
    """Metrics, which are not sent on."""

    enabled: bool
    category: str | None = None
    time_grain: str | None = None
    retention_policy: RetentionPolicy | None = None


class Properties(Struct, rename="camel"):
    """What is sent, and where to."""

    workspace_id: str | None = None
    storage_account_id: str | None = None
    event_hub_authorization_rule_id: str | None = None
    event_hub_name: str | None = None
    service_bus_rule_id: str | None = None
    marketplace_partner_id: str | None = None
    log_analytics_destination_type: str | None = None
    logs: list[LogSettings] | None = None
    metrics: list[MetricSettings] | None = None


class DiagnosticSetting(Struct, rename="camel"):
    """The whole body."""

    properties: Properties | None = None


def destinations(asked: Properties, scope: ResourceId, sinks: Sequence[Sink]) -> list[str]:
    """Return the names of the sinks that a setting names, each once; Fault(INVALID) for any other destination, and for none."""
    if asked.service_bus_rule_id:
        raise _refused("Azure's Service Bus is not reached from here.", "properties.serviceBusRuleId")
    if asked.log_analytics_destination_type not in (None, "", "AzureDiagnostics"):
        message = "There are no tables of Log Analytics here: logAnalyticsDestinationType can only be left out."
        raise _refused(message, "properties.logAnalyticsDestinationType")
    named = {
        "workspaceId": asked.workspace_id,
        "storageAccountId": asked.storage_account_id,
        "eventHubAuthorizationRuleId": asked.event_hub_authorization_rule_id,
        "marketplacePartnerId": asked.marketplace_partner_id,
    }
    found = {member: _sink(text, member, scope, sinks) for member, text in named.items() if text}
    if not found:
        raise _refused("At least one data sink needs to be specified.", "properties")
    return list(dict.fromkeys(found.values()))


def wanted(asked: Properties, categories: Categories) -> list[str]:
    """Return the categories that are on, each once, in their own spelling; Fault(INVALID) for what there is not."""
    for metric in asked.metrics or ():
        if metric.enabled:
            message = "Metrics are not sent on: leave `metrics` out, or turn them off."
            raise _refused(message, "properties.metrics")
    on: list[str] = []
    for one in asked.logs or ():
        if (one.category is None) == (one.category_group is None):
            raise _refused("Each entry of logs names a category or a categoryGroup, and not both.", "properties.logs")
        if one.retention_policy is not None and one.retention_policy.enabled:
            message = "How long records are kept is the receiver's to say: turn retentionPolicy off (Azure has retired it too)."
            raise _refused(message, "properties.logs.retentionPolicy")
        if one.category is not None:
            found: tuple[str, ...] = (_known(one.category, categories.records, "Category", enabled=one.enabled),)
        else:
            group = _known(str(one.category_group), categories.groups, "Category group", enabled=one.enabled)
            found = categories.groups.get(group, ())
        on += found if one.enabled else ()
    return list(dict.fromkeys(on))


def _sink(text: str, member: str, scope: ResourceId, sinks: Sequence[Sink]) -> str:
    place = ResourceId.parse(text)
    target = f"properties.{member}"
    there = ", ".join(one.name for one in sinks) or "none"
    if (place.type or "").lower() != SINKS.lower() or place.resource_group is not None:
        message = (
            f"'{text[:200]}' is no sink of this platform, and resources of Azure's are not reached from here. "
            f"Name a sink of the settings, /providers/{SINKS}/NAME; there are: {there}."
        )
        raise _refused(message, target, "DestinationNotSupported")
    if place.subscription is not None and place.subscription.lower() != str(scope.subscription).lower():
        raise _refused("A sink is named without a subscription, or with the resource's own.", target)
    for one in sinks:
        if one.name.lower() == place.name.lower():
            if one.type not in TAKES[member]:
                message = f"The sink '{one.name}' is of type {one.type}; {member} takes {', '.join(TAKES[member])}."
                raise _refused(message, target, "DestinationNotSupported")
            return one.name
    raise _refused(f"The settings have no sink '{place.name[:80]}'; there are: {there}.", target)


def _known(name: str, there: Mapping[str, object], what: str, *, enabled: bool) -> str:
    for known in there:
        if known.lower() == name.lower():
            return known
    if not enabled:
        return ""  # what is off may be what Azure has and this platform has not
    message = f"{what} '{name[:80]}' is not supported; there are: {', '.join(there)}."
    raise _refused(message, "properties.logs")


def _refused(message: str, target: str, code: str = "BadRequest") -> Fault:
    return Fault(FaultKind.INVALID, message, code=code, target=target)
