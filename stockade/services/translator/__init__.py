"""Translator: texts and documents, in front of a server with that API."""

from stockade.services.translator.service import PLUGIN

__all__ = ["PLUGIN"]
