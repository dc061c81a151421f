"""What the platform's processes ask their supervisor: one JSON object per line, over a UNIX socket that only this user can open.

{"engine": "smollm2-135m-instruct"}  ->  {"socket": "/path"}      once the engine answers there
{"plane": "private"}                 ->  {"plane": "private"}     once that process has been started
anything                             ->  {"error": "why"}
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from stockade.serve.files import private_folder

MAX_LINE: Final = 64 * 1024
ASKERS: Final = 256
"""Connections answered at once; further ones wait."""

log = logging.getLogger(__name__)

Answer: TypeAlias = Callable[[str], Awaitable[str]]
"""From what is asked for to the one value of the answer; raises Refusal."""


class Refusal(Exception):
    """What was asked for cannot be had. The message is for whoever asked."""


class Questions:
    """Listens for questions. answers: by the name of what is asked for, the name of the answer's value and who gives it."""

    def __init__(self, path: Path, answers: Mapping[str, tuple[str, Answer]], timeout_s: float) -> None:
        self._path, self._answers, self._timeout_s = path, answers, timeout_s
        self._askers = asyncio.Semaphore(ASKERS)
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        private_folder(self._path.parent)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=MAX_LINE)
        self._path.chmod(0o600)

    def close(self) -> None:
        """Take no more questions."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._askers:
            try:
                async with asyncio.timeout(self._timeout_s):
                    reply = await self._reply(await reader.readline())
                    writer.write(json.dumps(reply).encode() + b"\n")
                    await writer.drain()
            except (OSError, TimeoutError, ValueError) as failure:
                log.warning("a question to the supervisor broke off", extra={"reason": type(failure).__name__})
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _reply(self, line: bytes) -> dict[str, str]:
        try:
            question = json.loads(line)
            ((name, wanted),) = question.items()
            said, answer = self._answers[name]
            return {said: await answer(str(wanted))}
        except Refusal as refusal:
            return {"error": str(refusal)}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {"error": "the question was not understood"}


async def ask(path: Path, name: str, wanted: str, timeout_s: float) -> dict[str, str]:
    """Ask the supervisor; Refusal when it refuses, does not answer in time or is not there."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_LINE)
            try:
                writer.write(json.dumps({name: wanted}).encode() + b"\n")
                await writer.drain()
                answer: dict[str, str] = json.loads(await reader.readline() or b"{}")
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as failure:
        raise Refusal("the supervisor did not answer") from failure
    if "error" in answer:
        raise Refusal(answer["error"])
    return answer
