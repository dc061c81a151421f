"""The resource type and its actions. It extends whatever scope the role is asked for; its steps are `lockbox/workflow.py`'s.

PUT  {scope}/providers/Stockade.Access/roleRequests/{name}  {"properties": {"roleName"|"roleDefinitionId", "durationMinutes", "reason", "contact"?}}
GET  the same, and lists at any scope
POST .../approve {"reason"?}, deny {"reason"}: data actions, by somebody else who could assign the role there since before it was asked for
POST .../cancel {"reason"?}: who asked, who gives back the role too; revoke {"reason"?}: whoever may
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId, scope_chain
from stockade.lockbox import workflow
from stockade.management import outbox, people
from stockade.management.access import role_notices, role_requests
from stockade.management.authorization_scopes import shown_scope
from stockade.management.resource_type import Action, Call, Planned, Reply, ResourceType
from stockade.management.resources.access_role_requests import shape
from stockade.policy import rbac
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

MAX_OPEN: Final = 200
MAX_KEPT: Final = 5000
"""Requests of one subscription that wait or are granted, and that are kept in all."""
MAX_TOLD_A_DAY: Final = 1000
ASSIGN: Final = "Microsoft.Authorization/roleAssignments/write"


class RoleRequests(ResourceType):
    """A request for a role for a while, at the scope that it is for."""

    type = name = role_requests.TYPE
    methods = frozenset({"GET", "PUT"})
    name_pattern = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
    extension = True

    @property
    def actions(self) -> Sequence[Action]:
        # Deciding takes data actions, which no `*` of an Owner's or Contributor's holds, and the right to assign roles beside them.
        prefix = f"{self.type}/"
        return (
            Action("approve", f"{prefix}approve/action", _approve, writes=True, data=True),
            Action("deny", f"{prefix}deny/action", _deny, writes=True, data=True),
            Action("cancel", f"{prefix}cancel/action", _cancel, writes=True),
            Action("revoke", f"{prefix}revoke/action", _revoke, writes=True),
        )

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        scope = shown_scope(reader, ResourceId.parse(call.id.parent))
        if scope.subscription is None:
            message = "A role is asked for at a subscription, or at something in one."
            raise Fault(FaultKind.INVALID, message, code="InvalidRoleRequest")
        asked, who = shape.wanted(call, scope, reader), people.caller(call)
        principal = call.platform.directory.get(reader, who.object_id)
        if principal is None:
            message = f"The principal {who.object_id} is not in the directory, so it can hold no role."
            raise Fault(FaultKind.INVALID, message, code="PrincipalNotFound")
        properties = shape.properties(asked, scope, who.object_id.lower())
        if current is not None:
            return _same(current, properties, people.caller(call).object_id)
        _check_number(call, reader)
        _check_not_held(call, asked.role_id, scope)
        course = workflow.filed(
            call.now,
            who,
            lapse_s=call.platform.settings.lockbox.request_days * 86_400,
            duration_s=asked.minutes * 60.0,
            review=False,
        )
        return Planned(*role_requests.new(properties, course, principal.type))

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        if previous is None:
            course = role_requests.course_of(document)
            role_notices.post(writer, call.platform.settings, document, course, call.now)
        return document

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        """Remove a request because its scope is; a role that is granted goes with it."""
        course = role_requests.course_of(document)
        if workflow.at(course, call.now).status in workflow.OPEN:
            gone = workflow.revoked(course, call.now, people.caller(call), "Its scope was deleted.")
            document = role_requests.moved(writer, call.platform.settings, document, gone, call.now)
        writer.remove(document)
        return None

    def render(self, call: Call, document: Document) -> Json:
        return {**document.body, "properties": role_requests.shown(document, call.now)}

    def compile(self, document: Document) -> Iterable[Entry]:
        # What counts is the role assignment that it becomes. When that is gone, this says so, to whoever asks why they are refused.
        ended = role_requests.ended(document)
        return (("assignment", ended.scope, ended),) if ended is not None else ()


def _approve(call: Call, writer: Writer, document: Document) -> Json:
    course, who = role_requests.course_of(document), people.caller(call)
    workflow.require_other(course, who, document.name, "OwnRoleRequest")
    workflow.require("approve", course, call.now)
    _check_approver(call, document, course)
    principal = call.platform.directory.get(writer, course.filed_by.object_id)
    if principal is None or not principal.enabled:
        message = f"'{course.filed_by.name}', who asked, is gone from the directory or disabled."
        raise Fault(FaultKind.CONFLICT, message, code="PrincipalNotFound")
    return _moved(call, writer, document, workflow.approved(course, call.now, who, shape.comment(call)))


def _deny(call: Call, writer: Writer, document: Document) -> Json:
    course, who, why = role_requests.course_of(document), people.caller(call), shape.comment(call)
    workflow.require_other(course, who, document.name, "OwnRoleRequest")
    if not why:
        message = "A denial says why: send {'reason': ...}."
        raise Fault(FaultKind.INVALID, message, code="ReasonRequired", target="reason")
    return _moved(call, writer, document, workflow.denied(course, call.now, who, why))


def _cancel(call: Call, writer: Writer, document: Document) -> Json:
    course, who = role_requests.course_of(document), people.caller(call)
    workflow.require_own(course, who, document.name, "RoleRequestOfAnother")
    granted = workflow.allows(course, call.now)
    end = workflow.completed if granted else workflow.cancelled
    return _moved(call, writer, document, end(course, call.now, who, shape.comment(call)))


def _revoke(call: Call, writer: Writer, document: Document) -> Json:
    course = role_requests.course_of(document)
    gone = workflow.revoked(course, call.now, people.caller(call), shape.comment(call))
    return _moved(call, writer, document, gone)


def _moved(call: Call, writer: Writer, document: Document, course: workflow.Course) -> Json:
    stored = role_requests.moved(writer, call.platform.settings, document, course, call.now)
    return {**PLUGIN.render(call, stored), "etag": f'"{stored.etag}"'}


def _check_approver(call: Call, document: Document, course: workflow.Course) -> None:
    """Raise Fault(AUTHORIZATION_FAILED) unless the caller might decide before the request was made: assign roles there, and decide on requests."""
    scope, credential = ResourceId.parse(document.id).parent, call.credential
    for action, data in ((ASSIGN, False), (f"{PLUGIN.type}/approve/action", True)):
        access = rbac.check(
            call.snapshot,
            credential.object_id,
            credential.groups,
            action,
            scope if not data else document.id,
            now=call.now,
            data=data,
            assigned_by=course.filed_at,
        )
        if not isinstance(access, rbac.Granted):
            message = (
                f"Who approves a role for a while could assign it for good: it takes the {'data ' if data else ''}action '{action}' over scope "
                f"'{scope}', by a role assigned before the request was made. Deny it, or have somebody decide who has had that for longer."
            )
            raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="NotAnApprover")


def _check_number(call: Call, reader: Reader) -> None:
    found = reader.list(role_requests.TYPE, subscription=call.id.subscription)
    courses = [workflow.at(role_requests.course_of(one), call.now) for one in found]
    waiting = sum(course.status in workflow.OPEN for course in courses)
    if waiting >= MAX_OPEN or len(found) >= MAX_KEPT:
        message = f"The subscription has {waiting} open requests for roles of {MAX_OPEN}, and {len(found)} of {MAX_KEPT} in all."
        raise Fault(FaultKind.CONFLICT, message, code="TooManyRoleRequests")
    if outbox.told_today(reader, call.id.subscription or "", call.now) >= MAX_TOLD_A_DAY:
        message = "The subscription's requests have caused too many notices today. Make another one tomorrow."
        raise Fault(FaultKind.LIMIT, message, code="TooManyNotices", retry_after_s=3600)


def _check_not_held(call: Call, role_id: str, scope: ResourceId) -> None:
    for level in scope_chain(scope.key):
        for held in call.snapshot.all("assignment", level):
            mine = held.principal_id == call.credential.object_id.lower() and held.role_id == role_id
            if mine and math.isinf(held.until):
                message = f"You hold that role already, at {held.scope}, and for good."
                raise Fault(FaultKind.CONFLICT, message, code="RoleAssignmentExists")


def _same(current: Document, properties: Json, who: str) -> Planned:
    """Return what is there, where the same is asked for again by the same principal; Fault(CONFLICT) otherwise."""
    if role_requests.course_of(current).filed_by.object_id.lower() != who.lower():
        message = f"The request '{current.name}' is another principal's. Make one of your own."
        raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="RoleRequestOfAnother")
    before = current.body["properties"]
    if any(before[name] != properties[name] for name in shape.ASKED):
        message = (
            f"What the request '{current.name}' asks for does not change once it has been made: it would be decided on as something else. "
            "Take it back and make another."
        )
        raise Fault(FaultKind.CONFLICT, message, code="RoleRequestNotChangeable", target="properties")
    return Planned({**current.body, "properties": {**before, **properties}})


PLUGIN = RoleRequests()
