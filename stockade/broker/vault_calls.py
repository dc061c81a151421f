"""The key broker's calls for key vaults: keys made, taken, used, destroyed, backed up and restored; secrets sealed and opened.

A part of `service.KeyBroker`, which says how things stand; what is done with a key is in `vault_keys.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from stockade.audit.log import AuditSink
from stockade.broker import key_rights
from stockade.broker.at_once import NotAtOnce
from stockade.broker.recording import Notes, Recording
from stockade.broker.unsealed import Unsealed
from stockade.broker.vault_keys import VaultKeys
from stockade.kernel.clock import Clock
from stockade.kernel.evidence import ArmToken, Evidence
from stockade.kernel.faults import Fault
from stockade.kernel.principal import TokenCredential
from stockade.kernel.secret import Secret
from stockade.keys.material import KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers.provider import ProviderKey
from stockade.policy.snapshot import Snapshot

P = ParamSpec("P")
T = TypeVar("T")


class VaultCalls(ABC):
    """The methods of `Broker` that are about vaults' keys and secrets."""

    _audit: AuditSink
    _clock: Clock
    _notes: Notes
    _snapshot: Callable[[], Snapshot]

    @abstractmethod
    def _state(self) -> Unsealed:
        """Return what there is while the platform is open; Fault(UNAVAILABLE) while it is sealed."""

    @abstractmethod
    def _policy(self, *, at_once: bool) -> Snapshot:
        """Return the policy in force. at_once: NotAtOnce where something would have to be read for it."""

    def make_key(
        self, provider: str, spec: KeySpec, version_id: str, evidence: Evidence | None, asked_by: str
    ) -> ProviderKey:
        place = version_id.lower()
        record = Recording(self._audit, self._clock, "Stockade.Keys/vaultKeys/make", place, asked_by, evidence)
        record.because["provider"], record.because["type"] = provider[:40], spec.type
        try:
            opened, snapshot, now = self._state(), self._snapshot(), self._clock.now()
            if evidence is None:
                opened.vault.check_rotation(snapshot, place, spec, now)
            elif isinstance(evidence, ArmToken):
                caller = record.proven = opened.verifier.prove_to_arm(snapshot, evidence, now)
                key_rights.check_arm_make(snapshot, place, caller, now)
            else:
                caller = record.proven = opened.verifier.prove_to_vault(snapshot, evidence, now)
                key_rights.check_make(snapshot, place, spec, caller, now)
            made = opened.vault.make(provider, spec, place)
        except Fault as fault:
            record.refused(fault)
            raise
        record.allowed()
        return made

    def take_key(
        self,
        provider: str,
        spec: KeySpec,
        private: dict[str, Secret],
        version_id: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ProviderKey:
        what = "vaultKeys/import"
        return self._for_caller(what, version_id, evidence, asked_by, VaultKeys.take, provider, spec, private)

    def use_key(self, version_id: str, request: KeyRequest, evidence: Evidence, asked_by: str) -> KeyAnswer:
        return self._use_key(version_id, request, evidence, asked_by)

    def use_key_at_once(self, version_id: str, request: KeyRequest, evidence: Evidence, asked_by: str) -> KeyAnswer:
        return self._use_key(version_id, request, evidence, asked_by, at_once=True)

    def _use_key(
        self, version_id: str, request: KeyRequest, evidence: Evidence, asked_by: str, *, at_once: bool = False
    ) -> KeyAnswer:
        place = version_id.lower()
        operation = f"Stockade.Keys/vaultKeys/{request.use}"
        record = Recording(self._audit, self._clock, operation, place, asked_by, evidence)
        record.because["algorithm"] = request.algorithm[:40]
        try:
            opened, snapshot, now = self._state(), self._policy(at_once=at_once), self._clock.now()
            caller = record.proven = opened.verifier.prove_to_vault(snapshot, evidence, now)
            answer = opened.vault.use(snapshot, place, request, caller, now, at_once=at_once)
        except Fault as fault:
            if at_once:
                raise NotAtOnce from fault  # a refusal waits for its record to be on disk, which is for a thread
            record.refused(fault)
            raise
        record.allowed(privileged=False)
        return answer

    def destroy_key(self, provider: str, handle: bytes, version_id: str) -> None:
        place = version_id.lower()
        with self._notes.doing("vaultKeys/destroy", place, {"provider": provider[:40]}):
            self._state().vault.destroy(provider, handle, place)

    def back_up_key(self, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        return self._for_caller("vaultKeys/backup", version_id, evidence, asked_by, VaultKeys.back_up)

    def restore_key(
        self, provider: str, backup: bytes, version_id: str, evidence: Evidence, asked_by: str
    ) -> ProviderKey:
        what = "vaultKeys/restore"
        return self._for_caller(what, version_id, evidence, asked_by, VaultKeys.restore, provider, backup)

    def seal_secret(self, value: Secret, version_id: str) -> bytes:
        return self._state().vault.seal_secret(value, version_id.lower())

    def open_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> Secret:
        return self._for_caller("vaultSecrets/get", version_id, evidence, asked_by, VaultKeys.open_secret, sealed)

    def back_up_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        what = "vaultSecrets/backup"
        return self._for_caller(what, version_id, evidence, asked_by, VaultKeys.back_up_secret, sealed)

    def restore_secret(self, backup: bytes, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        what = "vaultSecrets/restore"
        return self._for_caller(what, version_id, evidence, asked_by, VaultKeys.restore_secret, backup)

    def _for_caller(
        self,
        what: str,
        version_id: str,
        evidence: Evidence,
        asked_by: str,
        do: Callable[Concatenate[VaultKeys, Snapshot, str, TokenCredential, float, P], T],
        *given: P.args,
        **named: P.kwargs,
    ) -> T:
        """Do something for a vault's caller who is proven first, and record it before it is answered."""
        place = version_id.lower()
        record = Recording(self._audit, self._clock, f"Stockade.Keys/{what}", place, asked_by, evidence)
        try:
            opened, snapshot, now = self._state(), self._snapshot(), self._clock.now()
            caller = record.proven = opened.verifier.prove_to_vault(snapshot, evidence, now)
            found = do(opened.vault, snapshot, place, caller, now, *given, **named)
        except Fault as fault:
            record.refused(fault)
            raise
        record.allowed()
        return found

    def random(self, provider: str, count: int) -> bytes:
        return self._state().vault.random(provider, count)
