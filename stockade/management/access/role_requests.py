"""Requests for a role for a while: how one is stored, shown, granted and ended. Its steps are `lockbox/workflow.py`'s.

A request extends the scope that the role is asked for. What it is granted by stands in its private part, which nobody can send: how far it has
come, and the role assignment it has become. Whatever ends it takes that away in the same transaction; time ends it without anybody (`roles.py`).
"""

from __future__ import annotations

from typing import Final

from stockade.audit.log import AuditSink
from stockade.kernel.clock import iso
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord
from stockade.kernel.resource_id import ResourceId
from stockade.lockbox import workflow
from stockade.lockbox.workflow import Course, Status
from stockade.management import people
from stockade.management.access import role_notices, roles
from stockade.management.resource_type import Call
from stockade.policy.snapshot import RoleAssignment
from stockade.settings import Settings
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

TYPE: Final = "Stockade.Access/roleRequests"
KEEP_DAYS: Final = 180
"""How long it can be read here what became of a request; the audit log has it for as long as that is kept."""


def course_of(document: Document) -> Course:
    """Return how far a request has come by what is noted of it; `workflow.at` says how it stands now."""
    return workflow.read(document.private["course"])


def new(properties: Json, course: Course, principal_type: str) -> tuple[Json, Json]:
    """Return body and private part of a request that is made now."""
    return {"properties": properties}, {"course": workflow.stored(course), "principalType": principal_type}


def shown(document: Document, now: float) -> Json:
    """Return the properties as GET shows them, as they stand at a time."""
    course = workflow.at(course_of(document), now)
    found: Json = {
        **document.body["properties"],
        "scope": ResourceId.parse(str(document.body["id"])).parent,
        "status": course.status.value,
        "requestedBy": people.shown(course.filed_by),
        "requestedAt": iso(course.filed_at),
        "lapsesAt": iso(course.lapses_at),
        "history": [
            {
                "event": step.event.value,
                "status": step.status.value,
                "at": iso(step.at),
                "by": people.shown(step.by),
                **({"comment": step.comment} if step.comment else {}),
            }
            for step in course.history
        ],
    }
    if course.approved_at is not None and course.ends_at is not None:
        ended = course.history[-1].at if course.status is not Status.APPROVED else course.ends_at
        found |= {"approvedAt": iso(course.approved_at), "endsAt": iso(min(ended, course.ends_at))}
    if course.status is Status.APPROVED:
        found["roleAssignmentId"] = document.private["assignment"]
    return found


def moved(writer: Writer, settings: Settings, document: Document, course: Course, now: float) -> Document:
    """Store how far a request has come, with the role assignment that follows from it there or gone, and tell of it."""
    private: Json = {**document.private, "course": workflow.stored(course)}
    if course.status is Status.APPROVED:
        private["assignment"] = _grant(writer, document, course)
    else:
        _take_away(writer, document)
    stored = _put(writer, document, private)
    role_notices.post(writer, settings, stored, course, now)
    return stored


def ended(document: Document) -> RoleAssignment | None:
    """Return the role assignment that a request once was, in force at no time any more; None where there was none, or is one."""
    course, properties = course_of(document), document.body["properties"]
    if course.approved_at is None or course.ends_at is None or course.status is Status.APPROVED:
        return None
    until = min(course.ends_at, course.history[-1].at)
    return RoleAssignment(
        document.id,
        ResourceId.parse(document.id).parent,
        str(properties["roleDefinitionId"]).rsplit("/", 1)[-1].lower(),
        str(properties["principalId"]),
        since=until,
        until=until,
        made_at=course.approved_at,
        request=str(document.body["id"]),
    )


def is_due(reader: Reader, now: float) -> bool:
    """Say whether `keep_up` would change anything."""
    return any(_due(document, now) or _is_old(document, now) for document in reader.list(TYPE))


def keep_up(settings: Settings, writer: Writer, audit: AuditSink, now: float) -> None:
    """Note what time has ended, take its role assignments away, each recorded before; forget what is long over."""
    for document in writer.list(TYPE):
        if _due(document, now):
            course = workflow.at(course_of(document), now)
            audit.commit(_record(document, course, now))
            moved(writer, settings, document, course, now)
        elif _is_old(document, now):
            writer.remove(document)


def ended_elsewhere(call: Call, writer: Writer, assignment: Document) -> None:
    """Note that somebody has removed a role assignment by itself: the request it came of, if any, is revoked."""
    window = roles.while_of(assignment)
    document = writer.get(window.request.lower()) if window is not None else None
    if document is not None and workflow.allows(course_of(document), call.now):
        who, why = people.caller(call), "The role assignment was removed."
        gone = workflow.revoked(course_of(document), call.now, who, why)
        moved(writer, call.platform.settings, document, gone, call.now)


def _grant(writer: Writer, document: Document, course: Course) -> str:
    properties, request = document.body["properties"], ResourceId.parse(str(document.body["id"]))
    assert course.approved_at is not None and course.ends_at is not None
    made = roles.put(
        writer,
        name=new_guid(),
        scope=ResourceId.parse(request.parent),
        role_id=str(properties["roleDefinitionId"]).rsplit("/", 1)[-1],
        principal_id=str(properties["principalId"]),
        principal_type=str(document.private["principalType"]),
        author=course.history[-1].by.object_id,
        window=roles.While(course.approved_at, course.ends_at, request.text),
    )
    return str(made.body["id"])


def _take_away(writer: Writer, document: Document) -> None:
    assignment = writer.get(str(document.private.get("assignment", "")).lower())
    # Another assignment may have got that name since; only this request's own is taken away.
    window = roles.while_of(assignment) if assignment is not None else None
    if assignment is not None and window is not None and window.request.lower() == document.id:
        writer.remove(assignment)


def _put(writer: Writer, document: Document, private: Json) -> Document:
    return writer.put(
        document.id,
        TYPE,
        document.body,
        private,
        subscription=document.subscription,
        resource_group=document.resource_group,
    )


def _due(document: Document, now: float) -> bool:
    course = course_of(document)
    return workflow.at(course, now) is not course


def _is_old(document: Document, now: float) -> bool:
    course = course_of(document)
    return course.status not in workflow.OPEN and course.history[-1].at + KEEP_DAYS * 86_400 <= now


def _record(document: Document, course: Course, now: float) -> AuditRecord:
    event = course.history[-1].event.value
    return AuditRecord(
        time=now,
        id=new_guid(),
        category="Audit",
        phase="intent",
        operation=f"{TYPE}/{event.lower()}",
        resource=str(document.body["id"]),
        client="upkeep",
        principal=str(document.body["properties"]["principalId"]),
        decision="allow",
        rule="its time is over",
        reason=event,
    )
