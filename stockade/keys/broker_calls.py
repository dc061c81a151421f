"""The key broker's calls as they go over its socket, once for both clients: each method makes its message and says what its answer is.

What a method returns is whatever asking returns: the answer itself (`BrokerClient`), or what is awaited for it (`AsyncBrokerClient`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from stockade.kernel.evidence import ArmToken, Evidence
from stockade.kernel.secret import Secret
from stockade.keys import broker_wire as wire
from stockade.keys.broker import (
    Access,
    Binding,
    BrokerStatus,
    JobScope,
    ObjectKeys,
    ObjectRef,
    WrappedDataKey,
)
from stockade.keys.lockbox import Challenge, Lent
from stockade.keys.material import KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers.provider import ProviderKey
from stockade.keys.request_receipts import Receipt
from stockade.lockbox.signature import Signed


class BrokerCalls(ABC):
    """The methods of `Broker`, by way of one question."""

    @abstractmethod
    def _ask(self, call: wire.Call, wanted: Any) -> Any:
        """Send a call and return its answer, read as `wanted`."""

    def object_keys(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
    ) -> Any:
        call = wire.ObjectKeysCall(account_id, tuple(objects), access, data_action, wire.shown(evidence), asked_by)
        return self._ask(call, ObjectKeys)

    def job_grant(self, account_id: str, job: str, scope: JobScope, data_action: str, evidence: Evidence) -> Any:
        return self._ask(wire.JobGrantCall(account_id, job, scope, data_action, wire.shown(evidence)), Secret)

    def new_data_key(self, account_id: str, binding: Binding | None, evidence: Evidence) -> Any:
        return self._ask(wire.NewDataKeyCall(account_id, binding, wire.shown(evidence)), WrappedDataKey)

    def rewrap(
        self,
        account_id: str,
        held: WrappedDataKey,
        before: Binding | None,
        after: Binding | None,
        evidence: Evidence | None,
    ) -> Any:
        shown = wire.shown(evidence) if evidence is not None else None
        return self._ask(wire.RewrapCall(account_id, held, before, after, shown), WrappedDataKey)

    def bind_statement(self, account_id: str, signed: Signed, evidence: ArmToken) -> Any:
        call = wire.BindStatementCall(account_id, signed, wire.shown(evidence))
        return self._ask(call, tuple[WrappedDataKey, ...])

    def open_request(self, account_id: str, request_id: str, evidence: ArmToken) -> Any:
        return self._ask(wire.OpenRequestCall(account_id, request_id, wire.shown(evidence)), Challenge)

    def grant_access(self, request_id: str, signed: Signed, evidence: ArmToken) -> Any:
        return self._ask(wire.GrantAccessCall(request_id, signed, wire.shown(evidence)), Lent)

    def revoke_access(self, request_id: str) -> Any:
        return self._ask(wire.RevokeAccessCall(request_id), None)

    def make_key(self, provider: str, spec: KeySpec, version_id: str, evidence: Evidence | None, asked_by: str) -> Any:
        shown = wire.shown(evidence) if evidence is not None else None
        return self._ask(wire.MakeKeyCall(provider, spec, version_id, shown, asked_by), ProviderKey)

    def take_key(
        self,
        provider: str,
        spec: KeySpec,
        private: dict[str, Secret],
        version_id: str,
        evidence: Evidence,
        asked_by: str,
    ) -> Any:
        call = wire.TakeKeyCall(provider, spec, private, version_id, wire.shown(evidence), asked_by)
        return self._ask(call, ProviderKey)

    def use_key(self, version_id: str, request: KeyRequest, evidence: Evidence, asked_by: str) -> Any:
        return self._ask(wire.UseKeyCall(version_id, request, wire.shown(evidence), asked_by), KeyAnswer)

    def destroy_key(self, provider: str, handle: bytes, version_id: str) -> Any:
        return self._ask(wire.DestroyKeyCall(provider, handle, version_id), None)

    def back_up_key(self, version_id: str, evidence: Evidence, asked_by: str) -> Any:
        return self._ask(wire.BackUpKeyCall(version_id, wire.shown(evidence), asked_by), bytes)

    def restore_key(self, provider: str, backup: bytes, version_id: str, evidence: Evidence, asked_by: str) -> Any:
        call = wire.RestoreKeyCall(provider, backup, version_id, wire.shown(evidence), asked_by)
        return self._ask(call, ProviderKey)

    def seal_secret(self, value: Secret, version_id: str) -> Any:
        return self._ask(wire.SealSecretCall(value, version_id), bytes)

    def open_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> Any:
        return self._ask(wire.OpenSecretCall(sealed, version_id, wire.shown(evidence), asked_by), Secret)

    def back_up_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> Any:
        return self._ask(wire.BackUpSecretCall(sealed, version_id, wire.shown(evidence), asked_by), bytes)

    def restore_secret(self, backup: bytes, version_id: str, evidence: Evidence, asked_by: str) -> Any:
        return self._ask(wire.RestoreSecretCall(backup, version_id, wire.shown(evidence), asked_by), bytes)

    def random(self, provider: str, count: int) -> Any:
        return self._ask(wire.RandomCall(provider, count), bytes)

    def purpose_key(self, purpose: str) -> Any:
        return self._ask(wire.PurposeKeyCall(purpose), Secret)

    def sign(self, statement: bytes) -> Any:
        return self._ask(wire.SignCall(statement), bytes)

    def receipt_key(self) -> Any:
        return self._ask(wire.ReceiptKeyCall(), bytes)

    def sign_tree_head(self, log: str, size: int, root: bytes, time: float, consistency: Sequence[bytes]) -> Any:
        return self._ask(wire.SignTreeHeadCall(log, size, root, time, tuple(consistency)), bytes)

    def tree_head_key(self) -> Any:
        return self._ask(wire.TreeHeadKeyCall(), bytes)

    def sign_receipt(self, receipt: Receipt) -> Any:
        return self._ask(wire.SignReceiptCall(receipt), str)

    def request_receipt_key(self) -> Any:
        return self._ask(wire.RequestReceiptKeyCall(), bytes)

    def rotate_platform(self) -> Any:
        return self._ask(wire.RotatePlatformCall(), str)

    def status(self) -> Any:
        return self._ask(wire.StatusCall(), BrokerStatus)

    def seal(self) -> Any:
        return self._ask(wire.SealCall(), None)

    def unseal(self, share: Secret) -> Any:
        return self._ask(wire.UnsealCall(share), BrokerStatus)
