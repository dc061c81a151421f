"""Read a signed token (JWS compact serialisation) so strictly that no two readers can disagree about what it says.

joserfc supplies the signature algorithms; it forgives repeated member names and NaN in JSON, so the reading is ours:
exactly three segments, canonical base64url, UTF-8 JSON objects without repeated names at any depth, a signature
algorithm from a short list, and none of the header parameters that change what the signature covers.
Source: RFC 7515 (sections 4, 5.2 and 10.12), RFC 8725 (sections 2 and 3).
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

MAX_TOKEN_BYTES = 16 * 1024
MAX_TIME: Final = 253_402_300_799
"""The last second of the year 9999; later instants are nonsense and would overflow elsewhere."""
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192

ALGORITHMS: Final[Mapping[str, str]] = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "ES256": "P-256",
    "ES384": "P-384",
}
"""Accepted signature algorithms, and the key type or curve each belongs to."""

_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_REFUSED_PARAMETERS = frozenset({"crit", "b64", "enc", "zip"})


class NotVerified(Exception):
    """A token that is refused. `reason` is a short code for the audit record; no part of the token is in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Compact:
    """A token that was read, and not yet proven."""

    algorithm: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signing_input: bytes
    signature: bytes


def read(token: str) -> Compact:
    """Read a token; NotVerified with the reason when anything about it is not as it must be."""
    if len(token) > MAX_TOKEN_BYTES:
        raise NotVerified("too_large")
    parts = token.split(".")
    if len(parts) == 5:
        raise NotVerified("encrypted")
    if len(parts) != 3:
        raise NotVerified("malformed")
    header = _object(_decode(parts[0]))
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise NotVerified("bad_algorithm")
    if not _REFUSED_PARAMETERS.isdisjoint(header):
        raise NotVerified("critical_header")
    if str(header.get("typ", "JWT")).lower() not in {"jwt", "at+jwt", "application/at+jwt"} or "cty" in header:
        raise NotVerified("bad_header")
    claims = _object(_decode(parts[1]))
    return Compact(algorithm, header, claims, token[: token.rindex(".")].encode(), _decode(parts[2]))


def check_signature(token: Compact, algorithm: str, key: RSAKey | ECKey) -> None:
    """Raise NotVerified unless the key, used with the algorithm it is registered for, made the signature."""
    if token.algorithm != algorithm:
        raise NotVerified("bad_algorithm")
    if not JWSRegistry.algorithms[algorithm].verify(token.signing_input, token.signature, key):
        raise NotVerified("bad_signature")


def import_key(jwk: Mapping[str, Any], algorithm: str) -> RSAKey | ECKey:
    """Return the public key of a JWK; NotVerified when it does not fit the algorithm or is too weak or too costly to use."""
    wanted = ALGORITHMS.get(algorithm)
    try:
        if wanted == "RSA" and jwk.get("kty") == "RSA":
            # Sized before it is imported: an enormous number costs time already then.
            if len(str(jwk["n"])) <= MAX_RSA_BITS // 5:
                size = int.from_bytes(_decode(str(jwk["n"])), "big").bit_length()
                if MIN_RSA_BITS <= size <= MAX_RSA_BITS:
                    return RSAKey.import_key({name: str(jwk[name]) for name in ("kty", "n", "e")})
        elif wanted is not None and jwk.get("kty") == "EC" and jwk.get("crv") == wanted:
            return ECKey.import_key({name: str(jwk[name]) for name in ("kty", "crv", "x", "y")})
    except (JoseError, ValueError, TypeError, KeyError, NotVerified) as failure:
        raise NotVerified("bad_key") from failure
    raise NotVerified("bad_key")


def instant(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a time claim in epoch seconds, None when it is absent; NotVerified when it is no sensible number."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= MAX_TIME
        or not math.isfinite(value)
    ):
        raise NotVerified("malformed")
    return float(value)


def text(claims: Mapping[str, Any], name: str) -> str | None:
    """Return a text claim, None when it is absent; NotVerified unless it is short, printable ASCII."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= 512 or not value.isascii() or not value.isprintable():
        raise NotVerified("malformed")
    return value


def _decode(segment: str) -> bytes:
    if _SEGMENT.fullmatch(segment) is None or len(segment) % 4 == 1:
        raise NotVerified("malformed")
    decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    # The last character may carry bits that do not count: such a text decodes to the same bytes, but is not what was signed.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode():
        raise NotVerified("malformed")
    return decoded


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unrepeated, parse_constant=_no_constant)
    except (ValueError, RecursionError) as failure:
        raise NotVerified("malformed") from failure
    if not isinstance(value, dict):
        raise NotVerified("malformed")
    return value


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotVerified("duplicate_member")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
