"""A log whose writer is killed before each of its writes, with the power gone too: what was synced is there, whole, and the log goes on."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from stockade.audit.heads import Heads
from stockade.audit.store import Logs
from stockade.audit.writing import Writer
from tests.factories import merkle
from tests.factories.cut_disk import Disk, Killed, in_memory
from tests.factories.logs import LOG, Signer, lines

SEGMENT_BYTES = 150
SIGNER = Signer()


class Told:
    """What somebody has been told about a log: from when on it may not be lost, and what may be gone."""

    def __init__(self) -> None:
        self.synced = self.head = self.pruned = 0


def live(audit_dir: Path, told: Told, writers: list[Writer]) -> None:
    """Write a log's life: segments, syncs, heads, retention within a segment, of whole ones, and of all."""
    writer = Logs(audit_dir, SEGMENT_BYTES).writer(LOG)
    writers.append(writer)
    heads = Heads(writer.folder)

    def write(*counts: int) -> None:
        end = writer.append([])
        for count in counts:
            end = writer.append(lines(count, end)) + count
        writer.sync()
        told.synced = end

    def prune(before: int) -> None:
        told.pruned = before
        writer.prune(before)

    def sign() -> None:
        heads.append(SIGNER.sign(LOG, writer.size, writer.root(), 1000.0, []))
        told.head = writer.size

    write(3)
    sign()
    write(2, 6, 1, 9)
    sign()
    prune(7)
    write(4)
    prune(writer.size)
    write(5, 5)
    sign()
    writer.append(lines(1, writer.size))


def died(audit_dir: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int | None) -> tuple[Disk, Told]:
    told, writers = Told(), list[Writer]()
    with monkeypatch.context() as patch:
        disk = Disk(audit_dir.parent, patch, kill_at)
        with suppress(Killed):
            live(audit_dir, told, writers)
    open_files = {path: int(path.name) for path in Path("/proc/self/fd").iterdir()}
    for path, descriptor in open_files.items():  # as the system does it for a process that has ended
        with suppress(OSError):
            if str(audit_dir) in str(path.readlink()):
                os.close(descriptor)
    return disk, told


def check(audit_dir: Path, told: Told) -> None:
    writer = Logs(audit_dir, SEGMENT_BYTES).writer(LOG)
    try:
        size = writer.size
        assert told.synced <= size <= 35
        assert writer.first <= told.pruned
        assert list(writer.records(0)) == list(enumerate(lines(size)))[writer.first :]
        assert writer.root() == merkle.mth(lines(size))
        newest = Heads(writer.folder).newest()
        assert (newest.head.size if newest is not None else 0) >= told.head
        assert all(signed.head.root == merkle.mth(lines(signed.head.size)) for signed in Heads(writer.folder).all())
        assert writer.append(lines(2, size)) == size
        writer.sync()
        assert writer.root() == merkle.mth(lines(size + 2))
    finally:
        writer.close()


def test_killed_before_each_of_its_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    with in_memory() as folder:
        kill_everywhere(folder, monkeypatch)


def kill_everywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, told = died(folder / "whole" / "audit", monkeypatch, None)
    assert told.synced == 35
    assert whole.operations > 100
    for kill_at in range(1, whole.operations + 1):
        audit_dir = folder / str(kill_at) / "audit"
        disk, told = died(audit_dir, monkeypatch, kill_at)
        for number in range(2):
            copy = folder / "copy" / "audit"
            if number:  # the first time without a power cut
                disk.cut_power(Random(1000 * kill_at + number))
            shutil.copytree(audit_dir, copy, dirs_exist_ok=False)
            check(copy, told)
            shutil.rmtree(copy)
        shutil.rmtree(audit_dir)
