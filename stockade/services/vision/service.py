"""Computer Vision, as the gateway sees it. Its refusals are the common shape."""

from __future__ import annotations

from stockade.services.upstream_service import UpstreamService
from stockade.services.vision.operations import OPERATIONS


class VisionService(UpstreamService):
    """Relays to the upstream that the settings name for `vision`."""

    name = "vision"
    title = "Computer Vision"
    kinds = frozenset({"ComputerVision", "CognitiveServices", "AIServices"})
    operations = OPERATIONS


PLUGIN = VisionService
