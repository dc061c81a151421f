"""Custom Vision, as the gateway sees it: its refusals are `{"code", "message"}` without an envelope.

Source: the service's published error model (CustomVisionError).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.custom_vision.operations import OPERATIONS
from stockade.services.dialect import STATUS
from stockade.services.upstream_service import UpstreamService

_CODES = {
    FaultKind.INVALID: "BadRequest",
    FaultKind.OUTBOUND_DENIED: "BadRequestImageUrl",
    FaultKind.NOT_FOUND: "NotFound",
    FaultKind.INTERNAL: "ErrorUnknown",
}


class CustomVisionService(UpstreamService):
    """Relays to the upstream that the settings name for `custom_vision`."""

    name = "custom_vision"
    title = "Custom Vision"
    kinds = frozenset({"CustomVision.Training", "CustomVision.Prediction", "CognitiveServices"})
    operations = OPERATIONS

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        return {"code": _CODES.get(fault.kind, STATUS[fault.kind][1]), "message": fault.message}


PLUGIN = CustomVisionService
