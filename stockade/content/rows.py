"""The rows of what accounts keep: what an operator sees without a key, sealed metadata, and the state that makes a crash harmless.

    pending   being written; the row stands before the first byte of the body is in the store, so that nothing lies there unnoticed
    live      there, and whole; the one statement that makes it so also counts it of the account's share
    removing  gone for readers; the body is still to be removed from the store, then the row

Synchronous like everything on the database (decision 0002); `account_content.py` calls it in threads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from sqlalchemy import Connection, Row, delete, false, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from stockade.content.item import Kind, Order
from stockade.content.writer import has_ended, here
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.database import Database
from stockade.storage.tables import content_items as items
from stockade.storage.tables import content_usage as usage

State: TypeAlias = Literal["pending", "live", "removing"]
ROW_BYTES: Final = 1024
"""What a row counts of its account's share, beside body and metadata; so their number is bounded too."""
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")
_LAST: Final = 2**62
PENDING_S: Final = 24 * 3600.0
"""After so long nobody is still writing it: a writing process gives up long before (`account_content.WRITE_S`)."""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """A row as it is stored; `storage/tables.py` says what the columns are."""

    ordinal: int
    account: str
    kind: Kind
    id: str
    state: State
    status: str
    size: int
    charged: int
    created_at: float
    updated_at: float
    expires_at: float | None
    version: str
    data_key: str
    sealed: bytes
    location: str
    body_version: str
    body_data_key: str
    writer: str

    @property
    def path(self) -> str:
        return f"{self.kind}/{self.id}"


class NewItem(NamedTuple):
    """What is known of an item when its writing begins."""

    account: str
    kind: Kind
    id: str
    status: str
    version: str
    expires_at: float | None
    writer: str


class Written(NamedTuple):
    """What is known when all of it is written. body_version, body_data_key: "" without a body."""

    sealed: bytes
    data_key: str
    size: int = 0
    body_version: str = ""
    body_data_key: str = ""

    @property
    def charged(self) -> int:
        return self.size + len(self.sealed) + ROW_BYTES


class Usage(NamedTuple):
    """What an account keeps: bytes as they are counted, bodies, metadata and rows together."""

    bytes: int
    items: int


class Purged(NamedTuple):
    """What was made unreadable with its account. size: bytes of the bodies, as their owner knows them."""

    items: int
    size: int


