"""The resource type and its actions. What states there are is `management/access/states.py`; who comes first, `queue.py` there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import Person
from stockade.management import outbox, people
from stockade.management.access import notices, queue, states
from stockade.management.access.role_requests import TYPE as ROLE_REQUESTS
from stockade.management.resource_type import Action, Call, Planned, Reply, ResourceType, Route, bodies
from stockade.management.resources.access_sku_requests import shape
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

NAMESPACE: Final = "Stockade.Access"
MAX_OPEN: Final = 100
"""Requests of one subscription that wait for somebody or something."""
MAX_KEPT: Final = 1000
MAX_TOLD_A_DAY: Final = 300
"""Notices that a subscription causes before it can make no more requests: contacts are anybody's address, and this is no mailing list."""


class SkuRequests(ResourceType):
    """A request for a SKU that has to be asked for. It lives in the subscription, like the approval it becomes."""

    type = name = queue.TYPE
    methods = frozenset({"GET", "PUT", "DELETE"})
    name_pattern = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
    in_subscription = True

    @property
    def actions(self) -> Sequence[Action]:
        # Deciding takes data actions, which no `*` of an Owner's or Contributor's holds: who may use a subscription does not grant itself more.
        prefix = f"{self.type}/"
        return (
            Action("startReview", f"{prefix}startReview/action", _start_review, writes=True, data=True),
            Action("approve", f"{prefix}approve/action", _approve, writes=True, data=True),
            Action("deny", f"{prefix}deny/action", _deny, writes=True, data=True),
            Action("withdraw", f"{prefix}withdraw/action", _withdraw, writes=True),
        )

    @property
    def routes(self) -> Sequence[Route]:
        base = f"/subscriptions/{{subscription}}/providers/{NAMESPACE}"
        return (
            Route("GET", f"{base}/notices", f"{NAMESPACE}/notices/read", _notices),
            Route("GET", f"/providers/{NAMESPACE}/operations", None, _operations),
        )

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        wanted = shape.wanted(call)
        if current is None:
            _check_number(reader, call.id.subscription or "", call.now)
            return Planned({"properties": shape.new_request(call, wanted, people.caller(call))}, {})
        before = current.body["properties"]
        after = {**before, **wanted}
        if after == before:
            return Planned(dict(current.body))
        if not states.requester(before).is_same(people.caller(call)):
            message = f"The request '{current.name}' is another principal's. Make one of your own."
            raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="SkuRequestOfAnother")
        if any(after[name] != before[name] for name in shape.ASKED):
            message = (
                f"What the request '{current.name}' asks for does not change once it has been made: it would be decided on as something else. "
                "Withdraw it and make another."
            )
            raise Fault(FaultKind.CONFLICT, message, code="SkuRequestNotChangeable", target="properties")
        return Planned({**current.body, "properties": after})

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        if previous is None:
            notices.submitted(writer, call.platform.settings, document, call.now)
        return document

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        what = document.body["properties"]
        if states.state_of(what) in states.OPEN or states.left(what):
            gone = queue.put(writer, document, states.withdrawn(what, call.now, people.caller(call), "Deleted."))
            notices.withdrawn(writer, call.platform.settings, gone, call.now)
        writer.remove(document)
        queue.advance(call.platform.settings, writer, what["kind"], what["location"], call.now)
        return None

    def render(self, call: Call, document: Document) -> Json:
        return {**document.body, "properties": shape.shown(document.body["properties"], call.now)}

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()


def _start_review(call: Call, writer: Writer, document: Document) -> Json:
    what, who = _decided_by(call, document)
    return _answer(call, queue.put(writer, document, states.reviewed(what, call.now, who, shape.comment(call))))


