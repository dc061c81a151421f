"""What people do with a request: review, approve, deny, break the glass, cancel, complete, revoke. Each in the transaction of its call."""

from __future__ import annotations

from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import workflow
from stockade.lockbox.sign_in import check_sign_in
from stockade.lockbox.signature import Signed
from stockade.lockbox.workflow import DECIDABLE
from stockade.management import people
from stockade.management.authorization import refusal
from stockade.management.lockbox import approvers, approving, bodies, documents, view
from stockade.management.lockbox.documents import Request
from stockade.management.lockbox.events import Desk
from stockade.management.lockbox.moving import moved
from stockade.management.resource_type import Call
from stockade.policy import rbac
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Json

OWN = approvers.OWN
UPDATE_APPROVAL = "Microsoft.CustomerLockbox/requests/UpdateApproval/action"
WRITE = "Stockade.Lockbox/requests/write"
REVIEW = "Stockade.Lockbox/requests/review/action"


def asked_about(call: Call, reader: Reader) -> Request:
    """Return the request that a call names, as it stands now."""
    return documents.required(reader, call.parameters["subscription"].lower(), call.parameters["request"]).at(call.now)


def shown(call: Call, reader: Reader, request: Request) -> Json:
    """Return a request, with what is still to be signed for it where the caller is one of those whom the broker tells."""
    to_sign: Json | None = None
    if request.course.status in DECIDABLE:
        try:
            to_sign = approving.to_sign(approving.wanted(call, request, reader.get(request.asked.account)), call.now)
        except Fault as fault:
            if fault.kind not in (FaultKind.PERMISSION_DENIED, FaultKind.CONFLICT, FaultKind.UNAVAILABLE):
                raise
    return view.shown(request, call.now, to_sign)


def update_approval(call: Call, writer: Writer) -> Json:
    """Take an approver's decision, and return what was sent."""
    request, who = asked_about(call, writer), people.caller(call)
    what, reason, given = bodies.decision(call)
    approvers.require_approver(call.snapshot, call.credential, who, request, call.now)
    desk = Desk.of(call)
    if what == "Deny":
        moved(desk, writer, request, workflow.denied(request.course, call.now, who, reason))
        return dict(call.body)
    workflow.require("approve", request.course, call.now)
    if request.asked.break_glass:
        message = "The glass is broken by operators' signatures, not by approvals; you can deny it. For an approval a request of its own is made."
        raise Fault(FaultKind.CONFLICT, message, code="BreakGlassRequest")
    _sign(call, writer, request, given, reason)
    return dict(call.body)


def break_glass(call: Call, writer: Writer) -> Request:
    """Take operators' signatures over what the statement agrees to; with enough of them it is open, and the customer's log has it first."""
    request = asked_about(call, writer)
    settings = call.platform.settings.lockbox
    check_sign_in(call.credential, call.now, settings)
    if not request.asked.break_glass:
        message = "The request was not made as one that breaks the glass, and waits for the customer's approval."
        raise Fault(FaultKind.CONFLICT, message, code="NotABreakGlassRequest")
    if not settings.break_glass:
        message = "There is no glass to break: it is off on this platform (`lockbox.break_glass`)."
        raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="BreakGlassOff")
    workflow.require("approve", request.course, call.now)
    body = bodies.signed_body(call)
    return _sign(call, writer, request, body, "")


def review(call: Call, writer: Writer) -> Request:
    """Take the second operator's word: on to the customer, or not."""
    request, who = asked_about(call, writer), people.caller(call)
    what, reason, _ = bodies.decision(call)
    workflow.require_other(request.course, who, request.name, OWN)
    course = workflow.reviewed(request.course, call.now, who, reason, admit=what == "Approve")
    return moved(Desk.of(call), writer, request, course)


def cancel(call: Call, writer: Writer) -> Request:
    """Take a request back that has not been decided on."""
    request, who = asked_about(call, writer), people.caller(call)
    workflow.require_own(request.course, who, request.name, "LockboxRequestOfAnother")
    return moved(Desk.of(call), writer, request, workflow.cancelled(request.course, call.now, who, bodies.reason(call)))


def complete(call: Call, writer: Writer) -> Request:
    """End access that is not needed any more."""
    request, who = asked_about(call, writer), people.caller(call)
    workflow.require_own(request.course, who, request.name, "LockboxRequestOfAnother")
    return moved(Desk.of(call), writer, request, workflow.completed(request.course, call.now, who, bodies.reason(call)))


def revoke(call: Call, writer: Writer) -> Request:
    """Take back what was asked or granted; for whoever decides on either side: it only takes away."""
    scope = f"/subscriptions/{call.parameters['subscription']}"
    if not any(
        _may(call, name, scope, data=data) for name, data in ((UPDATE_APPROVAL, False), (WRITE, True), (REVIEW, True))
    ):
        raise refusal(call.snapshot, call.credential, UPDATE_APPROVAL, scope, call.decision_id)
    request, who = asked_about(call, writer), people.caller(call)
    return moved(Desk.of(call), writer, request, workflow.revoked(request.course, call.now, who, bodies.reason(call)))


def _may(call: Call, action: str, scope: str, *, data: bool) -> bool:
    who = call.credential
    found = rbac.check(call.snapshot, who.object_id, who.groups, action, scope.lower(), now=call.now, data=data)
    return isinstance(found, rbac.Granted)


def _sign(call: Call, writer: Writer, request: Request, given: Signed, reason: str) -> Request:
    """Take signatures: with enough of them the request is approved, with some it waits for the others."""
    what = approving.wanted(call, request, writer.get(request.asked.account))
    who, desk = people.caller(call), Desk.of(call)
    approval, kept, enough = approving.signed(what, given, call.now)
    known, _ = approving.signers(request, what.protection)
    ours = {one.key for one in given.signatures}
    if not approvers.is_signer(call.snapshot, call.credential, [one for one in known if one.id in ours]):
        message = "None of the signatures is by a key that the statement has as yours, and what others have signed is theirs to send."
        raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="NotASigner")
    if not enough:
        return moved(desk, writer, request, workflow.signed(request.course, call.now, who), kept)
    until = min(approval.not_after, call.now + approval.duration_s)
    glass = request.asked.break_glass
    course = workflow.approved(request.course, call.now, who, reason, until=until, automatic=glass)
    return moved(desk, writer, request, course, kept)
