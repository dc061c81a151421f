"""Lockbox on a control plane: a protected account, an approver with a key, operators, and requests in every status."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec

from stockade.identity.principals import Principal
from stockade.kernel.ids import new_guid
from stockade.lockbox.strict import from_base64url
from stockade.management.first_start import assign_role
from stockade.management.lockbox import upkeep
from stockade.management.lockbox.events import READ
from stockade.policy.builtin_roles import LOCKBOX_APPROVER, LOCKBOX_REVIEWER, OWNER, SUPPORT_ENGINEER
from stockade.storage.documents import Document
from tests.factories.control_plane import CONTRIBUTOR, RG, ControlPlane, S
from tests.factories.lockbox import Signer

ACCOUNT = f"{RG}/providers/Microsoft.CognitiveServices/accounts/Keeper"
POLICY = f"{ACCOUNT}/providers/Stockade.Lockbox/policies/default"
OURS = f"{S}/providers/Stockade.Lockbox/requests"
AZURES = f"{S}/providers/Microsoft.CustomerLockbox/requests"
TENANT = "/providers/Microsoft.CustomerLockbox"
OUTBOX = "stockade.access/notices"


class Lockbox:
    """`alice` approves with a key (role Approver for Subscription), `engineer` asks, `reviewer` looks first where that is on."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.alice = plane.principal("alice", (LOCKBOX_APPROVER, S), (CONTRIBUTOR, RG))
        self.engineer = plane.principal("engineer", (SUPPORT_ENGINEER, S))
        self.reviewer = plane.principal("reviewer", (LOCKBOX_REVIEWER, S))
        self.root = plane.principal("root", (OWNER, "/"))
        self.key = Signer("alice", self.alice.object_id)
        self.account()

    def account(self, path: str = ACCOUNT, kind: str = "OpenAI", sku: str = "S0") -> None:
        body = {"kind": kind, "location": "local", "sku": {"name": sku}, "properties": {}}
        self.plane.ok("PUT", path, body)

    def opt_in(self) -> None:
        self.plane.ok("POST", f"{TENANT}/enableLockbox", by=self.root)

    def protect(self, *signers: Signer, path: str = POLICY, **wanted: Any) -> Any:
        """Put the next statement, signed by `alice` or the given; the first names them as approvers."""
        by = signers or (self.key,)
        wanted.setdefault("approvers", [_jwk(one) for one in by])
        drafted = self.plane.ok("POST", f"{path}/draft", wanted)
        body = self.signed(drafted["payload"], *by)
        return self.plane.ok(
            "PUT", path, {"properties": {**body, "contacts": ["secops@example.com"]}}, by=by[0].principal
        )

    def ready(self) -> Lockbox:
        """Opt in and protect the account."""
        self.opt_in()
        self.protect()
        return self

    def grant_owner(self, who: Principal) -> None:
        with self.plane.database.write() as writer:
            assign_role(writer, S, OWNER, who.object_id, "ServicePrincipal", self.plane.clock.now())

    @staticmethod
    def signed(payload: str, *signers: Signer) -> Any:
        made = [msgspec.to_builtins(one.sign(from_base64url(payload))) for one in signers]
        return {"payload": payload, "signatures": made}

    def send(self, name: str, *, by: Principal | None = None, **properties: Any) -> httpx.Response:
        base = {"account": ACCOUNT, "scope": ["files/file-1"], "reason": "case 7: the upload is not found"}
        body = {"properties": {**base, **properties}}
        return self.plane.send("PUT", f"{OURS}/{name}", body, by=by or self.engineer)

    def file(self, *, by: Principal | None = None, **properties: Any) -> str:
        """File a request and return its GUID."""
        name = new_guid()
        reply = self.send(name, by=by, **properties)
        assert reply.status_code == 201, reply.text
        return name

    def show(self, name: str, *, by: Principal | None = None) -> Any:
        return self.plane.ok("GET", f"{AZURES}/{name}", by=by or self.alice)["properties"]

    def status(self, name: str) -> str:
        return str(self.plane.ok("GET", f"{OURS}/{name}", by=self.engineer)["properties"]["status"])

    def to_sign(self, name: str, *, by: Principal | None = None) -> str:
        return str(self.show(name, by=by)["stockade"]["approval"]["payload"])

    def decide(
        self, name: str, status: str, *signers: Signer, by: Principal | None = None, payload: str = "", **more: Any
    ) -> httpx.Response:
        body = {"status": status, "reason": "seen", **more}
        if signers:
            body |= self.signed(payload or self.to_sign(name), *signers)
        return self.plane.send("POST", f"{AZURES}/{name}/updateApproval", body, by=by or self.alice)

    def approve(self, name: str) -> None:
        reply = self.decide(name, "Approve", self.key)
        assert reply.status_code == 200, reply.text

    def act(self, name: str, action: str, by: Principal | None = None, **body: Any) -> httpx.Response:
        return self.plane.send("POST", f"{OURS}/{name}/{action}", body, by=by or self.engineer)

    def outbox(self) -> list[Document]:
        with self.plane.database.read() as reader:
            return sorted(reader.list(OUTBOX), key=lambda one: one.ordinal)

    def told(self, name: str = "") -> list[tuple[str, str]]:
        """Return what was told of a request and where to."""
        found = [one.body for one in self.outbox() if str(one.body["subject"]).endswith(name)]
        return [(str(one["kind"]).removeprefix("lockbox."), str(one["to"])) for one in found]

    def recorded(self, name: str) -> list[str]:
        """Return the operations of the steps in the customer's log."""
        return [
            one.operation.removeprefix("Microsoft.CustomerLockbox/requests/activitylog/").removesuffix("/action")
            for one in self.plane.audit.records
            if one.resource == f"{AZURES}/{name}" and one.rule == "lockbox" and one.operation != READ
        ]

    def wait(self, seconds: float) -> None:
        """Let time pass and what is due be done."""
        self.plane.clock.advance(seconds)
        self.keep_up()

    def keep_up(self) -> None:
        with self.plane.database.write() as writer:
            upkeep.keep_up(self.plane.platform, writer, self.plane.clock.now())


def _jwk(signer: Signer) -> Any:
    return msgspec.to_builtins(signer.approver)