class ContentRows:
    """All statements on the two tables. Fault(UNAVAILABLE) when the database cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = sqlite.insert if database.is_sqlite else postgresql.insert

    # Writing

    def begin(self, new: NewItem, location: str, now: float) -> int:
        """Note that a body will be written, and where; return the row's ordinal. Fault(CONFLICT) for an id that is taken."""
        with self._database.bookkeeping() as connection:
            return self._add(connection, new, "pending", location, Written(b"", ""), now)

    def finish(self, ordinal: int, account: str, written: Written, now: float, share: int) -> None:
        """Make a pending item live, all at once.

        Fault(LIMIT) above the account's share; Fault(UNAVAILABLE) when somebody has given the item up meanwhile, its account purged, say.
        """
        with self._database.bookkeeping() as connection:
            changed = connection.execute(
                update(items)
                .where(items.c.ordinal == ordinal, items.c.state == "pending")
                .values(state="live", writer="", updated_at=now, **_columns(written))
            )
            if changed.rowcount != 1:
                raise Fault(FaultKind.UNAVAILABLE, "Writing it took too long, and it was given up.", retry_after_s=1)
            self._charge(connection, account, written.charged, 1, share)

    def add(self, new: NewItem, written: Written, now: float, share: int) -> int:
        """Keep an item without a body."""
        with self._database.bookkeeping() as connection:
            ordinal = self._add(connection, new._replace(writer=""), "live", "", written, now)
            self._charge(connection, new.account, written.charged, 1, share)
            return ordinal

    def change(
        self,
        row: ItemRow,
        version: str,
        status: str,
        expires_at: float | None,
        written: Written,
        now: float,
        share: int,
    ) -> None:
        """Change what is said of an item. Fault(CONFLICT) when it is no longer as it was read."""
        with self._database.bookkeeping() as connection:
            changed = connection.execute(
                update(items)
                .where(items.c.ordinal == row.ordinal, items.c.state == "live", items.c.version == row.version)
                .values(version=version, status=status, expires_at=expires_at, updated_at=now, **_columns(written))
            )
            if changed.rowcount != 1:
                raise changed_meanwhile()
            self._charge(connection, row.account, written.charged - row.charged, 0, share)

    def remove(self, ordinals: Sequence[int], now: float) -> None:
        """Take items from their readers; those that are removed already stay so."""
        taken: dict[str, list[int]] = {}
        with self._database.bookkeeping() as connection:
            for ordinal in sorted(ordinals):  # one order, here and of accounts, so that no two wait for each other
                found = connection.execute(
                    select(items.c.account, items.c.state, items.c.charged)
                    .where(items.c.ordinal == ordinal, items.c.state != "removing")
                    .with_for_update()
                ).first()
                if found is None:
                    continue
                connection.execute(
                    update(items)
                    .where(items.c.ordinal == ordinal)
                    .values(state="removing", sealed=b"", updated_at=now, charged=0)
                )
                if found.state == "live":
                    taken.setdefault(found.account, []).append(found.charged)
            for account in sorted(taken):
                self._charge(connection, account, -sum(taken[account]), -len(taken[account]), 0)

    def forget(self, ordinals: Sequence[int]) -> None:
        """Drop the rows of items whose bodies are gone."""
        with self._database.bookkeeping() as connection:
            connection.execute(delete(items).where(items.c.ordinal.in_(ordinals), items.c.state == "removing"))

    def remove_account(self, account: str, now: float) -> Purged:
        """Take everything from an account; see `remove_account` below."""
        with self._database.bookkeeping() as connection:
            return remove_account(connection, account, now)

    def _add(
        self, connection: Connection, new: NewItem, state: State, location: str, written: Written, now: float
    ) -> int:
        if not _ID.fullmatch(new.id):
            raise Fault(FaultKind.INVALID, "An id has letters, digits, '.', '_' and '-' alone, at most 200.")
        values = {**new._asdict(), "state": state, "location": location, "created_at": now, "updated_at": now}
        try:
            return int(
                connection.execute(
                    insert(items).values(**values, **_columns(written)).returning(items.c.ordinal)
                ).scalar_one()
            )
        except IntegrityError as failure:
            raise Fault(FaultKind.CONFLICT, f"There is already a '{new.id}'.") from failure

    def _charge(self, connection: Connection, account: str, size: int, count: int, share: int) -> None:
        connection.execute(
            self._insert(usage).values(account=account, kept_bytes=0, kept_items=0).on_conflict_do_nothing()
        )
        fits = [usage.c.kept_bytes + size <= share] if size > 0 else []
        changed = connection.execute(
            update(usage)
            .where(usage.c.account == account, *fits)
            .values(kept_bytes=usage.c.kept_bytes + size, kept_items=usage.c.kept_items + count)
        )
        if changed.rowcount != 1:
            raise full(share)

    # Reading

    def get(self, account: str, kind: Kind, item_id: str, now: float) -> ItemRow | None:
        """Return a live item that has not expired by `now`."""
        if not _ID.fullmatch(item_id):
            return None
        query = select(items).where(items.c.account == account, items.c.kind == kind, items.c.id == item_id)
        with self._database.read() as reader:
            row = reader.connection.execute(query.where(*_readable(now))).first()
        return _row(row) if row is not None else None

    def page(
        self,
        account: str,
        kind: Kind,
        now: float,
        *,
        after: str | None,
        limit: int,
        order: Order,
        statuses: Sequence[str],
    ) -> list[ItemRow]:
        """Return a page in the order of creation; Fault(INVALID) when there is no item `after`."""
        query = select(items).where(items.c.account == account, items.c.kind == kind, *_readable(now))
        if statuses:
            query = query.where(items.c.status.in_([status for status in statuses if _ID.fullmatch(status)]))
        column = items.c.ordinal
        query = query.order_by(column.desc() if order == "desc" else column).limit(limit)
        with self._database.read() as reader:
            if after is not None:
                start = (
                    None
                    if not _ID.fullmatch(after)
                    else reader.connection.execute(
                        select(column).where(items.c.account == account, items.c.kind == kind, items.c.id == after)
                    ).scalar()
                )
                if start is None:
                    raise Fault(FaultKind.INVALID, "There is nothing of that id to go on after.", target="after")
                query = query.where(column < start if order == "desc" else column > start)
            return [_row(row) for row in reader.connection.execute(query)]

    def usage(self, account: str) -> Usage:
        """Return what an account keeps."""
        with self._database.read() as reader:
            row = reader.connection.execute(
                select(usage.c.kept_bytes, usage.c.kept_items).where(usage.c.account == account)
            ).first()
        return Usage(int(row[0]), int(row[1])) if row is not None else Usage(0, 0)

    def over(self, now: float, limit: int, *, first: int = 0, last: int = _LAST) -> list[ItemRow]:
        """Return the first few items that are over, by ordinal: expired, deleted and not gone yet, or given up while they were written."""
        mine = items.c.state == "pending", items.c.writer.startswith(here(), autoescape=True)
        kinds = {
            "expired": (items.c.state == "live", items.c.expires_at <= now),
            "removing": (items.c.state == "removing",),
            # By the clock alone only after a day: it may have jumped.
            "old": (items.c.state == "pending", items.c.updated_at < now - PENDING_S),
            "ended": mine if here() else (false(),),
        }
        found: dict[int, ItemRow] = {}
        with self._database.read() as reader:
            for kind, conditions in kinds.items():
                query = select(items).where(*conditions, items.c.ordinal.between(first, last))
                for row in reader.connection.execute(query.order_by(items.c.ordinal).limit(limit)):
                    if kind != "ended" or has_ended(row.writer):
                        found[row.ordinal] = _row(row)
        return [found[ordinal] for ordinal in sorted(found)[:limit]]

    def removing(self, account: str, after: int, limit: int) -> list[ItemRow]:
        """Return items of an account whose body is still to be removed, by ordinal."""
        query = select(items).where(items.c.account == account, items.c.state == "removing", items.c.ordinal > after)
        with self._database.read() as reader:
            return [_row(row) for row in reader.connection.execute(query.order_by(items.c.ordinal).limit(limit))]


