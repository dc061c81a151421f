"""Whatever customers, operators, clocks and crashes do, in whatever order: nothing is opened without an approval that is valid at that moment.

Nothing is pretended: requests go through ARM's pipeline with real tokens, keys are the key broker's. The oracle is a list of what was signed and
of what was answered 200; it knows nothing of documents, grants or steps. Whoever holds an approval also takes it to the broker directly, past
management, and every grant that was ever given is shown again.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from stockade.identity.principals import Principal
from stockade.kernel.evidence import OperatorGrant
from stockade.kernel.faults import Fault
from stockade.kernel.ids import new_guid
from stockade.keys.broker import ObjectRef
from stockade.keys.lockbox import Lent
from stockade.lockbox import approval as approvals
from stockade.lockbox.signature import Signature, Signed
from stockade.lockbox.strict import base64url, from_base64url
from stockade.management.first_start import assign_role
from stockade.policy.builtin_roles import SUPPORT_ENGINEER
from stockade.settings import Lockbox as Rules
from stockade.settings import Settings
from tests.factories.control_plane import RG, S
from tests.factories.lockbox import Signer
from tests.factories.lockbox_arm import AZURES, TENANT, Lockbox
from tests.factories.lockbox_real import RealPlane

HOUR = 3600.0
SECRET = b"what the customer keeps"


@dataclass(frozen=True)
class Approval:
    """Bytes that somebody signed with keys that count, while this statement and this broker were there."""

    request: str
    signed: Signed
    scope: tuple[str, ...]
    until: float
    duration_s: float
    statement: int
    broker: int


class Access(RuleBasedStateMachine):
    """alice approves; the engineer asks, and so does a second one; a stranger has a key that the statement does not name."""

    requests = Bundle("requests")
    opened: ClassVar[list[str]] = []
    """What was read, over all runs: a test in which nothing ever opens would hold of a wall."""
    world: ClassVar[Any] = None
    latest: ClassVar[float] = 0.0

    @initialize()
    def begin(self) -> None:
        cls = type(self)
        if cls.world is None:
            cls.folder = tempfile.TemporaryDirectory()  # type: ignore[attr-defined]
            path = Path(cls.folder.name)  # type: ignore[attr-defined]
            rules = Rules(break_glass=True)
            box = Lockbox(RealPlane(path, Settings(data_dir=path, lockbox=rules)))
            box.grant_owner(box.alice)
            cls.world = box, box.plane.principal("second", (SUPPORT_ENGINEER, S)), iter(range(10_000))
        self.box, self.second, numbers = cls.world
        self.plane: RealPlane = self.box.plane
        # Each run begins where nobody has set the clock back: the broker would take its tokens for old ones.
        self.plane.clock.jump(max(0.0, cls.latest - self.plane.clock.now()))
        self.began = self.plane.clock.now()
        self.keep_up()
        self.engineer: Principal = self.box.engineer
        self.operators = Signer("op1", self.engineer.object_id), Signer("op2", self.second.object_id)
        self.account = f"{RG}/providers/Microsoft.CognitiveServices/accounts/keeper{next(numbers)}"
        self.policy = f"{self.account}/providers/Stockade.Lockbox/policies/default"
        self.role, self.opted_in, self.brokers, self.statements = True, True, 0, 0
        self.approvals: list[Approval] = []
        self.ended: set[str] = set()
        self.lent: list[tuple[Lent, Approval]] = []
        self.granted_at: dict[str, float] = {}
        self.names: dict[str, tuple[str, ...]] = {}
        self.seen = 0.0
        self.box.opt_in()
        self.box.account(self.account)
        self.state()
        self.plane.keep(self.account, "file-1", SECRET)
        self.plane.keep(self.account, "file-2", SECRET)
        self.refs = self._refs()

    def keep_up(self) -> None:
        self.plane.keep_up()
        self.box.keep_up()

    def teardown(self) -> None:
        if not hasattr(self, "plane"):
            return
        for name in self.names:
            self.box.act(name, "revoke", self.box.alice)
        self.assign(held=True)
        self.box.opt_in()

    # What people do

    @rule(target=requests, scope=st.sampled_from((("files/file-1",), ("files/*",))), glass=st.booleans())
    def file(self, scope: tuple[str, ...], glass: bool) -> str:
        name = new_guid()
        reply = self.box.send(name, account=self.account, scope=list(scope), durationHours=1, breakGlass=glass)
        if self.plane.clock.now() >= self.latest:
            assert (reply.status_code == 201) == (self.role and self.opted_in), reply.text
        if reply.status_code == 201:
            self.names[name] = scope
        return name

    @rule(name=requests, how=st.sampled_from(("good", "good", "stranger", "wider", "another's", "old", "late")))
    def approve(self, name: str, how: str) -> None:
        shown = self._shown(name)
        to_sign = (shown.get("approval") or {}).get("payload", "")
        if not to_sign:
            return
        payload, signer = from_base64url(to_sign), self.box.key
        said = approvals.read(payload)
        match how:
            case "stranger":
                signer = Signer("alice", self.box.alice.object_id)
            case "wider" if "files/*" not in said.scope:
                payload = approvals.encode(msgspec.structs.replace(said, scope=("files/*",)))
            case "another's":
                others = [one for one in self.approvals if one.request != name]
                payload = others[-1].signed.payload if others else payload
            case "old":
                mine = [one for one in self.approvals if one.request == name]
                payload = mine[0].signed.payload if mine else payload
            case "late":
                payload = approvals.encode(msgspec.structs.replace(said, not_after=said.not_after + 100 * HOUR))
        signers = self.operators if shown["breakGlass"] else (signer,)
        body: Any = self.box.signed(base64url(payload), *signers)
        if shown["breakGlass"]:
            reply = self.box.act(name, "breakGlass", **body)
        else:
            where = f"{AZURES}/{name}/updateApproval"
            reply = self.plane.send("POST", where, {"status": "Approve", **body}, by=self.box.alice)
        assert reply.status_code < 500, reply.text
        if how == "stranger" and not shown["breakGlass"]:
            assert reply.status_code >= 400
            return
        # Signed by keys that count it is an approval, whatever management made of it: of what its bytes say.
        try:
            real = approvals.read(payload)
        except Fault:
            return
        signed = Signed(payload, msgspec.convert(body["signatures"], tuple[Signature, ...]))
        made = Approval(
            real.request, signed, real.scope, real.not_after, real.duration_s, self.statements, self.brokers
        )
        if not any(one.signed.payload == payload for one in self.approvals):
            self.approvals.append(made)

    @rule(target=requests, scope=st.sampled_from((("files/file-1",), ("files/*",))))
    def file_and_approve(self, scope: tuple[str, ...]) -> str:
        name = self.file(scope, glass=False)
        self.approve(name, "good")
        self.read(name, "file-1", second=False)
        return name

    @rule(name=requests, how=st.sampled_from(("deny", "revoke", "cancel", "complete")), who=st.booleans())
    def end(self, name: str, how: str, who: bool) -> None:
        if how == "deny":
            where = f"{AZURES}/{name}/updateApproval"
            reply = self.plane.send("POST", where, {"status": "Deny"}, by=self.box.alice)
        else:
            by = self.engineer if how in ("cancel", "complete") or who else self.box.alice
            reply = self.box.act(name, how, by)
        assert reply.status_code < 500, reply.text
        if reply.status_code == 200:
            self.ended.add(name)

    @rule(how=st.sampled_from(("revoke", "complete")), who=st.booleans())
    def read_and_end(self, how: str, who: bool) -> None:
        self.end(self.file_and_approve(("files/*",)), how, who)

    @rule(held=st.booleans())
    def assign(self, held: bool) -> None:
        if held == self.role:
            return
        with self.plane.database.write() as writer:
            if held:
                now = self.plane.clock.now()
                assign_role(writer, S, SUPPORT_ENGINEER, self.engineer.object_id, "ServicePrincipal", now)
            else:
                for one in writer.list("microsoft.authorization/roleassignments"):
                    if one.body["properties"]["principalId"] == self.engineer.object_id:
                        writer.remove(one)
        self.role = held

    @rule(opted_in=st.booleans())
    def opt(self, opted_in: bool) -> None:
        word = "enable" if opted_in else "disable"
        self.plane.ok("POST", f"{TENANT}/{word}Lockbox", by=self.box.root)
        self.opted_in = opted_in

    @rule()
    def state(self) -> None:
        """Put the next statement."""
        wanted = {
            "approvers": [msgspec.to_builtins(self.box.key.approver)],
            "breakGlass": {
                "operators": [msgspec.to_builtins(one.approver) for one in self.operators],
                "threshold": 2,
                "hours": 1,
            },
        }
        drafted = self.plane.ok("POST", f"{self.policy}/draft", wanted, by=self.box.alice)
        body = {"properties": self.box.signed(drafted["payload"], self.box.key)}
        reply = self.plane.send("PUT", self.policy, body, by=self.box.alice)
        # With the clock set back the broker takes a token for one that has ended.
        assert reply.status_code in (200, 201) or self.plane.clock.now() < self.latest, reply.text
        self.statements += reply.status_code < 300

    # What happens

    @rule(hours=st.sampled_from((0.25, 0.99, 1.0, 3.0, 100.0)), upkeep=st.booleans())
    def wait(self, hours: float, upkeep: bool) -> None:
        self.plane.clock.advance(hours * HOUR)
        type(self).latest = max(self.latest, self.plane.clock.now())
        if upkeep:
            self.keep_up()

    @rule(hours=st.sampled_from((-200.0, -2.0, -0.5, 0.5)))
    def jump(self, hours: float) -> None:
        """Set the clock, as whoever has the machine can."""
        if self.plane.clock.now() + hours * HOUR > self.began:
            self.plane.clock.jump(hours * HOUR)
            type(self).latest = max(self.latest, self.plane.clock.now())

    @rule()
    def restart(self) -> None:
        self.plane.restart_broker()
        self.brokers += 1

    # What may be read

    @rule(name=requests, file=st.sampled_from(("file-1", "file-2")), second=st.booleans())
    def read(self, name: str, file: str, second: bool) -> None:
        self._look()
        reply = self.plane.read(name, f"/files/{file}", self.second if second else self.engineer)
        assert reply.status_code < 500, reply.text
        if reply.status_code == 200:
            assert not second
            assert reply.content == SECRET
            assert self._valid(name, file), "opened without an approval that is valid now"
            self.opened.append(name)

    @invariant()
    def what_does_not_hold_opens_nothing(self) -> None:
        """Take the newest approvals to the broker, past management, and show it every grant that it gave for them."""
        if not hasattr(self, "refs"):
            return
        self._look()
        token = self.plane.arm(self.engineer)
        for held in self.approvals[-3:]:
            try:
                lent = self.plane.current.grant_access(held.request, held.signed, token)
            except Fault:
                continue
            assert self._holds(held), "granted for an approval that is not valid now"
            self.granted_at.setdefault(held.request, self.seen)
            self.lent.append((lent, held))
        for lent, held in self.lent[-3:]:
            evidence, file = OperatorGrant(lent.grant, token.token), f"file-{1 + len(self.lent) % 2}"
            asked = self.account.lower(), (self.refs[file],), "read", "OpenAI/files/read", evidence, "test"
            try:
                self.plane.current.object_keys(*asked)
            except Fault:
                continue
            assert self._holds(held), "lent under a grant that is not valid now"
            assert _covers(held.scope, file)

    # The oracle

    def _look(self) -> None:
        self.seen = max(self.seen, self.plane.clock.now())

    def _valid(self, name: str, file: str) -> bool:
        return any(
            one.request == name and self._holds(one) and _covers(one.scope, file) and one.scope == self.names[name]
            for one in self.approvals
        )

    def _holds(self, one: Approval) -> bool:
        return (
            one.request not in self.ended
            and one.request in self.names
            and set(one.scope) <= {*self.names[one.request], "files/*"}
            and self.seen < min(one.until, self.granted_at.get(one.request, self.seen) + one.duration_s)
            and one.statement == self.statements
            and one.broker == self.brokers
            and self.role
            and self.opted_in
        )

    def _shown(self, name: str) -> Any:
        reply = self.plane.send("GET", f"{AZURES}/{name}", by=self.box.alice)
        return reply.json()["properties"]["stockade"] if reply.status_code == 200 else {"breakGlass": False}

    def _refs(self) -> dict[str, ObjectRef]:
        rows = self.plane.contents.rows
        found = {}
        for file in ("file-1", "file-2"):
            row = rows.get(self.account.lower(), "files", file, self.plane.clock.now())
            assert row is not None
            found[file] = ObjectRef(row.path, row.body_version, row.body_data_key)
        return found


def _covers(scope: tuple[str, ...], file: str) -> bool:
    return "files/*" in scope or f"files/{file}" in scope


Access.TestCase.settings = settings(max_examples=8, stateful_step_count=20, deadline=None)
TestAccess = Access.TestCase


def test_something_was_opened() -> None:
    """Of all runs together: where nothing ever opens, everything above holds."""
    assert Access.opened
