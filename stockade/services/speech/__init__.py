"""Speech over REST: recognition, synthesis, transcription, custom speech and voice, in front of a server with that API."""

from stockade.services.speech.service import PLUGIN

__all__ = ["PLUGIN"]
