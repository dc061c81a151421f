"""An account's data keys: made, read from its document, opened through both wrappings, and objects' keys derived from them.

An instance lives for as long as the platform is unsealed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Final

import msgspec

from stockade.broker.at_once import NotAtOnce
from stockade.broker.customer_keys import CustomerKeys, customer_key
from stockade.broker.data_keys import KEY_BYTES, OpenDataKeys, PlatformWrapping, new_version
from stockade.broker.floors import Floors
from stockade.broker.framing import wipe
from stockade.broker.lockbox_statements import Bound, Made, check_bound, internal_id, statement_in
from stockade.broker.recording import Notes, binding_shown
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.broker import Binding, ObjectRef, WrappedDataKey
from stockade.keys.stored import DATA_KEYS, data_keys_form, data_keys_of
from stockade.policy.snapshot import AccountPolicy, CustomerKey, Snapshot
from stockade.storage.database import Database
from stockade.storage.documents import Document

KEPT_ACCOUNTS: Final = 8192
"""Accounts whose wrapped data keys are remembered for as long as policy does not change."""


@dataclass(frozen=True, slots=True)
class Held:
    """What an account's document holds: its data keys, oldest first, and the Lockbox statement that all of them are bound to."""

    keys: tuple[WrappedDataKey, ...]
    bound: Bound | None

    @property
    def protected(self) -> Bound | None:
        """The statement, where it is one that protects."""
        return self.bound if self.bound is not None and self.bound.statement.protected else None


