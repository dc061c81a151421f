"""The key broker itself: what `keys/broker.py` promises, in whatever process it stands.

Every call for content, a vault key or a secret is decided here anew, on evidence, and is in the audit log before it is answered.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockade.audit.log import AuditSink
from stockade.broker.customer_keys import CustomerKeys, customer_key, refusal
from stockade.broker.data_keys import KEY_BYTES, OpenDataKeys, PlatformWrapping, new_version
from stockade.broker.evidence import Named, Proven, Verifier, check_action, named
from stockade.broker.framing import wipe
from stockade.broker.grants import LONGEST_S, MAX_PATHS, Grant, Grants
from stockade.broker.opening import Opening
from stockade.broker.providers import Installed
from stockade.broker.vault_keys import VaultKeys
from stockade.kernel.clock import Clock
from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.principal import KeyCredential, TokenCredential
from stockade.kernel.record import AuditRecord
from stockade.kernel.secret import Secret
from stockade.keys import content_actions
from stockade.keys.broker import (
    Access,
    Binding,
    BrokerStatus,
    JobScope,
    ObjectKeys,
    ObjectRef,
    WrappedDataKey,
)
from stockade.keys.broker_wire import MAX_OBJECTS
from stockade.keys.keyring import BROKER_PURPOSES, Keyring
from stockade.keys.material import Jwk, KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers.provider import ProviderKey, RemoteVault
from stockade.keys.stored import DATA_KEYS, data_keys_form, data_keys_of
from stockade.policy.customer_key import unavailable
from stockade.policy.snapshot import AccountPolicy, CustomerKey, Snapshot
from stockade.settings import Settings
from stockade.storage.database import Database

RECEIPTS_PURPOSE: Final = "broker/receipts/1"
MAX_STATEMENT: Final = 64 * 1024
KEPT_ACCOUNTS: Final = 8192
_PATH: Final = re.compile(r"[a-z]{1,32}/[0-9A-Za-z._-]{1,200}")
_VERSION: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_PATTERN: Final = re.compile(r"[a-z]{1,32}/(?:\*|[0-9A-Za-z._-]{1,200})")
_SHOWN_PATHS: Final = 20

Providers = Callable[[Keyring], Installed]
"""Makes the providers, once the keyring is open."""


@dataclass(frozen=True, slots=True)
class _Unsealed:
    """What there is only while the platform is open."""

    keyring: Keyring
    platform: PlatformWrapping
    grants: Grants
    verifier: Verifier
    vault: VaultKeys
    customers: CustomerKeys
    providers: Installed
    signing: Ed25519PrivateKey


class KeyBroker:
    """Implements `Broker`. Safe to call from several threads.

    snapshot: the policy in force; Fault(UNAVAILABLE) when it cannot be read. opening: gives the keyring, now or once it is unsealed.
    providers: makes those that the settings name, once it is open.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        database: Database,
        snapshot: Callable[[], Snapshot],
        audit: AuditSink,
        opening: Opening,
        providers: Providers,
    ) -> None:
        self._settings, self._clock, self._database = settings, clock, database
        self._snapshot, self._audit, self._opening, self._make_providers = snapshot, audit, opening, providers
        self._open_keys = OpenDataKeys(clock, settings.keys.lease_s)
        self._wrapped: OrderedDict[str, tuple[int, tuple[WrappedDataKey, ...]]] = OrderedDict()
        self._lock = Lock()
        self._turn = Lock()
        """Of whoever seals, unseals or rotates."""
        self._provider_states: dict[str, str] = {}
        self._unsealed: _Unsealed | None = None
        keyring = opening.begin()
        if keyring is not None:
            self._unsealed = self._with(keyring)

    # Content.

    def object_keys(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ObjectKeys:
        place, proven = account_id.lower(), None
        record = _Recording(self._audit, self._clock, f"Stockade.Keys/content/{access}", place, asked_by, evidence)
        record.because["dataAction"] = content_actions.relative(data_action)[:200]
        record.because["paths"] = _shown([ref.path for ref in objects])
        try:
            opened, snapshot = self._state(), self._snapshot()
            account = _account(snapshot, place)
            record.resource, now = account.arm_id, self._clock.now()
            _check_refs(objects)
            proven = record.proven = opened.verifier.prove(snapshot, account, evidence, now)
            check_action(snapshot, account, proven, data_action)
            for ref in objects:
                _check_path(proven, ref.path, access, data_action)
            _check_customer_key(snapshot, account, now)
            keys, newest = self._derive(opened, snapshot, account, tuple(objects), now)
        except Fault as fault:
            record.refused(fault)
            raise
        record.allowed()
        return ObjectKeys(tuple(Secret(key) for key in keys), newest, self._settings.keys.lease_s)

    def job_grant(self, account_id: str, job: str, scope: JobScope, data_action: str, evidence: Evidence) -> Secret:
        place = account_id.lower()
        record = _Recording(self._audit, self._clock, "Stockade.Keys/jobGrants/create", place, f"job {job}", evidence)
        record.because["dataAction"] = content_actions.relative(data_action)[:200]
        record.because["reads"], record.because["writes"] = _shown(scope.reads), _shown(scope.writes)
        try:
            opened, snapshot, now = self._state(), self._snapshot(), self._clock.now()
            account = _account(snapshot, place)
            record.resource = account.arm_id
            _check_scope(job, scope, now)
            proven = record.proven = opened.verifier.prove(snapshot, account, evidence, now)
            if isinstance(proven, Grant):
                raise Fault(FaultKind.PERMISSION_DENIED, "A job's grant starts no other job.")
            check_action(snapshot, account, proven, data_action)
            _check_scope_rights(snapshot, account, proven, scope, data_action)
            _check_customer_key(snapshot, account, now)
            grant = Grant(
                account.id,
                job,
                content_actions.relative(data_action),
                scope.reads,
                scope.writes,
                scope.expires_at,
                proven.object_id if isinstance(proven, TokenCredential) else proven.slot,
            )
        except Fault as fault:
            record.refused(fault)
            raise
        record.allowed()
        return opened.grants.make(grant)

    # Data keys.

    def new_data_key(self, account_id: str, binding: Binding | None) -> WrappedDataKey:
        opened, place, now = self._state(), account_id.lower(), self._clock.now()
        version, key = new_version(), bytearray(opened.providers["software"].random(KEY_BYTES))
        try:
            inner, platform = opened.platform.wrap(place, version, key)
        finally:
            wipe(key)
        return self._wrap_outer(opened, WrappedDataKey(version, now, inner, platform), binding, now)

    def rewrap(
        self, account_id: str, held: WrappedDataKey, before: Binding | None, after: Binding | None
    ) -> WrappedDataKey:
        opened, place, now = self._state(), account_id.lower(), self._clock.now()
        snapshot = self._snapshot()
        key = self._open(opened, snapshot, place, held, customer_key(before) if before is not None else None, now)
        try:
            inner, platform = opened.platform.wrap(place, held.version, key)
        finally:
            wipe(key)
        bare = WrappedDataKey(held.version, held.created_at, inner, platform)
        return self._wrap_outer(opened, bare, after, now)

    # Vault keys and secrets.

    def make_key(self, provider: str, spec: KeySpec, version_id: str) -> ProviderKey:
        return self._state().vault.make(provider, spec, version_id)

    def take_key(self, provider: str, spec: KeySpec, private: dict[str, Secret], version_id: str) -> ProviderKey:
        return self._state().vault.take(provider, spec, private, version_id)

    def use_key(self, version_id: str, request: KeyRequest, evidence: Evidence, asked_by: str) -> KeyAnswer:
        place = version_id.lower()
        operation = f"Stockade.Keys/vaultKeys/{request.use}"
        record = _Recording(self._audit, self._clock, operation, place, asked_by, evidence)
        record.because["algorithm"] = request.algorithm[:40]
        try:
            opened, snapshot, now = self._state(), self._snapshot(), self._clock.now()
            caller = record.proven = opened.verifier.prove_to_vault(snapshot, evidence, now)
            answer = opened.vault.use(snapshot, place, request, caller, now)
        except Fault as fault:
            record.refused(fault)
            raise
        record.allowed()
        return answer

    def destroy_key(self, provider: str, handle: bytes, version_id: str) -> None:
        self._state().vault.destroy(provider, handle, version_id)

    def back_up_key(self, provider: str, handle: bytes, public: Jwk, version_id: str) -> bytes:
        return self._state().vault.back_up(provider, handle, version_id)

    def restore_key(self, provider: str, backup: bytes, version_id: str) -> ProviderKey:
        return self._state().vault.restore(provider, backup, version_id)

    def seal_secret(self, value: Secret, version_id: str) -> bytes:
        return self._state().vault.seal_secret(value, version_id.lower())

    def open_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> Secret:
        place = version_id.lower()
        record = _Recording(self._audit, self._clock, "Stockade.Keys/vaultSecrets/get", place, asked_by, evidence)
        try:
            opened, snapshot = self._state(), self._snapshot()
            caller = record.proven = opened.verifier.prove_to_vault(snapshot, evidence, self._clock.now())
            value = opened.vault.open_secret(snapshot, sealed, place, caller)
        except Fault as fault:
            record.refused(fault)
            raise
        record.allowed()
        return value

    def random(self, provider: str, count: int) -> bytes:
        return self._state().vault.random(provider, count)

    # The platform's own.

    def purpose_key(self, purpose: str) -> Secret:
        if purpose.startswith(BROKER_PURPOSES):
            raise Fault(FaultKind.PERMISSION_DENIED, "That key is the key broker's own.")
        return self._state().keyring.keys.derive(purpose)

    def sign(self, statement: bytes) -> bytes:
        if len(statement) > MAX_STATEMENT:
            raise Fault(FaultKind.TOO_LARGE, "The statement is too long.")
        return self._state().signing.sign(statement)

    def receipt_key(self) -> bytes:
        return self._state().signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def rotate_platform(self) -> str:
        with self._turn:
            opened = self._state()
            keyring = self._opening.rotate_platform()
            self._unsealed = replace(opened, keyring=keyring, platform=PlatformWrapping(keyring))
            self._note("platformKeys/rotate")
        return keyring.newest

    def status(self) -> BrokerStatus:
        wanted, given = self._opening.shares
        opened = self._unsealed
        return BrokerStatus(
            sealed=opened is None,
            root_source=self._settings.keys.root,
            shares_wanted=wanted,
            shares_given=given,
            providers=dict(self._provider_states),
            platform_key=opened.keyring.newest if opened is not None else "",
        )

    def seal(self) -> None:
        with self._turn:
            self._opening.seal()
            self._close()
            self._note("seal")

    def unseal(self, share: Secret) -> BrokerStatus:
        with self._turn:
            if self._unsealed is None:
                keyring = self._opening.unseal(share)
                if keyring is not None:
                    self._unsealed = self._with(keyring)
                    self._note("unseal")
        return self.status()

    # For whoever runs it.

    @property
    def keys(self) -> Keyring:
        """The keyring, for the process that the broker is in; Fault(UNAVAILABLE) while it is sealed."""
        return self._state().keyring

    def sweep(self) -> None:
        """Wipe data keys whose lease has ended, and those whose account or customer's key has gone."""
        try:
            snapshot, now = self._snapshot(), self._clock.now()
        except Fault:
            self._open_keys.wipe()
            return

        def keep(account_id: str, by_customer: bool) -> bool:
            account: AccountPolicy | None = snapshot.only("account", account_id)
            if account is None:
                return False
            key = account.customer_key
            return not by_customer or (key is not None and unavailable(snapshot, account_id, key, now) is None)

        self._open_keys.sweep(keep)

    def vault_elsewhere(self, vault_uri: str) -> RemoteVault | None:
        """Return what reaches a vault that is not ours; None when the settings name nothing for it. Fault(UNAVAILABLE) while sealed."""
        return self._state().customers.vault(vault_uri)

    def look_at_providers(self) -> None:
        """Ask every provider whether it can be used, for `status`."""
        opened = self._unsealed
        if opened is None:
            self._provider_states = {}
            return
        states = {}
        for name in opened.providers:
            try:
                opened.providers[name].check()
                states[name] = "ok"
            except Fault as fault:
                states[name] = fault.message
        self._provider_states = states

    def close(self) -> None:
        """Wipe everything and let go of the providers."""
        with self._turn:
            self._close()

    def _note(self, what: str) -> None:
        """Record what somebody with the right to this process's socket has done to all of the platform."""
        record = AuditRecord(
            time=self._clock.now(),
            id=new_guid(),
            category="Audit",
            phase="outcome",
            operation=f"Stockade.Keys/{what}",
            resource="/providers/stockade.platform/installations/default",
            decision="allow",
            outcome="success",
        )
        self._audit.record(record)

    def _close(self) -> None:
        opened, self._unsealed = self._unsealed, None
        self._open_keys.wipe()
        if opened is not None:
            opened.providers.close()

    def _with(self, keyring: Keyring) -> _Unsealed:
        providers, grants = self._make_providers(keyring), Grants(keyring.keys)
        vault = VaultKeys(self._database, providers, keyring.keys)
        return _Unsealed(
            keyring,
            PlatformWrapping(keyring),
            grants,
            Verifier(self._settings, keyring.keys, grants),
            vault,
            CustomerKeys(vault, self._settings.keys.providers, providers),
            providers,
            Ed25519PrivateKey.from_private_bytes(keyring.keys.derive(RECEIPTS_PURPOSE).reveal()),
        )

    def _state(self) -> _Unsealed:
        opened = self._unsealed
        if opened is None:
            raise Fault(FaultKind.UNAVAILABLE, "The platform is sealed: nothing can be opened until it is unsealed.")
        return opened

    def _derive(
        self, opened: _Unsealed, snapshot: Snapshot, account: AccountPolicy, refs: tuple[ObjectRef, ...], now: float
    ) -> tuple[list[bytes], str]:
        held = self._data_keys(opened, snapshot, account)
        newest = held[-1].version
        found: list[bytes] = [b""] * len(refs)
        for version in {ref.data_key or newest for ref in refs}:
            places = [index for index, ref in enumerate(refs) if (ref.data_key or newest) == version]
            wanted = tuple(refs[index] for index in places)
            derived = self._open_keys.derive(account.id, version, wanted)
            if derived is None:
                one = next((one for one in held if one.version == version), None)
                if one is None:
                    raise Fault(FaultKind.NOT_FOUND, "The data key that this is kept under has been destroyed.")
                key = self._open(opened, snapshot, account.id, one, account.customer_key, now)
                self._open_keys.put(account.id, version, key, customer=bool(one.customer))
                derived = self._open_keys.derive(account.id, version, wanted)
                if (
                    derived is None
                ):  # wiped in between: its lease is shorter than this took, or somebody sealed the platform
                    raise Fault(FaultKind.UNAVAILABLE, "The data key is not open any more.", retry_after_s=1)
            for index, value in zip(places, derived, strict=True):
                found[index] = value
        return found, newest

    def _open(
        self,
        opened: _Unsealed,
        snapshot: Snapshot,
        account_id: str,
        held: WrappedDataKey,
        key: CustomerKey | None,
        now: float,
    ) -> bytearray:
        inner = held.wrapped
        if held.customer:
            if key is None:
                raise Fault(
                    FaultKind.CUSTOMER_KEY_UNAVAILABLE,
                    "The data is kept under a customer-managed key, and the resource names none.",
                    details={"problem": "IdentityMissing"},
                )
            inner = opened.customers.unwrap(snapshot, account_id, key, held.customer, held.wrapped, now)
        return opened.platform.unwrap(account_id, held.version, inner, held.platform)

    def _wrap_outer(
        self, opened: _Unsealed, inner: WrappedDataKey, binding: Binding | None, now: float
    ) -> WrappedDataKey:
        if binding is None:
            return inner
        wrapped, customer = opened.customers.wrap(self._snapshot(), customer_key(binding), inner.wrapped, now)
        return WrappedDataKey(inner.version, inner.created_at, wrapped, inner.platform, customer)

    def _data_keys(self, opened: _Unsealed, snapshot: Snapshot, account: AccountPolicy) -> tuple[WrappedDataKey, ...]:
        """Return an account's data keys as its document has them. An account from before there were any is given its first one."""
        with self._lock:
            known = self._wrapped.get(account.id)
            if known is not None and known[0] == snapshot.generation:
                self._wrapped.move_to_end(account.id)
                return known[1]
        with self._database.read() as reader:
            document = reader.get(account.id)
        if document is None:
            raise Fault(FaultKind.NOT_FOUND, "There is no such resource.")
        held = data_keys_of(document.private) or self._first_data_key(account)
        with self._lock:
            self._wrapped[account.id] = (snapshot.generation, held)
            while len(self._wrapped) > KEPT_ACCOUNTS:
                self._wrapped.popitem(last=False)
        return held

    def _first_data_key(self, account: AccountPolicy) -> tuple[WrappedDataKey, ...]:
        if account.customer_key is not None:
            raise Fault(FaultKind.UNAVAILABLE, "The resource has no data key.")
        made = self.new_data_key(account.id, None)
        with self._database.write() as writer:
            document = writer.get(account.id)
            if document is None:
                raise Fault(FaultKind.NOT_FOUND, "There is no such resource.")
            held = data_keys_of(document.private)
            if not held:  # nobody else was faster
                held = (made,)
                writer.put(
                    document.id,
                    document.type,
                    document.body,
                    {**document.private, DATA_KEYS: data_keys_form(held)},
                    subscription=document.subscription,
                    resource_group=document.resource_group,
                )
        return held


class _Recording:
    """The audit record of one call, written before it is answered. Nothing is decided while records cannot be taken."""

    def __init__(
        self, audit: AuditSink, clock: Clock, operation: str, resource: str, asked_by: str, evidence: Evidence
    ) -> None:
        self._audit, self._clock, self._operation, self.resource = audit, clock, operation, resource
        self._asked_by, self._evidence = asked_by[:120], evidence
        self.because: dict[str, str] = {}
        self.proven: Proven | None = None
        if not audit.healthy:
            raise Fault(FaultKind.UNAVAILABLE, "The audit log cannot be written, so no key is given.", retry_after_s=5)

    def allowed(self) -> None:
        self._write("allow", "", "")

    def refused(self, fault: Fault) -> None:
        self._write("deny", fault.kind.value, fault.message)

    def _write(self, decision: str, reason: str, message: str) -> None:
        who: Named = named(self._evidence, self.proven)
        because = {**self.because, "evidence": who.kind}
        if message:
            because["message"] = message[:500]
        self._audit.record(
            AuditRecord(
                time=self._clock.now(),
                id=new_guid(),
                category="Audit",
                phase="decision",
                operation=self._operation,
                resource=self.resource,
                client=self._asked_by,
                credential=who.credential,
                principal=who.principal,
                application=who.application,
                decision="allow" if decision == "allow" else "deny",
                reason=reason,
                outcome="success" if decision == "allow" else f"failed:{reason}",
                because=because,
            )
        )


def _account(snapshot: Snapshot, account_id: str) -> AccountPolicy:
    account: AccountPolicy | None = snapshot.only("account", account_id)
    if account is None:
        raise Fault(FaultKind.NOT_FOUND, "There is no such resource.")
    return account


def _check_customer_key(snapshot: Snapshot, account: AccountPolicy, now: float) -> None:
    if account.customer_key is not None:
        found = unavailable(snapshot, account.id, account.customer_key, now)
        if found is not None:
            raise refusal(found)


def _check_refs(objects: Sequence[ObjectRef]) -> None:
    if not 0 < len(objects) <= MAX_OBJECTS:
        raise Fault(FaultKind.INVALID, f"Between 1 and {MAX_OBJECTS} objects can be asked for at once.")
    for ref in objects:
        if not _PATH.fullmatch(ref.path) or not _VERSION.fullmatch(ref.version):
            raise Fault(FaultKind.INVALID, "That is no object's path and version.")
        if ref.data_key and not _VERSION.fullmatch(ref.data_key):
            raise Fault(FaultKind.INVALID, "That is no data key's version.")


def _check_path(proven: Proven, path: str, access: Access, data_action: str) -> None:
    if not content_actions.permits(path.partition("/")[0], access, data_action):
        message = f"The data action `{content_actions.relative(data_action)}` does not {access} `{path}`."
        raise Fault(FaultKind.PERMISSION_DENIED, message)
    if isinstance(proven, Grant) and not proven.permits(path, access):
        raise Fault(FaultKind.PERMISSION_DENIED, f"The job was not granted to {access} `{path}`.")


def _check_scope(job: str, scope: JobScope, now: float) -> None:
    if not 0 < len(job) <= 200:
        raise Fault(FaultKind.INVALID, "A job has a name of up to 200 characters.")
    if not now < scope.expires_at <= now + LONGEST_S:
        raise Fault(FaultKind.INVALID, f"A job's grant ends within {LONGEST_S / 86_400:.0f} days.")
    if len(scope.reads) + len(scope.writes) > MAX_PATHS:
        raise Fault(FaultKind.INVALID, f"A job reads and writes at most {MAX_PATHS} paths.")
    if not all(_PATTERN.fullmatch(pattern) for pattern in (*scope.reads, *scope.writes)):
        raise Fault(FaultKind.INVALID, "That is no object's path.")


def _check_scope_rights(
    snapshot: Snapshot,
    account: AccountPolicy,
    proven: KeyCredential | TokenCredential,
    scope: JobScope,
    data_action: str,
) -> None:
    """Let a job have what its starter has: what the data action itself touches, and for everything else that is read the right to read it."""
    for pattern in scope.writes:
        _check_path(proven, pattern, "write", data_action)
    for pattern in scope.reads:
        _check_path(proven, pattern, "read", data_action)
    for kind in {pattern.partition("/")[0] for pattern in scope.reads}:
        needs = content_actions.KINDS[kind].needs
        if needs.rpartition("/")[0] != content_actions.relative(data_action).rpartition("/")[0]:
            check_action(snapshot, account, proven, needs)


def _shown(paths: Sequence[str]) -> str:
    """Return paths for a record: ids, never names, and not more than a screenful."""
    told = ", ".join(path[:240] for path in paths[:_SHOWN_PATHS])
    return told if len(paths) <= _SHOWN_PATHS else f"{told} and {len(paths) - _SHOWN_PATHS} more"
