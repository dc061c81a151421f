"""What is asked before the customer is: who the operator is, whether anybody may be asked, and for what.

Where Lockbox is off, where nobody can sign, or where Azure's promise is that nobody looks, the answer is no: refused, not free.
Source: contracts, control-plane sections 2, 3 and 7.2.
"""

from __future__ import annotations

import re
from typing import Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.keys.content_actions import KINDS
from stockade.lockbox import approval as approvals
from stockade.lockbox import workflow
from stockade.lockbox.approval import Operator
from stockade.lockbox.services import treatment
from stockade.lockbox.sign_in import check_sign_in
from stockade.lockbox.workflow import OPEN
from stockade.management import outbox, people
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.lockbox import approvers, bodies, documents
from stockade.management.lockbox.bodies import AskedProperties, Asking
from stockade.management.lockbox.documents import Asked, Kept, Protection, Request
from stockade.management.lockbox.events import Desk
from stockade.management.lockbox.moving import filed
from stockade.management.resource_type import Call, display_id
from stockade.management.shape import respelled, typed
from stockade.settings import Lockbox
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document

MAX_OPEN: Final = 100
"""Requests of one subscription that are not over."""
MAX_KEPT: Final = 1000
MAX_TOLD_A_DAY: Final = 300
"""Notices of a subscription before operators can ask nothing more: customers who are asked all day approve without looking. Not for break-glass."""
_CASE = re.compile(r"https://[!-~]{1,1900}")


def file(call: Call, writer: Writer) -> Request:
    """Evaluate and store a request; the broker has opened it when this returns."""
    check_sign_in(call.credential, call.now, call.platform.settings.lockbox)
    if not documents.is_opted_in(call.snapshot):
        raise _refused(
            "LockboxNotEnabled",
            "Customer Lockbox is off in this tenant, so operators read nothing. `POST /providers/Microsoft.CustomerLockbox/enableLockbox`, by the "
            "tenant's Owner, turns it on: then the customer can be asked.",
        )
    who, subscription = people.caller(call), call.parameters["subscription"].lower()
    name = documents.guid_of(call.parameters["request"])
    if name is None:
        message = "A request's name is a GUID."
        raise Fault(FaultKind.INVALID, message, code="InvalidResourceName", target="name")
    if documents.find(writer, subscription, name) is not None:
        message = f"There is a request '{name}' already, and what is asked for does not change. Make another one."
        raise Fault(FaultKind.CONFLICT, message, code="LockboxRequestExists")
    settings = call.platform.settings.lockbox
    sent = typed(respelled(call.body, Asking), Asking).properties or AskedProperties()
    account = _account(writer, subscription, sent.account or "")
    protection = _protected(account)
    glass = sent.break_glass is True
    hours = _hours(sent, settings, protection, glass=glass)
    asked = Asked(
        account=display_id(account),
        resource_type=ACCOUNTS,
        scope=_scope(sent.scope or []),
        reason=_reason(sent.reason or ""),
        case=_case(sent.case or ""),
        operator=Operator(call.credential.object_id.lower(), call.credential.tenant_id),
        break_glass=glass,
    )
    if not glass:
        statement = protection.statement
        approvers.require_somebody(call.snapshot, subscription, statement.approvers, statement.threshold, who, call.now)
    _make_room(writer, subscription)
    if not glass and outbox.told_today(writer, subscription, call.now) >= MAX_TOLD_A_DAY:
        message = "The subscription's people have been told of too much today. Ask tomorrow."
        raise Fault(FaultKind.LIMIT, message, code="TooManyNotices", retry_after_s=3600)
    call.platform.broker.open_request(account.id, name, call.evidence)
    course = workflow.filed(
        call.now,
        who,
        lapse_s=settings.request_days * 86_400,
        duration_s=hours * 3600,
        review=settings.review and not glass,
        comment=asked.reason,
    )
    return filed(Desk.of(call), writer, Request(name, subscription, asked, course, Kept()))


