"""What the supervisor is asked, and what it answers to nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stockade.serve.questions import MAX_LINE, Questions, Refusal, ask


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    async def answer(wanted: str) -> str:
        if wanted == "slow":
            await asyncio.Event().wait()
        if wanted == "none":
            raise Refusal("there is none")
        return wanted.upper()

    questions = Questions(tmp_path / "run" / "s.sock", {"thing": ("is", answer)}, 1.0)
    await questions.open()
    yield tmp_path / "run" / "s.sock"
    questions.close()
    assert not (tmp_path / "run" / "s.sock").exists()


async def test_an_answer_has_the_name_of_what_it_is(path: Path) -> None:
    assert await ask(path, "thing", "a", 5) == {"is": "A"}


async def test_a_refusal_says_why(path: Path) -> None:
    with pytest.raises(Refusal, match="there is none"):
        await ask(path, "thing", "none", 5)


async def test_what_takes_too_long_breaks_off(path: Path) -> None:
    assert await ask(path, "thing", "slow", 30) == {}
    with pytest.raises(Refusal, match="did not answer"):
        await ask(path, "thing", "slow", 0.05)


async def test_nobody_there_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="did not answer"):
        await ask(tmp_path / "nothing.sock", "thing", "a", 5)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b"7", b'"thing"', b'{"other":"a"}', b'{"thing":"a","other":"b"}', b"\xff", b"{" * 5000]
)
async def test_nonsense_is_answered_and_does_no_harm(path: Path, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(line + b"\n")
    assert b"not understood" in await reader.readline()
    writer.close()
    assert await ask(path, "thing", "a", 5) == {"is": "A"}


async def test_a_line_without_end_is_dropped(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"x" * (2 * MAX_LINE))
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert await ask(path, "thing", "a", 5) == {"is": "A"}


@pytest.mark.usefixtures("path")
def test_nobody_else_can_open_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
