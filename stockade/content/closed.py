"""An account whose storage is turned off: there is no way to write, whatever a service tries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from stockade.content.item import AccountContent, Item, Kind, Order
from stockade.kernel.faults import Fault, FaultKind


def storage_off() -> Fault:
    """Return what says that the account keeps nothing."""
    message = "This resource keeps no content: its property 'properties.stockade.content.store' is 'off'."
    return Fault(FaultKind.UNSUPPORTED, message, code="ContentStorageDisabled")


class KeepsNothing:
    """What an account has kept before its storage was turned off: to be read and removed, and nothing is added."""

    def __init__(self, content: AccountContent) -> None:
        self._content = content

    async def create(
        self,
        kind: Kind,
        item_id: str,
        metadata: Mapping[str, Any],
        body: AsyncIterator[bytes] | None = None,
        *,
        status: str = "",
        expires_at: float | None = None,
    ) -> Item:
        raise storage_off()

    async def get(self, kind: Kind, item_id: str) -> Item:
        return await self._content.get(kind, item_id)

    async def find(
        self,
        kind: Kind,
        *,
        after: str | None = None,
        limit: int = 100,
        order: Order = "desc",
        statuses: Sequence[str] = (),
    ) -> list[Item]:
        return await self._content.find(kind, after=after, limit=limit, order=order, statuses=statuses)

    def read(self, item: Item, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        return self._content.read(item, start, end)

    async def update(
        self,
        item: Item,
        *,
        metadata: Mapping[str, Any] | None = None,
        status: str | None = None,
        expires_at: float | None = None,
    ) -> Item:
        raise storage_off()

    async def delete(self, item: Item) -> None:
        await self._content.delete(item)
