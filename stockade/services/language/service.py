"""Language, as the gateway sees it: its refusals have codes of its own, a target and an inner error.

Source: contracts, data-plane section 2 (service-specific shapes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.dialect import STATUS
from stockade.services.language.operations import OPERATIONS
from stockade.services.upstream_service import UpstreamService

_CODES = {
    FaultKind.INVALID: "InvalidRequest",
    FaultKind.OUTBOUND_DENIED: "InvalidRequest",
    FaultKind.TOO_LARGE: "InvalidRequest",
    FaultKind.UNSUPPORTED_MEDIA_TYPE: "InvalidRequest",
    FaultKind.NOT_FOUND: "NotFound",
    FaultKind.CONFLICT: "Conflict",
    FaultKind.LIMIT: "TooManyRequests",
    FaultKind.TIMEOUT: "Timeout",
    FaultKind.UPSTREAM_TIMEOUT: "Timeout",
    FaultKind.UPSTREAM_FAILED: "InternalServerError",
    FaultKind.UNAVAILABLE: "ServiceUnavailable",
    FaultKind.INTERNAL: "InternalServerError",
}


class LanguageService(UpstreamService):
    """Relays to the upstream that the settings name for `language`."""

    name = "language"
    title = "Language"
    kinds = frozenset(
        {"TextAnalytics", "ConversationalLanguageUnderstanding", "QnAMaker", "CognitiveServices", "AIServices"}
    )
    operations = OPERATIONS

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        error: dict[str, Any] = {
            "code": fault.code or _CODES.get(fault.kind, STATUS[fault.kind][1]),
            "message": fault.message,
        }
        if fault.target is not None:
            error["target"] = fault.target
        if fault.kind is FaultKind.OUTBOUND_DENIED:
            error["innererror"] = {"code": "OutboundUriNotAllowed", "message": fault.message, "target": fault.target}
        return {"error": error}


PLUGIN = LanguageService
