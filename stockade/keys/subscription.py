"""Subscription keys: random, findable by a scanner, provable offline, looked up by a keyed digest.

A key is `stockade_` + 43 base-62 characters (256 random bits) + 6 base-62 characters of CRC-32 over everything before. The prefix makes it
findable (the gitleaks rule in `docs/gitleaks.toml`), the checksum lets a scanner prove a find without asking us. The platform keeps
BLAKE2b keyed with a derived key (a MAC by design, RFC 7693) for look-up, and the key itself sealed for `listKeys`.
"""

from __future__ import annotations

import hmac
import re
import secrets
import zlib
from hashlib import blake2b

from stockade.kernel.secret import Secret

PREFIX = "stockade_"
PATTERN = re.compile(r"stockade_[0-9A-Za-z]{49}")
LENGTH = len(PREFIX) + 49
DIGEST_PURPOSE = "subscription-key-digest/1"
"""What the digest key is derived for (`RootKey.derive`): management writes digests under it, the gateway looks them up."""
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY = 43
_CHECK = 6


def generate() -> Secret:
    """Return a new key."""
    body = PREFIX + _base62(secrets.randbits(256), _BODY)
    return Secret(body + _checksum(body))


def is_well_formed(text: str) -> bool:
    """Say whether a text is one of our keys, by form and checksum alone; proves nothing about whether it is in force."""
    return PATTERN.fullmatch(text) is not None and hmac.compare_digest(_checksum(text[:-_CHECK]), text[-_CHECK:])


class KeyDigester:
    """Turns keys into the digests they are found by."""

    def __init__(self, key: Secret) -> None:
        self._key = key.reveal()

    def digest(self, presented: bytes) -> bytes:
        """Return the 32-byte keyed digest of what a caller presented (any bytes)."""
        return blake2b(presented, key=self._key, digest_size=32).digest()


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK)
