"""Lines of an input file: read within bounds however they are cut up, and refused before any of them is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.jobs.batch_lines import LineError, check, lines, read_line


async def pieces(data: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def line(custom_id: str = "a", **changes: Any) -> bytes:
    body = {"model": "chat", "messages": []}
    said = {"custom_id": custom_id, "method": "POST", "url": "/chat/completions", "body": body, **changes}
    return json.dumps(said).encode()


async def errors(*found: bytes, most: int = 100, longest: int = 10_000) -> list[tuple[str, int | None]]:
    """Return code and line number of everything that is wrong."""
    source = lines(pieces(b"\n".join(found)), longest)
    checked = await check(source, "/v1/chat/completions", lambda name: name == "chat", most)
    return [(error["code"], error["line"]) for error in checked.errors]


@given(
    st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"").replace(b"\r", b""))),
    st.integers(1, 9),
)
async def test_lines_are_what_stands_between_line_breaks_wherever_the_pieces_end(found: list[bytes], size: int) -> None:
    whole = b"\n".join(found)
    expected = [(number, one.strip()) for number, one in enumerate(found, 1) if one.strip()]
    assert [one async for one in lines(pieces(whole, size), 100)] == expected


async def test_a_line_above_the_bound_is_refused_before_it_is_read_to_its_end() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        yield b"{}\n"
        while True:
            read += 1
            yield b"x" * 1000

    with pytest.raises(LineError) as refused:
        async for _ in lines(endless(), 5000):
            pass
    assert refused.value.args[-1] == 2
    assert read <= 7


async def test_a_good_file_has_no_errors_and_says_its_model() -> None:
    source = lines(pieces(line("a") + b"\r\n\n" + line("b", url="/v1/chat/completions") + b"\n"), 10_000)
    checked = await check(source, "/chat/completions", lambda name: name == "chat", 100)
    assert (checked.errors, checked.total, checked.last, checked.model) == ([], 2, 3, "chat")


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"{nonsense", "invalid_json_line"),
        (b'{"custom_id": "\xff"}', "invalid_json_line"),
        (b'{"custom_id": "x"}', "invalid_request"),
        (line(""), "invalid_request"),
        (line("x" * 600), "invalid_request"),
        (line(method="GET"), "invalid_request"),
        (line(body=[]), "invalid_request"),
        (line(body={}), "invalid_request"),
        (line(url="/embeddings"), "url_mismatch"),
        (line("first"), "duplicate_custom_id"),
        (line(body={"model": "other"}), "model_mismatch"),
        (b'{"body":' * 20_000, "invalid_json_line"),
    ],
    ids=[
        "no-json", "no-utf-8", "no-request", "no-custom-id", "long-custom-id", "method", "body-no-object", "no-model", "url", "twice", "model",
        "deep",
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_line_is_told_with_its_number(bad: bytes, code: str) -> None:
    assert await errors(line("first"), b"", bad, longest=200_000) == [(code, 3)]


async def test_a_model_that_is_not_deployed_fails_the_batch() -> None:
    assert await errors(line(body={"model": "gpt-9"})) == [("model_not_found", 1)]


async def test_a_file_without_requests_or_with_too_many_fails_as_a_whole() -> None:
    assert await errors(b"", b"\n") == [("empty_batch", None)]
    assert await errors(*(line(str(n)) for n in range(4)), most=3) == [("too_many_tasks", None)]


async def test_what_is_told_of_errors_is_bounded() -> None:
    assert len(await errors(*[b"{"] * 1000, most=2000)) == 100


def test_what_a_line_holds_stands_in_no_error() -> None:
    with pytest.raises(LineError) as refused:
        read_line(b'{"custom_id": 4711, "method": "canary", "url": "canary", "body": "canary"}')
    assert "canary" not in str(refused.value)
