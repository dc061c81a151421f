"""How a command ends: one table from what went wrong to the exit code, and one way of saying it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stockade.kernel.faults import FaultKind

OK: Final = 0
FAILED: Final = 1
"""Anything without a code of its own; also when the server cannot start."""
USAGE: Final = 2
NOT_RUNNING: Final = 3
NOT_FOUND: Final = 4
REFUSED: Final = 5
"""The caller may not do this."""
CONFLICT: Final = 6
"""The state of things does not admit it now; a key in use, for example."""
INVALID: Final = 7
BUSY: Final = 8
"""Try again later."""
INTERRUPTED: Final = 130
"""Ctrl-C."""

EXIT_CODES: Final[Mapping[FaultKind, int]] = {
    FaultKind.INVALID: INVALID,
    FaultKind.CONFLICTING_CREDENTIALS: INVALID,
    FaultKind.UNAUTHENTICATED: REFUSED,
    FaultKind.KEY_REJECTED: REFUSED,
    FaultKind.LOCAL_AUTH_DISABLED: REFUSED,
    FaultKind.SUBDOMAIN_REQUIRED: INVALID,
    FaultKind.OUTBOUND_DENIED: INVALID,
    FaultKind.PERMISSION_DENIED: REFUSED,
    FaultKind.AUTHORIZATION_FAILED: REFUSED,
    FaultKind.NETWORK_DENIED: REFUSED,
    FaultKind.PUBLIC_ACCESS_DISABLED: REFUSED,
    FaultKind.CUSTOMER_KEY_UNAVAILABLE: REFUSED,
    FaultKind.NOT_FOUND: NOT_FOUND,
    FaultKind.DEPLOYMENT_NOT_FOUND: NOT_FOUND,
    FaultKind.METHOD_NOT_ALLOWED: INVALID,
    FaultKind.UPGRADE_REQUIRED: INVALID,
    FaultKind.CONFLICT: CONFLICT,
    FaultKind.PRECONDITION_FAILED: CONFLICT,
    FaultKind.TOO_LARGE: INVALID,
    FaultKind.UNSUPPORTED_MEDIA_TYPE: INVALID,
    FaultKind.TIMEOUT: BUSY,
    FaultKind.LIMIT: BUSY,
    FaultKind.UPSTREAM_FAILED: FAILED,
    FaultKind.UPSTREAM_TIMEOUT: BUSY,
    FaultKind.UNAVAILABLE: BUSY,
    FaultKind.UNSUPPORTED: INVALID,
    FaultKind.INTERNAL: FAILED,
}
