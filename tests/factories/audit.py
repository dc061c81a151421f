"""Audit records without an audit process: spools are taken in where a test reads them back, and logs that fail when they are told to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stockade.audit.keeper import Keeper
from stockade.audit.ledger import LogWriter
from stockade.audit.mirror import FILE_NAME
from stockade.audit.spool import Spool
from stockade.audit.store import Logs
from stockade.kernel.clock import SystemClock
from stockade.kernel.record import AuditRecord
from stockade.settings import Settings


def record(name: object = "1", **members: Any) -> AuditRecord:
    """Return a record with an id of one's own."""
    values: dict[str, Any] = {
        "time": 1.0,
        "id": str(name),
        "category": "Audit",
        "phase": "intent",
        "operation": "Op",
        **members,
    }
    return AuditRecord(**values)


def take_in(settings: Settings) -> int:
    """Do what the audit process does, once: take in what lies in the spools of a data directory. Returns how many records."""
    keeper = Keeper(settings, SystemClock(), Spool(settings))
    keeper.open()
    count = keeper.run_once()
    keeper.close()
    return count


def read_back(settings: Settings, *spools: Spool) -> list[dict[str, Any]]:
    """Return every record that was ever made, oldest first, having written out what these spools hold."""
    for spool in spools:
        spool.flush()
    take_in(settings)
    return list(copied(settings.mirror_dir))


def copied(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what the plain copy holds, its rotated files first."""
    for file in [*sorted(folder.glob("audit-*.jsonl")), folder / FILE_NAME]:
        if file.exists():
            yield from (json.loads(line) for line in file.read_bytes().splitlines())


def logged(data_dir: Path) -> list[dict[str, Any]]:
    """Return everything in the logs of a data directory, while a platform writes to them too: whole records only."""
    logs = Logs(Settings(data_dir=data_dir).audit_dir)
    return [json.loads(line) for name in logs.names() for _, line in logs.reader(name).records(0)]


class MemoryLog:
    """A log in memory, with the rules of `LogWriter`: only what was synced counts, and a failure leaves it as it was."""

    def __init__(self, name: str = "platform") -> None:
        self.name, self.lines, self.first = name, list[bytes](), 0
        self._unsynced: list[bytes] = []
        self.fails: OSError | None = None

    @property
    def size(self) -> int:
        return len(self.lines)

    def records(self, start: int, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        yield from list(enumerate(self.lines))[start:end]

    def append(self, lines: Sequence[bytes]) -> int:
        if self.fails is not None:
            raise self.fails
        self._unsynced += lines
        return len(self.lines) + len(self._unsynced) - len(lines)

    def sync(self) -> None:
        self.lines += self._unsynced
        self._unsynced = []

    def ids(self) -> list[str]:
        return [json.loads(line)["id"] for line in self.lines]


class MemoryLogs(dict[str, MemoryLog]):
    """Logs by name, made when they are asked for."""

    def __missing__(self, name: str) -> MemoryLog:
        return self.setdefault(name, MemoryLog(name))

    def writer(self, name: str) -> LogWriter:
        return self[name]  # type: ignore[return-value]
