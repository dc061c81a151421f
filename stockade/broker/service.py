"""The key broker itself: what `keys/broker.py` promises, in whatever process it stands.

Every call for content, a vault key or a secret is decided here anew, on evidence, and is in the audit log before it is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Final, ParamSpec, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockade.audit.log import AuditSink
from stockade.audit.pruning import resource_of
from stockade.broker import data_key_rights
from stockade.broker.account_keys import AccountKeys
from stockade.broker.at_once import NotAtOnce
from stockade.broker.content_limits import (
    account_of,
    check_customer_key,
    check_path,
    check_refs,
    check_scope,
    check_scope_rights,
)
from stockade.broker.customer_keys import CustomerKeys
from stockade.broker.data_keys import OpenDataKeys, PlatformWrapping
from stockade.broker.evidence import Verifier, check_action
from stockade.broker.floors import Floors
from stockade.broker.grants import Grant, Grants
from stockade.broker.lockbox import Lockbox
from stockade.broker.lockbox_callers import check_caller, check_jobs
from stockade.broker.log_heads import TreeHeads
from stockade.broker.opening import Opening
from stockade.broker.providers import Installed
from stockade.broker.recording import Notes, Recording, binding_shown, shown
from stockade.broker.unsealed import Unsealed
from stockade.broker.vault_calls import VaultCalls
from stockade.broker.vault_keys import VaultKeys
from stockade.identity.tenant import tenant_of
from stockade.kernel.clock import Clock
from stockade.kernel.evidence import ArmToken, Evidence, OperatorGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.kernel.secret import Secret
from stockade.keys import content_actions, request_receipts
from stockade.keys.broker import (
    Access,
    Binding,
    BrokerStatus,
    JobScope,
    ObjectKeys,
    ObjectRef,
    WrappedDataKey,
)
from stockade.keys.keyring import BROKER_PURPOSES, Keyring
from stockade.keys.lockbox import Challenge, Lent
from stockade.keys.providers.provider import RemoteVault
from stockade.keys.request_receipts import Receipt
from stockade.lockbox.signature import Signed
from stockade.policy.customer_key import unavailable
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.settings import Settings
from stockade.storage.database import Database

P = ParamSpec("P")
T = TypeVar("T")

RECEIPTS_PURPOSE: Final = "broker/receipts/1"
REQUEST_RECEIPTS_PURPOSE: Final = "broker/request-receipts/1"
MAX_STATEMENT: Final = 64 * 1024
MAX_AT_ONCE: Final = 32
"""Objects whose keys are derived on the event loop: half a millisecond's worth."""

Providers = Callable[[Keyring], Installed]
"""Makes the providers, once the keyring is open."""


