"""What an account keeps, opened for one call: with what its caller presented, and with no way to write where the account keeps nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from stockade.content.item import AccountContent, Item, Kind, Order
from stockade.gateway.credential import Presented
from stockade.kernel.evidence import CallerKey, CallerToken, Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import Credential, KeyCredential
from stockade.kernel.secret import Secret
from stockade.services.service import Call

OpenContent: TypeAlias = Callable[[str, Evidence, str, str], AccountContent]
"""From account id, evidence, data action and who asks to what the account keeps (`content/`'s factory)."""


def evidence(presented: Presented, credential: Credential | None) -> Evidence:
    """Return what a caller presented, for the key broker: the key, or the token without `aad#` and resource id."""
    if isinstance(credential, KeyCredential) and not credential.via_token:
        return CallerKey(Secret(presented.key))
    token = presented.bearer
    return CallerToken(Secret(token.rpartition("#")[2] if token.startswith("aad#") else token))


class KeptContent:
    """Gives calls of operations that keep content what they need. open_content None: this process keeps nothing."""

    def __init__(self, open_content: OpenContent | None, max_file_bytes: int) -> None:
        self._open, self.max_file_bytes = open_content, max_file_bytes

    def give(self, call: Call, presented: Presented) -> None:
        """Set `call.evidence` and `call.content`; Fault(UNAVAILABLE) where nothing is kept and the operation is about nothing else."""
        operation, account = call.operation, call.account
        if self._open is None or operation.data_action is None:
            if operation.stores == "on-request":
                return
            raise Fault(FaultKind.UNAVAILABLE, "This process of the platform keeps no content.")
        call.evidence = evidence(presented, call.credential)
        opened = self._open(account.id, call.evidence, operation.data_action, f"data-worker {operation.name}")
        call.content = opened if account.keeps_content else KeepsNothing(opened)


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
        refuse()

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
        refuse()

    async def delete(self, item: Item) -> None:
        await self._content.delete(item)


def refuse() -> NoReturn:
    """Say that the account keeps nothing."""
    message = "This resource keeps no content: its property 'properties.stockade.content.store' is 'off'."
    raise Fault(FaultKind.UNSUPPORTED, message, code="ContentStorageDisabled")
