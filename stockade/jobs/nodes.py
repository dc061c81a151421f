"""Which nodes are alive, where several work on one PostgreSQL: each holds a lock that goes with its connection.

A node that is gone, and whose lock stays free for two looks, is no more, and its unfinished pieces are taken over. A node that loses its
connection ends, rather than go on beside whoever takes over. With SQLite there is one node, and nothing to do.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.storage.database import Database

if TYPE_CHECKING:
    from stockade.jobs.durable import Durable

FILE: Final = "jobs.node"
ALONE: Final = "local"
LOCKS: Final = 7_263_113
"""The family of our locks; any fixed number that is nobody else's in this database."""
ENTER_S: Final = 30.0
LOOK_S: Final = 5.0


def node_name(database: Database, data_dir: Path) -> str:
    """Return this node's name, which stays the same across restarts; with PostgreSQL it stands in a file of the data directory."""
    if database.is_sqlite:
        return ALONE
    file = data_dir / FILE
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        pass
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(new_guid())
    draft.chmod(0o600)
    draft.replace(file)
    return file.read_text().strip()


class Nodes:
    """The place of this node among the others."""

    def __init__(self, database: Database, own: str, look_s: float = LOOK_S) -> None:
        self._database, self._own, self._look_s = database, own, look_s
        self._connection: Connection | None = None
        self._missing: set[str] = set()

    def enter(self) -> None:
        """Take this node's place, once an earlier process of the same node has left it. Fault(UNAVAILABLE) when that takes too long."""
        if self._database.is_sqlite:
            return
        connection: Connection | None = None
        try:
            connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(text(f"SET lock_timeout = '{int(ENTER_S)}s'"))
            connection.execute(text(f"SET statement_timeout = '{int(ENTER_S)}s'"))
            connection.execute(text("SELECT pg_advisory_lock(:family, :own)"), _lock(self._own))
        except SQLAlchemyError as failure:
            if connection is not None:
                _drop(connection)
            raise Fault(FaultKind.UNAVAILABLE, "This node's place among the jobs' nodes cannot be taken.") from failure
        self._connection = connection

    def leave(self) -> None:
        if self._connection is not None:
            _drop(self._connection)
            self._connection = None

    async def watch(self, durable: Durable) -> None:
        """Take over from nodes that are no more. Fault(UNAVAILABLE) when this node has lost its own place."""
        while True:
            await asyncio.sleep(self._look_s)
            if self._connection is None:
                continue
            found = await durable.nodes() - {self._own}
            free = await asyncio.to_thread(self._free, self._connection, found)
            gone = free & self._missing
            self._missing = free - gone
            if gone:
                await durable.take_over(gone)

    def _free(self, connection: Connection, nodes: set[str]) -> set[str]:
        free = set()
        try:
            connection.execute(text("SELECT 1"))
            for node in nodes:
                if connection.execute(text("SELECT pg_try_advisory_lock(:family, :own)"), _lock(node)).scalar():
                    connection.execute(text("SELECT pg_advisory_unlock(:family, :own)"), _lock(node))
                    free.add(node)
        except SQLAlchemyError as failure:
            raise Fault(FaultKind.UNAVAILABLE, "This node has lost its place among the jobs' nodes.") from failure
        return free


def _drop(connection: Connection) -> None:
    """Close a connection rather than give it back to the pool with its settings, and perhaps a lock, on it."""
    connection.detach()
    connection.close()


def _lock(node: str) -> dict[str, int]:
    digest = hashlib.sha256(node.encode()).digest()
    return {"family": LOCKS, "own": int.from_bytes(digest[:4], "big", signed=True)}
