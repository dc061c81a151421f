"""Keys on loan: asked of the key broker on the caller's evidence, used for as long as they are lent, let go of, and asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from stockade.content.format import Head, SegmentCipher
from stockade.kernel.clock import Clock
from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.broker import Access, ObjectKeys, ObjectRef


class KeyLender(Protocol):
    """What of the key broker is needed here."""

    async def object_keys(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ObjectKeys: ...


@dataclass(frozen=True, slots=True)
class Borrower:
    """One caller, for whom keys are asked."""

    broker: KeyLender
    clock: Clock
    account_id: str
    evidence: Evidence
    data_action: str
    asked_by: str

    async def keys(self, objects: Sequence[ObjectRef], access: Access) -> ObjectKeys:
        """Return a key for each object, to be used at once. Faults as the broker raises them."""
        return (await self.lend(objects, access))[0]

    async def lend(self, objects: Sequence[ObjectRef], access: Access) -> tuple[ObjectKeys, float]:
        """Return keys, and until when they may be used, in monotonic seconds: the lease counts from before the question."""
        asked = self.clock.monotonic()
        lent = await self.broker.object_keys(
            self.account_id, objects, access, self.data_action, self.evidence, self.asked_by
        )
        until = asked + lent.lease_s
        if len(lent.keys) != len(objects) or self.clock.monotonic() >= until:
            raise Fault(FaultKind.UNAVAILABLE, "The key broker was too slow to lend a key.", retry_after_s=1)
        return lent, until


class BodyLease:
    """The key of one body, lent as often as it takes. `end` it whatever happens."""

    def __init__(
        self, borrower: Borrower, ref: ObjectRef, access: Access, bound: bytes, head: Head | None = None
    ) -> None:
        self._borrower, self._ref, self._access, self._bound = borrower, ref, access, bound
        self.head = head
        self._cipher: SegmentCipher | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def data_key(self) -> str:
        """The version of the account's data key that the body is under; "" before it was lent first."""
        return self._ref.data_key

    async def cipher(self) -> SegmentCipher:
        """Return the cipher for the next few segments, having asked again where the lease has ended."""
        if self._cipher is not None and self._borrower.clock.monotonic() < self._until:
            return self._cipher
        self.end()
        lent, self._until = await self._borrower.lend([self._ref], self._access)
        if not self._ref.data_key:
            self._ref = msgspec.structs.replace(self._ref, data_key=lent.data_key)
        assert self.head is not None
        cipher = self._cipher = SegmentCipher(lent.keys[0], self.head, self._bound)
        # Whoever waits for a slow caller meanwhile does not hold the key any longer.
        left_s = self._until - self._borrower.clock.monotonic()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, left_s), self.end)
        return cipher

    def end(self) -> None:
        """Let go of the key."""
        self._cipher = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
