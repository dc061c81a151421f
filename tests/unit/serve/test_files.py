"""Private files are whole or absent, and nobody else's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stockade.kernel.faults import Fault
from stockade.serve.files import is_locked, locked, private_folder, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folder_is_private_also_when_it_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert mode(private_folder(folder)) == 0o700
    folder.chmod(0o755)
    assert mode(private_folder(folder)) == 0o700


def test_folder_of_someone_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(Fault, match="belongs to another user"):
        private_folder(tmp_path)


def test_written_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "f", b"1")
    finally:
        os.umask(before)
    assert mode(tmp_path / "f") == 0o600


def test_interrupted_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_private(tmp_path / "f", b"old")

    def broken(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        write_private(tmp_path / "f", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", b"old")]


def test_lock_admits_one_and_tells_others(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    with locked(path, wait=False) as first:
        assert first
        assert is_locked(path)
        with locked(path, wait=False) as second:
            assert not second
        assert is_locked(path)
    assert not is_locked(path)
