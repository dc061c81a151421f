"""What a provider's handle looks like to everybody else: sealed, so that one that was tampered with or belongs to another key does not open.

A version byte, a fresh 96-bit nonce, and AES-256-GCM over what the provider has to remember. Its associated data are the version, the
provider's name and what the handle is bound to. Source: NIST SP 800-38D.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret

VERSION: Final = b"\x01"
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16


class HandleSeal:
    """Seals and opens the handles of one provider. key: 32 bytes, for nothing else; provider: its name in the settings."""

    def __init__(self, key: Secret, provider: str) -> None:
        self._cipher = AESGCM(key.reveal())
        self._provider = provider.encode()

    def seal(self, content: bytes | bytearray, bound_to: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return VERSION + nonce + self._cipher.encrypt(nonce, content, self._associated(bound_to))

    def open(self, handle: bytes, bound_to: str) -> bytearray:
        """Return the content, for the caller to wipe where it is a key.

        Fault(UNAVAILABLE) for damage, another provider's handle and one that is bound to something else, deliberately indistinguishable.
        """
        try:
            if handle[:1] != VERSION or len(handle) < 1 + NONCE_BYTES + TAG_BYTES:
                raise InvalidTag
            content = bytearray(len(handle) - 1 - NONCE_BYTES - TAG_BYTES)
            sealed = memoryview(handle)[1 + NONCE_BYTES :]
            self._cipher.decrypt_into(handle[1 : 1 + NONCE_BYTES], sealed, self._associated(bound_to), content)
        except InvalidTag:
            raise Fault(FaultKind.UNAVAILABLE, "The key's stored material cannot be opened.") from None
        return content

    def _associated(self, bound_to: str) -> bytes:
        # The provider's name has no NUL, so that no two pairs read the same.
        return VERSION + self._provider + b"\0" + bound_to.encode()


def wipe(content: bytearray) -> None:
    """Overwrite a key. What a library has copied of it is the library's to wipe."""
    content[:] = bytes(len(content))
