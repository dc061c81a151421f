"""Who calls ARM: the bearer token, and the 401 that tells clients where to get one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import RejectedCredential, TokenCredential
from stockade.policy.snapshot import Snapshot

Verify: TypeAlias = Callable[[Snapshot, str, float, frozenset[str]], TokenCredential | RejectedCredential]
"""`identity.verify.verify`: snapshot, token, epoch seconds, accepted audiences."""

_MAX_TOKEN = 32 * 1024
_CODES: Mapping[str, tuple[str, str]] = {
    "expired": ("ExpiredAuthenticationToken", "The access token expiry has passed."),
    "wrong_audience": (
        "InvalidAuthenticationTokenAudience",
        "The access token has been obtained for another audience.",
    ),
    "wrong_tenant": ("InvalidAuthenticationTokenTenant", "The access token is from another tenant."),
    "unknown_issuer": (
        "InvalidAuthenticationTokenTenant",
        "The access token is from an issuer that is not trusted here.",
    ),
}


def authenticate(
    snapshot: Snapshot,
    authorization: str,
    now: float,
    audiences: frozenset[str],
    verify: Verify,
    authorization_uri: str,
) -> TokenCredential:
    """Return the verified credential of an `Authorization` header; Fault(UNAUTHENTICATED) with ARM's code and challenge."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if not authorization or scheme.lower() != "bearer" or not token:
        message = "Authentication failed. The 'Authorization' header is missing or is not a bearer token."
        raise _unauthenticated("AuthenticationFailed", message, "no_credential", authorization_uri)
    found = (
        verify(snapshot, token, now, audiences)
        if len(token) <= _MAX_TOKEN
        else RejectedCredential("token", "too_large")
    )
    if isinstance(found, TokenCredential):
        return found
    code, message = _CODES.get(found.reason, ("InvalidAuthenticationToken", "The access token is invalid."))
    raise _unauthenticated(code, message, found.reason, authorization_uri)


def _unauthenticated(code: str, message: str, reason: str, authorization_uri: str) -> Fault:
    error = "invalid_request" if reason == "no_credential" else "invalid_token"
    challenge = f'Bearer authorization_uri="{authorization_uri}", error="{error}", error_description="{message}"'
    return Fault(
        FaultKind.UNAUTHENTICATED, message, code=code, details={"wwwAuthenticate": challenge, "reason": reason}
    )
