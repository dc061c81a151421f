"""Azure OpenAI: chat completions, completions, embeddings and models, in front of any server with the OpenAI API."""

from stockade.services.openai.service import PLUGIN

__all__ = ["PLUGIN"]
