"""What finds records in a log: an SQLite file per log beside it, `<data dir>/audit/index/<log>.db`. A cache: it may be deleted at any time.

Nobody keeps it up to date but whoever searches, in whatever process; one at a time writes (WAL), and what is not in it yet is read from the log
first. It holds no more of a record than what is searched by, and decides nothing: what it finds is read from the log and looked at again.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from stockade.audit.criteria import Indexed, Wanted, read_record
from stockade.audit.ledger import LogReader
from stockade.kernel.faults import Fault, FaultKind

SCHEMA: Final = 1
APPLICATION: Final = 0x53544B49
BATCH: Final = 10_000
"""Records in one transaction."""
BLOCK_BITS: Final = 10
"""Of 1024 records together it is kept between what times they are: records stand in the order in which they were written, nearly by time."""
WINDOW: Final = 1 << 18
"""Places that are looked through before the clock is looked at."""
CACHE_KIB: Final = 8 * 1024
MUCH: Final = 50_000
"""So many records to index are worth more memory, which one at a time has."""
CACHE_FOR_MUCH_KIB: Final = 64 * 1024
BUSY_S: Final = 2.0
"""How long another process may be waited for."""
MAX_TEXT: Final = 2048
MANY: Final = 500
"""Names that are looked up one by one; of more, all records are compared."""
_EVER: Final = (-1e300, 1e300)

_TABLES: Final = """
CREATE TABLE state (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE blocks (block INTEGER PRIMARY KEY, oldest REAL NOT NULL, newest REAL NOT NULL);
CREATE TABLE records (
  place INTEGER PRIMARY KEY, time REAL NOT NULL, id INTEGER NOT NULL, correlation INTEGER NOT NULL, resource INTEGER NOT NULL, who INTEGER NOT NULL,
  operation INTEGER NOT NULL, outcome INTEGER NOT NULL, category INTEGER NOT NULL, decision INTEGER NOT NULL,
  status INTEGER NOT NULL,
  activity INTEGER NOT NULL);
CREATE INDEX by_id ON records (id);
CREATE INDEX by_correlation ON records (correlation) WHERE activity = 1;
CREATE INDEX by_resource ON records (resource);
CREATE INDEX by_who ON records (who);
CREATE INDEX by_operation ON records (operation);
CREATE INDEX by_denied ON records (place) WHERE decision = 2;
CREATE INDEX by_activity ON records (place) WHERE activity = 1;
"""
_ADD: Final = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_BLOCK: Final = """
INSERT INTO blocks VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET oldest = min(oldest, excluded.oldest), newest = max(newest, excluded.newest)
"""
CATEGORIES: Final = {"Audit": 0, "RequestResponse": 1}
DECISIONS: Final = {"": 0, "allow": 1, "deny": 2}

log = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int], None]
"""Is told how many records are indexed, and how many there are."""


class LogIndex:
    """One log's index. For one thread at a time; any number of processes.

    Fault(UNAVAILABLE) where it cannot be made or read. What is damaged, of another version, or another log's is deleted and made anew.
    """

    def __init__(self, directory: Path, reader: LogReader) -> None:
        self._log, self._path = reader, directory / f"{reader.name}.db"
        self._names: dict[str, int] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def catch_up(self, within_s: float | None = None, progress: Progress | None = None) -> bool:
        """Index what has been added to the log, and forget what was pruned; say whether that is all. within_s None: until it is."""
        ends = None if within_s is None else time.monotonic() + within_s
        with self._mending():
            self._check()
            if self._log.size - self._done() > MUCH:
                self._connection.execute(f"PRAGMA cache_size = -{CACHE_FOR_MUCH_KIB}")
            while True:
                size, first = self._log.size, self._log.first
                if self._done() >= size and self._first() >= first:
                    return True
                if ends is not None and time.monotonic() >= ends:
                    return False
                if not self._forget(first):
                    self._add(size, first)
                if progress is not None:
                    progress(min(self._done(), size), size)

    @property
    def indexed(self) -> int:
        """The index below which everything is in here that the log keeps."""
        with self._mending():
            return self._done()

    def places(self, wanted: Wanted, before: int, within_s: float | None = None) -> Iterator[tuple[int, bool]]:
        """Yield where what is looked for stands, newest first, below an index, and True.

        With False: time is up; what stands there and above has been looked through.
        """
        ends = None if within_s is None else time.monotonic() + within_s
        with self._mending():
            first, high = self._bounds(wanted, before)
            found = self._condition(wanted)
            if found is None:
                return
            while high > first:
                low = max(first, high - WINDOW)
                for (place,) in self._connection.execute(found.query, (low, high, *found.values)):
                    yield place, True
                high = low
                if ends is not None and time.monotonic() >= ends and high > first:
                    yield high, False
                    return

    # Writing

    def _add(self, size: int, first: int) -> None:
        """Index one batch."""
        with self._writing():
            start = max(self._done(), first)
            # Read inside the transaction: whoever was waited for may have done it.
            batch = list(islice(self._log.records(start, min(size, start + BATCH)), BATCH))
            if not batch:
                if start < size:
                    raise _unusable()
                self._set("done", start)
                return
            rows: list[tuple[int | float, ...]] = []
            blocks: dict[int, tuple[float, float]] = {}
            for place, line in batch:
                row = self._row(place, read_record(line))
                rows.append(row)
                oldest, newest = blocks.get(place >> BLOCK_BITS, (row[1], row[1]))
                blocks[place >> BLOCK_BITS] = (min(oldest, row[1]), max(newest, row[1]))
            self._connection.executemany(_ADD, rows)
            self._connection.executemany(_ADD_BLOCK, [(block, *times) for block, times in blocks.items()])
            self._set("done", batch[-1][0] + 1)
            self._set("last", sha256(batch[-1][1]).digest())

    def _row(self, place: int, record: Indexed) -> tuple[int | float, ...]:
        activity = record.is_activity
        return (
            place,
            record.time,
            _short(record.id),
            _short(record.correlation or record.id) if activity else 0,
            self._name(record.resource),
            self._name(record.who),
            self._name(record.operation),
            self._name(record.outcome),
            CATEGORIES.get(record.category, -1),
            DECISIONS.get(record.decision, 0),
            record.status,
            int(activity),
        )

    def _name(self, text: str) -> int:
        text = text[:MAX_TEXT].lower()
        known = self._names.get(text)
        if known is not None:
            return known
        found = self._connection.execute("SELECT id FROM names WHERE text = ?", (text,)).fetchone()
        if found is None:
            found = (self._connection.execute("INSERT INTO names (text) VALUES (?)", (text,)).lastrowid,)
        number = self._names[text] = int(found[0])
        return number

    def _forget(self, first: int) -> bool:
        """Forget a batch of what the log no longer keeps; False when there is nothing."""
        if self._first() >= first:
            return False
        with self._writing():
            oldest = self._connection.execute("SELECT min(place) FROM records").fetchone()[0]
            if oldest is None or oldest >= first:
                self._connection.execute("DELETE FROM blocks WHERE block < ?", (first >> BLOCK_BITS,))
                self._connection.execute(
                    "DELETE FROM names WHERE id NOT IN (SELECT resource FROM records UNION SELECT who FROM records "
                    "UNION SELECT operation FROM records UNION SELECT outcome FROM records)"
                )
                self._set("first", first)
            else:
                self._connection.execute("DELETE FROM records WHERE place < ?", (min(first, oldest + BATCH),))
        return True

    # Reading

    def _bounds(self, wanted: Wanted, before: int) -> tuple[int, int]:
        """Return between which places what is looked for stands at most."""
        low, high = self._log.first, min(before, self._done())
        if wanted.since is not None:
            block = self._one("SELECT min(block) FROM blocks WHERE newest >= ?", wanted.since)
            low = max(low, block << BLOCK_BITS) if block is not None else high
        if wanted.until is not None:
            block = self._one("SELECT max(block) FROM blocks WHERE oldest <= ?", wanted.until)
            high = min(high, (block + 1) << BLOCK_BITS) if block is not None else low
        return low, high

    def _condition(self, wanted: Wanted) -> _Condition | None:
        """Return what a record's row has to satisfy; None when none can. The rarest criterion is looked up, the others are compared."""
        condition = _Condition()
        if wanted.decision_id:
            condition.add("id = ?", _short(wanted.decision_id), index="by_id")
        if wanted.activity:
            condition.add("activity = 1", index="by_correlation" if wanted.correlation else "")
            if wanted.correlation:
                condition.add("correlation = ?", _short(wanted.correlation))
        for column, texts in (
            ("who", _names(wanted.who)),
            ("resource", _names(wanted.resource.rstrip("/"), below="/")),
            ("operation", _names(wanted.operation)),
            ("outcome", _names(wanted.outcome)),
        ):
            if texts is not None and not self._add_names(condition, column, *texts):
                return None
        if wanted.decision:
            code = DECISIONS.get(wanted.decision, -2)
            condition.add(f"decision = {code}", index="by_denied" if code == DECISIONS["deny"] else "")
        if wanted.activity:
            condition.look_up("by_activity")
        if wanted.category:
            condition.add("category = ?", CATEGORIES.get(wanted.category, -2))
        if wanted.statuses is not None:
            condition.add("status BETWEEN ? AND ?", *wanted.statuses)
        if wanted.since is not None or wanted.until is not None:
            ends = (wanted.since, wanted.until)
            condition.add(
                "time BETWEEN ? AND ?",
                *(end if end is not None else other for end, other in zip(ends, _EVER, strict=True)),
            )
        return condition

    def _add_names(self, condition: _Condition, column: str, test: str, values: list[str]) -> bool:
        """Require a column to name a text that satisfies a test; False when no record's does."""
        wanted = f"SELECT id FROM names WHERE {test}"  # noqa: S608 - no value in it
        ids = [row[0] for row in self._connection.execute(f"{wanted} LIMIT {MANY + 1}", values)]
        if len(ids) <= MANY:
            by = "" if column == "outcome" else f"by_{column}"
            condition.add(f"{column} IN ({','.join(map(str, ids))})", index=by)
        else:
            condition.add(f"{column} IN ({wanted})", *values)
        return bool(ids)

    # The file

    def _open(self) -> sqlite3.Connection:
        try:
            return self._usable() or self._made_anew()
        except (sqlite3.Error, OSError) as failure:
            raise _unusable() from failure

    def _usable(self) -> sqlite3.Connection | None:
        """Open the file, making it where there is none; None for one that is damaged or of another version."""
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            self._path.chmod(0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # it may lose its newest after a crash, and is whole
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            if _is_new(connection):
                _make(connection)
            made = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if (made, version) == (APPLICATION, SCHEMA):
                return connection
        except sqlite3.DatabaseError as failure:
            if isinstance(failure, sqlite3.OperationalError):
                connection.close()
                raise
        connection.close()
        return None

    def _made_anew(self) -> sqlite3.Connection:
        log.warning("the index of an audit log is made anew", extra={"log": self._log.name})
        for name in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + name).unlink(missing_ok=True)
        connection = self._usable()
        if connection is None:
            raise _unusable()
        return connection

    def _check(self) -> None:
        """Begin anew when the log is not the one that was indexed: it is shorter, or another record stands where the last one stood."""
        done, first = self._done(), self._log.first
        if done == 0:
            return
        if done <= self._log.size:
            last = next(iter(self._log.records(done - 1, done)), None) if done > first else None
            if last is None or sha256(last[1]).digest() == self._state("last"):
                return
        with self._writing():
            for table in ("records", "blocks", "names", "state"):
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        self._names.clear()  # another process may have forgotten some
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _mending(self) -> Iterator[None]:
        """Delete a damaged file, so that the next one who searches makes it anew."""
        try:
            yield
        except sqlite3.OperationalError as failure:
            raise _unusable() from failure
        except sqlite3.DatabaseError as failure:
            self._connection.close()
            with contextlib.suppress(Fault):
                self._connection = self._made_anew()
            raise _unusable() from failure

    def _done(self) -> int:
        return int(self._state("done") or 0)

    def _first(self) -> int:
        return int(self._state("first") or 0)

    def _state(self, name: str) -> Any:
        return self._one("SELECT value FROM state WHERE name = ?", name)

    def _set(self, name: str, value: int | bytes) -> None:
        self._connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    def _one(self, query: str, value: float | str) -> Any:
        row = self._connection.execute(query, (value,)).fetchone()
        return row[0] if row is not None else None


def _is_new(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _make(connection: sqlite3.Connection) -> None:
    """Make the tables, unless another process has just done so."""
    connection.execute("BEGIN IMMEDIATE")
    if _is_new(connection):
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")


class _Condition:
    """What follows `WHERE`, and the index that it is looked up by: the first one that is named."""

    def __init__(self) -> None:
        self.where, self.index = "", ""
        self.values: list[int | float | str] = []

    def add(self, test: str, *values: float | str, index: str = "") -> None:
        self.where += f" AND {test}"
        self.values += values
        self.look_up(index)

    def look_up(self, index: str) -> None:
        self.index = self.index or index

    @property
    def query(self) -> str:
        by = f"INDEXED BY {self.index}" if self.index else "NOT INDEXED"
        return f"SELECT place FROM records {by} WHERE place >= ? AND place < ?{self.where} ORDER BY place DESC"  # noqa: S608 - no value in it


def _names(text: str, below: str = "") -> tuple[str, list[str]] | None:
    """Return what a name has to satisfy: to be a text, or begin with what stands before a final `*`; below: or to go on with that. None: any."""
    text = text[:MAX_TEXT].lower().encode(errors="replace").decode()
    if not text:
        return None
    if below:
        return "(text = ? OR (text >= ? AND text < ?))", [text, text + below, text + chr(ord(below) + 1)]
    if text.endswith("*"):
        return "(text >= ? AND text < ?)", [text[:-1], text[:-1] + chr(0x10FFFF)]
    return "text = ?", [text]


def _short(text: str) -> int:
    """Return 64 bits that stand for an id."""
    return int.from_bytes(sha256(text.lower().encode(errors="replace")).digest()[:8], "big", signed=True)


def _unusable() -> Fault:
    """Return what a caller is told who may try again."""
    return Fault(FaultKind.UNAVAILABLE, "The index of the audit log cannot be used just now.", retry_after_s=1)
