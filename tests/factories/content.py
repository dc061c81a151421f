"""What accounts keep, in memory: the protocol of `content/item.py` without keys, store or database."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stockade.content.item import Item, Kind, Order
from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import Fault, FaultKind

CHUNK = 64 * 1024


@dataclass
class Opened:
    """One opening: by whom, with what."""

    account_id: str
    evidence: Evidence
    data_action: str
    asked_by: str


@dataclass
class KeptInMemory:
    """Every account's things. `failure` is what everything raises while it is set; `breaks_after`: so many bytes are read before it does."""

    now: Callable[[], float]
    items: dict[tuple[str, Kind, str], tuple[Item, bytes]] = field(default_factory=dict)
    opened: list[Opened] = field(default_factory=list)
    failure: Fault | None = None
    breaks_after: int | None = None

    def of(self, account_id: str, evidence: Evidence, data_action: str, asked_by: str) -> AccountInMemory:
        self.opened.append(Opened(account_id, evidence, data_action, asked_by))
        return AccountInMemory(self, account_id)

    def ids(self, kind: Kind) -> list[str]:
        return [item_id for _, of_kind, item_id in self.items if of_kind == kind]


class AccountInMemory:
    """One account's."""

    def __init__(self, kept: KeptInMemory, account_id: str) -> None:
        self._kept, self._account = kept, account_id

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
        self._answering()
        data = b"".join([chunk async for chunk in body]) if body is not None else b""
        self._answering()
        if (self._account, kind, item_id) in self._kept.items:
            raise Fault(FaultKind.CONFLICT, "There is one already.")
        now = self._kept.now()
        item = Item(
            self._account,
            kind,
            item_id,
            secrets.token_hex(16),
            "",
            status,
            len(data),
            now,
            now,
            expires_at,
            dict(metadata),
        )
        self._kept.items[self._account, kind, item_id] = (item, data)
        return item

    async def get(self, kind: Kind, item_id: str) -> Item:
        self._answering()
        found = self._kept.items.get((self._account, kind, item_id))
        if found is None or not self._lasts(found[0]):
            raise Fault(FaultKind.NOT_FOUND, "There is no such thing.")
        return found[0]

    async def find(
        self,
        kind: Kind,
        *,
        after: str | None = None,
        limit: int = 100,
        order: Order = "desc",
        statuses: Sequence[str] = (),
    ) -> list[Item]:
        self._answering()
        found = [
            item
            for (account, of_kind, _), (item, _) in self._kept.items.items()
            if (account, of_kind) == (self._account, kind) and self._lasts(item)
        ]
        if order == "desc":
            found.reverse()
        if after is not None:
            ids = [item.id for item in found]
            if after not in ids:
                raise Fault(FaultKind.INVALID, f"There is no '{after}' to go on after.", target="after")
            found = found[ids.index(after) + 1 :]
        return [item for item in found if not statuses or item.status in statuses][:limit]

    async def read(self, item: Item, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        self._answering()
        data = self._kept.items[self._account, item.kind, item.id][1][start:end]
        for at in range(0, len(data), CHUNK):
            if self._kept.breaks_after is not None and at >= self._kept.breaks_after:
                raise self._kept.failure or Fault(FaultKind.UNAVAILABLE, "The key broker does not answer.")
            yield data[at : at + CHUNK]

    async def update(
        self,
        item: Item,
        *,
        metadata: Mapping[str, Any] | None = None,
        status: str | None = None,
        expires_at: float | None = None,
    ) -> Item:
        self._answering()
        found, data = self._kept.items[self._account, item.kind, item.id]
        if found.version != item.version:
            raise Fault(FaultKind.CONFLICT, "It was changed meanwhile.")
        changed = replace(
            found,
            version=secrets.token_hex(16),
            updated_at=self._kept.now(),
            metadata=dict(metadata) if metadata is not None else found.metadata,
            status=status if status is not None else found.status,
            expires_at=expires_at if expires_at is not None else found.expires_at,
        )
        self._kept.items[self._account, item.kind, item.id] = (changed, data)
        return changed

    async def delete(self, item: Item) -> None:
        self._answering()
        self._kept.items.pop((self._account, item.kind, item.id), None)

    def _lasts(self, item: Item) -> bool:
        return item.expires_at is None or item.expires_at > self._kept.now()

    def _answering(self) -> None:
        if self._kept.failure is not None and self._kept.breaks_after is None:
            raise self._kept.failure
