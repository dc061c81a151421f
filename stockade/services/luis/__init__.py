"""LUIS: prediction and authoring, in front of a server with that API."""

from stockade.services.luis.service import PLUGIN

__all__ = ["PLUGIN"]
