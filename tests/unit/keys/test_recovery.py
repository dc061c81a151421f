"""Shares of the root key: enough of them give it back, and fewer, strange or misspelt ones nothing."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.recovery import Gathering, Kit, fingerprint, make, read_kit, write_kit
from stockade.keys.root import RootKey

ROOT = RootKey(Secret(bytes(range(32))))


@pytest.fixture(scope="module")
def kit() -> tuple[Kit, tuple[Secret, ...]]:
    return make(ROOT, 4, 3, 1.0)


def gather(*shares: Secret) -> RootKey | None:
    gathering = Gathering()
    found = None
    for share in shares:
        found = gathering.add(share)
    return found


def refused(share: Secret, gathering: Gathering | None = None) -> str:
    with pytest.raises(Fault) as caught:
        (gathering or Gathering()).add(share)
    assert caught.value.kind is FaultKind.INVALID
    return caught.value.message


def test_any_three_of_four_give_the_root_key_and_no_two(kit: tuple[Kit, tuple[Secret, ...]]) -> None:
    for some in itertools.combinations(kit[1], 3):
        root = gather(*some)
        assert root is not None
        assert root.value.matches(ROOT.value.reveal())
    for two in itertools.combinations(kit[1], 2):
        assert gather(*two) is None
    assert gather(kit[1][0], kit[1][0], kit[1][0]) is None, "one given three times is one"


def test_progress_is_told(kit: tuple[Kit, tuple[Secret, ...]]) -> None:
    gathering = Gathering()
    assert (gathering.given, gathering.wanted) == (0, 0)
    gathering.add(kit[1][2])
    gathering.add(Secret(kit[1][3].reveal_text().upper().replace(" ", "  ")))
    assert (gathering.given, gathering.wanted) == (2, 3)


def test_misspelt_shares_are_refused_and_those_before_stay(kit: tuple[Kit, tuple[Secret, ...]]) -> None:
    gathering = Gathering()
    gathering.add(kit[1][0])
    words = kit[1][1].reveal_text().split()
    swapped = [*words[:10], words[11], words[10], *words[12:]]
    for wrong in (" ".join(words[:-1]), " ".join(swapped), "", "hello", b"\xff", "x" * 5000):
        message = refused(Secret(wrong), gathering)
        assert not any(word in message.split() for word in words if len(word) > 5)
    assert gathering.given == 1


def test_shares_of_two_kits_do_not_mix(kit: tuple[Kit, tuple[Secret, ...]]) -> None:
    _, other = make(ROOT, 4, 3, 2.0)
    gathering = Gathering()
    gathering.add(kit[1][0])
    assert "another kit" in refused(other[1], gathering)


@pytest.mark.parametrize(("shares", "threshold"), [(1, 1), (3, 1), (2, 3), (17, 3)])
def test_numbers_that_make_no_kit_are_refused(shares: int, threshold: int) -> None:
    with pytest.raises(Fault):
        make(ROOT, shares, threshold, 1.0)


def test_what_is_kept_of_a_kit_says_nothing_of_the_key(kit: tuple[Kit, tuple[Secret, ...]], tmp_path: Path) -> None:
    assert read_kit(tmp_path) is None
    write_kit(tmp_path, kit[0])
    assert read_kit(tmp_path) == kit[0]
    assert kit[0].fingerprint == fingerprint(ROOT) != fingerprint(RootKey(Secret(b"x" * 32)))
    assert len(kit[0].fingerprint) == 16