def _account(reader: Reader, subscription: str, text: str) -> Document:
    try:
        resource = ResourceId.parse(text)
    except Fault as fault:
        message = "'account' is the ARM id of an account."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target="properties.account") from fault
    if (resource.type or "").lower() != ACCOUNTS.lower() or (resource.subscription or "").lower() != subscription:
        message = f"'account' is the ARM id of an account of the subscription '{subscription}'."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target="properties.account")
    found = reader.get(resource.key)
    if found is None:
        raise Fault(FaultKind.NOT_FOUND, f"The account '{resource.text}' was not found.")
    return found


def _protected(account: Document) -> Protection:
    kind, sku, name = str(account.body["kind"]), str(account.body["sku"]["name"]), account.name
    match treatment(kind, sku):
        case "never":
            message = (
                f"'{name}' is of kind {kind} on {sku}: nobody but the customer opens what it keeps, request or not."
            )
            raise _refused("LockboxAccountClosed", message)
        case "own-storage":
            message = f"'{name}' is of kind {kind}, which keeps content in the customer's own storage (BYOS). Ask the customer for access there."
            raise _refused("LockboxOwnStorage", message)
    found = documents.protection(account)
    if found is None:
        message = (
            f"'{name}' has no Lockbox statement, so nobody can sign an approval, and operators read nothing. `stockade lockbox protect` makes one, "
            "by whoever may write the account's policies."
        )
        raise _refused("LockboxNotProtected", message)
    return found


def _hours(sent: AskedProperties, settings: Lockbox, protection: Protection, *, glass: bool) -> float:
    most = settings.max_hours
    if glass:
        clause = protection.statement.break_glass
        if not settings.break_glass or clause is None:
            where = (
                "on this platform (`lockbox.break_glass`)" if not settings.break_glass else "in the account's statement"
            )
            raise _refused("BreakGlassOff", f"There is no glass to break: it is off {where}.")
        most = min(most, float(clause.hours))
    try:
        hours = most if sent.duration_hours is None else float(sent.duration_hours)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= most:
        message = f"'durationHours' is a number of hours, at most {most:g}."
        raise Fault(FaultKind.INVALID, message, code="InvalidLockboxRequest", target="properties.durationHours")
    return hours


def _scope(given: list[str]) -> tuple[str, ...]:
    scope = tuple(dict.fromkeys(given))
    kinds = ", ".join(f"{kind}/*" for kind in KINDS)
    if not 0 < len(scope) <= approvals.MAX_SCOPE or not all(
        approvals.is_pattern(one) and one.partition("/")[0] in KINDS for one in scope
    ):
        message = (
            f"'scope' names what is to be read: one to {approvals.MAX_SCOPE} of `files/file-4f...`, or of {kinds}."
        )
        raise Fault(FaultKind.INVALID, message, code="InvalidLockboxRequest", target="properties.scope")
    return scope


def _reason(given: str) -> str:
    reason = bodies.text(given, "properties.reason")
    if not reason:
        message = "'reason' says why; whoever decides has nothing else to go by."
        raise Fault(FaultKind.INVALID, message, code="InvalidLockboxRequest", target="properties.reason")
    return reason


def _case(given: str) -> str:
    case = given.strip()
    if case and _CASE.fullmatch(case) is None:
        message = "'case' is the https address of a support case."
        raise Fault(FaultKind.INVALID, message, code="InvalidLockboxRequest", target="properties.case")
    return case


def _make_room(writer: Writer, subscription: str) -> None:
    """Refuse when too much waits; forget the oldest of what is over when too much is kept."""
    found = documents.every(writer, subscription)
    if sum(one.course.status in OPEN for one in found) >= MAX_OPEN:
        message = f"{MAX_OPEN} requests of the subscription are not over. Complete or cancel some."
        raise Fault(FaultKind.CONFLICT, message, code="TooManyLockboxRequests")
    over = [one for one in found if one.course.status not in OPEN and one.kept.told]
    for one in over[::-1][: max(0, len(found) + 1 - MAX_KEPT)]:
        documents.remove(writer, one)


def _refused(code: str, message: str) -> Fault:
    return Fault(FaultKind.AUTHORIZATION_FAILED, message, code=code)
