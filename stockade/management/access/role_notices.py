"""What is told of requests for a role for a while: operators of what waits for them, the contact of what became of it."""

from __future__ import annotations

from typing import Final

from stockade.kernel.clock import iso
from stockade.lockbox.workflow import Course, Event
from stockade.management import outbox
from stockade.management.outbox import Notice
from stockade.settings import Settings
from stockade.storage.database import Writer
from stockade.storage.documents import Document

_TITLES: Final = {
    Event.CREATED: "was made",
    Event.APPROVED: "is approved",
    Event.DENIED: "is denied",
    Event.EXPIRED: "has lapsed: nobody decided",
    Event.CANCELLED: "is taken back",
    Event.COMPLETED: "is over",
    Event.REVOKED: "is revoked",
}


def post(writer: Writer, settings: Settings, document: Document, course: Course, now: float) -> None:
    """Tell of the last step of a request: whoever decides hears of all of them, the contact of what others have done."""
    step, asked = course.history[-1], document.body["properties"]
    lines = [f"Reason: {asked['reason']}", f"By: {step.by.name or step.by.object_id}"]
    lines += [f"Comment: {step.comment}"] if step.comment else []
    if step.event is Event.CREATED:
        lines.append(f"It lapses at {iso(course.lapses_at)[:16]}Z. Decide: stockade access approve {document.name}")
    if step.event is Event.APPROVED and course.ends_at is not None:
        lines.append(
            f"The role ends at {iso(course.ends_at)[:16]}Z. Take it away sooner: stockade access revoke {document.name}"
        )
    what = f"'{asked['roleName']}' for {asked['durationMinutes']} minutes"
    contact = asked.get("contact", "")
    notice = Notice(
        kind=f"roleRequest.{step.event.value[0].lower()}{step.event.value[1:]}",
        subject=str(document.body["id"]),
        title=f"Request '{document.name}' of {course.filed_by.name} ({what}) {_TITLES[step.event]}",
        text="\n".join([*lines, "", str(document.body["id"])]),
        data={
            "roleName": asked["roleName"],
            "durationMinutes": asked["durationMinutes"],
            "principalId": asked["principalId"],
            "status": course.status.value,
        },
        to=(contact,) if contact and step.event is not Event.CREATED else (),
        operators=True,
        subscription=document.subscription,
    )
    outbox.post(writer, settings, notice, now)
