"""A key broker over an account that a Lockbox statement protects: its approvers, its operators, and what a customer keeps there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from joserfc.jwk import RSAKey

from stockade.identity.audiences import ARM
from stockade.identity.principals import Principal
from stockade.identity.signing_keys import SigningKey
from stockade.kernel.evidence import ArmToken, CallerKey, Evidence, OperatorGrant
from stockade.kernel.ids import new_guid
from stockade.kernel.secret import Secret
from stockade.keys.broker import ObjectKeys, ObjectRef
from stockade.keys.lockbox import Lent
from stockade.keys.stored import DATA_KEYS, LOCKBOX, data_keys_form, statement_form
from stockade.lockbox.approval import Approval, Operator
from stockade.lockbox.signature import Signed
from stockade.lockbox.statement import Callers, Statement, digest
from stockade.management.first_start import assign_role
from stockade.policy.builtin_roles import OWNER
from stockade.policy.snapshot import Permission, RoleDefinition
from tests.factories.broker import Brokered, ref
from tests.factories.data_plane import GROUP, Account
from tests.factories.lockbox import Authenticator, Signer, a_statement, an_approval, signed

READ, WRITE = "OpenAI/files/read", "OpenAI/files/write"
ENGINEER = "9a9a9a9a-0000-4000-8000-000000000001"
"""A role of this test's, with the one data action."""
GUID = "5" * 32
SIGNING = RSAKey.generate_key(2048, auto_kid=False)


class Protected(Brokered):
    """alice: Owner and approver. bob: a second approver. operator, second: engineers. All of them have a key and a principal."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        # Making and opening the platform's signing key is most of what such a world costs, and it is no part of what is tested.
        with mock.patch.object(RSAKey, "generate_key", return_value=SIGNING):
            super().__init__(folder, **changes)
        self.plane.world.keys._opened = SigningKey(SIGNING.thumbprint(), SIGNING)
        permission = Permission((), (), ("stockade.lockbox/requests/write",), ())
        role = RoleDefinition(ENGINEER, "Engineer", True, (permission,))
        self.policy["lockbox"] = (("lockbox", "tenant", True), ("role", ENGINEER, role))
        self.alice, self.alices = self.somebody("alice", OWNER)
        self.bob, self.bobs = self.somebody("bob", "")
        self.operator, self.operators = self.somebody("operator", ENGINEER)
        self.second, self.seconds = self.somebody("second", ENGINEER)
        self.account = self.plane.account(internalId=GUID)
        self.payload = b""
        """The statement in force."""

    def somebody(self, name: str, role: str) -> tuple[Principal, Signer]:
        principal, _ = self.plane.world.application(name)
        if role:
            with self.plane.world.database.write() as writer:
                assign_role(writer, GROUP, role, principal.object_id, "ServicePrincipal", self.clock.now())
        return principal, Signer(name, principal.object_id)

    def arm(self, who: Principal) -> ArmToken:
        return ArmToken(Secret(self.plane.world.token(who, ARM)))

    # The customer.

    @property
    def customer(self) -> CallerKey:
        return CallerKey(Secret(self.account.key))

    def ask(self, *objects: ObjectRef, evidence: Evidence | None = None, **changes: Any) -> ObjectKeys:
        asked: dict[str, Any] = {"access": "write", "data_action": WRITE, "asked_by": "test", **changes}
        return self.broker.object_keys(
            self.account.id, objects or (ref(),), evidence=evidence or self.customer, **asked
        )

    def statement(self, **changes: Any) -> Statement:
        """Return the next statement: with alice and bob, of whom one is enough, and callers as the platform has them."""
        before = msgspec.json.decode(self.payload) if self.payload else None
        values: dict[str, Any] = {
            "account": self.account.id,
            "account_guid": GUID,
            "sequence": before["sequence"] + 1 if before else 1,
            "previous": digest(self.payload) if before else "",
            "callers": Callers(platform=True),
            "issued_at": self.clock.now(),
            **changes,
        }
        return a_statement(*values.pop("approvers", (self.alices.approver, self.bobs.approver)), **values)

    def bind(self, told: Statement, *signers: Signer | Authenticator, by: Principal | None = None) -> Signed:
        """Have a statement bound and stored, as management does."""
        whole = signed(told, *(signers or (self.alices,)))
        keys = self.broker.bind_statement(self.account.id, whole, self.arm(by or self.alice))
        self.store({DATA_KEYS: data_keys_form(keys), LOCKBOX: statement_form(whole)})
        self.payload = whole.payload
        return whole

    def protect(self, **changes: Any) -> Signed:
        return self.bind(self.statement(**changes))

    def private(self) -> dict[str, Any]:
        with self.plane.world.database.read() as reader:
            document = reader.get(self.account.id)
        assert document is not None
        return dict(document.private)

    def store(self, changes: dict[str, Any], account: Account | None = None) -> None:
        """Write into the private part of the account's document; None removes a member."""
        with self.plane.world.database.write() as writer:
            document = writer.get((account or self.account).id)
            assert document is not None
            whole = {**document.private, **changes}
            private = {name: value for name, value in whole.items() if value is not None}
            writer.put(document.id, document.type, document.body, private)

    def forget(self, slot: str = "Key1") -> str:
        """Let the platform keep no copy of a key; return its SHA-256."""
        keys = self.private()["keys"]
        sha = hashlib.sha256(self.account.key.encode()).hexdigest()
        keys[slot] = {name: value for name, value in keys[slot].items() if name != "sealed"} | {"sha256": sha}
        self.store({"keys": keys})
        return sha

    # The operator.

    def request(self, **changes: Any) -> Approval:
        """Open a request and return what is to be signed for it."""
        name = changes.pop("name", new_guid())
        challenge = self.broker.open_request(self.account.id, name, self.arm(self.operator))
        now = self.clock.now()
        values: dict[str, Any] = {
            "request": name,
            "account": self.account.id,
            "statement": challenge.statement,
            "operator": Operator(self.operator.object_id, self.plane.world.tenant_id),
            "not_before": now,
            "not_after": now + 3600,
            "nonce": challenge.nonce,
            **changes,
        }
        return an_approval(**values)

    def grant(self, said: Approval, *signers: Signer | Authenticator, by: Principal | None = None) -> Lent:
        whole = signed(said, *(signers or (self.alices,)))
        return self.broker.grant_access(said.request, whole, self.arm(by or self.operator))

    def evidence(self, lent: Lent, by: Principal | None = None) -> OperatorGrant:
        return OperatorGrant(lent.grant, self.arm(by or self.operator).token)

    def read(self, lent: Lent, *objects: ObjectRef, by: Principal | None = None, **changes: Any) -> ObjectKeys:
        asked: dict[str, Any] = {"access": "read", "data_action": READ, **changes}
        return self.ask(*objects, evidence=self.evidence(lent, by), **asked)
