"""Content Moderator, as the gateway sees it: its refusals are `{"Error": {"Code", "Message"}}`.

Source: contracts, data-plane section 2 (service-specific shapes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault
from stockade.services.content_moderator.operations import OPERATIONS
from stockade.services.dialect import STATUS
from stockade.services.upstream_service import UpstreamService


class ContentModeratorService(UpstreamService):
    """Relays to the upstream that the settings name for `content_moderator`."""

    name = "content_moderator"
    title = "Content Moderator"
    kinds = frozenset({"ContentModerator", "CognitiveServices"})
    operations = OPERATIONS

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        return {"Error": {"Code": fault.code or STATUS[fault.kind][1], "Message": fault.message}}


PLUGIN = ContentModeratorService
