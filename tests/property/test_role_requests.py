"""Whatever people do, in whatever order, and whatever the clock does: a role is never in force outside an approval by somebody else and its window.

The oracle is a list of what was answered 200; it knows nothing of documents, snapshots or steps.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from stockade.management.access import upkeep
from stockade.policy import rbac
from stockade.policy.builtin_roles import ACCESS_APPROVER, ACCESS_REQUESTER
from tests.factories.control_plane import ACCESS_ADMIN, RG, ControlPlane, S

ASKERS, DECIDERS = ("ann", "bob"), ("dora", "eve", "bob")
"""bob may decide too, but not on what he asks for."""
ROLE, GIVES = "Contributor", "Microsoft.Resources/subscriptions/resourceGroups/write"
FIRST_MINUTES, LONG = 60, 8 * 60


@dataclass
class Grant:
    """An approval that was answered 200."""

    who: str
    since: float
    until: float


class RolesForAWhile(RuleBasedStateMachine):
    """Two who ask, three who decide."""

    requests = Bundle("requests")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.plane = ControlPlane(Path(self.folder.name))
        self.people: dict[str, Any] = {}
        for name in dict.fromkeys((*ASKERS, *DECIDERS)):
            roles = [(ACCESS_REQUESTER, S)] if name in ASKERS else []
            roles += [(ACCESS_APPROVER, S), (ACCESS_ADMIN, S)] if name in DECIDERS else []
            self.people[name] = self.plane.principal(name, *roles)
        self.plane.clock.advance(1)
        self.asked: dict[str, tuple[str, float, float]] = {}
        self.grants: dict[str, Grant] = {}

    def teardown(self) -> None:
        if hasattr(self, "plane"):
            self.plane.close()
            self.folder.cleanup()

    def send(self, method: str, path: str, body: Any, who: str) -> int:
        code = self.plane.send(method, path, body, by=self.people[who]).status_code
        assert code < 500
        return code

    @property
    def now(self) -> float:
        return self.plane.clock.now()

    @rule(target=requests, who=st.sampled_from(ASKERS), minutes=st.sampled_from((FIRST_MINUTES, LONG)))
    def ask(self, who: str, minutes: int) -> str:
        name = f"r{len(self.asked)}"
        body = {"properties": {"roleName": ROLE, "durationMinutes": minutes, "reason": "r"}}
        assert self.send("PUT", self.path(name), body, who) == 201
        self.asked[name] = (who, self.now, minutes * 60.0)
        return name

    @rule(name=requests, who=st.sampled_from(DECIDERS))
    def approve(self, name: str, who: str) -> None:
        asker, since, seconds = self.asked[name]
        code = self.send("POST", f"{self.path(name)}/approve", {}, who)
        if code == 200:
            assert who != asker, "nobody decides on their own"
            assert self.now < since + 4 * 86_400, "it had lapsed"
            assert name not in self.grants, "nothing is approved twice"
            self.grants[name] = Grant(asker, self.now, self.now + seconds)

    @rule(name=requests, who=st.sampled_from(DECIDERS))
    def deny(self, name: str, who: str) -> None:
        self.send("POST", f"{self.path(name)}/deny", {"reason": "no"}, who)

    @rule(name=requests, who=st.sampled_from((*ASKERS, *DECIDERS)), action=st.sampled_from(("cancel", "revoke")))
    def end(self, name: str, who: str, action: str) -> None:
        if self.send("POST", f"{self.path(name)}/{action}", {}, who) == 200 and name in self.grants:
            self.grants[name].until = min(self.grants[name].until, self.now)

    @rule(name=requests)
    def remove_the_assignment(self, name: str) -> None:
        found = self.plane.ok("GET", self.path(name))["properties"].get("roleAssignmentId")
        if found is not None:
            self.plane.ok("DELETE", found)
            self.grants[name].until = min(self.grants[name].until, self.now)

    @rule(seconds=st.sampled_from((0.001, 59.0 * 60, 3600.0, 7 * 3600.0, 4 * 86_400.0)), noted=st.booleans())
    def wait(self, seconds: float, noted: bool) -> None:
        self.plane.clock.advance(seconds)
        if noted:
            with self.plane.database.write() as writer:
                upkeep.keep_up(self.plane.settings, writer, self.plane.audit, self.now)

    @invariant()
    def the_role_is_in_force_where_an_approval_is_and_nowhere_else(self) -> None:
        if not hasattr(self, "plane"):
            return
        snapshot = self.plane.source.current()
        for who in ASKERS:
            wanted = any(grant.who == who and grant.since <= self.now < grant.until for grant in self.grants.values())
            found = rbac.check(snapshot, self.people[who].object_id, (), GIVES, RG.lower(), now=self.now)
            assert isinstance(found, rbac.Granted) == wanted

    def path(self, name: str) -> str:
        return f"{RG}/providers/Stockade.Access/roleRequests/{name}"


TestRoles = RolesForAWhile.TestCase
TestRoles.settings = settings(max_examples=8, stateful_step_count=25, deadline=None)
