"""Face, as the gateway sees it. Its refusals are the common shape."""

from __future__ import annotations

from stockade.services.face.operations import OPERATIONS
from stockade.services.upstream_service import UpstreamService


class FaceService(UpstreamService):
    """Relays to the upstream that the settings name for `face`."""

    name = "face"
    title = "Face"
    kinds = frozenset({"Face", "CognitiveServices", "AIServices"})
    operations = OPERATIONS


PLUGIN = FaceService
