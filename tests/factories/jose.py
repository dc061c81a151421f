"""Make tokens by hand, right and wrong, without the library under test."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from stockade.policy.snapshot import Entry, IssuerPolicy, VerificationKey

ISSUER = "https://idp.example/realms/one"
OTHER_ISSUER = "https://idp.example/realms/two"
TENANT = "0f0f0f0f-0000-4000-8000-000000000001"
OBJECT_ID = "0f0f0f0f-0000-4000-8000-000000000002"
NOW = 1_800_000_000.0

RSA = RSAKey.generate_key(2048, auto_kid=False)
RSA_OTHER = RSAKey.generate_key(2048, auto_kid=False)
P256 = ECKey.generate_key("P-256", auto_kid=False)
P384 = ECKey.generate_key("P-384", auto_kid=False)


def encode(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(
    header: str | Mapping[str, Any], claims: str | Mapping[str, Any], key: Any = RSA, algorithm: str = "RS256"
) -> str:
    """Sign header and claims, which may be given as raw JSON text to be wrong in ways a dictionary cannot."""
    parts = [value if isinstance(value, str) else json.dumps(value) for value in (header, claims)]
    signing_input = ".".join(encode(part.encode()) for part in parts)
    signature = JWSRegistry.algorithms[algorithm].sign(signing_input.encode(), key)
    return f"{signing_input}.{encode(signature)}"


def header(**changes: Any) -> dict[str, Any]:
    """Return a good header with changes; None removes a member."""
    return _without_none({"alg": "RS256", "kid": "rsa", "typ": "JWT"} | changes)


def claims(**changes: Any) -> dict[str, Any]:
    """Return good claims with changes; None removes a member."""
    good = {
        "iss": ISSUER,
        "aud": "https://cognitiveservices.azure.com",
        "oid": OBJECT_ID,
        "sub": "pairwise",
        "appid": "0f0f0f0f-0000-4000-8000-000000000003",
        "tid": TENANT,
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "exp": NOW + 3600,
        "uti": "abc",
    }
    return _without_none(good | changes)


def entries(
    *,
    audiences: frozenset[str] = frozenset(),
    keys_expire_at: float | None = NOW + 86_400,
    issuer: str = ISSUER,
    **policy: Any,
) -> tuple[Entry, ...]:
    """Return what an external issuer adds to a snapshot: its policy and one key of each kind."""
    known = IssuerPolicy(issuer, TENANT, audiences, local=False, keys_expire_at=keys_expire_at, **policy)
    keys = [
        ("rsa", "RS256", RSA),
        ("rsa384", "RS384", RSA),
        ("rsa512", "RS512", RSA),
        ("pss", "PS256", RSA),
        ("p256", "ES256", P256),
        ("p384", "ES384", P384),
    ]
    return (
        ("issuer", issuer, known),
        *(
            (
                "verification-key",
                (issuer, kid),
                VerificationKey(issuer, kid, algorithm, key.as_dict(private=False), None),
            )
            for kid, algorithm, key in keys
        ),
    )


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
