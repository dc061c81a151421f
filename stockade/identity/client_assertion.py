"""Client assertions: an application proves itself with a token signed by its certificate's key instead of a secret.

An assertion may be used again until it expires: msal, which most clients are built on, signs one and sends it for
nine minutes. What bounds a stolen one is its lifetime, which is capped here.
Source: RFC 7523 sections 3 and 4; RFC 7515 sections 4.1.7 and 4.1.8 (x5t, x5t#S256).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC
from hashlib import sha1, sha256
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.jwk import ECKey, RSAKey

from stockade.identity.compact import MAX_RSA_BITS, MIN_RSA_BITS, NotVerified, check_signature, instant, read, text
from stockade.kernel.faults import Fault, FaultKind

TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_LIFE_S: Final = 3600.0
LEEWAY_S: Final = 300.0
"""Client machines' clocks are worse than servers'; Entra allows five minutes too."""
MAX_PEM_BYTES: Final = 64 * 1024


def certificate_entry(pem: bytes | str) -> dict[str, Any]:
    """Return what is stored of a certificate: thumbprints, public PEM, end. Fault(INVALID) when it is unusable."""
    data = pem.encode() if isinstance(pem, str) else pem
    if len(data) > MAX_PEM_BYTES:
        raise Fault(FaultKind.INVALID, "The certificate is too large.", target="certificate")
    try:
        certificate = x509.load_pem_x509_certificate(data)
        public = certificate.public_key()
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, "This is not a certificate in PEM form.", target="certificate") from failure
    rsa = isinstance(public, RSAPublicKey) and MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS
    elliptic = isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1 | SECP384R1)
    if not rsa and not elliptic:
        raise Fault(
            FaultKind.INVALID,
            "The certificate's key must be RSA of 2048 to 8192 bits, P-256 or P-384.",
            target="certificate",
        )
    der = certificate.public_bytes(Encoding.DER)
    return {
        "thumbprint": _encode(sha1(der).digest()),  # noqa: S324 - names the certificate on the wire (x5t), proves nothing
        "sha256": _encode(sha256(der).digest()),
        "pem": certificate.public_bytes(Encoding.PEM).decode(),
        "expiresAt": certificate.not_valid_after_utc.astimezone(UTC).timestamp(),
    }


def check_assertion(
    assertion: str, app_id: str, certificates: Iterable[Mapping[str, Any]], audiences: Collection[str], now: float
) -> None:
    """Raise NotVerified unless the assertion was signed by one of the application's certificates, for us, for it, and is in time."""
    token = read(assertion)
    entry = _named_certificate(token.header, certificates)
    if entry is None:
        raise NotVerified("unknown_certificate")
    if entry["expiresAt"] <= now:
        raise NotVerified("certificate_expired")
    public = x509.load_pem_x509_certificate(entry["pem"].encode()).public_key()
    if isinstance(public, RSAPublicKey):
        if not token.algorithm.startswith(("RS", "PS")):
            raise NotVerified("bad_algorithm")
        check_signature(token, token.algorithm, RSAKey.import_key(public))
    elif isinstance(public, EllipticCurvePublicKey):
        check_signature(token, "ES256" if isinstance(public.curve, SECP256R1) else "ES384", ECKey.import_key(public))
    else:
        raise NotVerified("bad_key")
    _check_claims(token.claims, app_id, audiences, now)


def _check_claims(claims: Mapping[str, Any], app_id: str, audiences: Collection[str], now: float) -> None:
    if any((text(claims, name) or "").lower() != app_id.lower() for name in ("iss", "sub")):
        raise NotVerified("wrong_application")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(name, str) and name.rstrip("/") in audiences for name in named):
        raise NotVerified("wrong_audience")
    expires_at, not_before = instant(claims, "exp"), instant(claims, "nbf")
    if expires_at is None or expires_at + LEEWAY_S <= now or (not_before or 0.0) - LEEWAY_S > now:
        raise NotVerified("expired")
    if expires_at > now + MAX_LIFE_S + LEEWAY_S:
        raise NotVerified("lives_too_long")


def _named_certificate(
    header: Mapping[str, Any], certificates: Iterable[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """Find the certificate by x5t#S256, x5t or, as some clients do, by a kid that holds the SHA-1 thumbprint in hexadecimal."""
    wanted = {name: header.get(name) for name in ("x5t#S256", "x5t", "kid")}
    for entry in certificates:
        by_name = (("x5t#S256", entry["sha256"]), ("x5t", entry["thumbprint"]), ("kid", thumbprint(entry)))
        for name, expected in by_name:
            presented = wanted[name]
            if isinstance(presented, str) and presented.isascii():
                candidate = presented.upper() if name == "kid" else presented.rstrip("=")
                if hmac.compare_digest(candidate, expected):
                    return entry
    return None


def thumbprint(entry: Mapping[str, Any]) -> str:
    """Return the SHA-1 of a stored certificate in upper-case hexadecimal, by which Azure's tools know certificates."""
    return base64.urlsafe_b64decode(entry["thumbprint"] + "==").hex().upper()


def _encode(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
