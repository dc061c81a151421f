"""Deriving and sealing: what the root key seals the platform keyring with, and the keyring's seed everything else.

Derivation is HKDF-SHA-256 with a purpose string, so that no two uses share a key and none reveals the root. Sealing is AES-256-GCM with a
fresh 96-bit nonce and the caller's binding as associated data; a sealed value starts with a version byte.
Source: RFC 5869 (HKDF), NIST SP 800-38D (GCM).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret

ROOT_KEY_BYTES = 32
_VERSION = b"\x01"


class RootKey:
    """Derives purpose keys and seals small values. Holds the root in memory; hands out derived keys only."""

    def __init__(self, value: Secret) -> None:
        if len(value) != ROOT_KEY_BYTES:
            raise ValueError(f"the root key must have {ROOT_KEY_BYTES} bytes")
        self._value = value

    @classmethod
    def open(cls, path: Path) -> RootKey:
        """Read the key file, refusing one that others can read; Fault(UNAVAILABLE) when it is missing or damaged."""
        try:
            mode = path.stat().st_mode
            if mode & 0o077:
                raise Fault(
                    FaultKind.UNAVAILABLE,
                    f"{path} can be read by others (mode {mode & 0o777:03o}); run chmod 600 on it.",
                )
            data = path.read_bytes()
        except FileNotFoundError as missing:
            raise Fault(FaultKind.UNAVAILABLE, f"There is no root key at {path}.") from missing
        except OSError as failure:
            raise Fault(FaultKind.UNAVAILABLE, f"The root key at {path} cannot be read.") from failure
        if len(data) != ROOT_KEY_BYTES:
            raise Fault(FaultKind.UNAVAILABLE, f"The root key at {path} is damaged: {len(data)} bytes.")
        return cls(Secret(data))

    @classmethod
    def create(cls, path: Path) -> RootKey:
        """Make a new key file (0600), whole or not at all; FileExistsError when there is one."""
        value = os.urandom(ROOT_KEY_BYTES)
        descriptor, draft = tempfile.mkstemp(prefix=path.name, dir=path.parent)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # unlike a rename it replaces nothing
        finally:
            Path(draft).unlink()
        return cls(Secret(value))

    @property
    def value(self) -> Secret:
        """The key itself. Only for what keeps root keys: sources, the keyring's first making, recovery."""
        return self._value

    def derive(self, purpose: str, length: int = 32) -> Secret:
        """Return the key for one purpose, the same at every start. purpose: a constant of ours, e.g. `subscription-key-digest/1`."""
        kdf = HKDF(algorithm=SHA256(), length=length, salt=b"stockade", info=purpose.encode())
        return Secret(kdf.derive(self._value.reveal()))

    def seal(self, plaintext: Secret, bound_to: str) -> bytes:
        """Encrypt a small value. bound_to: what the value belongs to; the same text must be given to unseal it."""
        nonce = os.urandom(12)
        cipher = AESGCM(self.derive("seal/1").reveal())
        return _VERSION + nonce + cipher.encrypt(nonce, plaintext.reveal(), bound_to.encode())

    def unseal(self, sealed: bytes, bound_to: str) -> Secret:
        """Decrypt a sealed value; Fault(UNAVAILABLE) for a wrong key, a wrong binding or damage, deliberately indistinguishable."""
        try:
            if sealed[:1] != _VERSION:
                raise InvalidTag
            cipher = AESGCM(self.derive("seal/1").reveal())
            return Secret(cipher.decrypt(sealed[1:13], sealed[13:], bound_to.encode()))
        except (InvalidTag, ValueError) as failure:
            raise Fault(FaultKind.UNAVAILABLE, "A stored secret could not be opened.") from failure


class LentKeys(RootKey):
    """The same for a process that never sees the root: each purpose's key is lent by the key broker, once."""

    def __init__(self, lend: Callable[[str], Secret]) -> None:
        self._lend = lend
        self._lent: dict[str, Secret] = {}

    @property
    def value(self) -> Secret:
        raise Fault(FaultKind.UNSUPPORTED, "The root key is the key broker's.")

    def derive(self, purpose: str, length: int = 32) -> Secret:
        """Return the key for one purpose, as `RootKey` derives it; Fault(UNAVAILABLE) when the broker does not lend it now."""
        if length > ROOT_KEY_BYTES:
            raise ValueError(f"lent keys have {ROOT_KEY_BYTES} bytes")
        found = self._lent.get(purpose)
        if found is None:
            found = self._lent[purpose] = self._lend(purpose)
        # HKDF's output for a smaller length is the beginning of that for a larger one (RFC 5869, section 2.3).
        return found if length == ROOT_KEY_BYTES else Secret(found.reveal()[:length])
