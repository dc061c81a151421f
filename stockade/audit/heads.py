"""The signed heads of a log (`checkpoint.py`), in the file `heads` of its folder, and having the next one signed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias

from stockade.audit.checkpoint import DASH, MAX_NOTE, MAX_SIGNATURES, SignedHead, read_file, read_note
from stockade.audit.disk import sync_folder, to_disk, write_at
from stockade.audit.ledger import LogReader
from stockade.kernel.faults import Fault, FaultKind

FILE_NAME: Final = "heads"
MOST: Final = 20_000
"""Heads kept of one log, 6 MB. Above it they are thinned: the newest half stays, and of the older ones one an hour, the newest quarter of them."""
_NOTE: Final = re.compile(rb"(?:[^\n]+\n){4}\n(?:%s[^\n]+\n){1,%d}\n" % (DASH.encode(), MAX_SIGNATURES))

Sign: TypeAlias = Callable[[str, int, bytes, float, Sequence[bytes]], bytes]
"""`LogSigner.sign_tree_head`."""


class Heads:
    """The heads of one log, newest last. One process appends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._lock = Lock()
        self._end: int | None = None
        """Of what is whole in the file, as it was left here; None: not looked at yet."""
        self._count = 0

    def all(self) -> list[SignedHead]:
        """Return them, oldest first. Fault(UNAVAILABLE) for a damaged file."""
        return self.whole()[0]

    def whole(self) -> tuple[list[SignedHead], bytes]:
        """Return them, and what stands behind the last one: nothing, or half a head that a crash has left."""
        try:
            return self._parsed(self._path.read_bytes())
        except FileNotFoundError:
            return [], b""

    def newest(self) -> SignedHead | None:
        """Return the newest that is whole; None when there is none yet. Fault(UNAVAILABLE) when it is damaged."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * MAX_NOTE))
                data = file.read()
        except FileNotFoundError:
            return None
        found = _NOTE.findall(data)
        return self._parsed(found[-1])[0][0] if found else None

    def append(self, note: bytes) -> None:
        """Add a head; OSError leaves the file as it was. Durable when it returns."""
        read_note(note)
        with self._lock:
            data, created = note + b"\n", not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if self._end != os.fstat(descriptor).st_size:
                    self._end = self._look()
                end = self._end
                os.ftruncate(descriptor, end)
                try:
                    write_at(descriptor, data, end)
                    to_disk(descriptor)
                except OSError:
                    with suppress(OSError):
                        os.ftruncate(descriptor, end)
                    raise
            finally:
                os.close(descriptor)
            if created:
                sync_folder(self._path.parent)
            self._end, self._count = end + len(data), self._count + 1
            if self._count > MOST:
                self._thin()

    def _look(self) -> int:
        """Find where what is whole ends: a crash may have left half a head behind it."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return 0
        found, rest = self._parsed(data)
        self._count = len(found)
        return len(data) - len(rest)

    def _parsed(self, data: bytes) -> tuple[list[SignedHead], bytes]:
        try:
            return read_file(data)
        except Fault as fault:
            message = f"The tree heads of the audit log {self._path.parent.name} are damaged: {fault.message}"
            raise Fault(FaultKind.UNAVAILABLE, message) from fault

    def _thin(self) -> None:
        found = self.all()
        old, new = found[: -MOST // 2], found[-MOST // 2 :]
        hourly = {int(signed.head.time // 3600): signed for signed in old}
        kept = [*list(hourly.values())[-MOST // 4 :], *new]
        data = b"".join(signed.note + b"\n" for signed in kept)
        draft = self._path.with_name(f"{FILE_NAME}.new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            to_disk(file.fileno())
        draft.rename(self._path)
        sync_folder(self._path.parent)
        self._end, self._count = len(data), len(kept)


def sign_newest(log: LogReader, heads: Heads, sign: Sign, time: float) -> SignedHead | None:
    """Have the log signed as it stands, and keep the head; None when there is nothing new.

    Fault(CONFLICT) when the broker has signed what this log does not continue; Fault(UNAVAILABLE), OSError: try again.
    """
    size, newest = log.size, heads.newest()
    known = newest.head.size if newest is not None else 0
    if size == 0 or (newest is not None and size == known):
        return None
    if known > size:
        message = f"The audit log {log.name} has {size} records, and its newest head is of {known}."
        raise Fault(FaultKind.CONFLICT, message, details={"size": known})
    root = log.root(size)
    try:
        note = sign(log.name, size, root, time, log.consistency(known, size))
    except Fault as fault:
        # What it signed last may be newer than what was kept: somebody ended between the two.
        last = fault.details.get("size")
        if fault.kind is not FaultKind.CONFLICT or not isinstance(last, int) or not 0 < last <= size or last == known:
            raise
        note = sign(log.name, size, root, time, log.consistency(last, size))
    heads.append(note)
    return read_note(note)
