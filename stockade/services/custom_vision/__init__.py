"""Custom Vision: training and prediction, in front of a server with that API."""

from stockade.services.custom_vision.service import PLUGIN

__all__ = ["PLUGIN"]
