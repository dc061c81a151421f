"""How a command ends: one table from what went wrong to the exit code, and one way of saying it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stockade.audit.ledger import FORKED, ROLLED_BACK
from stockade.kernel.faults import Fault, FaultKind

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
LOG_ROLLED_BACK: Final = 9
"""An audit log has fewer records than were signed, or than a witness has seen."""
LOG_FORKED: Final = 10
"""An audit log has other records than a witness has seen."""
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
    FaultKind.LOCKBOX_DENIED: REFUSED,
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

EXIT_CODES_OF_CODES: Final[Mapping[str | None, int]] = {ROLLED_BACK: LOG_ROLLED_BACK, FORKED: LOG_FORKED}
"""What is told apart more finely than by its kind."""


def exit_code(fault: Fault) -> int:
    """Return what a command ends with that failed so."""
    return EXIT_CODES_OF_CODES.get(fault.code, EXIT_CODES[fault.kind])
