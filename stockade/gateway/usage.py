"""Who uses which key: noted in memory on the request path, written to the database once a second by a thread of its own."""

from __future__ import annotations

import logging
import threading
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from stockade.kernel.faults import Fault
from stockade.kernel.principal import KeyCredential
from stockade.storage.database import Database
from stockade.storage.tables import key_callers

FLUSH_INTERVAL_S = 1.0
PENDING_LIMIT = 4_096
CALLERS_PER_KEY = 200
"""Callers remembered per key value; further ones are counted together."""
OTHERS = ("*", "(further callers)")

log = logging.getLogger(__name__)


class KeyUsage:
    """Counts calls per key, address and client."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: dict[tuple[bytes, str, str, str], list[float]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="key-usage", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is pending and stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._flush()

    def note(self, credential: KeyCredential, address: str, client: str, now: float) -> None:
        """Count one call. client: the user agent, cut to 120 characters."""
        with self._lock:
            self._add((credential.digest, credential.account_id, address, client), 1, now, now)

    def _add(self, key: tuple[bytes, str, str, str], count: float, first: float, last: float) -> None:
        entry = self._pending.get(key)
        if entry is None:
            if len(self._pending) >= PENDING_LIMIT:
                key = (key[0], key[1], *OTHERS)
                entry = self._pending.get(key)
            if entry is None:
                self._pending[key] = [count, first, last]
                return
        self._pending[key] = [entry[0] + count, min(entry[1], first), max(entry[2], last)]

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_INTERVAL_S):
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            with self._database.bookkeeping() as connection:
                for (digest, account, address, client), (count, first, last) in pending.items():
                    self._write(connection, digest.hex(), account, address, client, int(count), first, last)
        except Exception as failure:  # whatever it is, this thread must outlive it
            log.warning(
                "key usage could not be written and will be tried again", exc_info=not isinstance(failure, Fault)
            )
            with self._lock:
                for key, (count, first, last) in pending.items():
                    self._add(key, count, first, last)

    def _write(
        self,
        connection: Any,
        digest: str,
        account: str,
        address: str,
        client: str,
        count: int,
        first: float,
        last: float,
    ) -> None:
        table = key_callers.c
        known = (table.digest == digest) & (table.address == address) & (table.client == client)
        if connection.execute(select(table.digest).where(known)).first() is None:
            rows = connection.execute(
                select(func.count()).select_from(key_callers).where(table.digest == digest)
            ).scalar_one()
            if rows >= CALLERS_PER_KEY:
                address, client = OTHERS
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        statement: Any = insert(key_callers).values(
            digest=digest,
            address=address,
            client=client,
            account=account,
            count=count,
            first_seen=first,
            last_seen=last,
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["digest", "address", "client"],
                set_={"count": table.count + statement.excluded.count, "last_seen": statement.excluded.last_seen},
            )
        )
