"""What the handle of a key that is elsewhere says: what the key is called there, and its public part."""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from stockade.kernel.secret import Secret
from stockade.keys import algorithms
from stockade.keys.algorithms import PublicKey
from stockade.keys.material import Jwk, KeyRequest, KeyType
from stockade.keys.providers.provider import ProviderKey
from stockade.keys.sealed_handle import HandleSeal


class Held(msgspec.Struct, frozen=True, array_like=True):
    """One key. id: as its provider knows it. public: SubjectPublicKeyInfo in DER; an AES key has none, but a size in bits."""

    id: str
    type: KeyType
    public: bytes = b""
    bits: int = 0

    @property
    def key(self) -> PublicKey:
        """The public key; of RSA and EC keys alone."""
        return _loaded(self.public)

    @property
    def jwk(self) -> Jwk:
        return algorithms.jwk_of(self.type, self.key) if self.public else Jwk(kty=self.type)

    def check(self, request: KeyRequest) -> None:
        """Raise Fault(INVALID) for what such a key does not do, before anybody else is asked."""
        if self.bits:
            algorithms.check_symmetric(self.type, self.bits, request)
        else:
            algorithms.check_request(self.jwk, request)


class Handles:
    """Makes and opens the handles of one provider."""

    def __init__(self, seal_key: Secret, provider: str) -> None:
        self._seal = HandleSeal(seal_key, provider)

    def keep(self, held: Held, bound_to: str) -> ProviderKey:
        return ProviderKey(self._seal.seal(msgspec.msgpack.encode(held), bound_to), held.jwk)

    def open(self, handle: bytes, bound_to: str) -> Held:
        return msgspec.msgpack.decode(self._seal.open(handle, bound_to), type=Held)


def spki(key: PublicKey) -> bytes:
    """Return a public key in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _loaded(public: bytes) -> PublicKey:
    key = load_der_public_key(public)
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    return key
