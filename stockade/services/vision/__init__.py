"""Computer Vision: image analysis and reading text, in front of a server with that API."""

from stockade.services.vision.service import PLUGIN

__all__ = ["PLUGIN"]
