"""Tests of appending to files elsewhere: whole or not at all, and on disks that are full or hang."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from stockade.audit.appending import Appender, append_durably, path_of


def test_lines_are_added(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_durably(path, b"one\n")
    append_durably(path, b"two\nthree\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_half_of_a_line_swallows_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\nhal")
    append_durably(path, b"two\n")
    assert path.read_bytes() == b"one\nhal\ntwo\n"


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\n")
    write, room = os.write, [5]

    def full(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, bytes(data)[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            append_durably(path, b"two\nthree\n")
    assert path.read_bytes() == b"one\n"
    append_durably(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


async def test_work_that_hangs_is_given_up_and_keeps_later_work_out_until_it_ends() -> None:
    appender, goes_on, done = Appender(), threading.Event(), list[str]()

    def hang() -> None:
        goes_on.wait(10)
        done.append("first")

    for _ in range(2):
        with pytest.raises(TimeoutError):
            await appender.run(hang, 0.05)
    goes_on.set()
    await appender.run(lambda: done.append("second"), 5)
    assert done == ["first", "second"], "what waited for its turn in vain was not begun"


async def test_what_fails_after_it_was_given_up_is_nobodys_failure(caplog: pytest.LogCaptureFixture) -> None:
    appender, goes_on = Appender(), threading.Event()

    def fail() -> None:
        goes_on.wait(10)
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(TimeoutError):
        await appender.run(fail, 0.05)
    goes_on.set()
    await appender.run(lambda: None, 5)
    with pytest.raises(OSError, match="Input/output"):
        await appender.run(fail, 5)
    await asyncio.sleep(0)
    assert caplog.text == ""


def test_addresses_of_files_are_paths() -> None:
    assert path_of("file:///var/log/a%20b") == Path("/var/log/a b")
