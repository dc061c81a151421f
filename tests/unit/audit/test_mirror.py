"""The copy: whole and without repetition, caught up with after it could not be written, rotated, and readable beside its writer."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stockade.audit import mirror as mirror_module
from stockade.audit.journal import Journal
from stockade.audit.mirror import FILE_NAME, Mirror
from tests.factories.audit import MemoryLogs, copied


class Copy:
    """Logs, and the copy of them."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.logs = folder, MemoryLogs()
        self.options = {"rotate_bytes": 1 << 20, "keep_files": 20, **options}
        self.mirror = self.new()

    def new(self, ends: Mapping[str, int] | None = None) -> Mirror:
        """Return what follows when the mirror was killed."""
        self.mirror = Mirror(self.folder, self.folder, self.logs.writer, lambda: list(self.logs), **self.options)  # type: ignore[arg-type]
        self.mirror.open(ends or {})
        return self.mirror

    def add(self, name: str, *ids: str, handed: bool = True, kept: bool = True) -> None:
        lines = [b'{"id":"%s"}' % one.encode() for one in ids]
        if handed:
            self.mirror.hand(name, self.logs[name].size, lines)
        if kept:
            self.logs[name].append(lines)
            self.logs[name].sync()

    def ids(self) -> list[str]:
        return [one["id"] for one in copied(self.folder)]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


