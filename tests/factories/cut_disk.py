"""A disk under a log's writer that can be cut off at any operation, and then has only what was synced, or some of what was not.

The process dies before the n-th operation (of a write, half is done). A power cut after that takes back, of each file and of each name in a folder,
whatever was not synced, or not: as chance has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest


@contextmanager
def in_memory() -> Iterator[Path]:
    """Make a folder that needs no real disk, where this system has one: what a disk would lose is pretended anyway."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as found:
        yield Path(found)


class Killed(BaseException):
    """The process is no more: nothing catches it, and nothing works after it."""


class Disk:
    """Watches the folders below one. operations: how many there have been; kill_at: before which one everything ends."""

    def __init__(self, below: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int | None = None) -> None:
        self.below, self.kill_at, self.operations = below, kill_at, 0
        self._content: dict[int, bytes] = {}
        """What was synced of each file, by its number on the disk."""
        self._names: dict[Path, dict[str, int]] = {}
        """The names that were synced in each folder."""
        pwrite, ftruncate = os.pwrite, os.ftruncate
        unlink, rename = Path.unlink, Path.rename

        def written(descriptor: int, data: Any, at: int) -> int:
            if self._dies():
                pwrite(descriptor, memoryview(data)[: len(data) // 2], at)
                raise Killed
            return pwrite(descriptor, data, at)

        def counted(operation: Any) -> Any:
            def done(*arguments: Any, **named: Any) -> Any:
                if self._dies():
                    raise Killed
                return operation(*arguments, **named)

            return done

        def synced(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").resolve()
            self._content[os.fstat(descriptor).st_ino] = path.read_bytes() if path.exists() else b""

        def names_synced(folder: Path) -> None:
            self._names[folder] = {path.name: path.stat().st_ino for path in folder.iterdir()}

        monkeypatch.setattr(os, "pwrite", written)
        monkeypatch.setattr(os, "ftruncate", counted(ftruncate))
        monkeypatch.setattr(Path, "unlink", counted(unlink))
        monkeypatch.setattr(Path, "rename", counted(rename))
        for module in ("disk", "writing", "heads"):
            monkeypatch.setattr(f"stockade.audit.{module}.to_disk", counted(synced))
            monkeypatch.setattr(f"stockade.audit.{module}.sync_folder", counted(names_synced))

    def cut_power(self, chance: Random) -> None:
        """Take back what was not synced, or some of it. After the patches are undone."""
        for folder, synced in self._names.items():
            if folder == self.below or not folder.exists():
                continue
            now = {path.name: path for path in folder.iterdir() if path.is_file()}
            for name, path in now.items():
                number = path.stat().st_ino
                if synced.get(name) != number and chance.random() < 0.5:
                    path.unlink()
                elif chance.random() < 0.5:
                    path.write_bytes(self._content.get(number, b""))
            for name, number in synced.items():
                if not (folder / name).exists() and number in self._content and chance.random() < 0.5:
                    (folder / name).write_bytes(self._content[number])

    def _dies(self) -> bool:
        self.operations += 1
        return self.kill_at is not None and self.operations >= self.kill_at
