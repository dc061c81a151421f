"""Issue access tokens with the claims Azure's resource providers see: Entra's v1 form, RS256.

Source: contracts, control-plane section 5 (v1 access token claims).
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from joserfc import jwt

from stockade.identity.principals import Principal
from stockade.identity.signing_keys import ALGORITHM, TOKEN_LIFE_S, SigningKey
from stockade.identity.tenant import local_issuer
from stockade.kernel.secret import Secret

MAX_GROUPS = 200
"""More groups than this are not listed in the token; `_claim_names` says that there are more."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """An access token and when it ends, in epoch seconds."""

    token: Secret
    token_id: str
    audience: str
    not_before: int
    expires_on: int

    def expires_in(self, now: float) -> int:
        """Return the whole seconds it has left."""
        return max(0, math.floor(self.expires_on - now))


def issue(
    key: SigningKey,
    principal: Principal,
    *,
    authority: str,
    audience: str,
    proof: Literal["secret", "certificate", "managed"],
    groups: Collection[str],
    now: float,
    life_s: int = TOKEN_LIFE_S,
) -> IssuedToken:
    """Sign an access token for a principal.

    proof:  how the caller proved itself (`appidacr`: 1 for a secret, 2 for a certificate or a managed identity).
    groups: every group the principal is in, directly or not. They inform other readers; our own services look memberships up afresh.
    """
    issued_at = math.floor(now)
    token_id = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()
    issuer = local_issuer(authority, principal.tenant_id)
    claims: dict[str, Any] = {
        "aud": audience,
        "iss": issuer,
        "iat": issued_at,
        "nbf": issued_at,
        "exp": issued_at + min(life_s, TOKEN_LIFE_S),
        "appid": principal.app_id,
        "appidacr": "1" if proof == "secret" else "2",
        "idp": issuer,
        "idtyp": "app",
        "oid": principal.object_id,
        "sub": principal.object_id,
        "tid": principal.tenant_id,
        "uti": token_id,
        "ver": "1.0",
    }
    if principal.resource_id is not None:
        claims["xms_mirid"] = principal.resource_id
    if len(groups) > MAX_GROUPS:
        claims["_claim_names"] = {"groups": "src1"}
        claims["_claim_sources"] = {
            "src1": {"endpoint": f"{authority}/v1.0/servicePrincipals/{principal.object_id}/getMemberObjects"}
        }
    elif groups:
        claims["groups"] = sorted(groups)
    header = {"typ": "JWT", "alg": ALGORITHM, "kid": key.key_id}
    token = jwt.encode(header, claims, key.key, algorithms=[ALGORITHM])
    return IssuedToken(Secret(token), token_id, audience, issued_at, claims["exp"])
