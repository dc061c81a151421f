"""Diagnostic settings as documents, and the categories there are to choose from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.management.audit.diagnostic_categories import categories_of
from stockade.management.merge import merge_patch
from stockade.management.resource_type import Call, Planned, ResourceType, Route, bodies
from stockade.management.resources.insights_diagnostic_settings.shape import (
    DiagnosticSetting,
    Properties,
    destinations,
    wanted,
)
from stockade.management.shape import respelled, typed
from stockade.policy.diagnostics import INDEX, LOGS, DiagnosticRoute
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

MOST: Final = 5
"""Settings of one resource, as in Azure."""
CATEGORIES: Final = "Microsoft.Insights/diagnosticSettingsCategories"
_OFF: Final = {"enabled": False, "days": 0}


class DiagnosticSettings(ResourceType):
    """Microsoft.Insights/diagnosticSettings."""

    type = name = "Microsoft.Insights/diagnosticSettings"
    methods = frozenset({"GET", "PUT", "DELETE"})
    extension = True
    has_etag = False
    created_status = 200

    @property
    def routes(self) -> Sequence[Route]:
        # Whoever may read settings may read what can be set.
        read, template = f"{self.type}/read", f"/{{scope}}/providers/{CATEGORIES}"
        return (
            Route("GET", template, read, _list_categories),
            Route("GET", f"{template}/{{category}}", read, _show_category),
        )

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        categories_of(call.id)
        return _settings_of(reader, call.id)

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        scope = ResourceId.parse(call.id.parent)
        categories = categories_of(scope)
        body = merge_patch({}, respelled(call.body, DiagnosticSetting))
        asked = typed(body, DiagnosticSetting).properties or Properties()
        sinks = destinations(asked, scope, call.platform.settings.audit.sinks)
        on = wanted(asked, categories)
        others = [one for one in _settings_of(reader, scope) if current is None or one.id != current.id]
        if current is None and len(others) >= MOST:
            message = f"A resource has at most {MOST} diagnostic settings, and this one has {len(others)}."
            raise Fault(FaultKind.CONFLICT, message, code="Conflict")
        for other in others:
            _require_apart(other, sinks, on)
        before = dict(current.private.get("routes", {})) if current is not None else {}
        records = dict.fromkeys(category for name in on for category in categories.records[name])
        routes = {
            f"{sink}/{category}": before.get(f"{sink}/{category}", call.now) for sink in sinks for category in records
        }
        private = {"routes": routes, "sinks": sinks, "categories": on}
        return Planned({**body, "properties": _shown(body.get("properties", {}))}, private)

    def compile(self, document: Document) -> Iterable[Entry]:
        scope = ResourceId.parse(document.id).parent
        routes = []
        for key, since in document.private["routes"].items():
            sink, _, category = str(key).rpartition("/")
            routes.append(DiagnosticRoute(sink.lower(), category, float(since)))
        if routes:
            yield (INDEX, scope, tuple(routes))
        log = frozenset({document.subscription.lower()})
        for sink in sorted({route.sink for route in routes}):
            yield (LOGS, sink, log)


def _settings_of(reader: Reader, scope: ResourceId) -> list[Document]:
    """Return the settings of exactly this resource."""
    kind = DiagnosticSettings.type.lower()
    return list(reader.list(kind, under=f"{scope.key.rstrip('/')}/providers/{kind}"))


def _require_apart(other: Document, sinks: Sequence[str], on: Sequence[str]) -> None:
    """Refuse to send the same records to the same sink twice, as Azure does."""
    for sink in sinks:
        for category in on:
            if sink in other.private["sinks"] and category in other.private["categories"]:
                message = (
                    f"Data sink '{sink}' is already used in diagnostic setting '{other.name}' for category '{category}'. "
                    "Data sinks can't be reused in different settings on the same category for the same resource."
                )
                raise Fault(FaultKind.CONFLICT, message, code="Conflict")


def _shown(given: Mapping[str, Any]) -> Json:
    """Return the properties with every member that Azure answers with."""
    logs = [
        {"category": None, "categoryGroup": None, "retentionPolicy": _OFF, **one} for one in given.get("logs") or ()
    ]
    nothing = dict.fromkeys(
        (
            "storageAccountId",
            "serviceBusRuleId",
            "workspaceId",
            "eventHubAuthorizationRuleId",
            "eventHubName",
            "marketplacePartnerId",
            "logAnalyticsDestinationType",
        )
    )
    return {**nothing, **given, "logs": logs, "metrics": list(given.get("metrics") or ())}


def _list_categories(call: Call, reader: Reader) -> Json:
    return bodies(_category_bodies(call))


def _show_category(call: Call, reader: Reader) -> Json:
    asked = call.parameters["category"]
    for body in _category_bodies(call):
        if body["name"].lower() == asked.lower():
            return body
    raise Fault(FaultKind.NOT_FOUND, f"There is no diagnostic settings category '{asked[:80]}' here.")


def _category_bodies(call: Call) -> list[Json]:
    categories = categories_of(call.id)
    return [
        {
            "id": f"{call.id.text}/providers/{CATEGORIES}/{name}",
            "name": name,
            "type": CATEGORIES,
            "properties": {
                "categoryType": "Logs",
                "categoryGroups": [group for group, names in categories.groups.items() if name in names],
            },
        }
        for name in categories.records
    ]


PLUGIN = DiagnosticSettings()
