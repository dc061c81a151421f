"""A log, as calls read it: opened for one call, searched within a time that does not hold anybody up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Final

from stockade.audit.criteria import Indexed, Wanted
from stockade.audit.ledger import PLATFORM_LOG, LogReader
from stockade.audit.search import Page, search
from stockade.kernel.faults import Fault, FaultKind
from stockade.management.resource_type import Call

WITHIN_S: Final = 2.0
"""For one call to index what is new, and to look; then it gives what it has, and whoever wants more asks on."""
AT_ONCE: Final = 4
"""Calls that read logs at a time; the others of the control plane's threads are for everything else."""
TURN_WITHIN_S: Final = 1.0
NOTHING: Final = Page((), "")

_turns = BoundedSemaphore(AT_ONCE)


def log_name(call: Call) -> str:
    """Return the name of the log that a call is about: its subscription's, or the platform's at the tenant's root."""
    return call.id.subscription.lower() if call.id.subscription is not None else PLATFORM_LOG


def existing_log(call: Call) -> LogReader:
    """Return that log; Fault(NOT_FOUND) while nothing has been recorded in it."""
    found = call.platform.logs.reader(log_name(call))
    if found.size == 0:
        raise Fault(FaultKind.NOT_FOUND, "Nothing has been recorded here yet.", code="AuditLogEmpty")
    return found


@contextmanager
def turn() -> Iterator[None]:
    """Wait for a turn to read logs, and have it while the block runs; Fault(LIMIT) when too many read."""
    if not _turns.acquire(timeout=TURN_WITHIN_S):
        raise Fault(FaultKind.LIMIT, "Too many read the audit logs at this moment.", retry_after_s=1)
    try:
        yield
    finally:
        _turns.release()


def page_of(call: Call, wanted: Wanted, limit: int, also: Callable[[Indexed], bool] | None = None) -> Page:
    """Return the page that a call asks for; `$skipToken` says where it begins."""
    reader = call.platform.logs.reader(log_name(call))
    if reader.size == 0:
        return NOTHING
    token = call.query.get("$skiptoken", "")
    directory = call.platform.settings.audit_dir
    with turn():
        return search(reader, directory, wanted, limit=limit, token=token, within_s=WITHIN_S, also=also)
