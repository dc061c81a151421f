"""Personalizer, as the gateway sees it: its refusals have a target and an inner error.

Source: contracts, data-plane section 2 (service-specific shapes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.dialect import STATUS
from stockade.services.personalizer.operations import OPERATIONS
from stockade.services.upstream_service import UpstreamService


class PersonalizerService(UpstreamService):
    """Relays to the upstream that the settings name for `personalizer`."""

    name = "personalizer"
    title = "Personalizer"
    kinds = frozenset({"Personalizer"})
    operations = OPERATIONS

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        error: dict[str, Any] = {"code": fault.code or STATUS[fault.kind][1], "message": fault.message}
        if fault.target is not None:
            error["target"] = fault.target
        if fault.kind is FaultKind.OUTBOUND_DENIED:
            error |= {"code": "InvalidServiceConfiguration", "innerError": {"code": "OutboundUriNotAllowed"}}
        return {"error": error}


PLUGIN = PersonalizerService
