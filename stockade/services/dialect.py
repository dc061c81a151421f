"""From faults to HTTP on the data plane: one table, shared by every service; services differ in the body they wrap it in.

Source: choices.md and contracts, data-plane section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind

STATUS: Mapping[FaultKind, tuple[int, str]] = {
    FaultKind.INVALID: (400, "BadRequest"),
    FaultKind.CONFLICTING_CREDENTIALS: (400, "BadRequest"),
    FaultKind.UNAUTHENTICATED: (401, "401"),
    FaultKind.KEY_REJECTED: (401, "401"),
    FaultKind.LOCAL_AUTH_DISABLED: (403, "AuthenticationTypeDisabled"),
    FaultKind.SUBDOMAIN_REQUIRED: (400, "BadRequest"),
    FaultKind.PERMISSION_DENIED: (401, "PermissionDenied"),
    FaultKind.AUTHORIZATION_FAILED: (403, "AuthorizationFailed"),
    FaultKind.NETWORK_DENIED: (403, "403"),
    FaultKind.PUBLIC_ACCESS_DISABLED: (403, "403"),
    FaultKind.OUTBOUND_DENIED: (400, "400"),
    FaultKind.CUSTOMER_KEY_UNAVAILABLE: (403, "CustomerManagedKeyUnavailable"),
    FaultKind.LOCKBOX_DENIED: (403, "LockboxDenied"),
    FaultKind.NOT_FOUND: (404, "404"),
    FaultKind.DEPLOYMENT_NOT_FOUND: (404, "DeploymentNotFound"),
    FaultKind.METHOD_NOT_ALLOWED: (405, "MethodNotAllowed"),
    FaultKind.UPGRADE_REQUIRED: (426, "UpgradeRequired"),
    FaultKind.CONFLICT: (409, "Conflict"),
    FaultKind.PRECONDITION_FAILED: (412, "PreconditionFailed"),
    FaultKind.TOO_LARGE: (413, "RequestTooLarge"),
    FaultKind.UNSUPPORTED_MEDIA_TYPE: (415, "UnsupportedMediaType"),
    FaultKind.TIMEOUT: (408, "Timeout"),
    FaultKind.LIMIT: (429, "429"),
    FaultKind.UPSTREAM_FAILED: (502, "BadGateway"),
    FaultKind.UPSTREAM_TIMEOUT: (504, "GatewayTimeout"),
    FaultKind.UNAVAILABLE: (503, "ServiceUnavailable"),
    FaultKind.UNSUPPORTED: (400, "OperationNotSupported"),
    FaultKind.INTERNAL: (500, "InternalServerError"),
}

_NETWORK = {FaultKind.NETWORK_DENIED, FaultKind.PUBLIC_ACCESS_DISABLED}
MAX_RETRY_AFTER_S = 60


def status_of(fault: Fault) -> int:
    """Return the HTTP status of a fault on the data plane."""
    return STATUS[fault.kind][0]


def gateway_body(fault: Fault, request_id: str = "") -> Mapping[str, Any]:
    """Return the body the gateway itself refuses with: shape A for a missing or bad token, shape G for the rest.

    A refused URI has a shape of its own, with a number for a code (choices.md, row "URI not allowed").
    """
    status, code = STATUS[fault.kind]
    if fault.kind is FaultKind.UNAUTHENTICATED:
        return {"statusCode": status, "message": fault.message}
    if fault.kind is FaultKind.OUTBOUND_DENIED:
        inner = {"code": "OutboundUriNotAllowed", "path": fault.target}
        return {"error": {"requestid": request_id, "code": status, "message": fault.message, "innererror": inner}}
    error: dict[str, Any] = {"code": fault.code or code, "message": fault.message}
    if fault.target is not None:
        error["target"] = fault.target
    return {"error": error}


def refusal_headers(fault: Fault) -> list[tuple[str, str]]:
    """Return the headers that belong to a refusal. Never `Retry-After` on 401 or 403: clients would wait for it."""
    headers: list[tuple[str, str]] = []
    if fault.retry_after_s is not None and fault.kind in (FaultKind.LIMIT, FaultKind.UNAVAILABLE):
        seconds = max(1, min(MAX_RETRY_AFTER_S, round(fault.retry_after_s)))
        headers += [("retry-after", str(seconds)), ("retry-after-ms", str(seconds * 1000))]
    if fault.kind is FaultKind.UPGRADE_REQUIRED:
        headers.append(("upgrade", "websocket"))  # RFC 9110 section 15.5.22 asks for it
    if fault.kind in _NETWORK:
        headers.append(("policy-id", "ThrowExceptionDueToTrafficDenied"))
    return headers
