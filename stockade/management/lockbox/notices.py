"""Who is told what of Lockbox: the account's contacts of everything, operators of what became of what they asked; the webhook of all of it.

Addresses are the statement's holder's to name (`contacts` of the policy): a role has none. Nothing here is content.
"""

from __future__ import annotations

from typing import Final

from stockade.kernel.clock import iso
from stockade.lockbox.workflow import Event, Status, Step
from stockade.management import outbox
from stockade.management.lockbox.documents import Request, contacts
from stockade.management.lockbox.events import Desk
from stockade.management.outbox import Notice
from stockade.storage.database import Writer

_TOLD: Final = {
    Event.APPROVED: "is approved",
    Event.AUTO_APPROVED: "has been opened by breaking the glass",
    Event.AUTO_DENIED: "was refused by a reviewer",
    Event.DENIED: "is denied",
    Event.EXPIRED: "has lapsed: nobody decided in time",
    Event.CANCELLED: "was cancelled by the operator",
    Event.REVOKED: "is revoked",
    Event.USED: "is being used: content is read now",
    Event.COMPLETED: "is over",
}


def step(desk: Desk, writer: Writer, request: Request, taken: Step) -> None:
    """Tell whoever has to know of a step, in the transaction that takes it."""
    asked, course = request.asked, request.course
    pending = taken.status is Status.PENDING
    if pending:
        title = "breaks the glass" if asked.break_glass else "waits for your decision"
        text = f"{taken.comment}\n\n{_how(request)}" if taken.event is Event.REOPENED else _how(request)
    elif taken.event in _TOLD:
        title, text = _TOLD[taken.event], taken.comment
        if course.ends_at is not None and taken.event in (Event.APPROVED, Event.AUTO_APPROVED):
            text = f"{text}\n\nAccess ends at {iso(course.ends_at)[:19]}Z at the latest, and sooner by `stockade lockbox revoke {request.name}`."
    else:
        return
    account = writer.get(asked.account)
    name = asked.account.rsplit("/", 1)[-1]
    notice = Notice(
        kind=f"lockbox.{taken.event.value[0].lower()}{taken.event.value[1:]}",
        subject=request.id,
        title=f"Lockbox request {request.name} for the account '{name}' {title}",
        text=f"{text.strip()}\n\n{_what(request)}\n\n{request.id}\n{_page(desk, request)}".strip(),
        data={
            "request": request.name,
            "account": asked.account,
            "scope": list(asked.scope),
            "status": taken.status.value,
            "breakGlass": asked.break_glass,
            "by": taken.by.object_id,
        },
        to=contacts(account) if account is not None else (),
        operators=taken.event not in (Event.CREATED, Event.REVIEWED, Event.USED),
        subscription=request.subscription,
    )
    outbox.post(writer, desk.platform.settings, notice, desk.now)


def _what(request: Request) -> str:
    asked = request.asked
    lines = [
        f"Operator: {request.course.filed_by.name} ({asked.operator.object_id})",
        f"Reason: {asked.reason}",
        f"Content: {', '.join(asked.scope)}",
        f"For: {request.course.duration_s / 3600:g} h",
    ]
    return "\n".join(lines + ([f"Case: {asked.case}"] if asked.case else []))


def _page(desk: Desk, request: Request) -> str:
    """Return where the console shows a request."""
    base = f"{desk.platform.settings.console_endpoint}/console/subscriptions"
    return f"{base}/{request.subscription}/lockbox/{request.name.removeprefix('LockboxRequest_')}"


def _how(request: Request) -> str:
    until = f"{iso(request.course.lapses_at)[:19]}Z"
    if request.asked.break_glass:
        return (
            "Operators make use of what the account's statement agrees to: it takes signatures of theirs, and none of yours. To stop it: "
            f"`stockade lockbox deny {request.name}` or `stockade lockbox revoke {request.name}`."
        )
    return (
        f"Nothing is opened until you have signed. Decide until {until}, in the console or with `stockade lockbox approve {request.name}` or "
        f"`stockade lockbox deny {request.name}`; after that the request lapses."
    )
