"""Client secrets: 256 random bits, kept as a keyed digest (decision 0003 says why no slow hash).

A secret is `stockade~` and 43 base-64url characters. Its digest is HMAC-SHA-256 under a derived key, over the
application id and the secret, so that equal secrets of two applications could not be told to be equal.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256

from stockade.kernel.secret import Secret
from stockade.keys.root import RootKey

PREFIX = "stockade~"
HINT_LENGTH = 3
MAX_LENGTH = 1024
"""Longer values are refused unread."""


def generate() -> Secret:
    """Return a new client secret."""
    return Secret(PREFIX + secrets.token_urlsafe(32))


def hint(secret: Secret) -> str:
    """Return the few characters a list shows, so that people can tell secrets apart."""
    return secret.reveal_text().removeprefix(PREFIX)[:HINT_LENGTH]


class SecretDigester:
    """Turns a presented secret into what is stored of it."""

    def __init__(self, root_key: RootKey) -> None:
        self._key = root_key.derive("client-secret-digest/1")

    def digest(self, app_id: str, secret: Secret) -> str:
        """Return the digest in hexadecimal."""
        return hmac.new(self._key.reveal(), app_id.lower().encode() + b"\0" + secret.reveal(), sha256).hexdigest()

    def matches(self, digest: str, app_id: str, secret: Secret) -> bool:
        """Compare a presented secret with a stored digest, in constant time."""
        return hmac.compare_digest(self.digest(app_id, secret), digest)
