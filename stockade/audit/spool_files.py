r"""What lies in `audit/spool/`: names, lines, and whether a file's writer is still there.

Names:  `<13 digits: ms since the epoch>-<pid>-<8 hex>.<6 digits>.spool`. What stands before the last number is one writer's. It writes to its
        newest file only, and holds a lock on that for as long as it lives: a process that was killed lets go of it too.
Lines:  `<mark><log> <record as JSON>\n`. A line without its end was never acknowledged, and is dropped with its writer.
Mark:   `-`, or `+` for a record whose writer wants to know its place in the tree.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PLAIN: Final = b"-"
PLACED: Final = b"+"
SUFFIX: Final = ".spool"
_NAME: Final = re.compile(r"(\d{13}-\d+-[0-9a-f]{8})\.(\d{6})\.spool")


def folder_of(audit_dir: Path) -> Path:
    """Return where spools lie."""
    return audit_dir / "spool"


def head(mark: bytes, log: str) -> bytes:
    """Return what stands before the record in a line, the space included."""
    return b"%s%s " % (mark, log.encode())


def read_head(data: bytes) -> tuple[bool, str] | None:
    """Read what stands before the space: whether the record's place is wanted, and its log. None for what is none of ours."""
    if data[:1] not in (PLAIN, PLACED) or len(data) > 64 or not data.isascii() or b"/" in data:
        return None
    return data[:1] == PLACED, data[1:].decode()


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A file found in the folder. ended: its writer has begun another one."""

    name: str
    size: int
    ended: bool


def found(folder: Path) -> list[SpoolFile]:
    """Return the spools, each writer's in the order in which it wrote them. OSError when the folder cannot be read; none while there is no folder."""
    seen: list[tuple[str, int, str, int]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name)
                if match is None:
                    continue
                with contextlib.suppress(FileNotFoundError):  # taken in and removed this instant
                    seen.append((match[1], int(match[2]), entry.name, entry.stat(follow_symlinks=False).st_size))
    except FileNotFoundError:
        return []
    seen.sort()
    following = [*(one[0] for one in seen[1:]), ""][: len(seen)]
    return [
        SpoolFile(name, size, writer == next_) for (writer, _, name, size), next_ in zip(seen, following, strict=True)
    ]


def has_ended(path: Path) -> bool:
    """Say whether nobody writes to a spool any more. Not to be asked of one's own: the answer takes the lock for an instant."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def names() -> Iterator[str]:
    """Yield the names of one writer's files."""
    writer = f"{int(time.time() * 1000):013d}-{os.getpid()}-{secrets.token_hex(4)}"
    for number in range(1_000_000):
        yield f"{writer}.{number:06d}{SUFFIX}"


def create(folder: Path, name: str) -> int:
    """Make a spool that is locked from the first moment it can be seen, and return its descriptor; OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f".{name}"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(folder / name)
        sync_folder(folder)
    except BaseException:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        raise
    return descriptor


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
