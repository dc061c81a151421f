"""Ten-minute tokens that stand for a subscription key (`POST /sts/v1.0/issueToken`).

A JWT under a key derived from the root, naming the account, the slot and the key's digest. It is worth exactly what the key is worth at the
moment of use: the gateway looks the digest up again, so regenerating the key ends its tokens too.
Source: contracts, data-plane section 1.3 (STS: bare JWT text, lifetime ten minutes).
"""

from __future__ import annotations

from typing import Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from stockade.kernel.principal import KeyCredential, RejectedCredential
from stockade.kernel.secret import Secret

LIFETIME_S = 600
ISSUER = "urn:ms.cognitiveservices"
MAX_LENGTH = 2048
_HEADER = {"alg": "HS256", "typ": "JWT", "kid": "sts/1"}


class SessionTokens:
    """Issues and reads session tokens. `key`: 32 bytes, derived for this purpose alone."""

    def __init__(self, key: Secret) -> None:
        self._key = OctKey.import_key(key.reveal())
        # Our header is constant, so its encoded form tells our tokens from an identity provider's without parsing either.
        self._prefix = self._encode({}).split(".", 1)[0] + "."

    def issue(self, credential: KeyCredential, location: str, now: float) -> str:
        """Return a token for a key that has just been accepted."""
        return self._encode(
            {
                "iss": ISSUER,
                "aud": credential.account_id,
                "region": location,
                "slot": credential.slot,
                "key": credential.digest.hex(),
                "iat": int(now),
                "exp": int(now) + LIFETIME_S,
            }
        )

    def is_one(self, token: str) -> bool:
        """Say whether the text claims to be a session token."""
        return token.startswith(self._prefix)

    def read(self, token: str, now: float) -> KeyCredential | RejectedCredential:
        """Verify a token's signature and age; whether its key is still in force is the caller's to check."""
        if len(token) > MAX_LENGTH:
            return RejectedCredential("token", "session_token_too_long")
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"]).claims
            if claims["iss"] != ISSUER or not int(claims["iat"]) - 60 <= now < int(claims["exp"]):
                return RejectedCredential("token", "session_token_expired")
            slot: Literal["Key1", "Key2"] = "Key1" if claims["slot"] == "Key1" else "Key2"
            return KeyCredential(str(claims["aud"]), slot, bytes.fromhex(claims["key"]), via_token=True)
        except (JoseError, ValueError, KeyError, TypeError):
            return RejectedCredential("token", "session_token_invalid")

    def _encode(self, claims: dict[str, object]) -> str:
        return jwt.encode(_HEADER, claims, self._key, algorithms=["HS256"])
