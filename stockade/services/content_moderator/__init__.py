"""Content Moderator: screening text and pictures, lists and reviews, in front of a server with that API."""

from stockade.services.content_moderator.service import PLUGIN

__all__ = ["PLUGIN"]