class KeyBroker(VaultCalls):
    """Implements `Broker`. Safe to call from several threads.

    snapshot: the policy in force; Fault(UNAVAILABLE) when it cannot be read. opening: gives the keyring, now or once it is unsealed.
    providers: makes those that the settings name, once it is open. known: the policy in force where nothing has to be read for it, otherwise None.
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
        known: Callable[[], Snapshot | None] = lambda: None,
    ) -> None:
        self._settings, self._clock, self._database = settings, clock, database
        self._snapshot, self._audit, self._opening, self._make_providers = snapshot, audit, opening, providers
        self._known = known
        self._notes = Notes(audit, clock)
        self._open_keys = OpenDataKeys(clock, settings.keys.lease_s)
        self._turn = Lock()
        """Of whoever seals, unseals or rotates."""
        self._provider_states: dict[str, str] = {}
        self._unsealed: Unsealed | None = None
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
        return self._object_keys(account_id, objects, access, data_action, evidence, asked_by)

    def object_keys_at_once(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ObjectKeys:
        if len(objects) > MAX_AT_ONCE or isinstance(evidence, OperatorGrant):
            raise NotAtOnce
        return self._object_keys(account_id, objects, access, data_action, evidence, asked_by, at_once=True)

    def _object_keys(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
        *,
        at_once: bool = False,
    ) -> ObjectKeys:
        if isinstance(evidence, OperatorGrant):
            return self._state().lockbox.object_keys(account_id, objects, access, evidence, asked_by)
        place, proven = account_id.lower(), None
        record = Recording(self._audit, self._clock, f"Stockade.Keys/content/{access}", place, asked_by, evidence)
        record.because["dataAction"] = content_actions.relative(data_action)[:200]
        record.because["paths"] = shown([ref.path for ref in objects])
        try:
            opened, snapshot = self._state(), self._policy(at_once=at_once)
            account = account_of(snapshot, place)
            record.resource = account.arm_id
            check_refs(objects)
            held = opened.accounts.held(snapshot, account, at_once=at_once)
            # Nobody makes a token valid again by setting the clock back.
            now = opened.floors.latest() if held.bound is not None else self._clock.now()
            proven = record.proven = opened.verifier.prove(snapshot, account, evidence, now)
            check_action(snapshot, account, proven, data_action, now)
            if held.protected is not None:
                check_caller(snapshot, held.protected, evidence, proven)
            for ref in objects:
                check_path(proven, ref.path, access, data_action)
            check_customer_key(snapshot, account, now)
            keys, newest = opened.accounts.object_keys(snapshot, account, held, tuple(objects), at_once=at_once)
        except Fault as fault:
            if at_once:
                raise NotAtOnce from fault  # a refusal waits for its record to be on disk, which is for a thread
            record.refused(fault)
            raise
        record.allowed(privileged=False)
        return ObjectKeys(tuple(Secret(key) for key in keys), newest, self._settings.keys.lease_s)

    def job_grant(self, account_id: str, job: str, scope: JobScope, data_action: str, evidence: Evidence) -> Secret:
        place = account_id.lower()
        record = Recording(self._audit, self._clock, "Stockade.Keys/jobGrants/create", place, f"job {job}", evidence)
        record.because["dataAction"] = content_actions.relative(data_action)[:200]
        record.because["reads"], record.because["writes"] = shown(scope.reads), shown(scope.writes)
        try:
            opened, snapshot = self._state(), self._snapshot()
            account = account_of(snapshot, place)
            record.resource = account.arm_id
            held = opened.accounts.held(snapshot, account)
            now = opened.floors.now() if held.bound is not None else self._clock.now()
            check_scope(job, scope, now)
            proven = record.proven = opened.verifier.prove(snapshot, account, evidence, now)
            if isinstance(proven, Grant):
                raise Fault(FaultKind.PERMISSION_DENIED, "A job's grant starts no other job.")
            check_action(snapshot, account, proven, data_action, now)
            if held.protected is not None:
                check_caller(snapshot, held.protected, evidence, proven)
                check_jobs(held.protected)
            check_scope_rights(snapshot, account, proven, scope, data_action, now)
            check_customer_key(snapshot, account, now)
            grant = Grant(
                account.id,
                job,
                content_actions.relative(data_action),
                scope.reads,
                scope.writes,
                scope.expires_at,
                proven.object_id if isinstance(proven, TokenCredential) else proven.slot,
                held.bound.digest if held.bound is not None else "",
            )
        except Fault as fault:
            record.refused(fault)
            raise
        record.allowed()
        return opened.grants.make(grant)

    # Data keys.

    def new_data_key(self, account_id: str, binding: Binding | None, evidence: Evidence) -> WrappedDataKey:
        place = account_id.lower()
        record = Recording(self._audit, self._clock, "Stockade.Keys/dataKeys/create", place, "", evidence)
        record.because |= binding_shown(None, binding)
        try:
            opened, snapshot, now = self._state(), self._snapshot(), self._clock.now()
            token = data_key_rights.arm_token(evidence)
            caller = record.proven = opened.verifier.prove_to_arm(snapshot, token, now)
            data_key_rights.check_write(snapshot, place, caller, now)
            made = opened.accounts.new(snapshot, place, binding)
        except Fault as fault:
            record.refused(fault)
            raise
        record.allowed()
        return made

    def rewrap(
        self,
        account_id: str,
        held: WrappedDataKey,
        before: Binding | None,
        after: Binding | None,
        evidence: Evidence | None,
    ) -> WrappedDataKey:
        place = account_id.lower()
        record = Recording(self._audit, self._clock, "Stockade.Keys/dataKeys/wrap", place, "", evidence)
        record.because |= binding_shown(before, after)
        try:
            opened, snapshot, now = self._state(), self._snapshot(), self._clock.now()
            if evidence is None:
                with self._database.read() as reader:
                    data_key_rights.check_kept(snapshot, reader.get(place), held, before, after)
            else:
                token = data_key_rights.arm_token(evidence)
                caller = record.proven = opened.verifier.prove_to_arm(snapshot, token, now)
                data_key_rights.check_write(snapshot, place, caller, now)
            made = opened.accounts.wrap_anew(snapshot, place, held, before, after)
        except Fault as fault:
            record.refused(fault)
            raise
        record.allowed()
        return made

    # Customer Lockbox.

    def bind_statement(self, account_id: str, signed: Signed, evidence: ArmToken) -> tuple[WrappedDataKey, ...]:
        return self._state().lockbox.bind_statement(account_id, signed, evidence)

    def open_request(self, account_id: str, request_id: str, evidence: ArmToken) -> Challenge:
        return self._state().lockbox.open_request(account_id, request_id, evidence)

    def grant_access(self, request_id: str, signed: Signed, evidence: ArmToken) -> Lent:
        return self._state().lockbox.grant_access(request_id, signed, evidence)

    def revoke_access(self, request_id: str) -> None:
        self._state().lockbox.revoke_access(request_id)

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
        return _public(self._state().signing)

    def sign_receipt(self, receipt: Receipt) -> str:
        key = self._state().request_signing
        return request_receipts.sign(receipt, _public(key), key.sign)

    def request_receipt_key(self) -> bytes:
        return _public(self._state().request_signing)

    def sign_tree_head(self, log: str, size: int, root: bytes, time: float, consistency: Sequence[bytes]) -> bytes:
        return self._state().heads.sign(log, size, root, time, consistency)

    def tree_head_key(self) -> bytes:
        return self._state().heads.public.public

    def rotate_platform(self) -> str:
        with self._turn:
            opened = self._state()
            keyring = self._opening.rotate_platform()
            opened.accounts.platform = PlatformWrapping(keyring)
            self._unsealed = replace(opened, keyring=keyring)
            self._notes.note("platformKeys/rotate")
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
            self._notes.note("seal")

    def unseal(self, share: Secret) -> BrokerStatus:
        with self._turn:
            if self._unsealed is None:
                keyring = self._opening.unseal(share)
                if keyring is not None:
                    self._unsealed = self._with(keyring)
                    self._notes.note("unseal")
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
        if self._unsealed is not None:
            self._unsealed.accounts.confirm()

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

    def _close(self) -> None:
        opened, self._unsealed = self._unsealed, None
        self._open_keys.wipe()
        if opened is not None:
            opened.providers.close()

    def _with(self, keyring: Keyring) -> Unsealed:
        providers, grants = self._make_providers(keyring), Grants(keyring.keys)
        vault = VaultKeys(self._database, providers, keyring.keys)
        customers = CustomerKeys(vault, self._settings.keys.providers, providers)
        floors = Floors(self._settings.data_dir, keyring.keys, self._clock)
        accounts = AccountKeys(
            self._clock,
            self._database,
            self._open_keys,
            PlatformWrapping(keyring),
            customers,
            providers["software"].random,
            self._notes,
            floors,
        )
        signing = _signing_key(keyring, RECEIPTS_PURPOSE)
        request_signing = _signing_key(keyring, REQUEST_RECEIPTS_PURPOSE)
        verifier = Verifier(self._settings, keyring.keys, grants)
        heads = TreeHeads(keyring.keys, floors, self._tenant, self._log_begun)
        lockbox = Lockbox(self._settings, self._clock, self._snapshot, self._audit, floors, verifier, accounts)
        return Unsealed(
            keyring,
            accounts,
            grants,
            verifier,
            vault,
            customers,
            providers,
            signing,
            request_signing,
            floors,
            heads,
            lockbox,
        )

    def _log_begun(self, log: str, size: int) -> None:
        self._notes.note("treeHeads/begin", resource_of(log), because={"records": str(size)})

    def _tenant(self) -> str:
        found = tenant_of(self._snapshot())
        if found is None:
            raise Fault(FaultKind.UNAVAILABLE, "The directory has no tenant yet.", retry_after_s=5)
        return found.id

    def _policy(self, *, at_once: bool) -> Snapshot:
        if not at_once:
            return self._snapshot()
        known = self._known()
        if known is None:
            raise NotAtOnce
        return known

    def _state(self) -> Unsealed:
        opened = self._unsealed
        if opened is None:
            raise Fault(FaultKind.UNAVAILABLE, "The platform is sealed: nothing can be opened until it is unsealed.")
        return opened


def _signing_key(keyring: Keyring, purpose: str) -> Ed25519PrivateKey:
    """Return the key of one purpose: what is signed with it cannot be taken for what another one signs."""
    return Ed25519PrivateKey.from_private_bytes(keyring.keys.derive(purpose).reveal())


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
