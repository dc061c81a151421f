"""Receipts of requests: what the platform signs of one request and its reply for a caller who asks, and how anybody checks it without the platform.

A compact JWS (RFC 7515) with `alg` EdDSA (RFC 8037). The header's `kid` is the key's thumbprint (RFC 7638); its `typ` and the key itself are
for receipts alone, so that no other signature is one, and none of these is anything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.receipts import KEY_BYTES, from_text, to_text

TYP: Final = "stockade-receipt+jwt"
ALG: Final = "EdDSA"
MAX_BYTES: Final = 16 * 1024
MAX_STORED: Final = 100

Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=2048)]
Stored: TypeAlias = Literal["none"] | Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=MAX_STORED)]


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The claims.

    iss:     ARM's address at this platform; its keys are at `{iss}/.well-known/stockade-receipt-keys`. iat: when it was signed.
    jti:     the decision id, which also names the request's record in the audit log.
    path:    percent-decoded, without its query (which may hold a key).
    request: `request_hash`, in base64url. body: whether the body was read and is part of it; a refusal may come before.
    status:  of the reply, as it was sent. outcome: `success`, or `failed:<kind>`, where a stream broke off behind a status that promised more.
    account: the ARM id; "" where the request named none that there is. policy: the generation of the policy that was decided by.
    stored:  `none`, or paths of all content that was kept for the request (`files/file-4f...`); the first hundred.
    """

    iss: Text
    iat: int
    jti: Text
    method: Annotated[str, msgspec.Meta(max_length=32)]
    path: Text
    request: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{43}$")]
    body: bool
    status: int
    outcome: Text
    account: Text
    policy: int
    stored: Stored


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    kid: str
    typ: str


def request_hash(method: str, path: str, query: str, body_digest: bytes) -> str:
    """Return what stands for a request: SHA-256 over the SHA-256 of each, method, path, query (as sent, without `?`) and body, in base64url.

    body_digest: SHA-256 of the body as it came, of nothing where it was not read.
    """
    parts = (sha256(text.encode(errors="surrogatepass")).digest() for text in (method, path, query))
    return to_text(sha256(b"".join(parts) + body_digest).digest())


def sign(receipt: Receipt, public: bytes, signer: Callable[[bytes], bytes]) -> str:
    """Return a receipt, signed. public: the signer's key (32 bytes)."""
    header = msgspec.json.encode(_Header(ALG, key_id(public), TYP))
    signed = f"{to_text(header)}.{to_text(msgspec.json.encode(receipt))}"
    return f"{signed}.{to_text(signer(signed.encode()))}"


def verify(text: str, public: bytes) -> Receipt:
    """Return what a receipt says; Fault(INVALID) unless it is one, and exactly so signed with this key (32 bytes)."""
    parts = text.split(".")
    if len(text) > MAX_BYTES or len(parts) != 3:
        raise Fault(FaultKind.INVALID, "That is no receipt.")
    try:
        header = msgspec.json.decode(from_text(parts[0]), type=_Header)
        if (header.alg, header.typ) != (ALG, TYP):
            raise Fault(FaultKind.INVALID, "That is signed, but no receipt.")
        signed = f"{parts[0]}.{parts[1]}".encode()
        Ed25519PublicKey.from_public_bytes(public).verify(from_text(parts[2]), signed)
        return msgspec.json.decode(from_text(parts[1]), type=Receipt)
    except (InvalidSignature, ValueError) as failure:
        raise Fault(
            FaultKind.INVALID, "The receipt was not signed with this key, or was changed afterwards."
        ) from failure


def bound_to(decision_id: str) -> str:
    """Return what a receipt is bound to that is sealed for the record of its request."""
    return f"receipt of the request {decision_id}"


def jwk(public: bytes) -> dict[str, str]:
    """Return a public key as a JWK (RFC 8037)."""
    return {"kty": "OKP", "crv": "Ed25519", "x": to_text(public), "kid": key_id(public), "use": "sig", "alg": ALG}


def key_id(public: bytes) -> str:
    """Return a key's thumbprint (RFC 7638)."""
    named = {"crv": "Ed25519", "kty": "OKP", "x": to_text(public)}
    return to_text(sha256(json.dumps(named, separators=(",", ":")).encode()).digest())


def read_key(text: str, kid: str = "") -> bytes:
    """Return a public key that was given as base64url, a JWK or a set of them; Fault(INVALID). kid: which of a set."""
    text = text.strip()
    if not text.startswith("{"):
        return _checked(from_text(text))
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise Fault(FaultKind.INVALID, "That is no public key: neither base64url nor a JWK.") from failure
    keys: list[Any] = found["keys"] if isinstance(found.get("keys"), list) else [found]
    for one in keys:
        if isinstance(one, Mapping) and one.get("crv") == "Ed25519" and (not kid or one.get("kid", kid) == kid):
            return _checked(from_text(str(one.get("x", ""))))
    raise Fault(FaultKind.INVALID, "There is no such key of the Ed25519 kind among those that were given.")


def key_named(text: str) -> str:
    """Return the `kid` that a receipt says it is signed with; "" where it says none. Nothing is verified."""
    try:
        return msgspec.json.decode(from_text(text.partition(".")[0]), type=_Header).kid
    except (Fault, ValueError):
        return ""


def _checked(public: bytes) -> bytes:
    if len(public) != KEY_BYTES:
        raise Fault(FaultKind.INVALID, f"A public key for receipts has {KEY_BYTES} bytes.")
    return public
