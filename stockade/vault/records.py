"""What vaults leave in the audit log: an intent before a change, an outcome after it, and one record of everything else that is asked.

Operations have the names of Azure's AuditEvent log for key vaults. The path says which key or secret and which version; values never appear.
"""

from __future__ import annotations

import time
from typing import Literal

import msgspec

from stockade.audit.log import AuditSink
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.kernel.record import AuditRecord
from stockade.vault.wire import STATUS


class Subject(msgspec.Struct, frozen=True):
    """What a record is about. vault: its id, or the name that was asked for. started: a reading of `time.perf_counter`."""

    decision_id: str
    method: str
    path: str
    address: str
    client: str
    vault: str
    operation: str
    changes: bool
    who: TokenCredential | None
    network: str
    permitted_by: str
    started: float


class Records:
    """Writes vaults' records."""

    def __init__(self, sink: AuditSink, clock: Clock) -> None:
        self._sink, self._clock = sink, clock

    def require_healthy(self) -> None:
        """Raise Fault(UNAVAILABLE) when records cannot be taken: nothing is done unrecorded."""
        if not self._sink.healthy:
            message = f"The audit log cannot be written ({self._sink.why}), so nothing is done."
            raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5)

    def intent(self, subject: Subject) -> None:
        """Write what is about to be changed, and return when it is on disk; Fault(UNAVAILABLE) otherwise."""
        self._sink.commit(self._record(subject, "intent", 0, None))

    def outcome(self, subject: Subject, status: int, fault: Fault | None) -> AuditRecord | None:
        """Write what came of a request, or return the record where the reply waits for it (`first`): of refusals and of changes."""
        phase: Literal["outcome", "decision"] = "outcome" if subject.changes and subject.permitted_by else "decision"
        record = self._record(subject, phase, status, fault)
        if self._sink.healthy and (subject.changes or not subject.permitted_by):
            return record
        self._sink.record(record)
        return None

    async def first(self, record: AuditRecord) -> Fault | None:
        """Return when a record is on disk, or what to answer instead, where it cannot be and nothing was done."""
        try:
            await self._sink.durable(record)
        except Fault as unwritable:
            # Of what was done the intent is on disk, and the outcome is written when it can be.
            return unwritable if record.decision == "deny" else None
        return None

    def _record(
        self, subject: Subject, phase: Literal["intent", "outcome", "decision"], status: int, fault: Fault | None
    ) -> AuditRecord:
        who = subject.who
        return AuditRecord(
            time=self._clock.now(),
            id=subject.decision_id,
            category="Audit" if subject.changes else "RequestResponse",
            phase=phase,
            operation=subject.operation or subject.method,
            resource=subject.vault,
            caller_address=subject.address,
            client=subject.client,
            credential="token" if who is not None else _credential(fault),
            principal=who.object_id if who is not None else "",
            application=(who.app_id or "") if who is not None else "",
            decision="allow" if subject.permitted_by else "deny",
            rule=subject.permitted_by or _rule(fault),
            reason=_reason(fault),
            status=status,
            outcome="" if phase == "intent" else "success" if fault is None else f"failed:{fault.kind.value}",
            duration_ms=0.0 if phase == "intent" else (time.perf_counter() - subject.started) * 1000,
            network=subject.network,
            because={"path": subject.path},
        )


def _credential(fault: Fault | None) -> str:
    reason = str(fault.details.get("reason", "")) if fault is not None else ""
    return f"rejected:{reason}" if reason not in ("", "no_credential") else "none"


def _reason(fault: Fault | None) -> str:
    if fault is None:
        return ""
    return str(fault.details.get("inner") or fault.code or STATUS[fault.kind][1])


def _rule(fault: Fault | None) -> str:
    if fault is None:
        return ""
    return {
        FaultKind.UNAUTHENTICATED: "credential",
        FaultKind.PERMISSION_DENIED: "role",
        FaultKind.NETWORK_DENIED: "network",
        FaultKind.PUBLIC_ACCESS_DISABLED: "network",
    }.get(fault.kind, "request")
