"""Whatever people do, in whatever order: nobody is approved without somebody else, nobody beyond the room there is, nobody overtakes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from stockade.management.access import queue, states, upkeep
from stockade.management.access.states import State
from stockade.policy.builtin_roles import ACCESS_APPROVER
from stockade.settings import Access, Settings
from stockade.storage import documents
from tests.factories.access import ACCOUNTS, REQUESTS, Office, asked
from tests.factories.control_plane import CONTRIBUTOR, ControlPlane, S

ROOM = 2
PEOPLE = ("ann", "bob", "eve")


class Requests(RuleBasedStateMachine):
    """Three people, each of whom may ask and decide, and an account or two."""

    names = Bundle("names")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        self.plane = ControlPlane(path, settings=Settings(data_dir=path, access=Access(e0_capacity=ROOM)))
        self.office = Office(self.plane)
        self.people = {name: self.plane.principal(name, (CONTRIBUTOR, S), (ACCESS_APPROVER, S)) for name in PEOPLE}
        self.made = 0
        self.order: list[str] = []
        """Requests in the order in which they came into the queue."""

    def teardown(self) -> None:
        if hasattr(self, "plane"):
            self.plane.close()
            self.folder.cleanup()

    def found(self) -> dict[str, Any]:
        with self.plane.database.read() as reader:
            return {one.name: one.body["properties"] for one in reader.list(queue.TYPE)}

    def send(self, method: str, path: str, body: Any, who: str) -> int:
        code = self.plane.send(method, path, body, by=self.people[who]).status_code
        assert code < 500
        return code

    @rule(target=names, who=st.sampled_from(PEOPLE), count=st.integers(1, ROOM))
    def ask(self, who: str, count: int) -> str:
        name = f"r{self.made}"
        self.made += 1
        assert self.send("PUT", f"{REQUESTS}/{name}", asked(count=count), who) == 201
        return name

    @rule(
        name=names, who=st.sampled_from(PEOPLE), action=st.sampled_from(("startReview", "approve", "deny", "withdraw"))
    )
    def act(self, name: str, who: str, action: str) -> None:
        before = self.found()
        code = self.send("POST", f"{REQUESTS}/{name}/{action}", {"comment": "x"}, who)
        if name not in before:
            assert code == 404
        elif before[name]["requestedBy"]["name"] == who and action != "withdraw":
            assert code == 403
            assert self.found() == before
        elif code == 200 and action == "approve":
            queued = self.found()[name]["state"] == State.QUEUED
            assert queued or all(one["state"] != State.QUEUED for one in before.values()), "it has overtaken somebody"
            self.order += [name] if queued else []

    @rule(who=st.sampled_from(PEOPLE), count=st.integers(1, ROOM))
    def ask_and_approve(self, who: str, count: int) -> None:
        name, other = self.ask(who, count), PEOPLE[PEOPLE.index(who) - 1]
        self.act(name, other, "approve")
        assert self.found()[name]["state"] in (State.APPROVED, State.QUEUED)

    @rule(name=consumes(names), who=st.sampled_from(PEOPLE))
    def delete_request(self, name: str, who: str) -> None:
        assert self.send("DELETE", f"{REQUESTS}/{name}", None, who) in (200, 204)

    @rule(number=st.integers(0, 1), who=st.sampled_from(PEOPLE))
    def create(self, number: int, who: str) -> None:
        body = {"kind": "Face", "location": "local", "sku": {"name": "E0"}, "properties": {}}
        left = sum(states.left(one) for one in self.found().values())
        with self.plane.database.read() as reader:
            live = reader.get(f"{ACCOUNTS}/a{number}")
            held = reader.get(f"{ACCOUNTS}/a{number}", documents.State.SOFT_DELETED)
        code = self.send("PUT", f"{ACCOUNTS}/a{number}", body, who)
        if live is None and (held is None or (held.purge_at or 0) <= self.plane.clock.now()):
            assert code == (201 if left else 403)
            assert sum(states.left(one) for one in self.found().values()) == max(0, left - 1)
        else:
            assert code in (200, 409)

    @rule(number=st.integers(0, 1), purge=st.booleans())
    def delete(self, number: int, purge: bool) -> None:
        self.plane.send("DELETE", f"{ACCOUNTS}/a{number}")
        if purge:
            place = f"{S}/providers/Microsoft.CognitiveServices/locations/local/resourceGroups/Group1"
            self.plane.send("DELETE", f"{place}/deletedAccounts/a{number}")

    @rule(hours=st.sampled_from((1, 47, 200)))
    def wait(self, hours: int) -> None:
        self.plane.clock.advance(hours * 3600)
        with self.plane.database.write() as writer:
            upkeep.keep_up(self.plane.settings, writer, self.plane.audit, self.plane.clock.now())

    @invariant()
    def nobody_is_approved_without_somebody_else(self) -> None:
        if not hasattr(self, "plane"):
            return
        for what in self.found().values():
            decided = [one for one in what["history"] if one["state"] in (State.APPROVED, State.QUEUED)]
            assert what["state"] not in (State.APPROVED, State.QUEUED) or decided
            if decided:
                assert decided[0]["by"]["name"] in PEOPLE
                assert decided[0]["by"]["objectId"] != what["requestedBy"]["objectId"]

    @invariant()
    def there_is_room_for_everything_that_is_allowed(self) -> None:
        if not hasattr(self, "plane"):
            return
        with self.plane.database.read() as reader:
            assert queue.room(self.plane.settings, reader, "Face", "local", self.plane.clock.now()) >= 0

    @invariant()
    def the_queue_is_in_order_and_nobody_waits_for_what_is_there(self) -> None:
        if not hasattr(self, "plane"):
            return
        found = self.found()
        queued = [name for name in self.order if name in found and found[name]["state"] == State.QUEUED]
        assert [found[name]["queuePosition"] for name in queued] == list(range(1, len(queued) + 1))
        assert all("queuePosition" not in found[name] for name in found if name not in queued)
        if queued:
            with self.plane.database.read() as reader:
                now = self.plane.clock.now()
                expired = [
                    one
                    for one in reader.list("Microsoft.CognitiveServices/accounts", state=documents.State.SOFT_DELETED)
                    if one.purge_at is not None and one.purge_at <= now
                ]
                # A deleted account whose time is up makes way when the upkeep next looks.
                assert expired or found[queued[0]]["count"] > queue.room(
                    self.plane.settings, reader, "Face", "local", now
                )


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=6, stateful_step_count=25, deadline=None)
