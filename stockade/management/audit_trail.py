"""What the control plane leaves in the audit log: refusals at the door, intents before changes, outcomes after them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from stockade.audit.log import AuditSink, commit_refusal
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.record import AuditRecord
from stockade.management.arm_wire import STATUS
from stockade.management.resource_type import Call


@dataclass(frozen=True, slots=True)
class Subject:
    """What a record is about. call: None when the request did not get past step 3."""

    decision_id: str
    method: str
    path: bytes
    address: str
    client: str
    correlation: str = ""
    call: Call | None = None
    permission: str | None = None
    because: str = ""


class AuditTrail:
    """Writes the control plane's records."""

    def __init__(self, sink: AuditSink, clock: Clock) -> None:
        self._sink, self._clock = sink, clock

    def require_healthy(self) -> None:
        """Raise Fault(UNAVAILABLE) when records cannot be taken: nothing is done unrecorded, reading included."""
        if not self._sink.healthy:
            message = f"The audit log cannot be written ({self._sink.why}), so nothing is done."
            raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5)

    def intent(self, subject: Subject, noted: Mapping[str, str] | None = None) -> None:
        """Write what is about to be done, and return when it is on disk; Fault(UNAVAILABLE) otherwise. noted: what more is said of it."""
        self._sink.commit(self._record(subject, "intent", noted=noted))

    def outcome(self, subject: Subject, status: int, fault: Fault | None = None) -> None:
        """Write what came of it: on disk before this returns, unless somebody has only read.

        Fault(UNAVAILABLE) when a refusal cannot be written, which is then the answer. Of what was done the intent is on disk.
        """
        record = self._record(subject, "outcome" if subject.call is not None else "decision", status, fault)
        if subject.call is None:
            commit_refusal(self._sink, record)
        elif subject.method in ("GET", "HEAD"):
            self._sink.record(record)
        else:
            with suppress(Fault):  # it is done, or was not; its outcome is written when that can be
                commit_refusal(self._sink, record)

    def _record(
        self,
        subject: Subject,
        phase: Literal["intent", "outcome", "decision"],
        status: int = 0,
        fault: Fault | None = None,
        noted: Mapping[str, str] | None = None,
    ) -> AuditRecord:
        now, call = self._clock.now(), subject.call
        credential = call.credential if call is not None else None
        shown = f"{subject.method} {subject.path[:2000].decode('latin-1')}"
        return AuditRecord(
            time=now,
            id=subject.decision_id,
            category="Audit",
            phase=phase,
            operation=subject.permission or (shown if call is not None else _action(fault) or subject.method),
            resource=call.id.text if call is not None else subject.path[:2048].decode("latin-1"),
            caller_address=subject.address,
            client=subject.client,
            credential="token" if credential is not None else _credential(fault),
            principal=credential.object_id if credential is not None else _detail(fault, "principal"),
            application=(credential.app_id or "") if credential is not None else _detail(fault, "application"),
            decision="allow" if call is not None else "deny",
            rule=subject.because if call is not None else _rule(fault),
            reason=(fault.code or STATUS[fault.kind][1]) if fault is not None else "",
            status=status,
            outcome="" if phase != "outcome" else "success" if fault is None else f"failed:{fault.kind.value}",
            duration_ms=max(0.0, (now - call.now) * 1000) if call is not None and phase == "outcome" else 0.0,
            because=dict(noted) if noted else None,
            policy=call.snapshot.generation if call is not None else 0,
            correlation=subject.correlation,
        )


def _detail(fault: Fault | None, name: str) -> str:
    return str(fault.details.get(name, "")) if fault is not None else ""


def _action(fault: Fault | None) -> str:
    """Return the ARM action that a caller was refused; "" where it did not come to that."""
    information = fault.details.get("additionalInfo") if fault is not None else None
    return str(information.get("action", "")) if isinstance(information, Mapping) else ""


def _credential(fault: Fault | None) -> str:
    if fault is not None and fault.kind is FaultKind.AUTHORIZATION_FAILED:
        return "token"
    reason = _detail(fault, "reason")
    return f"rejected:{reason}" if reason not in ("", "no_credential") else "none"


def _rule(fault: Fault | None) -> str:
    if fault is None:
        return ""
    return {FaultKind.UNAUTHENTICATED: "authenticate", FaultKind.AUTHORIZATION_FAILED: "authorise"}.get(
        fault.kind, "read"
    )
