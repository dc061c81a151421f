"""The platform keyring, `platform.keys`: all that the root key itself seals.

seed:  what every purpose key is derived from (`RootKey.derive`), so that a new root key changes none of them.
keks:  the versions of the platform's key, which wraps accounts' data keys. The newest wraps, all open.

The file holds the keyring once for each root key that opens it: one, and two while the root key is being changed. Each is AES-256-GCM under a
key derived from that root key. An installation from before the keyring has a root key alone; its seed is then the root key's own value.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.durable import write_durably
from stockade.keys.root import ROOT_KEY_BYTES, RootKey

FILE_NAME: Final = "platform.keys"
BROKER_PURPOSES: Final = "broker/"
"""Purposes that begin so are the key broker's own and given to nobody."""
KEK_BYTES: Final = 32
_SEALING: Final = "broker/platform-keyring/1"
_MAGIC: Final = b"stockade-keyring\x01"
_MAX_FILE: Final = 1024 * 1024


class _Content(msgspec.Struct, frozen=True):
    seed: bytes
    keks: dict[str, bytes]
    newest: str


class Keyring:
    """The keyring, opened. `keys` derives for every purpose of the platform; the KEKs come from nowhere else."""

    def __init__(self, content: _Content) -> None:
        if len(content.seed) != ROOT_KEY_BYTES or content.newest not in content.keks:
            raise ValueError("the platform keyring is incomplete")
        self._content = content
        self.keys = RootKey(Secret(content.seed))

    @classmethod
    def new(cls, seed: Secret | None = None) -> Keyring:
        """Make a keyring. seed: of an installation that has derived from its root key so far."""
        version = secrets.token_hex(6)
        value = seed.reveal() if seed is not None else os.urandom(ROOT_KEY_BYTES)
        return cls(_Content(value, {version: os.urandom(KEK_BYTES)}, version))

    @classmethod
    def open(cls, path: Path, sealing: Secret) -> Keyring:
        """Open the file with what a root key derives (`sealing_key`).

        Fault(UNAVAILABLE) when it is missing, damaged or sealed with another.
        """
        cipher = AESGCM(sealing.reveal())
        for sealed in read_slots(path):
            try:
                return cls(msgspec.msgpack.decode(cipher.decrypt(sealed[:12], sealed[12:], _MAGIC), type=_Content))
            except InvalidTag:
                continue
            except (ValueError, msgspec.MsgspecError) as failure:
                raise Fault(FaultKind.UNAVAILABLE, f"The platform keyring {path} is damaged.") from failure
        message = f"The root key is not the one that the platform keyring {path} is sealed with."
        raise Fault(FaultKind.UNAVAILABLE, message)

    def sealed(self, *sealings: Secret) -> bytes:
        """Return the file's content, to be opened by each of the root keys."""
        plain = msgspec.msgpack.encode(self._content)
        slots = []
        for sealing in sealings:
            nonce = os.urandom(12)
            slots.append(nonce + AESGCM(sealing.reveal()).encrypt(nonce, plain, _MAGIC))
        return _MAGIC + msgspec.msgpack.encode(slots)

    @property
    def newest(self) -> str:
        """The version of the platform's key that wraps."""
        return self._content.newest

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version of the platform's key, oldest first."""
        return tuple(self._content.keks)

    def kek(self, version: str) -> Secret:
        """Return a version of the platform's key; Fault(UNAVAILABLE) when it is not in the keyring."""
        value = self._content.keks.get(version)
        if value is None:
            raise Fault(FaultKind.UNAVAILABLE, f"The platform's key has no version {version!r}.")
        return Secret(value)

    def with_new_kek(self) -> Keyring:
        """Return the keyring with one more version of the platform's key, which wraps from now on."""
        version = secrets.token_hex(6)
        keks = {**self._content.keks, version: os.urandom(KEK_BYTES)}
        return Keyring(_Content(self._content.seed, keks, version))


def sealing_key(root: RootKey) -> Secret:
    """Return what a root key seals the keyring with: all that whoever keeps the keyring needs of it."""
    return root.derive(_SEALING)


def read_slots(path: Path) -> list[bytes]:
    """Return the sealings that the file holds; Fault(UNAVAILABLE) when it is missing or none of ours."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as missing:
        raise Fault(FaultKind.UNAVAILABLE, f"There is no platform keyring at {path}.") from missing
    except OSError as failure:
        raise Fault(FaultKind.UNAVAILABLE, f"The platform keyring {path} cannot be read.") from failure
    damaged = Fault(FaultKind.UNAVAILABLE, f"The platform keyring {path} is damaged.")
    if len(data) > _MAX_FILE or not data.startswith(_MAGIC):
        raise damaged
    try:
        return msgspec.msgpack.decode(data[len(_MAGIC) :], type=list[bytes])
    except msgspec.MsgspecError as failure:
        raise damaged from failure


def open_or_make(path: Path, root: RootKey) -> Keyring:
    """Open the keyring, making it first for an installation that has a root key alone."""
    sealing = sealing_key(root)
    if not path.exists():
        try:
            write_durably(path, Keyring.new(root.value).sealed(sealing), replace=False)
        except FileExistsError:
            pass  # somebody else was faster
        except OSError as failure:
            raise Fault(FaultKind.UNAVAILABLE, f"The platform keyring {path} cannot be written.") from failure
    return Keyring.open(path, sealing)
