"""Key Vault's wire: which failure has which status and code, strict base64url, and JSON within bounds.

Source: contracts, control-plane section 6.2. `Fault.code` is the outer code where it is finer than the kind's (`KeyNotFound`), and
`details["inner"]` the code of `innererror` (`ForbiddenByRbac`).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from stockade.kernel.faults import Fault, FaultKind

STATUS: Final[Mapping[FaultKind, tuple[int, str]]] = {
    FaultKind.INVALID: (400, "BadParameter"),
    FaultKind.CONFLICTING_CREDENTIALS: (400, "BadParameter"),
    FaultKind.UNAUTHENTICATED: (401, "Unauthorized"),
    FaultKind.KEY_REJECTED: (401, "Unauthorized"),
    FaultKind.LOCAL_AUTH_DISABLED: (403, "Forbidden"),
    FaultKind.SUBDOMAIN_REQUIRED: (400, "BadParameter"),
    FaultKind.OUTBOUND_DENIED: (400, "BadParameter"),
    FaultKind.PERMISSION_DENIED: (403, "Forbidden"),
    FaultKind.AUTHORIZATION_FAILED: (403, "Forbidden"),
    FaultKind.NETWORK_DENIED: (403, "Forbidden"),
    FaultKind.PUBLIC_ACCESS_DISABLED: (403, "Forbidden"),
    FaultKind.CUSTOMER_KEY_UNAVAILABLE: (403, "Forbidden"),
    FaultKind.LOCKBOX_DENIED: (403, "Forbidden"),
    FaultKind.NOT_FOUND: (404, "NotFound"),
    FaultKind.DEPLOYMENT_NOT_FOUND: (404, "NotFound"),
    FaultKind.METHOD_NOT_ALLOWED: (405, "MethodNotAllowed"),
    FaultKind.UPGRADE_REQUIRED: (426, "BadParameter"),
    FaultKind.CONFLICT: (409, "Conflict"),
    FaultKind.PRECONDITION_FAILED: (412, "PreconditionFailed"),
    FaultKind.TOO_LARGE: (413, "RequestEntityTooLarge"),
    FaultKind.UNSUPPORTED_MEDIA_TYPE: (415, "UnsupportedMediaType"),
    FaultKind.TIMEOUT: (408, "RequestTimeout"),
    FaultKind.LIMIT: (429, "Throttled"),
    FaultKind.UPSTREAM_FAILED: (502, "BadGateway"),
    FaultKind.UPSTREAM_TIMEOUT: (504, "GatewayTimeout"),
    FaultKind.UNAVAILABLE: (503, "ServiceUnavailable"),
    FaultKind.UNSUPPORTED: (400, "NotSupported"),
    FaultKind.INTERNAL: (500, "InternalServerError"),
}
"""Total: a test asserts it. 400 and not 501 for what we do not do, because SDKs repeat requests that fail with 5xx."""

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")
_LAST: Final = ("", "", "AQgw", "AEIMQUYcgkosw048")
"""Per characters beyond the last four: what the last one may be, so that no bits are left over."""
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")

S = TypeVar("S", bound=msgspec.Struct)


def error_body(fault: Fault) -> dict[str, Any]:
    """Return a failure as Key Vault writes it."""
    error: dict[str, Any] = {"code": fault.code or STATUS[fault.kind][1], "message": fault.message}
    inner = fault.details.get("inner")
    if inner is not None:
        error["innererror"] = {"code": str(inner)}
    return {"error": error}


def bad_parameter(message: str, target: str | None = None) -> Fault:
    """Return what a caller is told whose request is not well formed."""
    return Fault(FaultKind.INVALID, message, target=target)


def forbidden(message: str, inner: str) -> Fault:
    """Return a refusal of something that rights do not help against."""
    return Fault(FaultKind.PERMISSION_DENIED, message, details={"inner": inner})


def read_body(content: bytes, shape: type[S]) -> S:
    """Read a request's JSON; Fault(INVALID) naming the member at fault. Unknown members are ignored, as Key Vault does."""
    try:
        return msgspec.json.decode(content or b"{}", type=shape)
    except msgspec.ValidationError as failure:
        problem, _, where = str(failure).partition(" - at `$.")
        target = where.rstrip("`") or None
        member = f"Property {target}" if target else "The request body"
        raise bad_parameter(f"{member} has an invalid value: {problem}.", target) from failure
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise bad_parameter("The request body is not well-formed JSON.") from failure


def encoded(value: bytes) -> str:
    """Return bytes as base64url without padding."""
    return binascii.b2a_base64(value, newline=False).translate(_TO_URL, b"=").decode()


def decoded(text: str, target: str) -> bytes:
    """Read base64url without padding, in its one spelling; Fault(INVALID) for anything else."""
    if _BASE64URL.fullmatch(text) is not None:
        left = len(text) % 4
        if left == 0 or text[-1] in _LAST[left]:
            return binascii.a2b_base64(text.encode().translate(_FROM_URL) + b"=" * (-left % 4))
    raise bad_parameter(f"Property {target} is not a base64url encoded value without padding.", target)
