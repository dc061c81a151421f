"""The key exchange that Translator and Speech clients use: a key for a ten-minute token.

Source: contracts, data-plane section 1.3.
"""

from stockade.services.session_tokens.service import PLUGIN

__all__ = ["PLUGIN"]
