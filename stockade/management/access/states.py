"""The states of a request, what leads from one to another, and who may. Pure: times and people are arguments.

    Submitted ──► UnderReview ──► Approved | Denied          startReview, approve, deny: somebody other than who asked
        └──────────────┴────────► Queued ──► Approved        approved by somebody while there was no room; the platform moves it up
    withdraw: from all of them but Denied; of an approved one, what has not been spent

Nothing becomes Approved or Queued but by `approve`, and nothing leaves the queue for Approved but by `promote`, which needs the queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import PLATFORM, Person
from stockade.storage.documents import Json

APPROVER: Final = "Stockade Access Approver"
"""The built-in role that decides."""
Action: TypeAlias = Literal["startReview", "approve", "deny", "withdraw"]


class State(StrEnum):
    """Where a request stands."""

    SUBMITTED = "Submitted"
    UNDER_REVIEW = "UnderReview"
    QUEUED = "Queued"
    """Approved, but the region has no room; `queuePosition` says how many come before it, itself counted."""
    APPROVED = "Approved"
    DENIED = "Denied"
    WITHDRAWN = "Withdrawn"


WAITING: Final = frozenset({State.SUBMITTED, State.UNDER_REVIEW})
"""Nobody has decided yet: what is promised an answer."""
OPEN: Final = WAITING | {State.QUEUED}
_FROM: Final[Mapping[Action, frozenset[State]]] = {
    "startReview": frozenset({State.SUBMITTED}),
    "approve": WAITING,
    "deny": OPEN,
    "withdraw": OPEN | {State.APPROVED},
}


def state_of(properties: Mapping[str, Any]) -> State:
    """Return where a request stands."""
    return State(properties["state"])


def requester(properties: Mapping[str, Any]) -> Person:
    """Return who asked."""
    who = properties["requestedBy"]
    return Person(who["objectId"], who.get("appId"), who["name"])


def submitted(wanted: Mapping[str, Any], now: float, who: Person, due_by: float) -> Json:
    """Return the properties of a new request."""
    fresh = {
        **wanted,
        "requestedBy": _shown(who),
        "submittedAt": iso(now),
        "dueBy": iso(due_by),
        "accounts": [],
        "history": [],
    }
    return _moved(fresh, State.SUBMITTED, now, who, "")


def require(action: Action, properties: Mapping[str, Any]) -> None:
    """Raise Fault(CONFLICT) when a request's state does not admit an action, naming who brought it there."""
    state = state_of(properties)
    if state in _FROM[action]:
        return
    last = properties["history"][-1]
    who = f" since {last['at'][:16]}Z, by {last['by']['name'] or last['by']['objectId']}"
    message = f"The request is {state.value}{who}, so '{action}' is not possible any more."
    raise Fault(FaultKind.CONFLICT, message, code="SkuRequestStateConflict", target="properties.state")


def require_other(properties: Mapping[str, Any], who: Person, name: str) -> None:
    """Raise Fault(AUTHORIZATION_FAILED) for somebody who would decide on a request of their own."""
    if not requester(properties).is_same(who):
        return
    message = (
        f"The request '{name}' was made by '{who.name}', and nobody decides on a request of their own, whatever their roles. "
        "Have another principal decide. On a platform with one administrator, make one: "
        f"`stockade identity create approver`, then `stockade identity assign approver '{APPROVER}'`, and decide with "
        "STOCKADE_APPROVER_ID and STOCKADE_APPROVER_SECRET set to what the first one printed (docs/e0.md)."
    )
    raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="OwnSkuRequest")


def reviewed(properties: Mapping[str, Any], now: float, who: Person, comment: str) -> Json:
    """Return the properties of a request that somebody has begun to look at."""
    require("startReview", properties)
    return _moved(properties, State.UNDER_REVIEW, now, who, comment)


def approved(properties: Mapping[str, Any], now: float, who: Person, comment: str, *, room: bool) -> Json:
    """Return the properties after an approval. room: whether its accounts fit now and nobody waits for the same."""
    require("approve", properties)
    return _moved(properties, State.APPROVED if room else State.QUEUED, now, who, comment)


def promoted(properties: Mapping[str, Any], now: float) -> Json:
    """Return the properties of a queued request that has come up."""
    if state_of(properties) is not State.QUEUED:
        raise ValueError("only what waits in the queue moves up")
    return _moved(properties, State.APPROVED, now, PLATFORM, "There is room now.")


def denied(properties: Mapping[str, Any], now: float, who: Person, comment: str) -> Json:
    """Return the properties after a denial."""
    require("deny", properties)
    return _moved(properties, State.DENIED, now, who, comment)


def withdrawn(properties: Mapping[str, Any], now: float, who: Person, comment: str) -> Json:
    """Return the properties after a withdrawal."""
    require("withdraw", properties)
    return _moved(properties, State.WITHDRAWN, now, who, comment)


def left(properties: Mapping[str, Any]) -> int:
    """Return how many accounts an approval still allows."""
    if state_of(properties) is not State.APPROVED:
        return 0
    return max(0, int(properties["count"]) - len(properties["accounts"]))


def _moved(properties: Mapping[str, Any], state: State, now: float, who: Person, comment: str) -> Json:
    entry = {"state": state.value, "at": iso(now), "by": _shown(who), **({"comment": comment} if comment else {})}
    result = {name: value for name, value in properties.items() if name != "queuePosition"}
    return {**result, "state": state.value, "history": [*properties["history"], entry]}


def _shown(who: Person) -> Json:
    return {"objectId": who.object_id, **({"appId": who.app_id} if who.app_id else {}), "name": who.name}
