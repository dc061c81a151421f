"""What one account keeps, for one caller: rows, bodies in an object store, and keys that the key broker lends on the caller's evidence.

Order is what makes a crash harmless. Writing: row pending, body, row live. Removing: row removing, body gone, row gone. Whoever reads sees
live rows alone, and `retention.py` sweeps up what a crash has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, ParamSpec, TypeVar

from stockade.content.format import (
    HEAD_BYTES,
    Buffer,
    DamagedError,
    Head,
    Layout,
    Sealer,
    body_bound_to,
    metadata_bound_to,
    open_metadata,
    pack_metadata,
    seal_metadata,
)
from stockade.content.item import Item, Kind, Order
from stockade.content.leases import BodyLease, Borrower, KeyLender
from stockade.content.objects import Bodies, MissingError, new_location, open_bodies
from stockade.content.rows import ContentRows, ItemRow, NewItem, Purged, Usage, Written, changed_meanwhile, full
from stockade.content.writer import this_process
from stockade.kernel.clock import Clock, SystemClock
from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.kernel.threads import BoundedThreads
from stockade.keys.broker import ObjectRef
from stockade.settings import Settings
from stockade.storage.database import Database

T = TypeVar("T")
P = ParamSpec("P")

DATABASE_THREADS: Final = 4
DATABASE_WAITING: Final = 256
WRITE_BATCH_BYTES: Final = 2 * 1024 * 1024
"""Sealed at once, on the event loop: at 5 GB/s in 0.4 ms, of which a thread would cost a third to get there and back."""
READ_BATCH: Final = 4
"""Segments, 2 MiB: fetched with one request, while the ones before are opened and given out."""
WRITE_S: Final = 12 * 3600.0
"""The longest that one body may be written; the sweeper takes it for given up after a day."""
MAX_ASKED: Final = 500
"""Keys in one question to the broker, which answers a thousand at most."""
MAX_PAGE: Final = 10_000

log = logging.getLogger(__name__)


class Contents:
    """What all accounts keep. One per process."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: KeyLender,
        *,
        clock: Clock | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        """Open the store that the settings name; ValueError when they name none that can be."""
        self.bounds = settings.content
        self.rows = ContentRows(database)
        self.bodies = bodies if bodies is not None else open_bodies(settings)
        self.clock = clock or SystemClock()
        self._broker = broker
        self._threads = BoundedThreads(DATABASE_THREADS, DATABASE_WAITING)

    def of(self, account_id: str, evidence: Evidence, data_action: str, asked_by: str) -> StoredContent:
        """Return what an account keeps, for one caller. asked_by: for the broker's record, `data-worker Files_Get`."""
        account = account_id.lower()
        return StoredContent(self, Borrower(self._broker, self.clock, account, evidence, data_action, asked_by))

    async def query(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run a statement of `rows` in a thread."""
        return await self._threads.run(functools.partial(call, *arguments, **named))

    async def usage(self, account_id: str) -> Usage:
        """Return how much an account keeps; needs no keys."""
        return await self.query(self.rows.usage, account_id.lower())

    async def discard(self, row_ordinal: int, location: str) -> None:
        """Remove an item: from its readers first, then its body, then the row. What fails of it the sweeper does later."""
        await self.query(self.rows.remove, [row_ordinal], self.clock.now())
        await self.erase(row_ordinal, location)

    async def erase(self, row_ordinal: int, location: str) -> None:
        """Remove the body and then the row of an item that is being removed; what does not answer now is left to the sweeper."""
        try:
            if location:
                await self.bodies.delete(location)
            await self.query(self.rows.forget, [row_ordinal])
        except Fault as fault:
            log.warning("content that was deleted is still in the store and will be removed later: %s", fault)

    async def purge_account(self, account_id: str) -> Purged:
        """Remove all that an account keeps, when it is gone for good; needs no keys. What the store does not remove now is swept later."""
        account = account_id.lower()
        purged = await self.query(self.rows.remove_account, account, self.clock.now())
        after = 0
        while rows := await self.query(self.rows.removing, account, after, MAX_ASKED):
            for row in rows:
                await self.erase(row.ordinal, row.location)
            after = rows[-1].ordinal
        return purged


class StoredContent:
    """`AccountContent` of one account for one caller."""

    def __init__(self, contents: Contents, borrower: Borrower) -> None:
        self._contents, self._borrower = contents, borrower
        self._account = borrower.account_id
        self._rows, self._bounds, self._now = contents.rows, contents.bounds, contents.clock.now

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
        """Keep something new; when this returns it is there whole, and before that not at all."""
        new = NewItem(self._account, kind, item_id, status, secrets.token_hex(16), expires_at, this_process())
        now = self._now()
        if body is None:
            written = await self._seal(new, metadata, Written(b"", ""), now)
            await self._contents.query(self._rows.add, new, written, now, self._bounds.max_account_bytes)
        else:
            pack_metadata(metadata)  # refused here, nothing has been touched
            written = await self._write(new, metadata, body, now)
        return Item(
            self._account, kind, item_id, new.version, written.data_key, status, written.size, now, now, expires_at, dict(metadata)
        )  # fmt: skip

    async def get(self, kind: Kind, item_id: str) -> Item:
        return (await self._opened([await self._row(kind, item_id)]))[0]

    async def find(
        self,
        kind: Kind,
        *,
        after: str | None = None,
        limit: int = 100,
        order: Order = "desc",
        statuses: Sequence[str] = (),
    ) -> list[Item]:
        """Return a page in the order of creation; its metadata is opened with one question to the broker."""
        rows = await self._contents.query(
            self._rows.page,
            self._account,
            kind,
            self._now(),
            after=after,
            limit=max(1, min(limit, MAX_PAGE)),
            order=order,
            statuses=statuses,
        )
        return await self._opened(rows)

    async def update(
        self,
        item: Item,
        *,
        metadata: Mapping[str, Any] | None = None,
        status: str | None = None,
        expires_at: float | None = None,
    ) -> Item:
        """Change what is said of an item. It gets a new version and so a new key for its metadata; its body keeps the ones it has."""
        row = await self._row(item.kind, item.id)
        if row.version != item.version:
            raise changed_meanwhile()
        if metadata is None:
            metadata = (await self._opened([row]))[0].metadata
        new = NewItem(
            self._account,
            row.kind,
            row.id,
            row.status if status is None else status,
            secrets.token_hex(16),
            row.expires_at if expires_at is None else expires_at,
            "",
        )
        kept = Written(b"", "", row.size, row.body_version, row.body_data_key)
        written = await self._seal(new, metadata, kept, row.created_at)
        now = self._now()
        await self._contents.query(
            self._rows.change,
            row,
            new.version,
            new.status,
            new.expires_at,
            written,
            now,
            self._bounds.max_account_bytes,
        )
        return Item(
            self._account, row.kind, row.id, new.version, written.data_key, new.status, row.size, row.created_at, now, new.expires_at,
            dict(metadata),
        )  # fmt: skip

    async def delete(self, item: Item) -> None:
        """Remove it; done twice is done once. Readers have lost it when this returns, even where the store does not answer."""
        row = await self._contents.query(self._rows.get, self._account, item.kind, item.id, 0.0)
        if row is not None and row.created_at == item.created_at:
            await self._contents.discard(row.ordinal, row.location)

    async def read(self, item: Item, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the body's bytes from start to before end, half a megabyte at a time."""
        row = await self._row(item.kind, item.id)
        if row.created_at != item.created_at or row.size != item.size:
            raise _not_found(item.id)
        start, end = max(0, start), row.size if end is None else min(end, row.size)
        if start >= end:
            return
        ref = ObjectRef(row.path, row.body_version, row.body_data_key)
        lease = BodyLease(self._borrower, ref, "read", body_bound_to(self._account, row.path, row.body_version))
        try:
            async for piece in self._open_range(row, lease, start, end):
                yield piece
        except MissingError:
            await self._row(item.kind, item.id)  # deleted meanwhile: then this says so
            raise _damaged(row, "its body is not in the store") from None
        except DamagedError as failure:
            raise _damaged(row, str(failure)) from None
        finally:
            lease.end()

    # Writing

    async def _write(
        self, new: NewItem, metadata: Mapping[str, Any], body: AsyncIterator[bytes], now: float
    ) -> Written:
        """Write row, body and row again, or leave nothing."""
        bound = body_bound_to(self._account, f"{new.kind}/{new.id}", new.version)
        lease = BodyLease(self._borrower, ObjectRef(f"{new.kind}/{new.id}", new.version), "write", bound, Head())
        location, query = new_location(), self._contents.query
        try:
            await lease.cipher()  # refused here, nothing has been touched
            keeps = (await self._contents.usage(self._account)).bytes
            ordinal = await query(self._rows.begin, new, location, now)
        except BaseException:
            lease.end()
            raise
        sealer = Sealer()
        try:
            await self._contents.bodies.put(location, self._sealed(body, lease, sealer, keeps))
            kept = Written(b"", "", sealer.size, new.version, lease.data_key)
            written = await self._seal(new, metadata, kept, now)
            await query(self._rows.finish, ordinal, self._account, written, self._now(), self._bounds.max_account_bytes)
        except BaseException:
            # Whether the last statement was committed may be unknown; the caller hears of a failure, so it has to be gone.
            lease.end()
            await _whatever_happens(self._contents.discard(ordinal, location))
            raise
        finally:
            lease.end()
        return written

    async def _sealed(
        self, body: AsyncIterator[bytes], lease: BodyLease, sealer: Sealer, keeps: int
    ) -> AsyncIterator[Buffer]:
        """Yield the stored form of a body."""
        assert lease.head is not None
        yield lease.head.encode()
        pieces: list[bytes] = []
        held, ends_at = 0, self._contents.clock.monotonic() + WRITE_S
        async for piece in body:
            if self._contents.clock.monotonic() > ends_at:
                raise Fault(FaultKind.TIMEOUT, "Writing it took too long.")
            pieces.append(piece)
            held += len(piece)
            if sealer.size + held > self._bounds.max_file_bytes:
                raise Fault(FaultKind.TOO_LARGE, f"It is larger than {self._bounds.max_file_bytes} bytes.")
            if keeps + sealer.size + held > self._bounds.max_account_bytes:
                raise full(self._bounds.max_account_bytes)
            if held >= WRITE_BATCH_BYTES:
                for segments in sealer.add(await lease.cipher(), pieces):
                    yield segments
                pieces, held = [], 0
        for segments in sealer.add(await lease.cipher(), pieces):
            yield segments
        yield sealer.finish(await lease.cipher())

    async def _seal(self, new: NewItem, metadata: Mapping[str, Any], kept: Written, created_at: float) -> Written:
        """Seal the metadata, bound to all that stands in clear beside it. Read only now: a body may have said some of it."""
        packed = pack_metadata(metadata)
        lent = await self._borrower.keys([ObjectRef(f"{new.kind}/{new.id}", new.version, part="metadata")], "write")
        bound = metadata_bound_to(
            self._account,
            f"{new.kind}/{new.id}",
            new.version,
            new.status,
            created_at,
            new.expires_at,
            kept.size,
            kept.body_version,
        )
        return kept._replace(sealed=seal_metadata(lent.keys[0], bound, packed), data_key=lent.data_key)

    # Reading

    async def _row(self, kind: Kind, item_id: str) -> ItemRow:
        row = await self._contents.query(self._rows.get, self._account, kind, item_id, self._now())
        if row is None:
            raise _not_found(item_id)
        return row

    async def _opened(self, rows: Sequence[ItemRow]) -> list[Item]:
        found: list[Item] = []
        for start in range(0, len(rows), MAX_ASKED):
            some = rows[start : start + MAX_ASKED]
            refs = [ObjectRef(row.path, row.version, row.data_key, "metadata") for row in some]
            lent = await self._borrower.keys(refs, "read")
            found += [_item(row, key) for row, key in zip(some, lent.keys, strict=True)]
        return found

    async def _open_range(self, row: ItemRow, lease: BodyLease, start: int, end: int) -> AsyncIterator[bytes]:
        layout = Layout(row.size)
        number, final = layout.segment_at(start), layout.segment_at(end - 1)
        fetch = self._contents.bodies.get

        def batch(first: int) -> asyncio.Task[memoryview]:
            place = 0 if first == 0 else layout.stored_at(first)[0]
            until = layout.stored_at(min(first + READ_BATCH - 1, final))[1]
            return asyncio.create_task(fetch(row.location, place, until, layout.stored))

        head = None if number == 0 else await fetch(row.location, 0, HEAD_BYTES, layout.stored)
        coming: asyncio.Task[memoryview] | None = batch(number)
        try:
            while coming is not None:
                stored = await coming
                following = number + READ_BATCH
                coming = batch(following) if following <= final else None
                if lease.head is None:
                    lease.head = Head.decode(stored if head is None else head)
                stored = stored[HEAD_BYTES:] if number == 0 else stored
                until = min(following - 1, final)
                for piece in layout.open(await lease.cipher(), number, until, stored):
                    at = layout.starts_at(number)
                    yield piece if start <= at and at + len(piece) <= end else piece[max(0, start - at) : end - at]
                    number += 1
        finally:
            if coming is not None:
                coming.add_done_callback(lambda done: done.cancelled() or done.exception())
                coming.cancel()


def _item(row: ItemRow, key: Secret) -> Item:
    bound = metadata_bound_to(
        row.account, row.path, row.version, row.status, row.created_at, row.expires_at, row.size, row.body_version
    )
    try:
        metadata = open_metadata(key, bound, row.sealed)
    except DamagedError as failure:
        raise _damaged(row, str(failure)) from None
    return Item(
        row.account, row.kind, row.id, row.version, row.data_key, row.status, row.size, row.created_at, row.updated_at, row.expires_at,
        metadata,
    )  # fmt: skip


def _not_found(item_id: str) -> Fault:
    return Fault(FaultKind.NOT_FOUND, f"There is no '{item_id}'.")


def _damaged(row: ItemRow, why: str) -> Fault:
    """Return what a caller hears; what is wrong is for the operator."""
    log.error("stored content is damaged and not given out: %s of %s: %s", row.path, row.account, why)
    return Fault(FaultKind.INTERNAL, "What is stored is damaged, and is not given out.")


_cleaning: set[asyncio.Task[None]] = set()


async def _whatever_happens(cleanup: Coroutine[Any, Any, None]) -> None:
    """Clean up, also when the caller is cancelled meanwhile; a failure is for the log, and the rest for the sweeper."""

    def done(task: asyncio.Task[None]) -> None:
        _cleaning.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.warning("content that was given up will be removed later: %s", failure)

    task = asyncio.create_task(cleanup)
    _cleaning.add(task)
    task.add_done_callback(done)
    with contextlib.suppress(Fault):
        await asyncio.shield(task)
