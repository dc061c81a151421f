"""Kinds of keys and what can be done with them, in Key Vault's words.

Source: contracts, control-plane section 6.4; RFC 7518 for the algorithms' meaning.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

KeyType: TypeAlias = Literal["RSA", "RSA-HSM", "EC", "EC-HSM", "oct", "oct-HSM"]
Curve: TypeAlias = Literal["P-256", "P-384", "P-521", "P-256K"]
KeyOperation: TypeAlias = Literal["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey", "import", "export"]
Use: TypeAlias = Literal["encrypt", "decrypt", "sign", "verify", "wrap", "unwrap"]
"""What a provider is asked to do; `wrap` and `unwrap` are `encrypt` and `decrypt` under another right."""

RSA_SIZES: Final = (2048, 3072, 4096)
CURVES: Final[dict[str, tuple[str, int]]] = {
    "P-256": ("ES256", 32),
    "P-384": ("ES384", 48),
    "P-521": ("ES512", 66),
    "P-256K": ("ES256K", 32),
}
"""Per curve the one algorithm it signs with, and the bytes of a coordinate."""
RSA_ENCRYPTION: Final = ("RSA1_5", "RSA-OAEP", "RSA-OAEP-256")
RSA_SIGNATURES: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "RSNULL")
AES_WRAPPING: Final = ("A128KW", "A192KW", "A256KW")
AES_ENCRYPTION: Final = (
    "A128GCM",
    "A192GCM",
    "A256GCM",
    "A128CBC",
    "A192CBC",
    "A256CBC",
    "A128CBCPAD",
    "A192CBCPAD",
    "A256CBCPAD",
)


class KeySpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a key is to be. size: bits, for RSA and oct."""

    type: KeyType
    size: int | None = None
    curve: Curve | None = None
    public_exponent: int = 65537


class Jwk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The public part of a key; members as in RFC 7518, each the bytes that base64url writes. Of a symmetric key there is none."""

    kty: KeyType
    n: bytes | None = None
    e: bytes | None = None
    crv: Curve | None = None
    x: bytes | None = None
    y: bytes | None = None


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One use of a key.

    value:     what is encrypted, decrypted, wrapped or unwrapped; for `sign` and `verify` the digest (RSNULL: the message's digest info).
    signature: for `verify`. iv, aad, tag: for AES; of `decrypt` they are what `encrypt` answered.
    """

    use: Use
    algorithm: str
    value: bytes
    signature: bytes | None = None
    iv: bytes | None = None
    aad: bytes | None = None
    tag: bytes | None = None


class KeyAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of it. value: the result; for `verify` b"" and `valid`."""

    value: bytes = b""
    valid: bool | None = None
    iv: bytes | None = None
    tag: bytes | None = None
