"""LUIS, as the gateway sees it. Its prediction clients read `error`, its authoring clients `errorType`; a refusal has both.

Source: contracts, data-plane section 2 (service-specific shapes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault
from stockade.services.dialect import STATUS
from stockade.services.luis.operations import OPERATIONS
from stockade.services.upstream_service import UpstreamService


class LuisService(UpstreamService):
    """Relays to the upstream that the settings name for `luis`."""

    name = "luis"
    title = "LUIS"
    kinds = frozenset({"LUIS", "LUIS.Authoring", "CognitiveServices"})
    operations = OPERATIONS

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        code = fault.code or STATUS[fault.kind][1]
        return {"error": {"code": code, "message": fault.message}, "errorType": code}


PLUGIN = LuisService
