"""Where every decision and every change goes: the one interface through which the rest of the platform knows the audit log."""

from __future__ import annotations

from typing import Protocol

from stockade.audit.ledger import Placed
from stockade.kernel.record import AuditRecord


class AuditSink(Protocol):
    """Where records go."""

    @property
    def healthy(self) -> bool:
        """False when records cannot be taken; then nothing may be done that would need one."""
        ...

    @property
    def why(self) -> str:
        """What is in the way, for the caller's 503 and for readiness: which sink, and the system's reason, no paths. "" while healthy."""
        ...

    def record(self, record: AuditRecord) -> None:
        """Take a record without waiting."""
        ...

    def commit(self, record: AuditRecord) -> None:
        """Take a record and return when it is durable; Fault(UNAVAILABLE) otherwise. It may still come then: it tells of what was not done."""
        ...

    async def durable(self, record: AuditRecord) -> None:
        """Do the same on an event loop: records of many requests share one write. For refused and privileged ones, before the reply."""
        ...

    def place(self, record: AuditRecord) -> Placed:
        """Take a record and return where it stands in its log's tree; Fault(UNAVAILABLE) otherwise. For operators' reads, before the first byte."""
        ...


def commit_refusal(sink: AuditSink, record: AuditRecord) -> None:
    """Return when the record of a refusal is on disk; Fault(UNAVAILABLE) otherwise, which is then the answer.

    While records cannot be taken that is the answer already, and its own record comes when it can.
    """
    if sink.healthy:
        sink.commit(record)
    else:
        sink.record(record)
