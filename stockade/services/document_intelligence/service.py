"""Document Intelligence, as the gateway sees it. Its refusals are the common shape."""

from __future__ import annotations

from stockade.services.document_intelligence.operations import OPERATIONS
from stockade.services.upstream_service import UpstreamService


class DocumentIntelligenceService(UpstreamService):
    """Relays to the upstream that the settings name for `document_intelligence`."""

    name = "document_intelligence"
    title = "Document Intelligence"
    kinds = frozenset({"FormRecognizer", "CognitiveServices", "AIServices"})
    operations = OPERATIONS


PLUGIN = DocumentIntelligenceService
