"""Language: text analysis, conversations, question answering and their authoring, in front of a server with that API."""

from stockade.services.language.service import PLUGIN

__all__ = ["PLUGIN"]
