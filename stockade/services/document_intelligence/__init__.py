"""Document Intelligence (Form Recognizer): reading documents, in front of a server with that API."""

from stockade.services.document_intelligence.service import PLUGIN

__all__ = ["PLUGIN"]
