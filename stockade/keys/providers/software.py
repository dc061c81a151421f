"""Keys held by the platform itself: the handle is the key, sealed, and is opened where it is used.

An opened RSA or EC key is kept for a moment, because taking one in costs as much as using it once (measured: `benchmarks/keys.py`). AES keys
are opened for every use and wiped after it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import ClassVar, Final, get_args

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import algorithms
from stockade.keys.algorithms import PrivateKey
from stockade.keys.material import Jwk, KeyAnswer, KeyRequest, KeySpec, KeyType
from stockade.keys.providers.provider import MAX_RANDOM_BYTES, KeyProvider, ProviderKey
from stockade.keys.sealed_handle import HandleSeal, wipe
from stockade.settings import Provider

KEPT_OPEN: Final = 256
KEPT_OPEN_S: Final = 5.0
_TYPES: Final[tuple[KeyType, ...]] = get_args(KeyType)
"""The first byte of what is sealed is the type's place in here."""


class SoftwareProvider:
    """Keys of every kind, sealed under one key of the platform's.

    seal_key: 32 bytes, for nothing else. kept_open_s: how long an opened key may stay in memory unused or used.
    """

    type: ClassVar[str] = "software"

    def __init__(self, seal_key: Secret, *, kept_open_s: float = KEPT_OPEN_S) -> None:
        self._seal = HandleSeal(seal_key, self.type)
        self._open = _OpenKeys(kept_open_s)

    def supports(self, spec: KeySpec) -> bool:
        return algorithms.supported(spec)

    def create(self, spec: KeySpec, bound_to: str) -> ProviderKey:
        algorithms.check_spec(spec)
        if algorithms.family(spec.type) == "oct":
            assert spec.size is not None
            return self._keep_symmetric(spec.type, bytearray(os.urandom(spec.size // 8)), bound_to)
        return self._keep(spec.type, algorithms.make_private(spec), bound_to)

    def take(self, spec: KeySpec, private: Mapping[str, bytes], bound_to: str) -> ProviderKey:
        if algorithms.family(spec.type) == "oct":
            return self._keep_symmetric(spec.type, bytearray(algorithms.symmetric_key(spec, private)), bound_to)
        return self._keep(spec.type, algorithms.private_key(spec, private), bound_to)

    def use(self, handle: bytes, public: Jwk, request: KeyRequest, bound_to: str) -> KeyAnswer:
        """Use the key that is sealed in the handle. `public` has no say: public operations too are done with the sealed key's own part.

        Otherwise whoever could change a stored document would have data wrapped for a key of theirs.
        """
        found = self._open.get(handle, bound_to)
        if found is None:
            content = self._seal.open(handle, bound_to)
            kty, private = _read(content)
            try:
                if algorithms.family(kty) == "oct":
                    return algorithms.use_symmetric(private, kty, request)
                found = kty, _load(private)
            finally:
                wipe(private)
            self._open.put(handle, bound_to, found)
        kty, key = found
        return algorithms.use_private(key, kty, request)

    def export(self, handle: bytes, bound_to: str) -> bytes:
        content = self._seal.open(handle, bound_to)
        try:
            return bytes(content)
        finally:
            wipe(content)

    def restore(self, exported: bytes, bound_to: str) -> ProviderKey:
        kty, private = _read(bytearray(exported))
        if algorithms.family(kty) == "oct":
            return self._keep_symmetric(kty, private, bound_to)
        try:
            return self._keep(kty, _load(private), bound_to)
        finally:
            wipe(private)

    def destroy(self, handle: bytes, bound_to: str) -> None:
        """Drop the key from memory. The handle is all there is of it otherwise: whoever holds handles deletes it."""
        self._seal.open(handle, bound_to)
        self._open.drop(handle, bound_to)

    def random(self, count: int) -> bytes:
        if not 0 < count <= MAX_RANDOM_BYTES:
            raise Fault(
                FaultKind.INVALID, f"Between 1 and {MAX_RANDOM_BYTES} bytes can be had at once.", target="count"
            )
        return os.urandom(count)

    def check(self) -> None:
        """Nothing is out of reach here."""

    def close(self) -> None:
        self._open.close()

    def _keep(self, kty: KeyType, key: PrivateKey, bound_to: str) -> ProviderKey:
        encoded = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        content = bytearray([_TYPES.index(kty), *encoded])
        handle = self._seal.seal(content, bound_to)
        wipe(content)
        return ProviderKey(handle, algorithms.jwk_of(kty, key.public_key()))

    def _keep_symmetric(self, kty: KeyType, key: bytearray, bound_to: str) -> ProviderKey:
        content = bytearray([_TYPES.index(kty), *key])
        handle = self._seal.seal(content, bound_to)
        wipe(content)
        wipe(key)
        return ProviderKey(handle, Jwk(kty=kty))


class _Type:
    """Software is there without any settings."""

    type = SoftwareProvider.type

    def install(self, place: Provider, seal_key: Secret) -> KeyProvider:
        return SoftwareProvider(seal_key)


PLUGIN = _Type()


def _read(content: bytearray) -> tuple[KeyType, bytearray]:
    """Return the type and the key, and wipe what they were read from."""
    if not content or content[0] >= len(_TYPES):
        raise Fault(FaultKind.UNAVAILABLE, "The key's stored material cannot be opened.")
    kty, private = _TYPES[content[0]], content[1:]
    wipe(content)
    return kty, private


def _load(private: bytearray) -> PrivateKey:
    """Load what was sealed here. It was checked when it came, which for RSA takes a hundred times as long as signing."""
    try:
        key = load_der_private_key(private, None, unsafe_skip_rsa_key_validation=True)
    except ValueError:
        raise Fault(FaultKind.UNAVAILABLE, "The key's stored material cannot be opened.") from None
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return key


class _OpenKeys:
    """The keys that are open: KEPT_OPEN at most, none for longer than its time, which nobody has to come by for."""

    def __init__(self, kept_s: float) -> None:
        self._kept_s = kept_s
        self._keys: OrderedDict[tuple[bytes, str], tuple[float, KeyType, PrivateKey]] = OrderedDict()
        self._lock = threading.Lock()
        self._sweeper: threading.Timer | None = None

    def get(self, handle: bytes, bound_to: str) -> tuple[KeyType, PrivateKey] | None:
        with self._lock:
            found = self._keys.get((handle, bound_to))
        if found is None or found[0] <= time.monotonic():
            return None
        return found[1], found[2]

    def put(self, handle: bytes, bound_to: str, opened: tuple[KeyType, PrivateKey]) -> None:
        with self._lock:
            self._keys.pop((handle, bound_to), None)
            self._keys[handle, bound_to] = (time.monotonic() + self._kept_s, *opened)
            if len(self._keys) > KEPT_OPEN:
                self._keys.popitem(last=False)
            if self._sweeper is None:
                self._sweep_in(self._kept_s)

    def drop(self, handle: bytes, bound_to: str) -> None:
        with self._lock:
            self._keys.pop((handle, bound_to), None)

    def close(self) -> None:
        with self._lock:
            self._keys.clear()
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None

    def _sweep_in(self, delay_s: float) -> None:
        self._sweeper = threading.Timer(delay_s, self._sweep)
        self._sweeper.daemon = True
        self._sweeper.start()

    def _sweep(self) -> None:
        """Drop what has had its time: the oldest stand first."""
        with self._lock:
            now = time.monotonic()
            self._sweeper = None
            while self._keys:
                ends = next(iter(self._keys.values()))[0]
                if ends > now:
                    self._sweep_in(ends - now)
                    break
                self._keys.popitem(last=False)
