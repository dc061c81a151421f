"""Which states follow which, and who is whom."""

from __future__ import annotations

import itertools

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import Person
from stockade.management.access import states
from stockade.management.access.queue import fitting
from stockade.management.access.states import State
from stockade.storage.documents import Json

ASKER, OTHER = Person("o1", "a1", "asker"), Person("o2", "a2", "other")
ASKED = {"kind": "Face", "sku": "E0", "location": "local", "reason": "r", "contact": "c@example.com", "count": 2}


def request(state: State = State.SUBMITTED) -> Json:
    made = states.submitted(ASKED, 0.0, ASKER, 10.0)
    match state:
        case State.SUBMITTED:
            return made
        case State.UNDER_REVIEW:
            return states.reviewed(made, 1.0, OTHER, "")
        case State.QUEUED:
            return states.approved(made, 1.0, OTHER, "", room=False)
        case State.APPROVED:
            return states.approved(made, 1.0, OTHER, "", room=True)
        case State.DENIED:
            return states.denied(made, 1.0, OTHER, "no")
        case State.WITHDRAWN:
            return states.withdrawn(made, 1.0, ASKER, "")


FOLLOWS = {
    "startReview": {State.SUBMITTED: State.UNDER_REVIEW},
    "approve": {State.SUBMITTED: State.APPROVED, State.UNDER_REVIEW: State.APPROVED},
    "deny": dict.fromkeys((State.SUBMITTED, State.UNDER_REVIEW, State.QUEUED), State.DENIED),
    "withdraw": dict.fromkeys(
        (State.SUBMITTED, State.UNDER_REVIEW, State.QUEUED, State.APPROVED), State.WITHDRAWN
    ),
}  # fmt: skip
DO = {
    "startReview": lambda what: states.reviewed(what, 2.0, OTHER, ""),
    "approve": lambda what: states.approved(what, 2.0, OTHER, "", room=True),
    "deny": lambda what: states.denied(what, 2.0, OTHER, "no"),
    "withdraw": lambda what: states.withdrawn(what, 2.0, OTHER, ""),
}


@pytest.mark.parametrize(("action", "state"), [*itertools.product(FOLLOWS, State)], ids=str)
def test_every_action_in_every_state(action: str, state: State) -> None:
    before = request(state)
    after = FOLLOWS[action].get(state)
    if after is None:
        with pytest.raises(Fault, match=f"The request is {state.value} since") as refused:
            DO[action](before)
        assert refused.value.kind is FaultKind.CONFLICT
    else:
        done = DO[action](before)
        assert states.state_of(done) is after
        assert done["history"][:-1] == before["history"]
        assert done["history"][-1] == {
            "state": after.value,
            "at": "1970-01-01T00:00:02.0000000Z",
            "by": {"objectId": "o2", "appId": "a2", "name": "other"},
            **({"comment": "no"} if action == "deny" else {}),
        }


@pytest.mark.parametrize("state", list(State), ids=str)
def test_only_what_waits_in_the_queue_moves_up(state: State) -> None:
    if state is State.QUEUED:
        assert states.state_of(states.promoted(request(state), 2.0)) is State.APPROVED
    else:
        with pytest.raises(ValueError, match="queue"):
            states.promoted(request(state), 2.0)


@pytest.mark.parametrize("state", list(State), ids=str)
def test_only_approvals_allow_anything(state: State) -> None:
    assert states.left(request(state)) == (2 if state is State.APPROVED else 0)
    assert states.left({**request(state), "accounts": ["x", "y", "z"]}) == 0


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Person("O1", None, "x"), True),
        (Person("o9", "A1", "x"), True),
        (Person("o9", None, "asker"), False),
        (OTHER, False),
    ],
    ids=["object id", "application", "name", "other"],
)
def test_a_principal_is_itself_whatever_it_proved_itself_with(other: Person, same: bool) -> None:
    if same:
        with pytest.raises(Fault, match="nobody decides on a request of their own"):
            states.require_other(request(), other, "r1")
    else:
        states.require_other(request(), other, "r1")


@pytest.mark.parametrize(
    ("counts", "room", "ready"),
    [([1, 1, 1], 2, 2), ([2, 1], 1, 0), ([1, 3, 1], 2, 1), ([], 5, 0), ([1], 0, 0), ([1], -3, 0), ([2, 3], 5, 2)],
)
def test_nobody_overtakes(counts: list[int], room: int, ready: int) -> None:
    assert fitting(counts, room) == ready
