"""A small file that remembers how far something has come: lines of JSON, each there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from stockade.audit.spool_files import sync_folder

COMPACT_BYTES: Final = 1024 * 1024

_encode = msgspec.json.Encoder().encode


class Journal:
    """Appends entries, and begins anew when it has become large. Not for several threads. OSError leaves it as it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._size, self._torn = -1, 0, False

    @property
    def large(self) -> bool:
        """Whether it is time for `replace`."""
        return self._size > COMPACT_BYTES

    def read(self) -> list[dict[str, Any]]:
        """Return what stands in it, and be ready for more. A last line without its end never counted."""
        path = self._path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.close()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        data = path.read_bytes()
        found: list[dict[str, Any]] = []
        self._size, self._torn = 0, True
        for line in data.split(b"\n")[:-1]:
            try:
                found.append(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.DecodeError:
                break  # a power cut in the middle of what was not synced
            self._size += len(line) + 1
        self._mend()
        return found

    def append(self, entry: dict[str, Any], *, sync: bool = True) -> None:
        """Add an entry and return when it is on disk; not `sync`: when the system has it, for what may be forgotten in a power cut."""
        self._mend()
        data = _encode(entry) + b"\n"
        self._torn = True
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            if sync:
                os.fdatasync(self._file)
        except OSError:
            self._mend()
            raise
        self._size += len(data)
        self._torn = False

    def replace(self, entries: Iterable[dict[str, Any]]) -> None:
        """Put these in the place of everything."""
        draft = self._path.with_name(f".{self._path.name}")
        file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            data = b"".join(_encode(entry) + b"\n" for entry in entries)
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
            os.fsync(file)
            draft.replace(self._path)
        except OSError:
            os.close(file)
            raise
        self.close()
        self._file, self._size, self._torn = file, len(data), False
        sync_folder(self._path.parent)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _mend(self) -> None:
        if self._torn:
            os.ftruncate(self._file, self._size)
            self._torn = False
