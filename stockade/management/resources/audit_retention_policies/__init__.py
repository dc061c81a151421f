"""`Stockade.Audit/retentionPolicies/default`: how long a subscription's audit records are kept.

More is kept at once. Less is kept a week later, so that whoever has taken over an Owner cannot take the evidence along; until then it can be
undone, and the change is in the log that it is about. There is no deleting it: that would be a shortening without the week.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.management.authorization import granted, refusal
from stockade.management.resource_type import Call, Planned, ResourceType
from stockade.management.shape import respelled, typed
from stockade.policy.audit_retention import FOR_GOOD, INDEX, AuditRetention, is_shorter
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json

LEAST_DAYS: Final = 30
MOST_DAYS: Final = 3650
SHORTENED_AFTER_S: Final = 7 * 86_400.0
OWNERS: Final = "Microsoft.Authorization/roleAssignments/write"
"""What an Owner has and a Contributor has not."""
_COMPUTED: Final = frozenset({"inForceDays", "inForceFrom", "setBy"})


class Properties(Struct, rename="camel"):
    """days: how long records are kept, 0 for good."""

    days: int | None = None


class RetentionPolicy(Struct, rename="camel"):
    """The whole body."""

    properties: Properties | None = None


class RetentionPolicies(ResourceType):
    """One per subscription, called `default`, there from the start."""

    type = name = "Stockade.Audit/retentionPolicies"
    methods = frozenset({"GET", "PUT"})
    name_pattern = re.compile("default", re.IGNORECASE)
    in_subscription = True

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        _require_owner(call)
        body = respelled(call.body, RetentionPolicy)
        days = (typed(body, RetentionPolicy).properties or Properties()).days
        if days is None or not (days == FOR_GOOD or LEAST_DAYS <= days <= MOST_DAYS):
            message = (
                f"The property 'properties.days' is a whole number from {LEAST_DAYS} to {MOST_DAYS}, or 0 for good."
            )
            raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target="properties.days")
        said = _said(current) if current is not None else None
        in_force = said.in_force(call.now) if said is not None else call.platform.settings.audit.keep_days
        since = call.now
        if said is not None and said.days == days:
            in_force, since = said.before, said.since  # said again, it does not begin again
        elif is_shorter(days, in_force):
            since = call.now + SHORTENED_AFTER_S
        properties = {name: value for name, value in body["properties"].items() if name not in _COMPUTED}
        noted = {"daysBefore": str(in_force), "days": str(days), "inForceFrom": iso(since)}
        return Planned({**body, "properties": properties}, {"before": in_force, "since": since}, noted=noted)

    def get(self, call: Call, reader: Reader) -> Document | None:
        found = super().get(call, reader)
        if found is None and call.method in ("GET", "HEAD") and self.name_pattern.fullmatch(call.id.name):
            return _from_the_start(call, call.id.text)
        return found

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        found = tuple(super().list(call, reader))
        return found or (_from_the_start(call, f"{call.id.text}/providers/{self.type}/default"),)

    def render(self, call: Call, document: Document) -> Json:
        said = _said(document) if document.private else None
        keeps = call.platform.settings.audit.keep_days
        properties: Json = {**document.body.get("properties", {})}
        properties["days"] = said.days if said is not None else keeps
        properties["inForceDays"] = said.in_force(call.now) if said is not None else keeps
        properties["setBy"] = "subscription" if said is not None else "settings"
        if said is not None and call.now < said.since:
            properties["inForceFrom"] = iso(said.since)
        return {**document.body, "properties": properties}

    def compile(self, document: Document) -> Iterable[Entry]:
        yield (INDEX, document.subscription.lower(), _said(document))


def _from_the_start(call: Call, text: str) -> Document:
    body = {"id": text, "name": "default", "type": RetentionPolicies.type}
    return Document(text.lower(), RetentionPolicies.type.lower(), body, subscription=str(call.id.subscription))


def _said(document: Document) -> AuditRetention:
    private = document.private
    return AuditRetention(int(document.body["properties"]["days"]), int(private["before"]), float(private["since"]))


def _require_owner(call: Call) -> None:
    scope = f"/subscriptions/{call.id.subscription}".lower()
    if not granted(call.snapshot, call.credential, OWNERS, scope, now=call.now):
        raise refusal(call.snapshot, call.credential, OWNERS, scope, call.decision_id)


PLUGIN = RetentionPolicies()
