"""Signed receipts, for callers who ask with `x-stockade-receipt: 1`: what was asked, decided, answered, and whether anything was stored.

Whole replies and refusals carry theirs in a header of the same name. A stream of events, whose end is not known when its head is sent, ends
with it, as a comment (`: x-stockade-receipt: ...`). The request's record has it too, sealed: the log shows nobody the hash of a request.
Whoever does not ask pays for one comparison.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol

from stockade.content.item import AccountContent, Item, Kind, Order
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.request_receipts import MAX_STORED, Receipt, bound_to, request_hash
from stockade.keys.root import RootKey
from stockade.services.service import Call

if TYPE_CHECKING:
    from stockade.gateway.exchange import Exchange

HEADER: Final = "x-stockade-receipt"
MAX_PATH: Final = 2048
MAX_METHOD: Final = 32

log = logging.getLogger(__name__)


class SignsReceipts(Protocol):
    """The key broker, as far as it is needed here."""

    async def sign_receipt(self, receipt: Receipt) -> str: ...


class Draft:
    """What a request's receipt will say, as it comes to be known. `Exchange.receipt`, where one was asked for."""

    def __init__(self) -> None:
        self._digest = sha256()
        self._whole = False
        self._stored: list[str] = []
        self.signed = ""
        """The receipt; "" until there is one."""
        self.sealed = ""
        """The same, for the record."""

    def took(self, body: bytes) -> None:
        """Note a body that was read whole."""
        self._digest.update(body)
        self._whole = True

    async def pieces(self, source: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Pass on a body that is read piece by piece."""
        try:
            async for piece in source:
                self._digest.update(piece)
                yield piece
            self._whole = True
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    def watch(self, call: Call) -> None:
        """See to it that whatever a call keeps is told of. A call that is given no content has no way to keep any."""
        if call.content is not None:
            call.content = _Watched(call.content, self)
        opens = call.opens
        if opens is not None:

            def opened() -> None:
                opens()
                if call.content is not None:
                    call.content = _Watched(call.content, self)

            call.opens = opened

    def require_open(self) -> None:
        """Raise Fault(INTERNAL) behind a receipt that says what was kept."""
        if self.signed:
            raise Fault(FaultKind.INTERNAL, "Content was to be kept after the receipt had been signed.")

    def kept(self, path: str) -> None:
        """Note content that is kept."""
        if path not in self._stored and len(self._stored) < MAX_STORED:
            self._stored.append(path)

    @property
    def body(self) -> tuple[bytes, bool]:
        """Return the body's digest, and whether it was read; of nothing where it was not, or not to its end."""
        return (self._digest.digest() if self._whole else sha256().digest()), self._whole

    @property
    def stored(self) -> tuple[str, ...]:
        return tuple(self._stored)


class Receipts:
    """Has receipts signed. issuer: ARM's address, where the key is published. keys: seals what goes into records."""

    def __init__(self, broker: SignsReceipts, keys: RootKey, issuer: str, clock: Clock) -> None:
        self._broker, self._keys, self._issuer, self._clock = broker, keys, issuer, clock

    async def header(self, exchange: Exchange, status: int, outcome: str) -> list[tuple[str, str]]:
        """Return the receipt as a header of a reply; none where none was asked for, or the key broker does not answer."""
        signed = await self.signed(exchange, status, outcome)
        return [(HEADER, signed)] if signed else []

    async def comment(self, exchange: Exchange) -> bytes:
        """Return the receipt as the end of a stream of events that have been sent."""
        signed = await self.signed(exchange, exchange.status, exchange.outcome)
        return f": {HEADER}: {signed}\n\n".encode() if signed else b""

    async def signed(self, exchange: Exchange, status: int, outcome: str) -> str:
        """Return the receipt; "" where none was asked for, or the key broker does not answer: the reply is worth more than its receipt."""
        draft, snapshot = exchange.receipt, exchange.snapshot
        if draft is None:
            return ""
        body, whole = draft.body
        scope = exchange.scope
        receipt = Receipt(
            iss=self._issuer,
            iat=int(self._clock.now()),
            jti=exchange.id,
            method=exchange.method[:MAX_METHOD],
            path=scope.path[:MAX_PATH],
            request=request_hash(exchange.method, scope.path, scope.query_string, body),
            body=whole,
            status=status,
            outcome=outcome,
            account=exchange.account.arm_id if exchange.account is not None else "",
            policy=snapshot.generation if snapshot is not None else 0,
            stored=draft.stored or "none",
        )
        try:
            draft.signed = await self._broker.sign_receipt(receipt)
            sealed = self._keys.seal(Secret(draft.signed), bound_to(exchange.id))
            draft.sealed = base64.b64encode(sealed).decode()
        except Fault as fault:
            log.warning("a receipt could not be signed: %s", fault.message, extra={"request": exchange.id})
        return draft.signed


class _Watched:
    """`AccountContent` that tells a draft of everything that is kept. What fails leaves nothing, as `AccountContent` promises."""

    def __init__(self, content: AccountContent, draft: Draft) -> None:
        self._content, self._draft = content, draft

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
        self._draft.require_open()
        item = await self._content.create(kind, item_id, metadata, body, status=status, expires_at=expires_at)
        self._draft.kept(item.path)
        return item

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
        self._draft.require_open()
        changed = await self._content.update(item, metadata=metadata, status=status, expires_at=expires_at)
        self._draft.kept(changed.path)
        return changed

    async def delete(self, item: Item) -> None:
        await self._content.delete(item)
