"""Which audit records diagnostic settings send where. Asked in the audit process, for each record and sink, of the snapshot in force then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stockade.kernel.faults import Fault
from stockade.kernel.resource_id import scope_chain
from stockade.policy.snapshot import Snapshot

INDEX: Final = "diagnostic-setting"
LOGS: Final = "diagnosed-logs"


@dataclass(frozen=True, slots=True)
class DiagnosticRoute:
    """Records of one category about one resource, or what lies in it, to one sink. Index "diagnostic-setting", by the resource's lower-case id.

    category: of the record, `Audit` or `RequestResponse`. since: epoch seconds; what was recorded before stays here.
    Index "diagnosed-logs" has the logs that a sink gets anything of, by its lower-case name.
    """

    sink: str
    category: str
    since: float


class SnapshotRoutes:
    """`audit.delivery.Routes`, as one snapshot has them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def logs(self, sink: str) -> frozenset[str]:
        def compute() -> frozenset[str]:
            return frozenset(name for names in self._snapshot.all(LOGS, sink.lower()) for name in names)

        found: frozenset[str] = self._snapshot.remembered((LOGS, sink), compute)
        return found

    def wants(self, sink: str, record: Mapping[str, Any]) -> bool:
        resource, category = str(record.get("resource", "")).lower(), str(record.get("category", ""))
        key = ("diagnosed", sink, resource, category)
        since: float = self._snapshot.remembered(key, lambda: self._since(sink.lower(), resource, category))
        return float(record.get("time", 0.0)) >= since

    def _since(self, sink: str, resource: str, category: str) -> float:
        try:
            scopes = scope_chain(resource) if resource.startswith("/subscriptions/") else ()
        except Fault:
            return math.inf
        found = (
            route.since
            for scope in scopes
            for routes in self._snapshot.all(INDEX, scope)
            for route in routes
            if route.sink == sink and route.category == category
        )
        return min(found, default=math.inf)
