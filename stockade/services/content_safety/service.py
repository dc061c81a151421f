"""Content Safety, as the gateway sees it. Its refusals are the common shape."""

from __future__ import annotations

from stockade.services.content_safety.operations import OPERATIONS
from stockade.services.upstream_service import UpstreamService


class ContentSafetyService(UpstreamService):
    """Relays to the upstream that the settings name for `content_safety`."""

    name = "content_safety"
    title = "Content Safety"
    kinds = frozenset({"ContentSafety", "CognitiveServices", "AIServices"})
    operations = OPERATIONS


PLUGIN = ContentSafetyService
