"""The one error type, and the closed list of what can go wrong.

A `Fault` is written for the caller: its message may be shown on the wire, so it never holds a secret, a body or an internal path. What only
the operator may see travels as `__cause__`. Each wire dialect has exactly one table from `FaultKind` to status and code; a test asserts
that every table is total.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class FaultKind(StrEnum):
    """Every way a request can fail. The values are ours; wire codes belong to the dialects."""

    INVALID = "Invalid"
    """The request is malformed or breaks a documented rule."""
    CONFLICTING_CREDENTIALS = "ConflictingCredentials"
    """More than one credential, and they disagree."""
    UNAUTHENTICATED = "Unauthenticated"
    """No credential, or a token that does not verify."""
    KEY_REJECTED = "KeyRejected"
    """A subscription key that does not belong to this account (unknown, regenerated, of another account)."""
    LOCAL_AUTH_DISABLED = "LocalAuthDisabled"
    """A key, and the account takes none."""
    SUBDOMAIN_REQUIRED = "SubdomainRequired"
    """An identity token on the regional endpoint."""
    PERMISSION_DENIED = "PermissionDenied"
    """A known principal without the data action (data plane)."""
    AUTHORIZATION_FAILED = "AuthorizationFailed"
    """A known principal without the action (management)."""
    NETWORK_DENIED = "NetworkDenied"
    """The caller's address is not admitted."""
    PUBLIC_ACCESS_DISABLED = "PublicAccessDisabled"
    """The account answers on private endpoints only."""
    OUTBOUND_DENIED = "OutboundDenied"
    """The request carries a URI that the account does not allow requests to carry."""
    CUSTOMER_KEY_UNAVAILABLE = "CustomerKeyUnavailable"
    """The customer's own key, on which the account's stored content depends, cannot be used (disabled, deleted, no role, not reachable)."""
    LOCKBOX_DENIED = "LockboxDenied"
    """The account's Lockbox statement, signed by its approvers, does not let this caller have what the account keeps."""
    NOT_FOUND = "NotFound"
    """No such address, account, operation or resource, as far as this caller may know."""
    DEPLOYMENT_NOT_FOUND = "DeploymentNotFound"
    """The account has no such model deployment."""
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    """The path exists, the method does not."""
    UPGRADE_REQUIRED = "UpgradeRequired"
    """The operation is a WebSocket, and the request came over plain HTTP."""
    CONFLICT = "Conflict"
    """The resource's state does not admit the change."""
    PRECONDITION_FAILED = "PreconditionFailed"
    """The caller's entity tag is out of date."""
    TOO_LARGE = "TooLarge"
    """A body, header or list above its limit."""
    UNSUPPORTED_MEDIA_TYPE = "UnsupportedMediaType"
    """The body's content type is not one the operation reads."""
    TIMEOUT = "Timeout"
    """The caller was too slow to send its request."""
    LIMIT = "Limit"
    """A rate or quota is used up."""
    UPSTREAM_FAILED = "UpstreamFailed"
    """The engine answered wrongly or broke off."""
    UPSTREAM_TIMEOUT = "UpstreamTimeout"
    """The engine did not answer in time."""
    UNAVAILABLE = "Unavailable"
    """An engine, the database, the audit log or the policy cannot be reached: refused, not guessed."""
    UNSUPPORTED = "Unsupported"
    """Asked for something this installation does not do."""
    INTERNAL = "Internal"
    """A bug of ours. The message never shows details."""


class Fault(Exception):
    """A failure with a kind, a message for the caller, and what would help.

    code:          the exact Azure error code where the contract names one finer than the kind (`FlagMustBeSetForRestore`).
    target:        the field or parameter at fault, as the caller named it.
    retry_after_s: when trying again makes sense; only for LIMIT and UNAVAILABLE (clients wait on it for any status).
    details:       values for the dialect's extra fields; never secret.
    """

    def __init__(
        self,
        kind: FaultKind,
        message: str,
        *,
        code: str | None = None,
        target: str | None = None,
        retry_after_s: float | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.code = code
        self.target = target
        self.retry_after_s = retry_after_s
        self.details: Mapping[str, object] = details or {}

    def __repr__(self) -> str:
        return f"Fault({self.kind.name}, {self.message!r})"
