"""All logs of a data directory, by name: `reading.py` reads one, `writing.py` writes one."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from threading import RLock
from typing import Final

from stockade.audit.ledger import PLATFORM_LOG
from stockade.audit.reading import Reader
from stockade.audit.writing import SEGMENT_BYTES, Writer
from stockade.kernel.faults import Fault, FaultKind

FOLDER: Final = "logs"
"""In the audit folder of the data directory."""
OPEN_AT_ONCE: Final = 64
"""Logs that a process has open for writing; four files each."""

_NAME: Final = re.compile(rf"{PLATFORM_LOG}|[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")


def check_name(name: str) -> None:
    """Raise Fault(INVALID) for what is no log's name: `platform`, or a subscription's GUID in lower case."""
    if _NAME.fullmatch(name) is None:
        raise Fault(FaultKind.INVALID, f"'{name[:60]}' is no log: there are `{PLATFORM_LOG}` and one per subscription.")


class Logs:
    """All logs below a folder, by name. Fault(INVALID) for what is no log's name."""

    def __init__(self, audit_dir: Path, segment_bytes: int = SEGMENT_BYTES, open_at_once: int = OPEN_AT_ONCE) -> None:
        self.folder = audit_dir / FOLDER
        self._segment_bytes, self._open_at_once = segment_bytes, open_at_once
        self._lock = RLock()
        self._readers: dict[str, Reader] = {}
        self._writers: OrderedDict[str, Writer] = OrderedDict()
        """Least lately used first."""

    def names(self) -> list[str]:
        """Return the logs there are, `platform` last."""
        try:
            found = [path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name) is not None]
        except FileNotFoundError:
            return []
        return sorted(found)

    def reader(self, name: str) -> Reader:
        """Return what reads a log. One that has not begun is empty."""
        check_name(name)
        with self._lock:
            found = self._readers.get(name)
            if found is None:
                found = Reader(self.folder / name)
                if found.folder.exists():
                    self._readers[name] = found
            return found

    def writer(self, name: str) -> Writer:
        """Return what writes a log, opened; it may be used until `close`, and opens its files again after others were in turn."""
        check_name(name)
        with self._lock:
            found = self._writers.get(name)
            if found is None:
                found = self._writers[name] = Writer(self.folder / name, self._segment_bytes)
            self._writers.move_to_end(name)
            too_many = sum(writer.is_open for writer in self._writers.values()) - self._open_at_once
            for writer in list(self._writers.values()) if too_many >= 0 else ():
                if too_many < 0:
                    break
                if writer is not found and writer.is_open and writer.rest():
                    too_many -= 1
        found.open()
        return found

    def close(self) -> None:
        """Let go of every file, and of what was not synced."""
        with self._lock:
            for writer in self._writers.values():
                writer.close()
            self._writers.clear()