def test_what_is_handed_over_is_copied_once(copy: Copy) -> None:
    copy.add("platform", "1", "2")
    copy.add("sub", "3")
    assert copy.mirror.write_out()
    assert copy.ids() == ["1", "2", "3"]
    copy.add("sub", "4")
    assert copy.mirror.write_out()
    assert copy.new().write_out()
    assert copy.ids() == ["1", "2", "3", "4"]
    assert (copy.folder / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_what_was_missed_comes_from_the_logs(copy: Copy) -> None:
    copy.add("platform", "1")
    copy.add("platform", "2", handed=False)
    copy.add("sub", "3", handed=False)
    copy.add("platform", "4")
    assert copy.mirror.write_out()
    assert sorted(copy.ids()) == ["1", "2", "3", "4"]
    assert copy.ids().index("2") < copy.ids().index("4"), "each log in its order"


def test_it_may_be_ahead_of_a_log_that_cannot_be_written(copy: Copy) -> None:
    copy.add("platform", "1", kept=False)
    assert copy.mirror.write_out()
    copy.add("platform", "1", handed=False)
    copy.add("platform", "2")
    assert copy.mirror.write_out()
    assert copy.new().write_out()
    assert copy.ids() == ["1", "2"]


def test_full_memory_is_no_loss(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "HELD_BYTES", 100)
    monkeypatch.setattr(mirror_module, "WRITE_BYTES", 50)
    for number in range(40):
        copy.add("platform", str(number))
    while not copy.mirror.write_out():
        pass
    assert copy.ids() == [str(number) for number in range(40)]
    assert copy.mirror._held == 0


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("place", ["write", "fdatasync", "remember"])
@pytest.mark.parametrize("old", [False, True], ids=["begun", "from an older version"])
def test_kill_between_writing_and_remembering_repeats_nothing(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, place: str, old: bool
) -> None:
    if old:
        (copy.folder / FILE_NAME).write_bytes(b'{"id":"old"}\n{"id":"torn by a kill')
    else:
        copy.add("platform", "old")
        copy.mirror.write_out()
    copy.add("platform", *(str(number) for number in range(5)))
    with monkeypatch.context() as patch:
        if place == "remember":
            patch.setattr(Mirror, "_remember", lambda *_: (_ for _ in ()).throw(Killed))
        else:
            real = getattr(os, place)

            def deadly(file: int, *data: Any) -> Any:
                if Path(f"/proc/self/fd/{file}").readlink().name == FILE_NAME:
                    if data:
                        real(file, data[0][:20])
                    raise Killed
                return real(file, *data)

            patch.setattr(mirror_module.os, place, deadly)
        with pytest.raises(Killed):
            copy.mirror.write_out()
    copy.new().write_out()
    text = (copy.folder / FILE_NAME).read_text().splitlines()
    assert text[0] == '{"id":"old"}'
    assert text[1 + old :] == [f'{{"id":"{number}"}}' for number in range(5)]


def test_full_disk_is_said_cut_clean_and_caught_up_with(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    copy.add("platform", "1")
    copy.mirror.write_out()
    with monkeypatch.context() as patch:
        patch.setattr(
            mirror_module.os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left"))
        )
        copy.add("platform", "2")
        assert not copy.mirror.write_out()
        assert copy.mirror.why == "No space left"
    assert copy.ids() == ["1"]
    copy.add("platform", "3")
    assert copy.mirror.write_out()
    assert (copy.mirror.why, copy.ids()) == ("", ["1", "2", "3"])


def test_folder_that_is_not_there_is_made_when_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("in the way")
    logs = MemoryLogs()
    mirror = Mirror(tmp_path / "place", tmp_path, logs.writer, lambda: list(logs), rotate_bytes=1 << 20, keep_files=2)  # type: ignore[arg-type]
    mirror.start({})
    mirror.hand("platform", 0, [b'{"id":"1"}'])
    until(lambda: mirror.why != "")
    (tmp_path / "place").unlink()
    until(lambda: list(copied(tmp_path / "place")))
    until(lambda: mirror.why == "")
    mirror.close()


def test_disk_that_hangs_holds_up_nobody(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, real = threading.Event(), os.fdatasync
    monkeypatch.setattr(mirror_module.os, "fdatasync", lambda file: (hanging.wait(20), real(file)))
    copy.mirror.start({})
    begun = time.monotonic()
    for number in range(100):
        copy.add("platform", str(number))
    assert time.monotonic() - begun < 1
    hanging.set()
    copy.mirror.close()
    assert copy.ids() == [str(number) for number in range(100)]


def test_rotation_keeps_so_many_files_and_loses_nothing_between_them(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "copy", rotate_bytes=150, keep_files=3)
    for number in range(60):
        copy.add("platform", f"{number:04}")
        copy.mirror.write_out()
    names = sorted(path.name for path in copy.folder.glob("audit*.jsonl"))
    assert len(names) == 4
    assert names[-1] == FILE_NAME
    found = [int(one) for one in copy.ids()]
    assert found == list(range(found[0], 60))
    copy.new().write_out()
    assert [int(one) for one in copy.ids()] == found


def test_log_that_was_begun_anew_is_not_taken_for_known(copy: Copy) -> None:
    copy.add("platform", "1", "2", "3")
    copy.mirror.write_out()
    copy.logs["platform"].lines.clear()
    copy.new()
    copy.add("platform", "4")
    copy.mirror.write_out()
    assert copy.ids() == ["1", "2", "3", "4"]


def test_what_retention_has_removed_is_not_waited_for(copy: Copy) -> None:
    copy.add("platform", "1", "2", "3", handed=False)
    copy.logs["platform"].first = 2
    assert copy.mirror.write_out()
    assert copy.ids() == ["3"]


def test_what_it_remembers_stays_small(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.audit.journal.COMPACT_BYTES", 500)
    for number in range(60):
        copy.add(f"log{number % 3}", str(number))
        copy.mirror.write_out()
    assert (copy.folder / mirror_module.STATE_NAME).stat().st_size < 700
    copy.new().write_out()
    assert copy.ids() == [str(number) for number in range(60)]


def test_journal_counts_whole_lines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "state")
    assert journal.read() == []
    journal.append({"one": 1})
    with (tmp_path / "state").open("ab") as file:
        file.write(b'{"two":')
    journal = Journal(tmp_path / "state")
    assert journal.read() == [{"one": 1}]
    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        with pytest.raises(OSError, match="Input"):
            journal.append({"three": 3})
    journal.append({"four": 4})
    journal.close()
    assert Journal(tmp_path / "state").read() == [{"one": 1}, {"four": 4}]


def until(condition: Any, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
