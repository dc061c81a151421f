"""Personalizer: ranking and rewards, in front of a server with that API."""

from stockade.services.personalizer.service import PLUGIN

__all__ = ["PLUGIN"]