class AccountKeys:
    """Opens data keys, into `open_keys` and for its own use, and never gives one out. random: makes so many bytes."""

    def __init__(
        self,
        clock: Clock,
        database: Database,
        open_keys: OpenDataKeys,
        platform: PlatformWrapping,
        customers: CustomerKeys,
        random: Callable[[int], bytes],
        notes: Notes,
        floors: Floors,
    ) -> None:
        self._clock, self._database, self._open_keys, self._notes = clock, database, open_keys, notes
        self.platform, self._customers, self._random, self._floors = platform, customers, random, floors
        self._held: OrderedDict[str, tuple[int, Held]] = OrderedDict()
        self._lock = Lock()
        self._made = Made(floors)

    def held(self, snapshot: Snapshot, account: AccountPolicy, *, at_once: bool = False) -> Held:
        """Return what an account's document holds. Fault(LOCKBOX_DENIED) when that is not what was bound to its statement.

        at_once: NotAtOnce when the document would have to be read.
        """
        with self._lock:
            known = self._held.get(account.id)
            if known is not None and known[0] == snapshot.generation:
                self._held.move_to_end(account.id)
                return known[1]
        if at_once:
            raise NotAtOnce
        held = self._read(account.id)
        if held.keys:
            self._remember(snapshot, account.id, held)
        return held

    def object_keys(
        self,
        snapshot: Snapshot,
        account: AccountPolicy,
        held: Held,
        refs: tuple[ObjectRef, ...],
        *,
        at_once: bool = False,
    ) -> tuple[list[bytes], str]:
        """Return objects' keys, in order, and the version of the newest data key. An account from before there were any is given its first one.

        Fault(CUSTOMER_KEY_UNAVAILABLE) when the customer's key does not serve, Fault(NOT_FOUND) for a data key that has been destroyed.
        at_once: NotAtOnce when a document would have to be read or a data key be opened.
        """
        if not held.keys:
            if at_once:
                raise NotAtOnce
            held = replace(held, keys=self._first(snapshot, account))
            self._remember(snapshot, account.id, held)
        newest, statement = held.keys[-1].version, held.bound.digest if held.bound is not None else ""
        found: list[bytes] = [b""] * len(refs)
        for version in {ref.data_key or newest for ref in refs}:
            places = [index for index, ref in enumerate(refs) if (ref.data_key or newest) == version]
            wanted = tuple(refs[index] for index in places)
            one = next((one for one in held.keys if one.version == version), None)
            if one is None:
                raise Fault(FaultKind.NOT_FOUND, "The data key that this is kept under has been destroyed.")
            derived = self._open_keys.derive(account.id, version, wanted, statement)
            if derived is None:
                if at_once:
                    raise NotAtOnce
                key = self._open(snapshot, account.id, one, account.customer_key, self._clock.now())
                self._open_keys.put(account.id, version, key, customer=bool(one.customer), statement=statement)
                if held.bound is not None:  # it has just been proven that the keys are bound to it
                    self._floors.set_statement(held.bound.statement.account_guid, held.bound.floor(held.keys))
                derived = self._open_keys.derive(account.id, version, wanted, statement)
            if (
                derived is None
            ):  # wiped in between: the lease is shorter than this took, or somebody has sealed the platform
                raise Fault(FaultKind.UNAVAILABLE, "The data key is not open any more.", retry_after_s=1)
            for index, value in zip(places, derived, strict=True):
                found[index] = value
        return found, newest

    def new(self, snapshot: Snapshot, owner_id: str, binding: Binding | None) -> WrappedDataKey:
        """Return a new data key, wrapped."""
        return self._new(snapshot, owner_id, customer_key(binding) if binding is not None else None, "")

    def to_bind(self, account_id: str) -> tuple[Document, tuple[WrappedDataKey, ...], Bound | None]:
        """Return an account's document, its data keys and its statement, for whoever binds them to another one and checks them."""
        document = self._document(account_id)
        try:
            current = statement_in(document)
        except Fault:
            current = None
        return document, data_keys_of(document.private), current

    def bind(
        self, snapshot: Snapshot, account: AccountPolicy, keys: tuple[WrappedDataKey, ...], to: Bound
    ) -> tuple[WrappedDataKey, ...]:
        """Return an account's data keys wrapped along with a statement, and a new one, last."""
        now, key = self._clock.now(), account.customer_key
        wrapped = [self._wrap_anew(snapshot, account.id, one, key, key, to.digest, now) for one in keys]
        found = (*wrapped, self._new(snapshot, account.id, key, to.digest))
        self._made.note(account.id, to.statement.account_guid, to.floor(found))
        return found

    def confirm(self) -> None:
        """Look for statements that data keys were bound to here, and that management has stored since."""
        for account_id in self._made.waiting():
            try:
                self._read(account_id)
            except Fault:
                continue  # changed by somebody; whoever asks for its content will be told

    def _new(self, snapshot: Snapshot, owner_id: str, by: CustomerKey | None, statement: str) -> WrappedDataKey:
        now, version, key = self._clock.now(), new_version(), bytearray(self._random(KEY_BYTES))
        try:
            inner, platform = self.platform.wrap(owner_id, version, key, statement)
        finally:
            wipe(key)
        bare = WrappedDataKey(version, now, inner, platform, statement=statement)
        return self._wrap_outer(snapshot, bare, by, now)

    def wrap_anew(
        self,
        snapshot: Snapshot,
        owner_id: str,
        held: WrappedDataKey,
        before: Binding | None,
        after: Binding | None,
    ) -> WrappedDataKey:
        """Return the same data key wrapped as `after` says, bound to the same statement as before."""
        now = self._clock.now()
        left, taken = (customer_key(one) if one is not None else None for one in (before, after))
        return self._wrap_anew(snapshot, owner_id, held, left, taken, held.statement, now)

    def _wrap_anew(
        self,
        snapshot: Snapshot,
        owner_id: str,
        held: WrappedDataKey,
        before: CustomerKey | None,
        after: CustomerKey | None,
        statement: str,
        now: float,
    ) -> WrappedDataKey:
        key = self._open(snapshot, owner_id, held, before, now)
        try:
            inner, platform = self.platform.wrap(owner_id, held.version, key, statement)
        finally:
            wipe(key)
        bare = WrappedDataKey(held.version, held.created_at, inner, platform, statement=statement)
        return self._wrap_outer(snapshot, bare, after, now)

    def _open(
        self, snapshot: Snapshot, owner_id: str, held: WrappedDataKey, key: CustomerKey | None, now: float
    ) -> bytearray:
        inner = held.wrapped
        if held.customer:
            if key is None:
                raise Fault(
                    FaultKind.CUSTOMER_KEY_UNAVAILABLE,
                    "The data is kept under a customer-managed key, and the resource names none.",
                    details={"problem": "IdentityMissing"},
                )
            inner = self._customers.unwrap(snapshot, owner_id, key, held.customer, held.wrapped, now)
        return self.platform.unwrap(owner_id, held.version, inner, held.platform, held.statement)

    def _wrap_outer(
        self, snapshot: Snapshot, inner: WrappedDataKey, by: CustomerKey | None, now: float
    ) -> WrappedDataKey:
        if by is None:
            return inner
        wrapped, customer = self._customers.wrap(snapshot, by, inner.wrapped, now)
        return msgspec.structs.replace(inner, wrapped=wrapped, customer=customer)

    def _read(self, account_id: str) -> Held:
        document = self._document(account_id)
        held = Held(data_keys_of(document.private), statement_in(document))
        if held.bound is not None:
            self._made.seen(account_id, held.bound)
        check_bound(held.keys, held.bound, internal_id(document), self._floors)
        return held

    def _document(self, account_id: str) -> Document:
        with self._database.read() as reader:
            document = reader.get(account_id)
        if document is None:
            raise Fault(FaultKind.NOT_FOUND, "There is no such resource.")
        return document

    def _remember(self, snapshot: Snapshot, account_id: str, held: Held) -> None:
        with self._lock:
            self._held[account_id] = (snapshot.generation, held)
            while len(self._held) > KEPT_ACCOUNTS:
                self._held.popitem(last=False)

    def _first(self, snapshot: Snapshot, account: AccountPolicy) -> tuple[WrappedDataKey, ...]:
        if account.customer_key is not None:
            raise Fault(FaultKind.UNAVAILABLE, "The resource has no data key.")
        with self._notes.doing("dataKeys/create", account.id, binding_shown(None, None)):
            made = self.new(snapshot, account.id, None)
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
