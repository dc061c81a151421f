"""A key broker that keeps no secrets: it says what it would say, and lets a test look at and break what it does.

Wrapping is written down, not done: `["inner", account, version, nonce]`, around it one `["outer", key id]` where a customer's key is bound. Whether a
customer's key serves it decides as the real one does, by the policy.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockade.kernel.clock import Clock
from stockade.kernel.evidence import ArmToken, Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import request_receipts
from stockade.keys.broker import Binding, BrokerStatus, WrappedDataKey
from stockade.keys.lockbox import Challenge, Lent
from stockade.keys.material import Jwk, KeySpec
from stockade.keys.providers.provider import ProviderKey
from stockade.keys.request_receipts import Receipt
from stockade.lockbox import approval as approvals
from stockade.lockbox import statement as statements
from stockade.lockbox.signature import Signed
from stockade.policy.customer_key import Unavailable, serving_version, version_in
from stockade.policy.snapshot import CustomerKey, Snapshot, VaultVersionPolicy
from tests.factories.logs import Signer

SHOWN = ArmToken(Secret("t"))
"""Of somebody who may do anything."""


class PretendBroker:
    """snapshot: the policy in force; None: customers' keys never serve."""

    def __init__(self, clock: Clock, snapshot: Callable[[], Snapshot] | None = None) -> None:
        self.clock, self.snapshot = clock, snapshot
        self.platform = "p1"
        self.broken: Fault | None = None
        """What every call raises."""
        self.locks_only = False
        """Customers' keys wrap and do not unwrap."""
        self.elsewhere: dict[str, Unavailable | None] = {}
        """Vaults that are not ours, by address, and what is wrong with them."""
        self.newest_elsewhere = "e" * 32
        """The newest version of their keys."""
        self.calls: list[str] = []
        self.bound: dict[str, str] = {}
        """Digests of statements, by account."""
        self.challenges: dict[str, str] = {}
        self.revoked: set[str] = set()
        self._signing = Ed25519PrivateKey.generate()
        self._signing_requests = Ed25519PrivateKey.generate()

    def new_data_key(self, account_id: str, binding: Binding | None, evidence: Evidence) -> WrappedDataKey:
        assert isinstance(evidence, ArmToken)
        self._called("new_data_key")
        version = secrets.token_hex(6)
        return self._wrapped(account_id, version, self.clock.now(), binding)

    def rewrap(
        self,
        account_id: str,
        held: WrappedDataKey,
        before: Binding | None,
        after: Binding | None,
        evidence: Evidence | None,
    ) -> WrappedDataKey:
        assert before == after if evidence is None else isinstance(evidence, ArmToken)
        self._called("rewrap")
        layers = json.loads(held.wrapped)
        if (len(layers) == 2) != (before is not None) or layers[0][:3] != ["inner", account_id, held.version]:
            raise Fault(FaultKind.UNAVAILABLE, "A data key could not be opened.")
        if before is not None:
            self._serving(before, version_in(held.customer))
        return self._wrapped(account_id, held.version, held.created_at, after)

    def make_key(
        self, provider: str, spec: KeySpec, version_id: str, evidence: Evidence | None, asked_by: str
    ) -> ProviderKey:
        assert isinstance(evidence, ArmToken)
        self._called("make_key")
        public = (
            Jwk(kty=spec.type, crv=spec.curve, x=b"x", y=b"y") if spec.curve else Jwk(kty=spec.type, n=b"n", e=b"e")
        )
        return ProviderKey(version_id.encode(), public)

    def seal_secret(self, value: Secret, version_id: str) -> bytes:
        self._called("seal_secret")
        return version_id.encode()

    # Customer Lockbox: it keeps what the real one keeps in its memory and floors, and verifies nothing.

    def bind_statement(self, account_id: str, signed: Signed, evidence: Evidence) -> tuple[WrappedDataKey, ...]:
        self._called("bind_statement")
        self.bound[account_id] = statements.digest(signed.payload)
        return (self._wrapped(account_id, secrets.token_hex(6), self.clock.now(), None),)

    def open_request(self, account_id: str, request_id: str, evidence: Evidence) -> Challenge:
        self._called("open_request")
        if request_id in self.revoked or account_id not in self.bound:
            raise Fault(FaultKind.PERMISSION_DENIED, "Nothing is opened for that.")
        nonce = self.challenges.setdefault(request_id, secrets.token_urlsafe(16))
        return Challenge(nonce, self.bound[account_id], self.clock.now() + 86_400)

    def grant_access(self, request_id: str, signed: Signed, evidence: Evidence) -> Lent:
        self._called("grant_access")
        approval = approvals.read(signed.payload)
        if approval.nonce != self.challenges.get(request_id):
            raise Fault(FaultKind.CONFLICT, "The challenge is from before a restart.", code="ChallengeOver")
        if request_id in self.revoked or approval.not_after <= self.clock.now():
            raise Fault(FaultKind.PERMISSION_DENIED, "The approval is over.")
        return Lent(Secret(f"grant-{request_id}"), approval.not_after)

    def revoke_access(self, request_id: str) -> None:
        self._called("revoke_access")
        self.revoked.add(request_id)

    def restart(self) -> None:
        """Forget what is only in memory."""
        self.challenges.clear()

    def sign(self, statement: bytes) -> bytes:
        self._called("sign")
        return self._signing.sign(statement)

    def sign_receipt(self, receipt: Receipt) -> str:
        return request_receipts.sign(receipt, self.request_receipt_key(), self._signing_requests.sign)

    def request_receipt_key(self) -> bytes:
        return self._signing_requests.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def tree_head_key(self) -> bytes:
        return Signer().key.public

    def receipt_key(self) -> bytes:
        return self._signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def status(self) -> BrokerStatus:
        self._called("status")
        return BrokerStatus(sealed=False, root_source="file", platform_key=self.platform)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"this broker does not do {name}")

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.broken is not None:
            raise self.broken

    def _wrapped(self, account_id: str, version: str, created_at: float, binding: Binding | None) -> WrappedDataKey:
        layers = [["inner", account_id, version, secrets.token_hex(4)]]
        customer = ""
        if binding is not None:
            if self.locks_only:
                raise _unavailable(Unavailable("KeyOperationNotPermitted", "The key does not unwrap."))
            customer = f"{binding.vault_uri}/keys/{binding.key_name}/{self._serving(binding)}"
            layers.append(["outer", customer])
        return WrappedDataKey(version, created_at, json.dumps(layers).encode(), self.platform, customer)

    def _serving(self, binding: Binding, held: str = "") -> str:
        """Return the version that serves. held: the one that has to be there, to open with."""
        key = CustomerKey(binding.vault_uri, binding.key_name, binding.key_version, binding.principal_id)
        if binding.vault_uri in self.elsewhere:
            wrong = self.elsewhere[binding.vault_uri]
            if wrong is not None:
                raise _unavailable(wrong)
            return binding.key_version or self.newest_elsewhere
        assert self.snapshot is not None
        snapshot = self.snapshot()
        found = serving_version(snapshot, key, self.clock.now())
        if isinstance(found, Unavailable):
            raise _unavailable(found)
        old: VaultVersionPolicy | None = snapshot.only("vault-version", f"{found.item_id}/versions/{held}")
        if held and (old is None or not old.enabled):
            raise _unavailable(Unavailable("KeyDisabled", "The version that was wrapped with is disabled."))
        return found.version


def _unavailable(found: Unavailable) -> Fault:
    return Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, found.message, details={"problem": found.problem})
