"""One thing that an account keeps, and the shape of everything that keeps such things."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal["files", "batches", "responses", "completions"]
Order: TypeAlias = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class Item:
    """A kept thing. What stands here in clear is what an operator may see without a key: ids, sizes, times, status.

    id:       as callers know it (`file-4f...`); unique within account and kind.
    version:  32 hex digits, new with every change of its metadata or body; an update names the one it read.
    status:   of jobs: where they stand (`validating`, `in_progress`, ...).
    size:     bytes of the body, 0 without one.
    metadata: everything else, names included; opened with the account's key, empty where it was not asked for.
    """

    account_id: str
    kind: Kind
    id: str
    version: str
    data_key: str
    status: str
    size: int
    created_at: float
    updated_at: float
    expires_at: float | None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """What keys are bound to."""
        return f"{self.kind}/{self.id}"


class AccountContent(Protocol):
    """What one account keeps, for one caller: every access shows the key broker the caller's evidence.

    Fault(NOT_FOUND) for what is not there (expired things are not), Fault(CONFLICT) for an update of an older version, Fault(LIMIT) above the
    account's share, Fault(CUSTOMER_KEY_UNAVAILABLE) and Fault(PERMISSION_DENIED) as the broker says, Fault(UNAVAILABLE) when the store does
    not answer. Iterators of bytes raise the same in the middle, when a lease is not renewed.
    """

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
        """Keep something new; when this returns it is there whole, and before that not at all.

        metadata is read when the body has been taken to its end: what a form says after its file may still be put there meanwhile.
        """
        ...

    async def get(self, kind: Kind, item_id: str) -> Item: ...

    async def find(
        self,
        kind: Kind,
        *,
        after: str | None = None,
        limit: int = 100,
        order: Order = "desc",
        statuses: Sequence[str] = (),
    ) -> list[Item]:
        """Return a page by time of creation. after: the id of the last one of the page before; Fault(INVALID) when there is none such."""
        ...

    def read(self, item: Item, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Return the body's bytes from start to before end, in pieces; touches no more of the store than the chunks they lie in."""
        ...

    async def update(
        self,
        item: Item,
        *,
        metadata: Mapping[str, Any] | None = None,
        status: str | None = None,
        expires_at: float | None = None,
    ) -> Item:
        """Change what is said of an item, not its body; None keeps. Nobody may have changed it since it was read."""
        ...

    async def delete(self, item: Item) -> None:
        """Remove it; done twice is done once."""
        ...
