"""Built-in engines: a process per model, started when a worker asks for it, ended when nobody has used it for a while.

Workers ask for one by name (`questions.py`) and are told its socket as soon as it answers there. A crash needs no watching: the next request
finds nobody listening and asks again. What starts too often is refused for the rest of the minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stockade.serve.questions import Refusal
from stockade.settings import Settings

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = START_TIMEOUT_S + STOP_TIMEOUT_S
"""Who asks for an engine waits no longer."""
STARTS_PER_MINUTE = 6
IDLE_AFTER_S = 15 * 60.0
IDLE_CHECK_S = 60.0
POLL_INTERVAL_S = 0.05
MAX_LINE = 64 * 1024
EX_CONFIG: Final = 78
"""What an engine ends with when starting it again will not help (sysexits.h)."""
PASSED_ON: Final = frozenset(
    {
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TMPDIR",
        "TZ",
        "PYTHONPATH",
        "PYTHONHOME",
        "VIRTUAL_ENV",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
    }
)
"""All an engine sees of the environment: it has no use for anyone's credentials."""

log = logging.getLogger(__name__)

Command = Callable[[str, Path], Sequence[str]]


class NotStarted(Refusal):
    """An engine that cannot be started. The message is for the caller of the service."""


def built_in_command(name: str, socket: Path) -> Sequence[str]:
    """Return the command that serves a built-in model."""
    return (sys.executable, "-m", "stockade.services.openai.engines.embedded", "--socket", str(socket), "--model", name)


@dataclass(slots=True)
class _Engine:
    name: str
    socket: Path
    process: asyncio.subprocess.Process | None = None
    starting: asyncio.Task[Path] | None = None
    reading: asyncio.Task[None] | None = None
    starts: deque[float] = field(default_factory=deque)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None


class Engines:
    """Starts, watches and ends the engines. `names`: the ones there are; nothing else is ever started."""

    def __init__(
        self,
        settings: Settings,
        names: frozenset[str],
        command: Command = built_in_command,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._command = command
        self._environment = {name: value for name, value in environment.items() if name in PASSED_ON}
        folder = settings.socket_dir
        self._engines = {
            name: _Engine(name, folder / f"engine-{index}.sock") for index, name in enumerate(sorted(names))
        }
        self._idling: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to look for engines that nobody uses."""
        self._idling = asyncio.create_task(self._look_for_idle())

    async def close(self) -> None:
        """End every engine."""
        if self._idling is not None:
            self._idling.cancel()
        for engine in self._engines.values():
            if engine.starting is not None:
                engine.starting.cancel()
        await asyncio.gather(*(self._end(engine) for engine in self._engines.values()))

    async def answer(self, name: str) -> str:
        """Answer a question: `socket_of`, as text."""
        return str(await self.socket_of(name))

    async def socket_of(self, name: str) -> Path:
        """Return the socket of a running engine, starting it when it does not run; NotStarted says why not.

        Any number of callers share one start.
        """
        engine = self._engines.get(name)
        if engine is None:
            raise NotStarted("there is no such built-in model")
        if engine.starting is None or engine.starting.done():
            if engine.running and await _health(engine.socket) is not None:
                return engine.socket
            engine.starting = asyncio.create_task(self._start(engine))
        return await asyncio.shield(engine.starting)

    async def _start(self, engine: _Engine) -> Path:
        now = time.monotonic()
        while engine.starts and engine.starts[0] <= now - 60:
            engine.starts.popleft()
        if len(engine.starts) >= STARTS_PER_MINUTE:
            raise NotStarted("it failed several times within a minute; try again later")
        engine.starts.append(now)
        await self._end(engine)
        log.info("starting an engine", extra={"engine": engine.name})
        process = await asyncio.create_subprocess_exec(
            *self._command(engine.name, engine.socket),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # a Ctrl-C in the terminal is the supervisor's to pass on
            limit=MAX_LINE,
        )
        engine.process = process
        engine.reading = asyncio.create_task(_relay(engine.name, process))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while await _health(engine.socket) is None:
                    if process.returncode is not None:
                        raise NotStarted(_why(process.returncode))
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            await self._end(engine)
            raise NotStarted(f"it was not ready within {START_TIMEOUT_S:.0f} seconds") from None
        log.info("an engine is ready", extra={"engine": engine.name, "seconds": round(time.monotonic() - now, 2)})
        return engine.socket

    async def _end(self, engine: _Engine) -> None:
        process = engine.process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own
                await process.wait()
        if engine.reading is not None:
            await engine.reading
        engine.process = engine.reading = None

    async def end_idle(self) -> None:
        """End every engine that nobody has used for a while."""
        for engine in self._engines.values():
            if engine.running and (engine.starting is None or engine.starting.done()):
                health = await _health(engine.socket)
                if health is not None and float(health.get("idleSeconds", 0)) >= IDLE_AFTER_S:
                    log.info("ending an idle engine", extra={"engine": engine.name})
                    await self._end(engine)

    async def _look_for_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_CHECK_S)
            await self.end_idle()


async def _relay(name: str, process: asyncio.subprocess.Process) -> None:
    """Write what an engine says into our log, line by line, and how it ended."""
    assert process.stderr is not None
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:  # a line beyond the limit; asyncio has dropped it
            continue
        if not line:
            break
        log.warning("engine: %s", line.decode(errors="replace").rstrip(), extra={"engine": name})
    status = await process.wait()
    if status not in {0, -signal.SIGTERM}:
        log.error("an engine ended", extra={"engine": name, "status": status})


async def _health(socket: Path) -> dict[str, Any] | None:
    """Ask an engine how it is; None when it does not answer."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=MAX_LINE)
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
                await writer.drain()
                head, _, body = (await reader.read(MAX_LINE)).partition(b"\r\n\r\n")
                body = body or await reader.read(MAX_LINE)
            finally:
                writer.close()
        if head.split(b" ", 2)[1:2] != [b"200"]:
            return None
        answer = json.loads(body or b"{}")
    except (OSError, TimeoutError, ValueError):
        return None
    return answer if isinstance(answer, dict) else {}


def _why(status: int) -> str:
    if status == EX_CONFIG:
        return "its files or libraries are missing or not the reviewed ones; the server's log says which"
    return "it ended while it was starting; the server's log says more"