def remove_account(connection: Connection, account_id: str, now: float) -> Purged:
    """Take everything from an account that is gone for good, within the transaction that removes it; needs no keys.

    From then on nobody reads any of it; the sweeper removes the bodies from the store.
    """
    account = account_id.lower()
    mine = items.c.account == account
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(items.c.size), 0)).where(mine, items.c.state == "live")
    ).one()
    connection.execute(
        update(items)
        .where(mine, items.c.state != "removing")
        .values(state="removing", sealed=b"", updated_at=now, charged=0)
    )
    connection.execute(delete(usage).where(usage.c.account == account))
    return Purged(int(row[0]), int(row[1]))


def changed_meanwhile() -> Fault:
    """Return the fault of whoever would change what somebody else has changed."""
    return Fault(FaultKind.CONFLICT, "It was changed by someone else; read it again and retry.")


def full(share: int) -> Fault:
    """Return the fault of an account that would keep more than its share."""
    return Fault(FaultKind.LIMIT, f"This resource keeps as much as it may ({share} bytes). Delete something first.")


def _columns(written: Written) -> dict[str, Any]:
    return {**written._asdict(), "charged": written.charged}


def _readable(now: float) -> tuple[Any, ...]:
    return (items.c.state == "live", or_(items.c.expires_at.is_(None), items.c.expires_at > now))


def _row(row: Row[Any]) -> ItemRow:
    values: dict[str, Any] = dict(row._mapping)
    values["sealed"] = bytes(values["sealed"])
    return ItemRow(**values)
