"""The root key's file, what is derived from it, and what is sealed under it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.root import RootKey


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "root.key"


def refused(path: Path) -> Fault:
    with pytest.raises(Fault) as caught:
        RootKey.open(path)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    return caught.value


def test_new_key_is_private_random_and_the_same_when_opened(file: Path) -> None:
    made = RootKey.create(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["root.key"], "no draft is left"
    assert RootKey.open(file).derive("x").matches(made.derive("x").reveal())
    other = RootKey.create(file.with_name("other.key"))
    assert not other.derive("x").matches(made.derive("x").reveal())


def test_existing_key_is_never_replaced(file: Path) -> None:
    RootKey.create(file)
    before = file.read_bytes()
    with pytest.raises(FileExistsError):
        RootKey.create(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["root.key"]


def test_of_many_who_create_at_once_one_succeeds(file: Path) -> None:
    line = threading.Barrier(8)

    def create(_: int) -> bool:
        line.wait()
        try:
            RootKey.create(file)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1
    assert len(file.read_bytes()) == 32


def test_key_that_cannot_be_written_whole_is_not_there_at_all(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        RootKey.create(file)
    assert list(file.parent.iterdir()) == []


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610, 0o601, 0o777])
def test_key_that_others_could_touch_is_refused(file: Path, mode: int) -> None:
    RootKey.create(file)
    file.chmod(mode)
    assert f"{mode:03o}" in refused(file).message


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_damaged_key_is_refused_without_showing_it(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
    message = refused(file).message
    assert "damaged" in message
    assert "xxx" not in message


def test_missing_or_unreadable_key_is_refused(file: Path, tmp_path: Path) -> None:
    assert "no root key" in refused(file).message
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    refused(folder)


def test_purposes_do_not_share_keys(file: Path) -> None:
    root = RootKey.create(file)
    derived = [root.derive("a"), root.derive("b"), root.derive("a", 16), root.derive("")]
    assert len({secret.reveal()[:16] for secret in derived}) == 3, "length is no purpose"
    assert [len(secret) for secret in derived] == [32, 32, 16, 32]
    assert not any(secret.matches(file.read_bytes()) for secret in derived)


def test_sealed_value_opens_for_its_owner_alone(file: Path) -> None:
    root = RootKey.create(file)
    sealed = root.seal(Secret("value"), "account-1|Key1")
    assert b"value" not in sealed
    assert root.unseal(sealed, "account-1|Key1").reveal() == b"value"
    assert root.seal(Secret("value"), "account-1|Key1") != sealed, "a fresh nonce each time"
    other = RootKey.create(file.with_name("other.key"))
    wrong = [(root, sealed, "account-2|Key1"), (root, sealed, ""), (other, sealed, "account-1|Key1")]
    wrong += [
        (root, sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :], "account-1|Key1")
        for place in range(len(sealed))
    ]
    wrong += [(root, sealed[:length], "account-1|Key1") for length in range(len(sealed))]
    told = set()
    for key, value, bound_to in wrong:
        with pytest.raises(Fault) as caught:
            key.unseal(value, bound_to)
        told.add((caught.value.kind, caught.value.message))
    assert told == {(FaultKind.UNAVAILABLE, "A stored secret could not be opened.")}


def test_key_of_another_length_is_no_root_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        RootKey(Secret(b"short"))
    assert "x" * 8 not in repr(RootKey(Secret(b"x" * 32)))
