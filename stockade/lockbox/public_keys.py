"""The public keys that statements name: which there may be, which algorithm belongs to each, and passkeys' COSE keys.

Source: RFC 7517, RFC 7518 section 6, RFC 8037, RFC 9864 (Ed25519 as an algorithm of its own), RFC 7638 (thumbprints); RFC 9053 for COSE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from stockade.lockbox.strict import from_base64url

Algorithm: TypeAlias = Literal["ES256", "ES384", "PS256", "RS256", "Ed25519"]
PublicKey: TypeAlias = ECKey | RSAKey | OKPKey

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 4096
_SIZES: Final = {"P-256": 32, "P-384": 48, "Ed25519": 32}
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "EC": ("kty", "crv", "x", "y"),
    "RSA": ("kty", "n", "e"),
    "OKP": ("kty", "crv", "x"),
}
_COSE: Final = frozenset({-7, -8, -35, -257})
"""ES256, EdDSA, ES384, RS256."""


def public_jwk(jwk: Mapping[str, Any]) -> dict[str, str]:
    """Return what a statement takes of a JWK, its private half and everything else left out; ValueError for a key it takes not."""
    names = _MEMBERS.get(str(jwk.get("kty", "")).removesuffix("-HSM"))
    if names is None:
        raise ValueError("a key is of type EC, RSA or OKP")
    found = {name: str(jwk[name]) for name in names if name in jwk}
    found["kty"] = found["kty"].removesuffix("-HSM")  # a vault's way of saying where it is
    import_jwk(found)
    return found


def import_jwk(jwk: Mapping[str, Any]) -> PublicKey:
    """Return a public key; ValueError when it has other members than such a key needs, is too weak, or costs too much to use."""
    kind = str(jwk.get("kty", ""))
    names = _MEMBERS.get(kind)
    if names is None or set(jwk) != set(names) or not all(isinstance(value, str) for value in jwk.values()):
        raise ValueError(
            "a public key has exactly the members kty, crv, x, y (EC), kty, n, e (RSA) or kty, crv, x (OKP)"
        )
    values: dict[str, Any] = {name: str(jwk[name]) for name in names}
    if any(len(value) > MAX_RSA_BITS // 4 for value in values.values()):
        raise ValueError("the public key is too long")
    numbers = {name: from_base64url(values[name]) for name in names if name not in {"kty", "crv"}}
    size = _SIZES.get(values.get("crv", ""))
    # One spelling of each key, so that two names are two keys.
    if any(len(number) != size if size else number[:1] in {b"", b"\0"} for number in numbers.values()):
        raise ValueError("the public key's numbers are not of the length they have to be")
    try:
        match kind:
            case "EC" if values["crv"] in {"P-256", "P-384"}:
                return ECKey.import_key(values)
            case "OKP" if values["crv"] == "Ed25519":
                return OKPKey.import_key(values)
            case "RSA":
                bits, exponent = (int.from_bytes(numbers[name], "big") for name in ("n", "e"))
                if MIN_RSA_BITS <= bits.bit_length() <= MAX_RSA_BITS and 65_537 <= exponent < 2**32:
                    return RSAKey.import_key(values)
    except (JoseError, ValueError, TypeError) as failure:
        raise ValueError("that is no public key") from failure
    raise ValueError("a key is of P-256, P-384, Ed25519 or RSA with 2048 to 4096 bits")


def algorithms_of(jwk: Mapping[str, Any]) -> tuple[Algorithm, ...]:
    """Return the algorithms that signatures of a key may have, the one to sign with first."""
    match jwk.get("kty"), jwk.get("crv"):
        case "EC", "P-256":
            return ("ES256",)
        case "EC", "P-384":
            return ("ES384",)
        case "OKP", "Ed25519":
            return ("Ed25519",)
        case "RSA", _:
            return ("PS256", "RS256")
    return ()


def check_cose(key: bytes) -> None:
    """Raise ValueError unless the bytes are a passkey's public key of a kind that is taken."""
    # Not with the module, which every process has: it takes a tenth of a second.
    from webauthn.helpers import decode_credential_public_key
    from webauthn.helpers.decode_credential_public_key import (
        DecodedEC2PublicKey,
        DecodedOKPPublicKey,
        DecodedRSAPublicKey,
    )
    from webauthn.helpers.decoded_public_key_to_cryptography import decoded_public_key_to_cryptography

    if not 0 < len(key) <= 1024 or key[0] == 4:
        raise ValueError("that is no COSE key")
    try:
        decoded = decode_credential_public_key(key)
        if decoded.alg not in _COSE or not isinstance(
            decoded, DecodedEC2PublicKey | DecodedOKPPublicKey | DecodedRSAPublicKey
        ):
            raise ValueError("the algorithm is none of ES256, ES384, EdDSA, RS256")
        decoded_public_key_to_cryptography(decoded)
    except Exception as failure:  # the library raises whatever its CBOR reader and OpenSSL do
        raise ValueError("that is no passkey's public key") from failure
