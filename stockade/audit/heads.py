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
"""Heads kept of one log, about; 7 MB. Above it the newest half stays, and of the older ones one an hour, the newest quarter of them."""
_NOTE: Final = re.compile(rb"(?:[^\n]+\n){4}\n(?:%s[^\n]+\n){1,%d}\n" % (DASH.encode(), MAX_SIGNATURES))

Sign: TypeAlias = Callable[[str, int, bytes, float, Sequence[bytes]], bytes]
"""`LogSigner.sign_tree_head`."""


class Heads:
    """The heads of one log, newest last. One process appends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._lock = Lock()

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
                return self._last(file.fileno())[0]
        except FileNotFoundError:
            return None

    def append(self, note: bytes) -> None:
        """Add a head; OSError leaves the file as it was. Durable when it returns. Half a head that a crash has left is cut off."""
        read_note(note)
        data = note + b"\n"
        with self._lock:
            created = not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                end = self._last(descriptor)[1]
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
            if end > MOST * len(data):
                self._thin()

    def _last(self, descriptor: int) -> tuple[SignedHead | None, int]:
        """Return the last head that is whole, and where it ends."""
        size = os.fstat(descriptor).st_size
        start = max(0, size - 2 * MAX_NOTE)
        found = None
        for match in _NOTE.finditer(os.pread(descriptor, 2 * MAX_NOTE, start)):
            found = match
        end = start + found.end() if found is not None else 0
        if size - end > MAX_NOTE:
            raise self._damaged("what stands last is more than half a head")
        return self._parsed(found[0])[0][0] if found is not None else None, end

    def _parsed(self, data: bytes) -> tuple[list[SignedHead], bytes]:
        try:
            return read_file(data)
        except Fault as fault:
            raise self._damaged(fault.message) from fault

    def _damaged(self, what: str) -> Fault:
        message = f"The tree heads of the audit log {self._path.parent.name} are damaged: {what}"
        return Fault(FaultKind.UNAVAILABLE, message)

    def _thin(self) -> None:
        found = self.all()
        old, new = found[: -MOST // 2], found[-MOST // 2 :]
        hourly = {int(signed.head.time // 3600): signed for signed in old}
        # By size: an hour comes twice where a rehearsal's time was set back.
        kept = [*sorted(hourly.values(), key=lambda signed: signed.head.size)[-MOST // 4 :], *new]
        data = b"".join(signed.note + b"\n" for signed in kept)
        draft = self._path.with_name(f"{FILE_NAME}.new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            to_disk(file.fileno())
        draft.rename(self._path)
        sync_folder(self._path.parent)


def sign_newest(log: LogReader, heads: Heads, sign: Sign, time: float, *, ask: bool = False) -> SignedHead | None:
    """Have the log signed as it stands, and keep the head; None when there is nothing new.

    ask: also then, to hear whether the broker knows of more: a log that was rolled back with its heads has nothing new.

    Fault(CONFLICT) when the broker has signed what this log does not continue; Fault(UNAVAILABLE), OSError: try again.
    """
    size, newest = log.size, heads.newest()
    known = newest.head.size if newest is not None else 0
    is_new = newest is None or size != known
    if size == 0 or not (is_new or ask):
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
    if not is_new:
        return None
    heads.append(note)
    return read_note(note)
