"""The database: SQLite by default, PostgreSQL by URL, the same code and the same tests on both.

Synchronous on purpose (decision 0002): a data-plane worker must be able to catch up inside a request, and management runs in threads; one
driver path instead of two. Writers are serialised: SQLite by `BEGIN IMMEDIATE`, PostgreSQL by the lock on the generation row, so that
generations appear in the order in which they commit.
"""

from __future__ import annotations

import builtins
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, create_engine, event, insert, select, text, update
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool

from stockade.kernel.clock import Clock, SystemClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.documents import Document, Json, State
from stockade.storage.tables import counters, documents

BUSY_TIMEOUT_S = 10.0
CHECKPOINT_WAIT_MS = 250
"""How long writers may have to wait for the log to be emptied."""
PAGE = 500


class Reader:
    """Reads within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get(self, document_id: str, *states: State) -> Document | None:
        """Return the document in one of the states (default: live), or None."""
        row = self.connection.execute(select(documents).where(documents.c.id == document_id.lower())).first()
        document = _document(row) if row is not None else None
        return document if document is not None and document.state in (states or (State.LIVE,)) else None

    def list(
        self,
        document_type: str,
        *,
        subscription: str | None = None,
        resource_group: str | None = None,
        under: str | None = None,
        state: State = State.LIVE,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[Document]:
        """Return documents of one type, in id order.

        under: an id; only documents strictly below it (children of an account, assignments at a scope). after: an id; only later ones.
        """
        query = select(documents).where(documents.c.type == document_type.lower(), documents.c.state == state.value)
        if subscription is not None:
            query = query.where(documents.c.subscription == subscription.lower())
        if resource_group is not None:
            query = query.where(documents.c.resource_group == resource_group.lower())
        if under is not None:
            prefix = under.lower().rstrip("/") + "/"
            query = query.where(documents.c.id >= prefix, documents.c.id < prefix[:-1] + "0")
        if after is not None:
            query = query.where(documents.c.id > after.lower())
        return [_document(row) for row in self.connection.execute(query.order_by(documents.c.id).limit(limit))]

    def below(self, prefix_id: str, state: State = State.LIVE) -> builtins.list[Document]:
        """Return every document of one state strictly below an id, whatever its type (for cascading deletes and restores)."""
        prefix = prefix_id.lower().rstrip("/") + "/"
        query = select(documents).where(
            documents.c.id >= prefix, documents.c.id < prefix[:-1] + "0", documents.c.state == state.value
        )
        return [_document(row) for row in self.connection.execute(query.order_by(documents.c.id))]

    def changed_since(self, generation: int) -> Iterator[Document]:
        """Yield every document of whatever state with a later generation, in generation order."""
        query = (
            select(documents)
            .where(documents.c.generation > generation)
            .order_by(documents.c.generation, documents.c.ordinal)
        )
        for row in self.connection.execution_options(yield_per=PAGE).execute(query):
            yield _document(row)

    def generation(self) -> int:
        """Return the newest committed generation."""
        return int(
            self.connection.execute(select(counters.c.value).where(counters.c.name == "generation")).scalar_one()
        )


class Writer(Reader):
    """Writes within one transaction, all under one new generation."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        super().__init__(connection)
        self._clock = clock
        bump = update(counters).where(counters.c.name == "generation").values(value=counters.c.value + 1)
        self.new_generation = int(connection.execute(bump.returning(counters.c.value)).scalar_one())

    def put(
        self,
        document_id: str,
        document_type: str,
        body: Mapping[str, Any],
        private: Mapping[str, Any] | None = None,
        *,
        subscription: str = "",
        resource_group: str = "",
        state: State = State.LIVE,
        purge_at: float | None = None,
        if_match: str | None = None,
    ) -> Document:
        """Create or replace one document and return it as stored.

        private:  None keeps what is there.
        if_match: the etag the caller read; Fault(PRECONDITION_FAILED) when the document has moved on. "*" asks only that it exists.
        """
        key, now = document_id.lower(), self._clock.now()
        row = self.connection.execute(select(documents).where(documents.c.id == key)).first()
        current = _document(row) if row is not None else None
        existing = current if current is not None and current.state is not State.GONE else None
        if if_match is not None and (existing is None or if_match not in ("*", existing.etag)):
            raise Fault(
                FaultKind.PRECONDITION_FAILED, "The resource was changed by someone else; read it again and retry."
            )
        values: dict[str, Any] = {
            "id": key,
            "type": document_type.lower(),
            "subscription": subscription.lower(),
            "resource_group": resource_group.lower(),
            "state": state.value,
            "etag": secrets.token_hex(8),
            "generation": self.new_generation,
            "created_at": existing.created_at if existing is not None else now,
            "updated_at": now,
            "purge_at": purge_at,
            "body": dict(body),
            "private": dict(private) if private is not None else dict(existing.private) if existing is not None else {},
        }
        if current is None:
            self.connection.execute(insert(documents).values(**values))
        else:
            self.connection.execute(update(documents).where(documents.c.ordinal == current.ordinal).values(**values))
        stored = self.get(key, *State)
        assert stored is not None
        return stored

    def move(self, document: Document, state: State, *, purge_at: float | None = None) -> None:
        """Change a document's state. GONE empties it."""
        values: dict[str, Any] = {
            "state": state.value,
            "generation": self.new_generation,
            "etag": secrets.token_hex(8),
            "updated_at": self._clock.now(),
            "purge_at": purge_at,
        }
        if state is State.GONE:
            values |= {"body": {}, "private": {}}
        self.connection.execute(update(documents).where(documents.c.id == document.id).values(**values))

    def remove(self, document: Document) -> None:
        """Remove a document for good."""
        self.move(document, State.GONE)


