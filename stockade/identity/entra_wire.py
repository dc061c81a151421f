"""How the token service's answers look on the wire: Entra's error object with its AADSTS codes.

Source: contracts, control-plane section 5 and clients 4a; RFC 6749 section 5.2 for the `error` words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import JSONResponse

from stockade.kernel.faults import Fault, FaultKind

BY_KIND: Final[Mapping[FaultKind, tuple[int, str, str]]] = {
    FaultKind.INVALID: (400, "invalid_request", "90023"),
    FaultKind.CONFLICTING_CREDENTIALS: (400, "invalid_request", "90023"),
    FaultKind.UNAUTHENTICATED: (401, "invalid_client", "7000215"),
    FaultKind.KEY_REJECTED: (401, "invalid_client", "7000215"),
    FaultKind.LOCAL_AUTH_DISABLED: (401, "invalid_client", "7000112"),
    FaultKind.SUBDOMAIN_REQUIRED: (400, "invalid_request", "90023"),
    FaultKind.OUTBOUND_DENIED: (400, "invalid_request", "90023"),
    FaultKind.PERMISSION_DENIED: (403, "unauthorized_client", "50105"),
    FaultKind.AUTHORIZATION_FAILED: (403, "unauthorized_client", "50105"),
    FaultKind.NETWORK_DENIED: (403, "access_denied", "53003"),
    FaultKind.PUBLIC_ACCESS_DISABLED: (403, "access_denied", "53003"),
    FaultKind.CUSTOMER_KEY_UNAVAILABLE: (403, "access_denied", "53003"),
    FaultKind.LOCKBOX_DENIED: (403, "access_denied", "53003"),
    FaultKind.NOT_FOUND: (404, "invalid_request", "90023"),
    FaultKind.DEPLOYMENT_NOT_FOUND: (404, "invalid_request", "90023"),
    FaultKind.METHOD_NOT_ALLOWED: (405, "invalid_request", "900561"),
    FaultKind.UPGRADE_REQUIRED: (426, "invalid_request", "90023"),
    FaultKind.CONFLICT: (409, "invalid_request", "90023"),
    FaultKind.PRECONDITION_FAILED: (412, "invalid_request", "90023"),
    FaultKind.TOO_LARGE: (413, "invalid_request", "90023"),
    FaultKind.UNSUPPORTED_MEDIA_TYPE: (415, "invalid_request", "90023"),
    FaultKind.TIMEOUT: (408, "invalid_request", "90023"),
    FaultKind.LIMIT: (429, "temporarily_unavailable", "90055"),
    FaultKind.UPSTREAM_FAILED: (503, "temporarily_unavailable", "90033"),
    FaultKind.UPSTREAM_TIMEOUT: (503, "temporarily_unavailable", "90033"),
    FaultKind.UNAVAILABLE: (503, "temporarily_unavailable", "90033"),
    FaultKind.UNSUPPORTED: (400, "unsupported_grant_type", "70003"),
    FaultKind.INTERNAL: (500, "server_error", "90033"),
}
"""Status, OAuth error and AADSTS code for a fault without a code of its own."""

BY_CODE: Final[Mapping[str, tuple[int, str]]] = {
    "50027": (401, "invalid_client"),
    "50049": (400, "invalid_instance"),
    "50059": (400, "invalid_request"),
    "70003": (400, "unsupported_grant_type"),
    "70011": (400, "invalid_scope"),
    "90002": (400, "invalid_request"),
    "500011": (400, "invalid_resource"),
    "700016": (400, "unauthorized_client"),
    "700021": (401, "invalid_client"),
    "700023": (401, "invalid_client"),
    "700024": (401, "invalid_client"),
    "700027": (401, "invalid_client"),
    "700051": (400, "unsupported_response_type"),
    "900144": (400, "invalid_request"),
    "7000112": (400, "unauthorized_client"),
    "7000215": (401, "invalid_client"),
    "7000218": (401, "invalid_client"),
    "7000222": (401, "invalid_client"),
}

HEADERS: Final = {
    "cache-control": "no-store, no-cache",
    "pragma": "no-cache",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
}


def answer(body: Mapping[str, Any], request_id: str) -> JSONResponse:
    """Return a token response."""
    return JSONResponse(dict(body), headers={**HEADERS, "x-ms-request-id": request_id})


def refuse(fault: Fault, *, request_id: str, correlation_id: str, now: float) -> JSONResponse:
    """Return Entra's error object for a fault."""
    status, error, code = BY_KIND[fault.kind]
    if fault.code is not None:
        status, error = BY_CODE[fault.code]
        code = fault.code
    timestamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    description = (
        f"AADSTS{code}: {fault.message} Trace ID: {request_id} Correlation ID: {correlation_id} Timestamp: {timestamp}"
    )
    body = {
        "error": error,
        "error_description": description,
        "error_codes": [int(code)],
        "timestamp": timestamp,
        "trace_id": request_id,
        "correlation_id": correlation_id,
    }
    headers = {**HEADERS, "x-ms-request-id": request_id}
    if fault.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(fault.retry_after_s))
    if status == 401:
        headers["www-authenticate"] = 'Basic realm="stockade"'
    return JSONResponse(body, status, headers)
