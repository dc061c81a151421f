"""How the keyring comes to be open, and that what was sealed stays so."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockade.broker.opening import MARKER, Opening
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import recovery, root_rotation
from stockade.keys.keyring import FILE_NAME
from stockade.keys.root import RootKey
from stockade.keys.root_sources import FileSource
from stockade.settings import Keys, Settings


@pytest.fixture
def root(tmp_path: Path) -> RootKey:
    return RootKey.create(tmp_path / "root.key")


def settings(folder: Path, source: str = "file") -> Settings:
    return Settings(data_dir=folder, keys=Keys(root=source))  # type: ignore[arg-type]


def refused(call: object) -> Fault:
    with pytest.raises(Fault) as caught:
        call()  # type: ignore[operator]
    return caught.value


def test_people_open_it_share_by_share_and_each_start_anew(tmp_path: Path, root: RootKey) -> None:
    before = Opening(settings(tmp_path)).begin()
    assert before is not None
    kit, shares = recovery.make(root, 3, 2, 1.0)
    recovery.write_kit(tmp_path, kit)
    for _ in range(2):
        opening = Opening(settings(tmp_path, "shares"))
        assert opening.starts_sealed
        assert opening.begin() is None
        assert opening.shares == (2, 0)
        assert opening.unseal(shares[0]) is None
        assert opening.shares == (2, 1)
        assert refused(lambda opening=opening: opening.unseal(Secret("no share"))).kind is FaultKind.INVALID
        assert refused(lambda opening=opening: opening.unseal(Secret(b""))).kind is FaultKind.INVALID
        opened = opening.unseal(shares[2])
        assert opened is not None
        assert opened.versions == before.versions
        assert opening.shares == (0, 0)


def test_shares_of_another_root_key_open_nothing_and_those_who_typed_begin_again(tmp_path: Path, root: RootKey) -> None:
    Opening(settings(tmp_path)).begin()
    _, strange = recovery.make(RootKey(Secret(b"s" * 32)), 3, 2, 1.0)
    _, right = recovery.make(root, 3, 2, 1.0)
    opening = Opening(settings(tmp_path, "shares"))
    opening.unseal(strange[0])
    assert "another root key" in refused(lambda: opening.unseal(strange[1])).message
    assert opening.shares[1] == 0
    opening.unseal(right[0])
    assert opening.unseal(right[1]) is not None
    (tmp_path / FILE_NAME).unlink()
    lost = Opening(settings(tmp_path, "shares"))
    lost.unseal(right[0])
    assert "Put it back from your backup" in refused(lambda: lost.unseal(right[1])).message
    assert not (tmp_path / FILE_NAME).exists(), "none is made that opens nothing"


def test_what_was_sealed_stays_sealed_until_somebody_opens_it(tmp_path: Path, root: RootKey) -> None:
    Opening(settings(tmp_path)).begin()
    Opening(settings(tmp_path)).seal()
    assert Opening(settings(tmp_path)).begin() is None
    _, shares = recovery.make(root, 3, 2, 1.0)
    with_shares = Opening(settings(tmp_path))
    with_shares.unseal(shares[0])
    assert with_shares.unseal(shares[1]) is not None, "the kit does it too"
    with_shares.seal()
    assert Opening(settings(tmp_path)).unseal(Secret(b"")) is not None
    assert not (tmp_path / MARKER).exists()
    assert Opening(settings(tmp_path)).begin() is not None


def test_a_new_platform_key_is_durable_and_waits_for_a_root_key_that_is_being_changed(
    tmp_path: Path, root: RootKey
) -> None:
    opening = Opening(settings(tmp_path))
    assert refused(opening.rotate_platform).kind is FaultKind.UNAVAILABLE
    first = opening.begin()
    assert first is not None
    second = opening.rotate_platform()
    assert second.versions == (first.newest, second.newest)
    root_rotation.rotate(tmp_path, FileSource(tmp_path / "root.key"), root)
    third = opening.rotate_platform()
    assert third.versions[:2] == second.versions, "also after the root key was changed under it"
    again = Opening(settings(tmp_path)).begin()
    assert again is not None
    assert again.versions == third.versions
    current = FileSource(tmp_path / "root.key").read()
    assert current is not None
    root_rotation.prepare(tmp_path, current)
    assert refused(opening.rotate_platform).kind is FaultKind.CONFLICT
