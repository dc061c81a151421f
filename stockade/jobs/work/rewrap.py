"""Wraps data keys anew after a rotation: those under an older version of a customer's key that is followed, or of the platform's key.

A piece is one account's or scope's keys as they are wrapped now, and what they are to be wrapped with. The data keys stay what they are, so no
content is touched; the wrappings of one document change together or not at all, and what somebody else has changed meanwhile is left to the next
look. While the customer's key does not serve nothing is due: it could not be opened. The key broker records each wrapping.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import ClassVar

from stockade.jobs.job import Run, Workplace
from stockade.kernel.faults import Fault, FaultKind
from stockade.management.cognitive_services.data_keys import is_behind, rewrapped, serving, store
from stockade.policy.customer_key import unavailable
from stockade.policy.snapshot import AccountPolicy, CustomerKey, DataKeysPolicy, EncryptionScopePolicy, Snapshot


class Rewrap:
    """Data keys that are behind."""

    name: ClassVar[str] = "rewrap"
    every_s: ClassVar[float] = 60.0
    on_change: ClassVar[bool] = True

    def due(self, place: Workplace) -> Iterable[str]:
        snapshot, platform, now = place.snapshot(), place.broker.status().platform_key, place.clock.now()
        for owner_id in snapshot.keys("data-keys"):
            found = _behind(snapshot, str(owner_id), platform, now)
            if found:
                yield f"{owner_id}|{found}"

    async def do(self, place: Workplace, run: Run) -> None:
        owner_id, _, wanted = run.piece.rpartition("|")
        try:
            await asyncio.to_thread(_rewrap, place, owner_id, wanted)
        except Fault as fault:
            if fault.kind is not FaultKind.CUSTOMER_KEY_UNAVAILABLE:
                raise
            raise Fault(FaultKind.UNAVAILABLE, fault.message) from fault  # it may come back, and then this is due still


def _behind(snapshot: Snapshot, owner_id: str, platform: str, now: float) -> str:
    """Return what tells this piece from every other; "" when nothing is behind, or nothing can be done about it now."""
    held: DataKeysPolicy | None = snapshot.only("data-keys", owner_id)
    if held is None:
        return ""
    key = _customer_key(snapshot, owner_id)
    newest = serving(snapshot, owner_id, key, now)
    if not any(is_behind(one, newest, platform) for one in held.keys):
        return ""
    if key is not None and unavailable(snapshot, owner_id, key, now) is not None:
        return ""
    described = "|".join((newest, platform, *_wrappings(held)))
    return sha256(described.encode()).hexdigest()[:16]


def _wrappings(held: DataKeysPolicy) -> Iterator[str]:
    return (one.wrapping for one in held.keys)


def _customer_key(snapshot: Snapshot, owner_id: str) -> CustomerKey | None:
    scope: EncryptionScopePolicy | None = snapshot.only("encryption-scope", owner_id)
    if scope is not None:
        return scope.customer_key
    account: AccountPolicy | None = snapshot.only("account", owner_id)
    return account.customer_key if account is not None else None


def _rewrap(place: Workplace, owner_id: str, wanted: str) -> None:
    snapshot, platform, now = place.snapshot(), place.broker.status().platform_key, place.clock.now()
    if _behind(snapshot, owner_id, platform, now) != wanted:
        return  # done already, or another piece by now
    with place.database.read() as reader:
        document = reader.get(owner_id)
    if document is None:
        return
    made = rewrapped(place.broker, document, _customer_key(snapshot, owner_id))
    with place.database.write() as writer:
        current = writer.get(owner_id)
        if current is None or current.etag != document.etag:
            return  # bound to another key meanwhile, say, or wrapped by somebody else; what is still due is found again
        store(writer, current, made, now)


PLUGIN = Rewrap()