def _approve(call: Call, writer: Writer, document: Document) -> Json:
    what, who = _decided_by(call, document)
    settings, kind, location = call.platform.settings, what["kind"], what["location"]
    room = queue.room(settings, writer, kind, location, call.now)
    fits = int(what["count"]) <= room and not queue.waiting(writer, kind, location)
    after = states.approved(what, call.now, who, shape.comment(call), room=fits)
    private = document.private if fits else {**document.private, "queueNumber": queue.next_number(writer)}
    stored = queue.put(writer, document, after, dict(private))
    if not fits:
        queue.advance(settings, writer, kind, location, call.now)
        stored = writer.get(document.id) or stored
    notices.decided(writer, settings, stored, call.now)
    return _answer(call, stored)


def _deny(call: Call, writer: Writer, document: Document) -> Json:
    what, who = _decided_by(call, document)
    why = shape.comment(call)
    if not why:
        message = "A denial says why: send {'comment': ...}."
        raise Fault(FaultKind.INVALID, message, code="CommentRequired", target="comment")
    stored = queue.put(writer, document, states.denied(what, call.now, who, why))
    notices.decided(writer, call.platform.settings, stored, call.now)
    queue.advance(call.platform.settings, writer, what["kind"], what["location"], call.now)
    return _answer(call, stored)


def _withdraw(call: Call, writer: Writer, document: Document) -> Json:
    what = document.body["properties"]
    stored = queue.put(writer, document, states.withdrawn(what, call.now, people.caller(call), shape.comment(call)))
    notices.withdrawn(writer, call.platform.settings, stored, call.now)
    queue.advance(call.platform.settings, writer, what["kind"], what["location"], call.now)
    return _answer(call, stored)


def _decided_by(call: Call, document: Document) -> tuple[Json, Person]:
    what, who = document.body["properties"], people.caller(call)
    states.require_other(what, who, document.name)
    return what, who


def _answer(call: Call, document: Document) -> Json:
    return {**PLUGIN.render(call, document), "etag": f'"{document.etag}"'}


def _check_number(reader: Reader, subscription: str, now: float) -> None:
    found = reader.list(queue.TYPE, subscription=subscription)
    waiting = sum(states.state_of(one.body["properties"]) in states.OPEN for one in found)
    if waiting >= MAX_OPEN or len(found) >= MAX_KEPT:
        message = (
            f"The subscription has {waiting} open requests of {MAX_OPEN}, and {len(found)} of {MAX_KEPT} in all. "
            "Withdraw or delete some."
        )
        raise Fault(FaultKind.CONFLICT, message, code="TooManySkuRequests")
    if outbox.told_today(reader, subscription, now) >= MAX_TOLD_A_DAY:
        message = "The subscription's requests have caused too many notices today. Make another one tomorrow."
        raise Fault(FaultKind.LIMIT, message, code="TooManyNotices", retry_after_s=3600)


def _notices(call: Call, reader: Reader) -> Json:
    found = reader.list(outbox.TYPE, subscription=call.id.subscription)
    newest = sorted(found, key=lambda one: str(one.body["createdAt"]), reverse=True)[:MAX_KEPT]
    hidden = {"text", "notBefore"}
    return bodies({name: value for name, value in one.body.items() if name not in hidden} for one in newest)


def _operations(call: Call, reader: Reader) -> Json:
    verbs = (("read", False), ("write", False), ("delete", False))
    names = [(f"{PLUGIN.type}/{verb}", data) for verb, data in verbs]
    names += [(action.permission, action.data) for action in PLUGIN.actions]
    names += [(f"{ROLE_REQUESTS}/{verb}", False) for verb in ("read", "write", "cancel/action", "revoke/action")]
    names += [(f"{ROLE_REQUESTS}/{verb}/action", True) for verb in ("approve", "deny")]
    names.append((f"{NAMESPACE}/notices/read", False))
    return bodies(
        {
            "name": name,
            "isDataAction": data,
            "display": {"provider": NAMESPACE, "resource": name.split("/")[1], "operation": name.split("/", 2)[2]},
            "origin": "user,system",
        }
        for name, data in names
    )


PLUGIN = SkuRequests()
