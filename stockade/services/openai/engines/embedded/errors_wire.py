"""Faults in OpenAI's words. Source: https://platform.openai.com/docs/guides/error-codes and the openai client's `_make_status_error`."""

from __future__ import annotations

import math

import msgspec

from stockade.kernel.faults import Fault, FaultKind

WIRE: dict[FaultKind, tuple[int, str, str]] = {
    FaultKind.INVALID: (400, "invalid_request_error", "invalid_value"),
    FaultKind.UNSUPPORTED: (400, "invalid_request_error", "unsupported_parameter"),
    FaultKind.NOT_FOUND: (404, "invalid_request_error", "not_found"),
    FaultKind.METHOD_NOT_ALLOWED: (405, "invalid_request_error", "method_not_allowed"),
    FaultKind.TIMEOUT: (408, "invalid_request_error", "request_timeout"),
    FaultKind.TOO_LARGE: (413, "invalid_request_error", "request_too_large"),
    FaultKind.UNSUPPORTED_MEDIA_TYPE: (415, "invalid_request_error", "unsupported_media_type"),
    FaultKind.LIMIT: (429, "rate_limit_error", "rate_limit_exceeded"),
    FaultKind.INTERNAL: (500, "server_error", "internal_error"),
}
"""Kind to status, `type` and default `code`: the kinds that this process raises. It knows no callers, so it refuses none of them."""


def error_body(fault: Fault) -> bytes:
    """Return `{"error": {...}}` for the fault."""
    _, type_, code = WIRE[fault.kind]
    error = {"message": fault.message, "type": type_, "code": fault.code or code, "param": fault.target}
    return msgspec.json.encode({"error": error})


def error_status(fault: Fault) -> int:
    """Return the HTTP status for the fault."""
    return WIRE[fault.kind][0]


def error_headers(fault: Fault) -> list[tuple[bytes, bytes]]:
    """Return the extra headers: when to come back, in whole seconds, never less than one."""
    if fault.retry_after_s is None:
        return []
    return [(b"retry-after", str(max(1, math.ceil(fault.retry_after_s))).encode())]
