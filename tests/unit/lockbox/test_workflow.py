"""Which statuses follow which, what time does by itself, and who is whom."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import PLATFORM, Person
from stockade.lockbox import workflow
from stockade.lockbox.workflow import Course, Event, Status

ASKER, OTHER = Person("o1", "a1", "asker"), Person("o2", "a2", "other")
DAY, HOUR = 86_400.0, 3_600.0


def filed(*, review: bool = False) -> Course:
    return workflow.filed(0.0, ASKER, lapse_s=4 * DAY, duration_s=8 * HOUR, review=review, comment="why")


def course(status: Status) -> Course:
    match status:
        case Status.INITIALIZING:
            return filed(review=True)
        case Status.PENDING:
            return filed()
        case Status.APPROVING:
            return workflow.signed(filed(), 1.0, OTHER)
        case Status.APPROVED:
            return workflow.approved(filed(), 1.0, OTHER, "")
        case Status.DENIED:
            return workflow.denied(filed(), 1.0, OTHER, "no")
        case Status.EXPIRED:
            return workflow.at(filed(), 4 * DAY)
        case Status.COMPLETED:
            return workflow.completed(course(Status.APPROVED), 2.0, ASKER, "")
        case Status.REVOKED:
            return workflow.revoked(filed(), 1.0, OTHER, "")
    raise AssertionError(status)


STORED = (
    Status.INITIALIZING,
    Status.PENDING,
    Status.APPROVING,
    Status.APPROVED,
    Status.DENIED,
    Status.EXPIRED,
    Status.COMPLETED,
    Status.REVOKED,
)
UNDECIDED = {Status.PENDING, Status.APPROVING}
FOLLOWS: dict[str, dict[Status, Status]] = {
    "review": {Status.INITIALIZING: Status.PENDING},
    "sign": dict.fromkeys(UNDECIDED, Status.APPROVING),
    "approve": dict.fromkeys(UNDECIDED, Status.APPROVED),
    "deny": dict.fromkeys(UNDECIDED, Status.DENIED),
    "cancel": dict.fromkeys({*UNDECIDED, Status.INITIALIZING}, Status.REVOKED),
    "complete": {Status.APPROVED: Status.COMPLETED},
    "revoke": dict.fromkeys({*UNDECIDED, Status.INITIALIZING, Status.APPROVED}, Status.REVOKED),
    "use": {Status.APPROVED: Status.APPROVED},
    "reopen": {Status.APPROVED: Status.PENDING},
}
DO: dict[str, Callable[[Course, float], Course]] = {
    "review": lambda what, now: workflow.reviewed(what, now, OTHER, "", admit=True),
    "sign": lambda what, now: workflow.signed(what, now, OTHER),
    "approve": lambda what, now: workflow.approved(what, now, OTHER, ""),
    "deny": lambda what, now: workflow.denied(what, now, OTHER, "no"),
    "cancel": lambda what, now: workflow.cancelled(what, now, ASKER, ""),
    "complete": lambda what, now: workflow.completed(what, now, ASKER, ""),
    "revoke": lambda what, now: workflow.revoked(what, now, OTHER, ""),
    "use": lambda what, now: workflow.used(what, now, ASKER),
    "reopen": lambda what, now: workflow.reopened(what, now, PLATFORM, "the broker has restarted"),
}


@pytest.mark.parametrize(("action", "status"), [*itertools.product(FOLLOWS, STORED)], ids=str)
def test_every_action_in_every_status(action: str, status: Status) -> None:
    before = course(status)
    after = FOLLOWS[action].get(status)
    if after is None:
        with pytest.raises(Fault) as refused:
            DO[action](before, 5.0)
        assert refused.value.kind is FaultKind.CONFLICT
        assert refused.value.details["additionalInfo"] == {"currentStatus": status.value}
        return
    found = DO[action](before, 5.0)
    assert found.status is after
    assert workflow.read(workflow.stored(found)) == found


def test_a_refused_review_denies_without_having_asked_the_customer() -> None:
    found = workflow.reviewed(filed(review=True), 1.0, OTHER, "too wide", admit=False)
    assert (found.status, found.history[-1].event) == (Status.DENIED, Event.AUTO_DENIED)


@pytest.mark.parametrize("status", [Status.INITIALIZING, Status.PENDING, Status.APPROVING], ids=str)
def test_what_nobody_decided_lapses_at_its_time_whoever_looks(status: Status) -> None:
    before = course(status)
    assert workflow.at(before, 4 * DAY - 0.001).status is status
    lapsed = workflow.at(before, 9 * DAY)
    assert (lapsed.status, lapsed.history[-1].at, lapsed.history[-1].by) == (Status.EXPIRED, 4 * DAY, PLATFORM)
    with pytest.raises(Fault, match="The request is Expired, so it cannot be approved any more"):
        workflow.approved(before, 4 * DAY, OTHER, "")


@pytest.mark.parametrize("status", [Status.PENDING, Status.APPROVING], ids=str)
def test_what_nobody_has_decided_yet_can_be_used_later(status: Status) -> None:
    with pytest.raises(Fault, match="The request waits for an answer, so it cannot be used yet"):
        workflow.require("use", course(status), 1.0)


@pytest.mark.parametrize(
    ("until", "ends_at"),
    [(None, 10.0 + 8 * HOUR), (100.0, 100.0), (DAY, 10.0 + 8 * HOUR)],
    ids=["none", "sooner", "later"],
)
def test_what_is_granted_ends_with_its_time_or_with_the_approval(until: float | None, ends_at: float) -> None:
    found = workflow.approved(filed(), 10.0, OTHER, "", until=until)
    assert found.ends_at == ends_at
    assert workflow.allows(found, ends_at - 0.001)
    assert not workflow.allows(found, ends_at)
    over = workflow.at(found, ends_at + 1)
    assert (over.status, over.history[-1].at) == (Status.COMPLETED, ends_at)


def test_a_clock_that_is_set_back_lengthens_nothing() -> None:
    found = workflow.used(workflow.approved(filed(), DAY, OTHER, ""), DAY + HOUR, ASKER)
    back = workflow.completed(found, 5.0, ASKER, "")
    assert back.history[-1].at == DAY + HOUR
    assert workflow.approved(workflow.signed(filed(), DAY, OTHER), 5.0, OTHER, "").ends_at == DAY + 8 * HOUR


def test_the_first_use_is_noted_once() -> None:
    once = workflow.used(course(Status.APPROVED), 7.0, ASKER)
    assert once.first_used_at == 7.0
    assert workflow.used(once, 8.0, ASKER) is once


def test_what_is_opened_again_has_the_time_that_it_had_to_be_decided() -> None:
    found = workflow.reopened(workflow.approved(filed(), 3 * DAY, OTHER, ""), 3 * DAY + HOUR, PLATFORM, "")
    assert (found.approved_at, found.ends_at) == (None, None)
    assert not workflow.allows(found, 3 * DAY + HOUR)
    assert workflow.at(found, 4 * DAY).status is Status.EXPIRED
    assert workflow.approved(found, 3 * DAY + 2 * HOUR, OTHER, "").ends_at == 3 * DAY + 10 * HOUR


def test_several_signatures_are_one_entry_of_the_history() -> None:
    once = workflow.signed(filed(), 1.0, OTHER)
    assert workflow.signed(once, 2.0, Person("o3", None, "third")) is once


def test_nobody_decides_on_their_own_and_nobody_else_ends_it() -> None:
    made = filed()
    with pytest.raises(Fault, match="nobody decides on a request of their own"):
        workflow.require_other(made, Person("O1", None, "x"), "r", "Own")
    with pytest.raises(Fault, match="only 'asker' can do this"):
        workflow.require_own(made, OTHER, "r", "Another")
    workflow.require_other(made, OTHER, "r", "Own")
    workflow.require_own(made, ASKER, "r", "Another")


@given(st.lists(st.tuples(st.sampled_from([*DO]), st.floats(-2 * DAY, 5 * DAY)), max_size=12), st.booleans())
def test_nothing_is_allowed_but_within_its_time_after_one_approval(
    events: list[tuple[str, float]], review: bool
) -> None:
    """Whatever happens in whatever order, with whatever clock."""
    found, now = filed(review=review), 0.0
    approvals: list[float] = []
    for action, passes in events:
        now = max(0.0, now + passes)
        try:
            found = DO[action](found, now)
        except Fault:
            continue
        approvals += [found.history[-1].at] if action == "approve" else []
    for instant in (now, now + HOUR, now + DAY):
        if workflow.allows(found, instant):
            assert approvals
            assert instant < approvals[-1] + 8 * HOUR
            assert found.history[-1].event not in {Event.REOPENED, Event.CREATED, Event.REVIEWED, Event.SIGNED}
            assert not {Event.DENIED, Event.REVOKED, Event.CANCELLED} & {step.event for step in found.history}
    times = [step.at for step in found.history]
    assert times == sorted(times)
