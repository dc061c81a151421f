"""Speech, as the gateway sees it: its refusals have no envelope, and an inner error that says more.

Source: contracts, data-plane section 2 (service-specific shapes; `InvalidRecordingsUri`, `InvalidCallbackUri`, `Forbidden` are the service's
own codes that fit a refused URI).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.dialect import STATUS
from stockade.services.speech.operations import OPERATIONS
from stockade.services.upstream_service import UpstreamService

_CODES = {
    FaultKind.INVALID: "InvalidRequest",
    FaultKind.OUTBOUND_DENIED: "InvalidRequest",
    FaultKind.UNSUPPORTED_MEDIA_TYPE: "UnsupportedMediaType",
    FaultKind.NOT_FOUND: "NotFound",
    FaultKind.CONFLICT: "Conflict",
    FaultKind.LIMIT: "TooManyRequests",
    FaultKind.UNAVAILABLE: "ServiceUnavailable",
    FaultKind.UPSTREAM_FAILED: "InternalCommunicationFailed",
    FaultKind.INTERNAL: "InternalServerError",
}


class SpeechService(UpstreamService):
    """Relays to the upstream that the settings name for `speech`."""

    name = "speech"
    title = "Speech"
    kinds = frozenset({"SpeechServices", "CognitiveServices", "AIServices"})
    operations = OPERATIONS

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        error: dict[str, Any] = {"code": _CODES.get(fault.kind, STATUS[fault.kind][1]), "message": fault.message}
        if fault.target is not None:
            error["target"] = fault.target
        if fault.kind is FaultKind.OUTBOUND_DENIED:
            error["innerError"] = {"code": _inner(fault.target or ""), "message": fault.message}
        return error


def _inner(place: str) -> str:
    if place.startswith(("contentUrls", "contentContainerUrl")):
        return "InvalidRecordingsUri"
    return "InvalidCallbackUri" if place.startswith("webUrl") else "Forbidden"


PLUGIN = SpeechService
