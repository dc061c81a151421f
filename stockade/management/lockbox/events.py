"""What Lockbox leaves in the customer's log: one record per step, under Azure's operation names where it has one.

On the resource id of the request in the subscription, which is whose log it is. Written before the step is stored: a step that nobody can read of
has not been taken. Source: contracts, control-plane section 7.2 (operation names).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stockade.kernel.ids import new_guid
from stockade.kernel.principal import Person
from stockade.kernel.record import AuditRecord
from stockade.lockbox.workflow import Event, Step
from stockade.management.lockbox.documents import Request
from stockade.management.resource_type import Call, Platform

_AZURE: Final = "Microsoft.CustomerLockbox/requests/activitylog/{}/action"
OPERATIONS: Final[Mapping[Event, str]] = {
    Event.CREATED: _AZURE.format("CreateLockboxRequest"),
    Event.REVIEWED: "Stockade.Lockbox/requests/review/action",
    Event.AUTO_DENIED: _AZURE.format("AutoDenyLockboxRequest"),
    Event.SIGNED: "Stockade.Lockbox/requests/sign/action",
    Event.APPROVED: _AZURE.format("ApproveLockboxRequest"),
    Event.AUTO_APPROVED: _AZURE.format("AutoApproveLockboxRequest"),
    Event.DENIED: _AZURE.format("DenyLockboxRequest"),
    Event.EXPIRED: _AZURE.format("ExpireLockboxRequest"),
    Event.CANCELLED: _AZURE.format("CancelLockboxRequest"),
    Event.USED: "Stockade.Lockbox/requests/use/action",
    Event.COMPLETED: "Stockade.Lockbox/requests/complete/action",
    Event.REVOKED: "Stockade.Lockbox/requests/revoke/action",
    Event.REOPENED: "Stockade.Lockbox/requests/reopen/action",
}
BREAK_GLASS: Final = "Stockade.Lockbox/requests/breakGlass/action"
READ: Final = "Stockade.Lockbox/requests/content/read/action"


@dataclass(frozen=True, slots=True)
class Desk:
    """Who moves a request, when and from where. One per call; the clock's own has nobody behind it."""

    platform: Platform
    now: float
    decision_id: str
    address: str = ""
    client: str = ""

    @classmethod
    def of(cls, call: Call) -> Desk:
        """Return the desk of a call to ARM."""
        return cls(call.platform, call.now, call.decision_id, call.address, call.client)

    @classmethod
    def of_clock(cls, platform: Platform, now: float) -> Desk:
        """Return the desk of what becomes due by itself."""
        return cls(platform, now, new_guid())


def record(desk: Desk, request: Request, step: Step) -> None:
    """Write a step into the log, on disk when this returns; Fault(UNAVAILABLE) otherwise. Break-glass has its place in the log's tree then."""
    written = _record(desk, request, OPERATIONS[step.event], step.by, step.comment, status=step.status.value)
    if request.asked.break_glass and step.event is Event.AUTO_APPROVED:
        desk.platform.audit.place(_record(desk, request, BREAK_GLASS, step.by, step.comment, status=step.status.value))
        desk.platform.audit.place(written)
    else:
        desk.platform.audit.commit(written)


def _record(desk: Desk, request: Request, operation: str, who: Person, comment: str, **more: str) -> AuditRecord:
    asked = request.asked
    because = {"account": asked.account, "scope": " ".join(asked.scope), "reason": comment, "case": asked.case, **more}
    return AuditRecord(
        time=desk.now,
        id=desk.decision_id,
        category="Audit",
        phase="outcome",
        operation=operation,
        resource=request.id,
        caller_address=desk.address,
        client=desk.client,
        credential="token" if who.object_id else "none",
        principal=who.object_id,
        application=who.app_id or "",
        decision="allow",
        rule="lockbox",
        status=200,
        outcome="success",
        because={name: value[:2000] for name, value in because.items() if value},
    )
