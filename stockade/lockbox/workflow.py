"""The steps of a request for something for a while: asked, looked at, decided on, used, over. Pure: times and people are arguments.

    Initializing ──► Pending ──► Approving ──► Approved ──► Completed     review (where wanted), sign, approve; complete, or its time is over
         │              ├────────────┴──► Denied                          by an approver; by a reviewer from Initializing
         └──────────────┴──► Expired                                      nobody decided in time
    Pending again: an approval that does not serve any more, because what it was given to has forgotten it
    Revoked: from all of them that are not over, by whoever may take away; cancelled by who asked

What for is not said here: for Lockbox it is content (`management/lockbox/`), for `Stockade.Access/roleRequests` a role. Nothing becomes Approved
but by `approved`, by somebody other than who asked, and time only takes away: what is due by the clock (`at`) is applied before
everything else, whether or not anybody has noted it yet, and a clock that is set back makes nothing younger than its own history.
Source: contracts, control-plane sections 7.1 (statuses) and 7.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import PLATFORM, Person

Action: TypeAlias = Literal["review", "sign", "approve", "deny", "cancel", "complete", "revoke", "use", "reopen"]


class Status(StrEnum):
    """Where a request stands, in Azure's words."""

    INITIALIZING = "Initializing"
    """Somebody on the asking side looks at it first."""
    PENDING = "Pending"
    """Whoever decides has been told."""
    APPROVING = "Approving"
    """Some have signed, of several that it takes."""
    DENYING = "Denying"
    APPROVED = "Approved"
    DENIED = "Denied"
    EXPIRED = "Expired"
    REVOKING = "Revoking"
    """Taken away here; those who enforce it have still to be told. So too Denying and Completing."""
    REVOKED = "Revoked"
    ERROR = "Error"
    UNKNOWN = "Unknown"
    COMPLETING = "Completing"
    COMPLETED = "Completed"


DECIDABLE: Final = frozenset({Status.PENDING, Status.APPROVING})
OPEN: Final = DECIDABLE | {Status.INITIALIZING, Status.APPROVED}
"""Not over: time or somebody can still change it."""
_FROM: Final[Mapping[Action, frozenset[Status]]] = {
    "review": frozenset({Status.INITIALIZING}),
    "sign": DECIDABLE,
    "approve": DECIDABLE,
    "deny": DECIDABLE,
    "cancel": DECIDABLE | {Status.INITIALIZING},
    "complete": frozenset({Status.APPROVED}),
    "revoke": OPEN,
    "use": frozenset({Status.APPROVED}),
    "reopen": frozenset({Status.APPROVED}),
}
_GRANTED: Final[frozenset[Action]] = frozenset({"complete", "use", "reopen"})
"""What only a request that has been granted admits."""


class Event(StrEnum):
    """What brought a request where it stands."""

    CREATED = "Created"
    REVIEWED = "Reviewed"
    AUTO_DENIED = "AutoDenied"
    """Refused before whoever decides was asked."""
    SIGNED = "Signed"
    APPROVED = "Approved"
    AUTO_APPROVED = "AutoApproved"
    """By an agreement made beforehand (break-glass), not by whoever decides."""
    DENIED = "Denied"
    EXPIRED = "Expired"
    CANCELLED = "Cancelled"
    USED = "Used"
    """For the first time."""
    COMPLETED = "Completed"
    REVOKED = "Revoked"
    REOPENED = "Reopened"
    """The approval does not serve any more; it takes another one."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of a request's history."""

    event: Event
    status: Status
    at: float
    by: Person
    comment: str = ""


