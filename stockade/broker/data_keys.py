"""Data keys: made, wrapped twice, opened for a lease, and never given out. What is given out are the keys of single objects.

Inner wrapping: AES-256-GCM under a version of the platform's key, bound to account and version, and to the Lockbox statement where there is one;
64 bytes, which every customer's key can wrap.
Outer wrapping: what the customer's key makes of that. An object's key is HKDF-SHA-256 of the data key with everything the object is.
Formats are frozen in `tests/vectors/data_keys.json`. Source: NIST SP 800-38D, RFC 5869.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stockade.broker.framing import joined, wipe
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.broker import ObjectRef
from stockade.keys.keyring import Keyring

KEY_BYTES: Final = 32
INNER_BYTES: Final = 64
MAX_OPEN: Final = 4096
"""Data keys open at once; the least recently used falls out."""
_VERSION: Final = b"\x01\x00\x00\x00"
_BOUND_VERSION: Final = b"\x02\x00\x00\x00"
_NONCE: Final = 12
_WRAP_LABEL: Final = "stockade data key 1"
_BOUND_LABEL: Final = "stockade data key 2"
_OBJECT_LABEL: Final = "stockade object key 1"


def new_version() -> str:
    """Return a new data key's version: 12 hex digits."""
    return secrets.token_hex(6)


def wrap_inner(kek: Secret, account_id: str, version: str, key: bytes | bytearray, statement: str = "") -> bytes:
    """Return a data key wrapped by the platform's key. statement: the digest of the Lockbox statement that it is bound to; "": to none."""
    nonce = os.urandom(_NONCE)
    form, bound = _bound_to(account_id, version, statement)
    return form + nonce + AESGCM(kek.reveal()).encrypt(nonce, key, bound)


def unwrap_inner(kek: Secret, account_id: str, version: str, wrapped: bytes, statement: str = "") -> bytearray:
    """Return the data key; Fault(UNAVAILABLE) for another key, account, version or statement, and for damage, deliberately indistinguishable."""
    form, bound = _bound_to(account_id, version, statement)
    try:
        if len(wrapped) != INNER_BYTES or wrapped[:4] != form:
            raise InvalidTag
        nonce, sealed = wrapped[4 : 4 + _NONCE], wrapped[4 + _NONCE :]
        return bytearray(AESGCM(kek.reveal()).decrypt(nonce, sealed, bound))
    except InvalidTag as failure:
        raise Fault(FaultKind.UNAVAILABLE, "A data key could not be opened.") from failure


def _bound_to(account_id: str, version: str, statement: str) -> tuple[bytes, bytes]:
    """Return how a wrapping begins, and what it is bound to."""
    if statement:
        return _BOUND_VERSION, joined(_BOUND_LABEL, account_id, version, statement)
    return _VERSION, joined(_WRAP_LABEL, account_id, version)


def object_key(data_key: bytes | bytearray, account_id: str, data_key_version: str, ref: ObjectRef) -> bytes:
    """Return the key of one part of one version of one object."""
    info = joined(_OBJECT_LABEL, account_id, data_key_version, ref.path, ref.version, ref.part)
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(data_key)


@dataclass(slots=True)
class _Open:
    key: bytearray
    until: float
    customer: bool
    """A customer's key was needed to open it."""
    statement: str
    """The digest of the Lockbox statement beside which it was opened."""


class OpenDataKeys:
    """Data keys that are open, each for one lease at most. `use` hands them to a function, never out."""

    def __init__(self, clock: Clock, lease_s: float, limit: int = MAX_OPEN) -> None:
        self._clock, self._lease_s, self._limit = clock, lease_s, limit
        self._open: OrderedDict[tuple[str, str], _Open] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def derive(
        self, account_id: str, version: str, refs: tuple[ObjectRef, ...], statement: str = ""
    ) -> tuple[bytes, ...] | None:
        """Return objects' keys while the data key is open beside a statement; None when it has to be opened first."""
        with self._lock:
            held = self._open.get((account_id, version))
            if held is None or held.statement != statement:
                return None
            if held.until <= self._clock.monotonic():
                self._close((account_id, version))
                return None
            self._open.move_to_end((account_id, version))
            # Under the lock, so that nobody wipes it meanwhile.
            return tuple(object_key(held.key, account_id, version, ref) for ref in refs)

    def put(self, account_id: str, version: str, key: bytearray, *, customer: bool, statement: str = "") -> None:
        """Keep a data key open for one lease. It belongs to this object from here on."""
        with self._lock:
            self._close((account_id, version))
            self._open[account_id, version] = _Open(key, self._clock.monotonic() + self._lease_s, customer, statement)
            while len(self._open) > self._limit:
                self._close(next(iter(self._open)))

    def sweep(self, keep: Callable[[str, bool], bool]) -> None:
        """Wipe what is out of its lease or not to be kept. keep: asked with the account's id and whether a customer's key opened it."""
        now = self._clock.monotonic()
        with self._lock:
            for place, held in list(self._open.items()):
                if held.until <= now or not keep(place[0], held.customer):
                    self._close(place)

    def forget(self, account_id: str) -> None:
        """Wipe an account's data keys."""
        with self._lock:
            for place in [place for place in self._open if place[0] == account_id]:
                self._close(place)

    def wipe(self) -> None:
        """Wipe all of them."""
        with self._lock:
            for place in list(self._open):
                self._close(place)

    def _close(self, place: tuple[str, str]) -> None:
        held = self._open.pop(place, None)
        if held is not None:
            wipe(held.key)


class PlatformWrapping:
    """The inner wrapping, by the keyring's versions of the platform's key."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def wrap(self, account_id: str, version: str, key: bytearray, statement: str) -> tuple[bytes, str]:
        """Return the wrapped key, and the version of the platform's key that did it."""
        newest = self._keyring.newest
        return wrap_inner(self._keyring.kek(newest), account_id, version, key, statement), newest

    def unwrap(self, account_id: str, version: str, wrapped: bytes, platform: str, statement: str) -> bytearray:
        return unwrap_inner(self._keyring.kek(platform), account_id, version, wrapped, statement)
