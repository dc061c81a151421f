"""Face: detecting, comparing and recognising faces, in front of a server with that API."""

from stockade.services.face.service import PLUGIN

__all__ = ["PLUGIN"]
