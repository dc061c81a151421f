"""What approvals allow a subscription: E0 accounts of a kind in a region, so many, each spent by creating one.

A withdrawn or deleted approval stops new accounts; those that are there stay. Deleting an account gives nothing back: its place goes to
whoever waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.access import queue, states
from stockade.management.access.states import State
from stockade.management.cognitive_services.kinds import CLOSED_SKU
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json


class Access:
    """What one subscription's requests have come to. Reads once."""

    def __init__(self, reader: Reader, subscription: str) -> None:
        self._subscription = subscription
        self._found = reader.list(queue.TYPE, subscription=subscription)

    def left(self, kind: str, location: str) -> int:
        """Return how many E0 accounts of a kind may still be created in a region."""
        return sum(states.left(one) for one in self._of(kind, location))

    def reason(self, kind: str, location: str) -> str | None:
        """Return why E0 cannot be had, in the words of `skus`; None when it can.

        `QuotaId`: approved, and used up or waiting for room; `NotAvailableForSubscription`: not approved.
        """
        found = self._of(kind, location)
        if any(states.left(one) for one in found):
            return None
        granted = {State.APPROVED, State.QUEUED}
        return "QuotaId" if any(states.state_of(one) in granted for one in found) else "NotAvailableForSubscription"

    def refusal(self, kind: str, location: str) -> Fault:
        """Return the 403 for who has no approval left: what became of the last request, and the request to make."""
        found = sorted(self._of(kind, location), key=lambda one: str(one["submittedAt"]))
        path = f"/subscriptions/{self._subscription}/providers/{queue.TYPE}/NAME"
        waits = bool(found) and states.state_of(found[-1]) in states.OPEN
        what = "Its state is in `stockade approvals list`. To ask for more" if waits else "Make one"
        message = (
            f"SKU '{CLOSED_SKU}' of kind '{kind}' in '{location}' needs an approved request of this subscription{_last(found)}. "
            f"{what}: `stockade approvals request NAME --kind {kind} --location {location} --reason WHY --contact E-MAIL`, "
            f"or PUT {path} with properties kind, location, reason and contact."
        )
        return Fault(FaultKind.AUTHORIZATION_FAILED, message, code="SkuNotApproved", target="sku.name")

    def _of(self, kind: str, location: str) -> list[Mapping[str, Any]]:
        return [
            one.body["properties"]
            for one in self._found
            if (one.body["properties"]["kind"], one.body["properties"]["location"]) == (kind, location)
        ]


def spend(writer: Writer, account: Document) -> None:
    """Note a new E0 account in the oldest approval that allows it. In the transaction that has asked `Access.left`."""
    kind, location = account.body["kind"], account.body["location"]
    open_ = [
        one
        for one in writer.list(queue.TYPE, subscription=account.subscription)
        if (one.body["properties"]["kind"], one.body["properties"]["location"]) == (kind, location)
        and states.left(one.body["properties"])
    ]
    if not open_:
        raise Access(writer, account.subscription).refusal(kind, location)
    oldest = min(open_, key=lambda one: (str(one.body["properties"]["history"][-1]["at"]), one.id))
    properties: Json = dict(oldest.body["properties"])
    queue.put(writer, oldest, {**properties, "accounts": [*properties["accounts"], str(account.body["id"])]})


def _last(found: list[Mapping[str, Any]]) -> str:
    if not found:
        return ", and there is none"
    last, state = found[-1], states.state_of(found[-1])
    match state:
        case State.APPROVED:
            return ": the approved ones are used up"
        case State.QUEUED:
            return f": it has one, which waits for room, at place {last.get('queuePosition', '?')} of the queue"
        case State.SUBMITTED | State.UNDER_REVIEW:
            return f": it has one, {state.value} and promised an answer by {str(last['dueBy'])[:10]}"
        case _:
            return f": the last one was {state.value.lower()}"
