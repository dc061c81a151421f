"""Content Safety: harm categories of text and pictures, blocklists, in front of a server with that API."""

from stockade.services.content_safety.service import PLUGIN

__all__ = ["PLUGIN"]