class Course(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How far a request has come. Epoch seconds.

    lapses_at:  undecided until then, it expires.
    duration_s: how long what was asked for lasts once it is granted. ends_at: when that is over, None before.
    """

    status: Status
    filed_by: Person
    filed_at: float
    lapses_at: float
    duration_s: float
    approved_at: float | None = None
    ends_at: float | None = None
    first_used_at: float | None = None
    history: tuple[Step, ...]


def filed(now: float, who: Person, *, lapse_s: float, duration_s: float, review: bool, comment: str = "") -> Course:
    """Return a new request. review: somebody on the asking side has to look at it first."""
    status = Status.INITIALIZING if review else Status.PENDING
    return Course(
        status=status,
        filed_by=who,
        filed_at=now,
        lapses_at=now + lapse_s,
        duration_s=duration_s,
        history=(Step(Event.CREATED, status, now, who, comment),),
    )


def at(course: Course, now: float) -> Course:
    """Return a request as it stands at a time: lapsed, or over, where that is due by now."""
    now = _not_before(course, now)
    if course.status in DECIDABLE | {Status.INITIALIZING} and course.lapses_at <= now:
        return _moved(course, Event.EXPIRED, Status.EXPIRED, course.lapses_at, PLATFORM)
    if course.status is Status.APPROVED and course.ends_at is not None and course.ends_at <= now:
        return _moved(course, Event.COMPLETED, Status.COMPLETED, course.ends_at, PLATFORM)
    return course


def allows(course: Course, now: float) -> bool:
    """Say whether what was asked for is granted at a time."""
    return at(course, now).status is Status.APPROVED


def require(action: Action, course: Course, now: float) -> Course:
    """Return a request as it stands; Fault(CONFLICT) with its status where that does not admit an action."""
    found = at(course, now)
    if found.status in _FROM[action]:
        return found
    last = found.history[-1]
    who = f" by {last.by.name or last.by.object_id}" if last.by != PLATFORM else ""
    decides = action in ("sign", "approve", "deny")
    if found.status is Status.INITIALIZING:
        why = f"is looked at by a reviewer first, so it cannot be {_PAST[action]} yet"
    elif found.status in DECIDABLE and action in _GRANTED:
        why = f"waits for an answer, so it cannot be {_PAST[action]} yet"
    else:
        why = f"is {found.status.value}{who}, so it cannot be {_PAST[action]} any more"
    raise Fault(
        FaultKind.CONFLICT,
        f"The request {why}.",
        code="RequestNotDecidable" if decides else "RequestStatusConflict",
        target="status",
        details={"additionalInfo": {"currentStatus": found.status.value}},
    )


def require_other(course: Course, who: Person, name: str, code: str) -> None:
    """Raise Fault(AUTHORIZATION_FAILED) for somebody who would decide on a request of their own."""
    if course.filed_by.is_same(who):
        message = (
            f"The request '{name}' was made by '{who.name}', and nobody decides on a request of their own, whatever their roles. "
            "Have another principal decide."
        )
        raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code=code)


def require_own(course: Course, who: Person, name: str, code: str) -> None:
    """Raise Fault(AUTHORIZATION_FAILED) for somebody else than who asked."""
    if not course.filed_by.is_same(who):
        message = f"The request '{name}' is another principal's; only '{course.filed_by.name}' can do this."
        raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code=code)


def reviewed(course: Course, now: float, who: Person, comment: str, *, admit: bool) -> Course:
    """Return a request after its review: on to whoever decides, or denied without having asked them."""
    found = require("review", course, now)
    if admit:
        return _moved(found, Event.REVIEWED, Status.PENDING, now, who, comment)
    return _moved(found, Event.AUTO_DENIED, Status.DENIED, now, who, comment)


def signed(course: Course, now: float, who: Person) -> Course:
    """Return a request that somebody has signed, and that waits for others to. Only the first of them is in the history."""
    found = require("sign", course, now)
    return found if found.status is Status.APPROVING else _moved(found, Event.SIGNED, Status.APPROVING, now, who)


def approved(
    course: Course, now: float, who: Person, comment: str, *, until: float | None = None, automatic: bool = False
) -> Course:
    """Return a request after it was approved. until: when the approval itself ends what it grants, if that is sooner. automatic: see Event."""
    found = require("approve", course, now)
    now = _not_before(found, now)
    ends_at = min(now + found.duration_s, until if until is not None else now + found.duration_s)
    moved = _moved(found, Event.AUTO_APPROVED if automatic else Event.APPROVED, Status.APPROVED, now, who, comment)
    return msgspec.structs.replace(moved, approved_at=now, ends_at=ends_at)


def denied(course: Course, now: float, who: Person, comment: str) -> Course:
    """Return a request after it was denied."""
    return _moved(require("deny", course, now), Event.DENIED, Status.DENIED, now, who, comment)


def cancelled(course: Course, now: float, who: Person, comment: str) -> Course:
    """Return a request that who asked does not want any more. Azure has no status for it; what is taken back is Revoked, and the history says how."""
    return _moved(require("cancel", course, now), Event.CANCELLED, Status.REVOKED, now, who, comment)


def completed(course: Course, now: float, who: Person, comment: str) -> Course:
    """Return a request whose grant is not needed any more."""
    return _moved(require("complete", course, now), Event.COMPLETED, Status.COMPLETED, now, who, comment)


def revoked(course: Course, now: float, who: Person, comment: str) -> Course:
    """Return a request that was taken back, granted or not."""
    return _moved(require("revoke", course, now), Event.REVOKED, Status.REVOKED, now, who, comment)


def used(course: Course, now: float, who: Person) -> Course:
    """Return a request whose grant is used now; the same one where it has been used before."""
    found = require("use", course, now)
    if found.first_used_at is not None:
        return found
    moved = _moved(found, Event.USED, Status.APPROVED, now, who)
    return msgspec.structs.replace(moved, first_used_at=moved.history[-1].at)


def reopened(course: Course, now: float, who: Person, comment: str) -> Course:
    """Return a request whose approval does not serve any more: somebody decides again, within the time that it had for that."""
    moved = _moved(require("reopen", course, now), Event.REOPENED, Status.PENDING, now, who, comment)
    return msgspec.structs.replace(moved, approved_at=None, ends_at=None)


_PAST: Final[Mapping[Action, str]] = {
    "review": "reviewed",
    "sign": "signed",
    "approve": "approved",
    "deny": "denied",
    "cancel": "cancelled",
    "complete": "completed",
    "revoke": "revoked",
    "use": "used",
    "reopen": "opened again",
}


def stored(course: Course) -> dict[str, Any]:
    """Return a course as JSON."""
    found: dict[str, Any] = msgspec.to_builtins(course)
    return found


def read(found: Mapping[str, Any]) -> Course:
    """Return the course that `stored` made JSON of."""
    return msgspec.convert(found, Course)


def _not_before(course: Course, now: float) -> float:
    return max(now, course.history[-1].at)


def _moved(course: Course, event: Event, status: Status, now: float, who: Person, comment: str = "") -> Course:
    step = Step(event, status, _not_before(course, now), who, comment)
    return msgspec.structs.replace(course, status=status, history=(*course.history, step))
