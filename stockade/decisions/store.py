"""`decisions.db`: past decisions and what controls refused or would have refused, in a SQLite file of its own.

Nobody's acknowledged data stands in it. So it is written without waiting for the disk, shared by all processes of the platform, and when it is
damaged, or made by another version, it is moved aside and begun anew. All its sizes are bounded.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self, TypeAlias

import msgspec

from stockade.decisions.record import Decision
from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Decisions

FILE_NAME: Final = "decisions.db"
ASIDE: Final = "decisions.aside.db"
"""Where a file that could not be used is left for whoever wants to look; the next one takes its place."""
SCHEMA: Final = 1
APPLICATION: Final = 0x53544B44
WRITE_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 5.0
DAY_S: Final = 86_400
OTHERS: Final = "*"
"""Stands for whatever an account has too many different of."""

_TABLES: Final = """
CREATE TABLE decisions (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, account TEXT NOT NULL, time REAL NOT NULL, rule TEXT NOT NULL,
  verdict TEXT NOT NULL, known INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX decisions_by_id ON decisions (id);
CREATE INDEX decisions_by_account ON decisions (account, known, seq);
CREATE TABLE findings (
  account TEXT NOT NULL, day INTEGER NOT NULL, control TEXT NOT NULL, mode TEXT NOT NULL, rule TEXT NOT NULL, reason TEXT NOT NULL,
  principal TEXT NOT NULL, slot TEXT NOT NULL, address TEXT NOT NULL, agent TEXT NOT NULL, subject TEXT NOT NULL,
  count INTEGER NOT NULL, first_seen REAL NOT NULL, last_seen REAL NOT NULL, sample TEXT NOT NULL,
  PRIMARY KEY (account, day, control, mode, rule, reason, principal, slot, address, agent, subject)) WITHOUT ROWID;
"""
_UPSERT: Final = """
INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET count = count + excluded.count, first_seen = min(first_seen, excluded.first_seen),
  last_seen = max(last_seen, excluded.last_seen), sample = excluded.sample
"""
_DAMAGED: Final = ("malformed", "not a database", "corrupt")

log = logging.getLogger(__name__)


FindingMode: TypeAlias = Literal["enforce", "report"]
"""It was refused; it would have been."""


class FindingKey(NamedTuple):
    """What refusals are counted by.

    day: since the epoch, UTC. slot: the key's, "" for tokens.
    subject: what it was about: a host (dlp, output), a data action (localAuth, rbac), an address (network).
    """

    account: str
    day: int
    control: str
    mode: FindingMode
    rule: str
    reason: str
    principal: str
    slot: str
    address: str
    agent: str
    subject: str

    def counted_together(self) -> FindingKey:
        """Return the key under which further callers and subjects are counted."""
        return self._replace(principal=OTHERS, slot=OTHERS, address=OTHERS, agent=OTHERS, subject=OTHERS)


@dataclass(frozen=True, slots=True)
class Finding:
    """How often, when, and the id of the newest decision among them."""

    key: FindingKey
    count: int
    first_seen: float
    last_seen: float
    sample: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A decision in the ring; `seq` grows with every one that is written."""

    seq: int
    decision: Decision


class Row(NamedTuple):
    """A decision, encoded."""

    id: str
    account: str
    time: float
    rule: str
    verdict: str
    known: bool
    data: bytes


class DecisionStore:
    """The file. One thread at a time; any number of processes."""

    def __init__(self, directory: Path, bounds: Decisions) -> None:
        self._path, self._lock_path, self._bounds = directory / FILE_NAME, directory / "decisions.lock", bounds
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._decode = msgspec.msgpack.Decoder(Decision).decode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # Writing

    def write(self, rows: Sequence[Row], findings: Mapping[FindingKey, Finding], now: float) -> None:
        """Add decisions and findings, and drop what is above the bounds. Raises sqlite3.Error or OSError; then nothing was written."""
        with self._using(WRITE_TIMEOUT_S) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(
                    "INSERT INTO decisions (id, account, time, rule, verdict, known, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )
                for account in {row.account for row in rows}:
                    self._trim(connection, account)
                self._trim_all(connection)
                self._count(connection, findings)
                oldest = int(now // DAY_S) - self._bounds.keep_days
                connection.execute("DELETE FROM findings WHERE day < ?", (oldest,))
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def forget(self, account: str) -> None:
        """Drop all that is kept of an account that is gone for good; another one may come to bear its id. Never fails: it is only a record."""
        if not self._path.exists():
            return
        try:
            with self._using(WRITE_TIMEOUT_S) as connection:
                for table in ("decisions", "findings"):
                    connection.execute(f"DELETE FROM {table} WHERE account = ?", (account,))  # noqa: S608 - constants
        except (sqlite3.Error, OSError) as failure:
            log.warning("the past decisions of a purged account stay until newer ones take their place: %s", failure)

    def _trim(self, connection: sqlite3.Connection, account: str) -> None:
        """Hold the ring of an account to its size.

        Callers who have not proven who they are cannot push out those who have: of a full ring they get a quarter.
        """
        keep = self._bounds.keep_per_account
        counts = dict(
            connection.execute("SELECT known, count(*) FROM decisions WHERE account = ? GROUP BY known", (account,))
        )
        excess = sum(counts.values()) - keep
        if excess <= 0:
            return
        strangers = min(excess, max(0, counts.get(0, 0) - keep // 4))
        oldest = "DELETE FROM decisions WHERE seq IN (SELECT seq FROM decisions WHERE account = ? AND known = ? ORDER BY seq LIMIT ?)"
        connection.execute(oldest, (account, 0, strangers))
        connection.execute(
            "DELETE FROM decisions WHERE seq IN (SELECT seq FROM decisions WHERE account = ? ORDER BY seq LIMIT ?)",
            (account, excess - strangers),
        )

    def _trim_all(self, connection: sqlite3.Connection) -> None:
        (total,) = connection.execute("SELECT count(*) FROM decisions").fetchone()
        excess = total - self._bounds.keep
        if excess > 0:
            oldest = "DELETE FROM decisions WHERE seq IN (SELECT seq FROM decisions ORDER BY seq LIMIT ?)"
            connection.execute(oldest, (excess,))

    def _count(self, connection: sqlite3.Connection, findings: Mapping[FindingKey, Finding]) -> None:
        rows: dict[str, int] = {}
        (total,) = connection.execute("SELECT count(*) FROM findings").fetchone() if findings else (0,)
        exists = f"SELECT 1 FROM findings WHERE {' AND '.join(f'{name} = ?' for name in FindingKey._fields)}"  # noqa: S608 - our own names
        for key, finding in findings.items():
            account, bound = key.account, self._bounds.findings_per_account
            if account not in rows:
                (rows[account],) = connection.execute(
                    "SELECT count(*) FROM findings WHERE account = ?", (account,)
                ).fetchone()
            place = key
            if connection.execute(exists, place).fetchone() is None:
                if rows[account] >= bound or total >= self._bounds.findings:
                    place = key.counted_together()
                rows[account] += 1
                total += 1
            connection.execute(_UPSERT, (*place, finding.count, finding.first_seen, finding.last_seen, finding.sample))

    # Reading

    def find(self, decision_id: str) -> Decision | None:
        """Return a decision by its id; Fault(UNAVAILABLE) when the file cannot be read."""
        found = self._read(
            "SELECT seq, data FROM decisions WHERE id = ? ORDER BY seq DESC LIMIT 1", (decision_id.lower(),)
        )
        return found[0].decision if found else None

    def newest(
        self,
        account: str,
        count: int,
        *,
        before: int | None = None,
        rule: str = "",
        verdict: str = "",
        since: float = 0.0,
    ) -> list[Kept]:
        """Return the newest decisions of an account, newest first. before: only those older than this `seq`."""
        conditions, values = ["account = ?", "time >= ?"], list[object]([account, since])
        for condition, value in (("seq < ?", before), ("rule = ?", rule), ("verdict = ?", verdict)):
            if value not in (None, ""):
                conditions.append(condition)
                values.append(value)
        query = f"SELECT seq, data FROM decisions WHERE {' AND '.join(conditions)} ORDER BY seq DESC LIMIT ?"  # noqa: S608 - constants
        return self._read(query, (*values, count))

    def findings(self, account: str, control: Control, since: float) -> list[Finding]:
        """Return what was counted of a control since an instant, the most frequent first. Counts are per day, so the first day's is whole."""
        query = """
            SELECT account, min(day), control, mode, rule, reason, principal, slot, address, agent, subject,
              sum(count), min(first_seen), max(last_seen), sample
            FROM (SELECT * FROM findings WHERE account = ? AND control = ? AND last_seen >= ? ORDER BY day)
            GROUP BY mode, rule, reason, principal, slot, address, agent, subject ORDER BY 12 DESC, 14 DESC
        """
        with self._reading() as connection:
            rows = (
                connection.execute(query, (account, control.value, since)).fetchall() if connection is not None else []
            )
        return [Finding(FindingKey(*row[:11]), *row[11:]) for row in rows]

    def _read(self, query: str, values: Sequence[object]) -> list[Kept]:
        with self._reading() as connection:
            rows = connection.execute(query, values).fetchall() if connection is not None else []
        return [Kept(seq, self._decode(data)) for seq, data in rows]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if not self._path.exists():
            yield None
            return
        try:
            with self._using(READ_TIMEOUT_S) as connection:
                yield connection
        except (sqlite3.Error, OSError, msgspec.DecodeError) as failure:
            message = "The record of past decisions cannot be read at the moment."
            raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5) from failure

    # The file

    @contextlib.contextmanager
    def _using(self, timeout_s: float) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._open(timeout_s)
            yield connection
        except sqlite3.DatabaseError as failure:
            self.close()
            if any(mark in str(failure) for mark in _DAMAGED):
                self._replace(f"it is damaged ({failure})")
            raise

    def _open(self, timeout_s: float) -> sqlite3.Connection:
        """Return the connection, opening the file anew when another process has moved it aside."""
        if self._connection is not None:
            try:
                if self._path.stat().st_ino == self._inode:
                    return self._connection
            except FileNotFoundError:
                pass
            self.close()
        with self._alone():
            connection = self._connect(timeout_s)
            try:
                ours = self._prepare(connection)
            except sqlite3.DatabaseError as failure:
                connection.close()
                if not any(mark in str(failure) for mark in _DAMAGED):
                    raise
                ours = False
            if not ours:
                connection.close()
                self._move_aside("it is damaged, or not this version's")
                connection = self._connect(timeout_s)
                self._prepare(connection)
            self._connection, self._inode = connection, self._path.stat().st_ino
            return connection

    def _connect(self, timeout_s: float) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        # Used by one thread at a time, but not by the same one at the end: `close` is called from outside.
        return sqlite3.connect(self._path, timeout=timeout_s, isolation_level=None, check_same_thread=False)

    def _prepare(self, connection: sqlite3.Connection) -> bool:
        """Make the tables in an empty file; False when the file is somebody else's."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (version, application, tables) != (0, 0, 0) and (version, application) != (SCHEMA, APPLICATION):
            return False
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        if version == 0:
            marks = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};"
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {marks} COMMIT;")
        return True

    def _replace(self, why: str) -> None:
        with contextlib.suppress(OSError), self._alone():
            connection = self._connect(WRITE_TIMEOUT_S)
            try:
                sound = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
            except sqlite3.DatabaseError as failure:
                sound = not any(mark in str(failure) for mark in _DAMAGED)
            finally:
                connection.close()
            if not sound:  # another process may have replaced it already
                self._move_aside(why)

    def _move_aside(self, why: str) -> None:
        log.warning(
            "the record of past decisions is moved aside and begun anew: %s", why, extra={"file": str(self._path)}
        )
        self._path.replace(self._path.with_name(ASIDE))
        for suffix in ("-wal", "-shm"):
            self._path.with_name(FILE_NAME + suffix).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only process that makes or moves the file."""
        lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
