"""An account's data keys: made, read from its document, opened through both wrappings, and objects' keys derived from them.

An instance lives for as long as the platform is unsealed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final

from stockade.broker.at_once import NotAtOnce
from stockade.broker.customer_keys import CustomerKeys, customer_key
from stockade.broker.data_keys import KEY_BYTES, OpenDataKeys, PlatformWrapping, new_version
from stockade.broker.framing import wipe
from stockade.broker.recording import Notes, binding_shown
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.broker import Binding, ObjectRef, WrappedDataKey
from stockade.keys.stored import DATA_KEYS, data_keys_form, data_keys_of
from stockade.policy.snapshot import AccountPolicy, CustomerKey, Snapshot
from stockade.storage.database import Database

KEPT_ACCOUNTS: Final = 8192
"""Accounts whose wrapped data keys are remembered for as long as policy does not change."""


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
    ) -> None:
        self._clock, self._database, self._open_keys, self._notes = clock, database, open_keys, notes
        self.platform, self._customers, self._random = platform, customers, random
        self._wrapped: OrderedDict[str, tuple[int, tuple[WrappedDataKey, ...]]] = OrderedDict()
        self._lock = Lock()

    def object_keys(
        self, snapshot: Snapshot, account: AccountPolicy, refs: tuple[ObjectRef, ...], *, at_once: bool = False
    ) -> tuple[list[bytes], str]:
        """Return objects' keys, in order, and the version of the newest data key.

        Fault(CUSTOMER_KEY_UNAVAILABLE) when the customer's key does not serve, Fault(NOT_FOUND) for a data key that has been destroyed.
        at_once: NotAtOnce when a document would have to be read or a data key be opened.
        """
        held = self._known(snapshot, account)
        if held is None:
            if at_once:
                raise NotAtOnce
            held = self._data_keys(snapshot, account)
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
                if at_once:
                    raise NotAtOnce
                key = self._open(snapshot, account.id, one, account.customer_key, self._clock.now())
                self._open_keys.put(account.id, version, key, customer=bool(one.customer))
                derived = self._open_keys.derive(account.id, version, wanted)
            if (
                derived is None
            ):  # wiped in between: the lease is shorter than this took, or somebody has sealed the platform
                raise Fault(FaultKind.UNAVAILABLE, "The data key is not open any more.", retry_after_s=1)
            for index, value in zip(places, derived, strict=True):
                found[index] = value
        return found, newest

    def new(self, snapshot: Snapshot, owner_id: str, binding: Binding | None) -> WrappedDataKey:
        """Return a new data key, wrapped."""
        now, version, key = self._clock.now(), new_version(), bytearray(self._random(KEY_BYTES))
        try:
            inner, platform = self.platform.wrap(owner_id, version, key)
        finally:
            wipe(key)
        return self._wrap_outer(snapshot, WrappedDataKey(version, now, inner, platform), binding, now)

    def wrap_anew(
        self,
        snapshot: Snapshot,
        owner_id: str,
        held: WrappedDataKey,
        before: Binding | None,
        after: Binding | None,
    ) -> WrappedDataKey:
        """Return the same data key wrapped as `after` says."""
        now, bound = self._clock.now(), customer_key(before) if before is not None else None
        key = self._open(snapshot, owner_id, held, bound, now)
        try:
            inner, platform = self.platform.wrap(owner_id, held.version, key)
        finally:
            wipe(key)
        bare = WrappedDataKey(held.version, held.created_at, inner, platform)
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
        return self.platform.unwrap(owner_id, held.version, inner, held.platform)

    def _wrap_outer(
        self, snapshot: Snapshot, inner: WrappedDataKey, binding: Binding | None, now: float
    ) -> WrappedDataKey:
        if binding is None:
            return inner
        wrapped, customer = self._customers.wrap(snapshot, customer_key(binding), inner.wrapped, now)
        return WrappedDataKey(inner.version, inner.created_at, wrapped, inner.platform, customer)

    def _known(self, snapshot: Snapshot, account: AccountPolicy) -> tuple[WrappedDataKey, ...] | None:
        with self._lock:
            known = self._wrapped.get(account.id)
            if known is None or known[0] != snapshot.generation:
                return None
            self._wrapped.move_to_end(account.id)
            return known[1]

    def _data_keys(self, snapshot: Snapshot, account: AccountPolicy) -> tuple[WrappedDataKey, ...]:
        """Return an account's data keys as its document has them. An account from before there were any is given its first one."""
        with self._database.read() as reader:
            document = reader.get(account.id)
        if document is None:
            raise Fault(FaultKind.NOT_FOUND, "There is no such resource.")
        held = data_keys_of(document.private) or self._first(snapshot, account)
        with self._lock:
            self._wrapped[account.id] = (snapshot.generation, held)
            while len(self._wrapped) > KEPT_ACCOUNTS:
                self._wrapped.popitem(last=False)
        return held

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
