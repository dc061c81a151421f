"""A new root key: whatever step it is interrupted at, the platform opens, and with what it had before."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import durable, root_rotation
from stockade.keys.keyring import FILE_NAME, Keyring, open_or_make, read_slots, sealing_key
from stockade.keys.root import RootKey
from stockade.keys.root_sources import FileSource

OLD = RootKey(Secret(b"o" * 32))
KILLED = 9


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    found = FileSource(tmp_path / "root.key")
    found.put(OLD)
    open_or_make(tmp_path / FILE_NAME, OLD)
    return found


def opened(folder: Path, source: FileSource) -> Keyring:
    root = source.read()
    assert root is not None
    return Keyring.open(folder / FILE_NAME, sealing_key(root))


def test_afterwards_the_new_key_opens_it_and_the_old_one_nothing(tmp_path: Path, source: FileSource) -> None:
    before = opened(tmp_path, source)
    new = root_rotation.rotate(tmp_path, source, OLD)
    after = opened(tmp_path, source)
    assert after.keys.derive("x").matches(before.keys.derive("x").reveal())
    assert after.versions == before.versions
    assert not new.value.matches(OLD.value.reveal())
    assert len(read_slots(tmp_path / FILE_NAME)) == 1
    with pytest.raises(Fault):
        Keyring.open(tmp_path / FILE_NAME, sealing_key(OLD))


def killed_before(step: int, work: Callable[[], object]) -> int:
    """Do something in a process that ends without warning right before its n-th durable step; return how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done = 0

    def interrupted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done > step:
                os._exit(KILLED)
            return original(*arguments, **named)

        return call

    Path.replace = interrupted(Path.replace)  # type: ignore[method-assign]
    durable.sync_folder = interrupted(durable.sync_folder)
    try:
        work()
    finally:
        os._exit(0)


@pytest.mark.parametrize("step", range(7))
def test_killed_at_any_write_the_platform_opens_and_the_change_can_be_done_again(
    tmp_path: Path, source: FileSource, step: int
) -> None:
    before = opened(tmp_path, source)
    ended = killed_before(step, lambda: root_rotation.rotate(tmp_path, source, OLD))
    assert ended == (KILLED if step < 6 else 0), "three files, each put into place and made to stay"
    assert opened(tmp_path, source).keys.derive("x").matches(before.keys.derive("x").reveal())
    current = source.read()
    assert current is not None
    root_rotation.rotate(tmp_path, source, current)
    assert opened(tmp_path, source).versions == before.versions
    assert len(read_slots(tmp_path / FILE_NAME)) == 1


def test_where_the_operator_puts_the_new_key_both_open_it_until_that_is_done(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    before = open_or_make(path, OLD)
    with pytest.raises(Fault, match="has been begun"):
        root_rotation.finish(tmp_path, OLD)
    file = root_rotation.prepare(tmp_path, OLD)
    assert file.stat().st_mode & 0o777 == 0o600
    new = RootKey(Secret(base64.b64decode(file.read_bytes())))
    for root in (OLD, new):
        assert Keyring.open(path, sealing_key(root)).versions == before.versions
    with pytest.raises(Fault) as caught:
        root_rotation.finish(tmp_path, OLD)
    assert caught.value.kind is FaultKind.CONFLICT
    root_rotation.finish(tmp_path, new)
    assert not file.exists()
    with pytest.raises(Fault):
        Keyring.open(path, sealing_key(OLD))
    assert Keyring.open(path, sealing_key(new)).versions == before.versions
