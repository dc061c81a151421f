"""Writing a log: what is synced counts and nothing else does; what does not add up is said, and not mended."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from stockade.audit import tree
from stockade.audit.reading import END, PLACE, Reader
from stockade.audit.store import Logs
from stockade.audit.writing import Writer
from stockade.kernel.faults import Fault, FaultKind
from tests.factories import merkle
from tests.factories.logs import LOG, filled, lines


def kept(log: Reader) -> list[tuple[int, bytes]]:
    return list(log.records(0))


def test_what_was_appended_is_there_after_a_sync(tmp_path: Path) -> None:
    logs = Logs(tmp_path, segment_bytes=300)
    writer, reader = logs.writer(LOG), logs.reader(LOG)
    assert writer.append(lines(5)) == 0
    assert (reader.size, writer.size, kept(reader)) == (0, 0, [])
    writer.sync()
    assert writer.append(lines(3, 5)) == 5
    assert writer.append([]) == 8
    assert reader.size == 5
    writer.sync()
    assert kept(reader) == kept(writer) == list(enumerate(lines(8)))
    assert reader.root() == writer.root() == merkle.mth(lines(8))
    assert reader.root(5) == merkle.mth(lines(5))
    assert reader.inclusion(3, 8) == merkle.path(3, lines(8))
    assert reader.consistency(5, 8) == merkle.proof(5, lines(8))


def test_it_goes_on_where_it_was_synced(tmp_path: Path) -> None:
    logs = filled(tmp_path, [40])
    logs.writer(LOG).append(lines(30, 40))
    logs.close()
    writer = Logs(tmp_path, segment_bytes=300).writer(LOG)
    assert writer.append([b"other"]) == 40
    writer.sync()
    assert kept(writer) == list(enumerate([*lines(40), b"other"]))
    assert writer.root() == merkle.mth([*lines(40), b"other"])


def test_a_record_is_one_line(tmp_path: Path) -> None:
    writer = Logs(tmp_path).writer(LOG)
    with pytest.raises(ValueError, match="one line"):
        writer.append([b"a", b"b\nc"])
    assert writer.append([b"a"]) == 0


def test_one_process_writes(tmp_path: Path) -> None:
    writer = Logs(tmp_path).writer(LOG)
    with pytest.raises(Fault, match="Another process") as raised:
        Logs(tmp_path).writer(LOG)
    assert raised.value.kind is FaultKind.CONFLICT
    writer.close()
    Logs(tmp_path).writer(LOG)


def test_segments_begin_when_one_is_full(tmp_path: Path) -> None:
    writer = Logs(tmp_path, segment_bytes=100).writer(LOG)
    for number in range(20):
        writer.append(lines(1, number))
    writer.sync()
    segments = sorted(tmp_path.rglob("*.jsonl"))
    assert len(segments) > 3
    assert b"".join(path.read_bytes() for path in segments) == b"".join(line + b"\n" for line in lines(20))
    assert all(path.stat().st_mode & 0o77 == 0 for path in (tmp_path / "logs").rglob("*"))


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> Callable[[], None]:
    """Let so many writes through, and half of the next one."""
    left, write = [after], os.pwrite

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        if left[0] == 0:
            write(descriptor, memoryview(data)[: len(data) // 2], at)
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "no space")
        left[0] -= 1
        return write(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return lambda: monkeypatch.setattr(os, "pwrite", write)


@pytest.mark.parametrize("after", range(3))
def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    writer = Logs(tmp_path).writer(LOG)
    writer.append(lines(5))
    room = full_disk(monkeypatch, after)
    with pytest.raises(OSError, match="no space"):
        writer.append(lines(9, 5))
    room()
    assert (writer.folder / "hashes").stat().st_size == tree.HASH * tree.hashes_of(5)
    assert writer.append(lines(2, 5)) == 5
    writer.sync()
    assert kept(writer) == list(enumerate(lines(7)))
    assert writer.root() == merkle.mth(lines(7))


@pytest.mark.parametrize("fails", range(5))
def test_a_sync_that_fails_goes_back_to_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """Which call fails: of lines, ends, hashes, the folder (a new segment), size."""
    writer = filled(tmp_path, [30], segment_bytes=100).writer(LOG)
    writer.append(lines(9, 30))
    left, sync = [fails], os.fdatasync

    def syncing(descriptor: int) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(errno.EIO, "gone")
        sync(descriptor)

    for module in ("disk", "writing"):
        monkeypatch.setattr(f"stockade.audit.{module}.to_disk", syncing)
    with pytest.raises(OSError, match="gone"):
        writer.sync()
    assert (writer.size, kept(writer)) == (30, list(enumerate(lines(30))))
    assert writer.append(lines(4, 30)) == 30
    writer.sync()
    assert kept(Reader(writer.folder)) == list(enumerate(lines(34)))
    assert writer.root() == merkle.mth(lines(34))


# What is damaged.


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def segment(folder: Path, which: int, suffix: str) -> Path:
    return sorted(folder.glob(f"*.{suffix}"))[which]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "hashes are cut": lambda folder: os.truncate(folder / "hashes", 32),
    "hashes are gone": lambda folder: (folder / "hashes").unlink(),
    "the newest hash differs": lambda folder: flip(folder / "hashes", -1),
    "size is gone": lambda folder: (folder / "size").unlink(),
    "size is empty": lambda folder: (folder / "size").write_bytes(b""),
    "size is nonsense": lambda folder: (folder / "size").write_bytes(b"x" * 2 * PLACE),
    "size is an older one": lambda folder: (folder / "size").write_bytes((folder / "size.old").read_bytes()),
    "a segment is gone": lambda folder: segment(folder, 1, "jsonl").unlink(),
    "a segment's ends are gone": lambda folder: segment(folder, 1, "ends").unlink(),
    "the newest segment is gone": lambda folder: segment(folder, -1, "jsonl").unlink(),
    "the newest segment is cut": lambda folder: os.truncate(segment(folder, -1, "jsonl"), 20),
    "the newest ends are cut": lambda folder: os.truncate(segment(folder, -1, "ends"), 4),
    "the newest end differs": lambda folder: flip(segment(folder, -1, "ends"), -8),
    "the newest record differs": lambda folder: flip(segment(folder, -1, "jsonl"), -3),
    "all segments are gone": lambda folder: [path.unlink() for path in folder.glob("*.jsonl")],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_said_and_not_mended(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    logs = filled(tmp_path, [20], segment_bytes=200)
    folder = logs.writer(LOG).folder
    (folder / "size.old").write_bytes((folder / "size").read_bytes())
    logs.close()
    filled(tmp_path, [30, 60], segment_bytes=200).close()
    damage(folder)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.suffix != ".ends"}
    for _ in range(2):
        with pytest.raises(Fault, match="is damaged") as raised:
            Writer(folder).open()
        assert raised.value.kind is FaultKind.UNAVAILABLE
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("place", [0, PLACE])
@pytest.mark.parametrize("at", [0, 20, 60])
def test_one_damaged_place_of_size_loses_nothing(tmp_path: Path, place: int, at: int) -> None:
    logs = filled(tmp_path, [20, 30])
    logs.close()
    folder = logs.folder / LOG
    flip(folder / "size", place + at)
    assert Reader(folder).size == 30
    writer = Writer(folder)
    writer.open()
    assert kept(writer) == list(enumerate(lines(30)))


def test_what_lies_behind_what_counts_is_cut_off(tmp_path: Path) -> None:
    logs = filled(tmp_path, [30], segment_bytes=200)
    logs.close()
    folder = logs.folder / LOG
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    for path in (folder / "hashes", segment(folder, -1, "ends"), segment(folder, -1, "jsonl")):
        with path.open("ab") as file:
            file.write(b"half of a rec")
    for name in (f"{31:016d}.jsonl", f"{31:016d}.ends", f"{30:016d}.ends", f"{7:016d}.jsonl.new", f"{7:016d}.ends.new"):
        (folder / name).write_bytes(b"left")
    assert kept(Reader(folder)) == list(enumerate(lines(30)))
    Writer(folder).open()
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == sizes


# Retention.


@pytest.mark.parametrize("before", [0, 1, 17, 59, 60])
def test_pruning_removes_exactly_what_is_below(tmp_path: Path, before: int) -> None:
    logs = filled(tmp_path, [25, 60], segment_bytes=200)
    writer, reader = logs.writer(LOG), logs.reader(LOG)
    list(reader.records(0))  # so that it knows the segments as they were
    writer.append(lines(1, 60))
    writer.prune(before)
    assert writer.first == reader.first == before
    assert kept(reader) == list(enumerate(lines(61)))[before:]
    assert b"".join(path.read_bytes() for path in sorted(writer.folder.glob("*.jsonl"))).count(b"\n") == 61 - before
    assert reader.root(25) == merkle.mth(lines(25))
    assert reader.inclusion(3, 61) == merkle.path(3, lines(61))
    logs.close()
    again = Logs(tmp_path).writer(LOG)
    assert again.append(lines(2, 61)) == 61
    again.sync()
    assert kept(again) == list(enumerate(lines(63)))[before:]
    again.prune(max(0, before - 1))
    assert again.first == before


def test_a_full_disk_leaves_nothing_of_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = filled(tmp_path, [60], segment_bytes=100_000).writer(LOG)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr("stockade.audit.writing.to_disk", full)
        with pytest.raises(OSError, match="no space"):
            writer.prune(20)
    assert not list(writer.folder.glob("*.new"))
    assert kept(writer) == list(enumerate(lines(60)))
    writer.prune(20)
    assert writer.first == 20


def test_pruning_all_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    writer = filled(tmp_path, [30]).writer(LOG)
    writer.prune(30)
    assert (writer.size, writer.first, kept(writer)) == (30, 30, [])
    writer.close()
    assert writer.append(lines(2, 30)) == 30
    writer.sync()
    assert kept(writer) == [(30, lines(1, 30)[0]), (31, lines(1, 31)[0])]
    with pytest.raises(ValueError, match="has 32 records"):
        writer.prune(33)


def test_a_reader_goes_on_while_what_it_reads_is_pruned(tmp_path: Path) -> None:
    logs = filled(tmp_path, [60], segment_bytes=200)
    reading = logs.reader(LOG).records(0)
    assert next(reading) == (0, lines(1)[0])
    logs.writer(LOG).prune(50)
    rest = list(reading)
    assert rest[-10:] == list(enumerate(lines(60)))[50:]
    assert [index for index, _ in rest] == sorted({index for index, _ in rest})


def test_ends_that_contradict_themselves_are_damage(tmp_path: Path) -> None:
    logs = filled(tmp_path, [10], segment_bytes=100_000)
    folder = logs.folder / LOG
    ends = bytearray(segment(folder, 0, "ends").read_bytes())
    ends[END : 2 * END] = struct.pack("<Q", 1)
    segment(folder, 0, "ends").write_bytes(ends)
    with pytest.raises(Fault, match="end before they begin"):
        kept(Reader(folder))
