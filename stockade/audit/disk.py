"""Bytes and names that are on disk when they are said to be."""

from __future__ import annotations

import os
from pathlib import Path

to_disk = getattr(os, "fdatasync", os.fsync)
"""Waits for a file's bytes, and for its length where that has changed."""


def write_at(descriptor: int, data: bytes, at: int) -> None:
    """Write all of it at a place in a file; OSError, and then some of it may be there."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def sync_folder(folder: Path) -> None:
    """See to it that a name that was put into a folder, or taken out of it, stays so."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