class Database:
    """Opens transactions; knows nothing of what is stored.

    url:       SQLAlchemy URL, `sqlite:///path` or `postgresql+psycopg://...` (`postgresql://` is accepted).
    published: called with the new generation after each commit, before the caller hears of success.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, published: Callable[[int], None] | None = None) -> None:
        self.url = url.replace("postgresql://", "postgresql+psycopg://", 1) if url.startswith("postgresql://") else url
        self.is_sqlite = self.url.startswith("sqlite")
        self._clock = clock or SystemClock()
        self._published = published
        self.engine = _sqlite(self.url) if self.is_sqlite else _postgres(self.url)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """Open a read transaction; Fault(UNAVAILABLE) when the database cannot be reached."""
        with _reachable(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
                yield Reader(connection)
            else:
                # As SQLite does it: all of one reading shows one state, whatever others commit meanwhile.
                yield Reader(connection.execution_options(isolation_level="REPEATABLE READ"))

    @contextmanager
    def write(self) -> Iterator[Writer]:
        """Open the write transaction; commits on normal exit, changes nothing on an exception."""
        with _reachable():
            with self.engine.connect() as connection:
                if self.is_sqlite:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                writer = Writer(connection, self._clock)
                try:
                    yield writer
                except BaseException:
                    connection.rollback()
                    raise
                connection.commit()
            if self._published is not None:
                self._published(writer.new_generation)

    @contextmanager
    def bookkeeping(self) -> Iterator[Connection]:
        """Open a transaction on tables that are not policy (who used which key); publishes no generation."""
        with _reachable(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def forget_deleted(self) -> None:
        """See to it that what was deleted or overwritten stands nowhere on the disk any more: no wrapped key of a purged account, say.

        SQLite zeroes what is freed in its file (`secure_delete`); what still stands in the log moves there now, if nobody is reading just then.
        PostgreSQL's own vacuum does it in its time.
        """
        if self.is_sqlite:
            with _reachable(), self.engine.connect() as connection:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={CHECKPOINT_WAIT_MS}")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def migrate(self) -> None:
        """Bring the schema to the newest version; safe to call at every start and from several processes."""
        from alembic import (
            command,  # only here: the data plane's workers never migrate, and the import takes a quarter second
        )
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with _reachable(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(7263112)")
                )  # any fixed number; ours alone in this database
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()

    def close(self) -> None:
        self.engine.dispose()


def _document(row: Row[Any]) -> Document:
    values: Json = dict(row._mapping)
    values["state"] = State(values["state"])
    return Document(**values)


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as failure:
        # DatabaseError itself, none of its kinds, is how SQLite says that the file is damaged or no database.
        if (
            isinstance(failure, OperationalError | PoolTimeoutError)
            or failure.connection_invalidated
            or type(failure) is DatabaseError
        ):
            raise Fault(FaultKind.UNAVAILABLE, "The database cannot be reached.", retry_after_s=1) from failure
        raise


def _sqlite(url: str) -> Engine:
    # NullPool: opening a SQLite file costs 30 microseconds, and a connection is then never shared between threads.
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = (
            None  # we say BEGIN ourselves: the driver's implicit one is too late for BEGIN IMMEDIATE
        )
        cursor = connection.cursor()
        # FULL, not NORMAL: what was answered survives a power cut as well as a kill.
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
            f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def _postgres(url: str) -> Engine:
    return create_engine(
        url,
        pool_size=8,
        max_overflow=8,
        pool_timeout=BUSY_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 5, "options": "-c statement_timeout=10000 -c lock_timeout=10000"},
    )
