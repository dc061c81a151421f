"""Translator, as the gateway sees it: a refusal's code is a number of six digits, the HTTP status and what is special about it.

Source: contracts, data-plane section 2 (service-specific shapes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault
from stockade.services.translator.operations import OPERATIONS
from stockade.services.upstream_service import UpstreamService


class TranslatorService(UpstreamService):
    """Relays to the upstream that the settings name for `translator`."""

    name = "translator"
    title = "Translator"
    kinds = frozenset({"TextTranslation", "CognitiveServices", "AIServices"})
    operations = OPERATIONS

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        return {"error": {"code": status * 1000, "message": fault.message}}


PLUGIN = TranslatorService
