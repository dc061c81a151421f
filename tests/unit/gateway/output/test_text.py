"""What is held back, how long, and what a hostile text can make it cost."""

from __future__ import annotations

import time

import pytest

from stockade.gateway.output.candidates import LOOK_BACK, MAX_AUTHORITY, Judge
from stockade.gateway.output.text import IN_TEXT, TextFilter
from stockade.policy.uris.allowed import compile_allowed

JUDGE = Judge(compile_allowed(["good.example"]))


def fresh() -> TextFilter:
    return TextFilter(JUDGE, lambda _: None)


@pytest.mark.parametrize("text", ["Hello", " world.", " which", " of", "Here:", "\n\n", "(a)", " don't", "x = 1;"])
def test_prose_is_given_out_at_once(text: str) -> None:
    filtering = fresh()
    filtering.feed("so")
    assert filtering.feed(text) == text
    assert not filtering.waits


@pytest.mark.parametrize(
    "text", [" http", " h", " www", " https:", " https://good.example", " \\", " &am", " %2", " /"]
)
def test_what_may_begin_a_uri_waits_and_is_given_out_at_the_end(text: str) -> None:
    filtering = fresh()
    out = filtering.feed("so" + text)
    assert out == ("so" + text)[: len(out)]
    assert filtering.waits
    assert out + filtering.end() == "so" + text


def test_allowed_uri_is_given_out_as_soon_as_its_host_has_ended() -> None:
    filtering = fresh()
    assert filtering.feed("see https://good.example") == "see "
    assert filtering.feed("/") == "https://good.example/"
    assert filtering.feed("a/very/long") == "a/very/long"


def test_refused_uri_is_replaced_as_soon_as_its_host_has_ended() -> None:
    filtering = fresh()
    assert filtering.feed("see https://evil.example") == "see "
    assert filtering.feed("/") == IN_TEXT
    assert filtering.feed("a/very/long") == ""
    assert filtering.feed(". Then") == ". Then"


def test_host_that_does_not_end_is_refused_and_not_kept() -> None:
    filtering = fresh()
    out = "".join(filtering.feed("https://" if n == 0 else "a") for n in range(10 * MAX_AUTHORITY))
    assert out == IN_TEXT
    assert len(filtering._held) + len(filtering._tail) <= MAX_AUTHORITY + LOOK_BACK
    assert filtering.feed(" b") + filtering.end() == " b"


def test_a_filter_can_be_used_again() -> None:
    filtering = fresh()
    assert filtering.whole("https://evil.example/x") == IN_TEXT
    assert filtering.whole("secret") == "secret"
    assert filtering.whole("ttps://good.example") == "ttps://good.example"


HOSTILE = {
    "no spaces": "a" * 1_000,
    "slashes": "/" * 1_000,
    "backslashes": "\\" * 1_000,
    "ampersands": "&" * 1_000,
    "schemes": "https:" * 170,
    "candidates": "//a.b " * 170,
    "uris": "https://e.example/x " * 50,
    "names": "e.com/x " * 125,
    "dots": "a." * 500,
    "name that goes on": "a-" * 500 + ".com/",
    "escapes": "&#x41;" * 170,
    "open brackets": "](" * 500,
    "user information": "https://" + "@" * 990,
    "newlines": "https:" + "\n" * 990,
    "one uri": "https://e.example/" + "x" * 980,
    "quotes": "='" * 500,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_work_and_memory_grow_with_the_text_and_no_faster(name: str) -> None:
    unit = HOSTILE[name]

    def seconds(text: str) -> float:
        filtering = fresh()
        began = time.process_time()
        filtering.feed(text)
        held = len(filtering._held) + len(filtering._tail) + len(filtering._trailing)
        filtering.end()
        assert held <= 2 * (MAX_AUTHORITY + LOOK_BACK)
        return time.process_time() - began

    small, large = (min(seconds(unit * times) for _ in range(2)) for times in (10, 100))
    # Ten times the text; a quadratic would take a hundred times as long.
    assert large < 35 * max(small, 0.001)


@pytest.mark.parametrize("name", HOSTILE)
def test_single_characters_cost_no_more_than_they_may(name: str) -> None:
    """A model that writes one character at a time: what is held is not read again and again."""
    filtering = fresh()
    text = (HOSTILE[name] * 10)[:8_000]
    began = time.process_time()
    for character in text:
        filtering.feed(character)
    filtering.end()
    assert time.process_time() - began < 8.0  # a millisecond each, on any machine
