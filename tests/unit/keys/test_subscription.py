"""Subscription keys: random, findable, provable, and found by digest alone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from stockade.kernel.secret import Secret
from stockade.keys import subscription
from stockade.keys.subscription import KeyDigester

RULE = tomllib.loads((Path(__file__).parents[3] / "docs" / "gitleaks.toml").read_text())["rules"][0]
FIND = re.compile(RULE["regex"])


def key() -> str:
    return subscription.generate().reveal_text()


def test_generated_key_is_well_formed_and_every_one_is_new() -> None:
    keys = {key() for _ in range(500)}
    assert len(keys) == 500
    assert all(subscription.is_well_formed(one) and len(one) == subscription.LENGTH for one in keys)


def test_every_place_of_a_key_takes_many_values() -> None:
    columns = list(zip(*(key() for _ in range(300)), strict=True))[len(subscription.PREFIX) :]
    assert all(len(set(column)) > 20 for column in columns[1:43]), "the first one only carries what 256 bits leave over"


def test_any_changed_character_is_noticed() -> None:
    whole = key()
    for place in range(len(whole)):
        other = "a" if whole[place] != "a" else "b"
        assert not subscription.is_well_formed(whole[:place] + other + whole[place + 1 :])


def test_near_misses_are_not_well_formed() -> None:
    whole = key()
    swapped = whole[:10] + whole[11] + whole[10] + whole[12:]
    misses = [
        whole[:-1],
        whole + "0",
        " " + whole,
        whole + "\n",
        whole.upper(),
        "Stockade_" + whole[9:],
        whole.replace("_", "-"),
        "",
    ]
    assert not any(subscription.is_well_formed(miss) for miss in misses)
    assert subscription.is_well_formed(swapped) is (swapped == whole)


@pytest.mark.parametrize(
    "around", ["{}", "api_key={}", '"{}"', "key: {}\n", "<{}>", "?subscription-key={}&x=1", "({}).", "KEY='{}';"]
)
def test_scanner_finds_a_key_wherever_it_stands(around: str) -> None:
    for _ in range(50):
        whole = key()
        text = around.format(whole)
        assert any(keyword in text for keyword in RULE["keywords"])
        assert [found.group() for found in FIND.finditer(text)] == [whole]


def test_scanner_leaves_near_misses_alone() -> None:
    whole = key()
    for text in (
        whole[:-1],
        whole + "x",
        "x" + whole,
        whole.replace("_", "-"),
        "stockade_" + "-" * 49,
        "STOCKADE_DATA_DIR",
        "stockade_data_directory",
    ):
        assert FIND.search(text) is None


def test_digest_is_keyed_and_of_the_exact_bytes() -> None:
    one, two = KeyDigester(Secret(b"1" * 32)), KeyDigester(Secret(b"2" * 32))
    assert len(one.digest(b"key")) == 32
    assert one.digest(b"key") == one.digest(b"key")
    assert len({one.digest(b"key"), two.digest(b"key"), one.digest(b"key "), one.digest(b"Key"), one.digest(b"")}) == 5
    assert "1111" not in repr(one)
