"""Streams that do not end by themselves, from an engine that never stops talking through a real server to clients that watch for their end."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.factories.azure import descendants
from tests.live import Live

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"still here "}}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
POUR = "pour"
"""A message that makes the engine talk as fast as it is read."""
EVERY_S = 0.05
PATIENCE_S = 60.0
MODEL = "talker"
API_VERSION = "2025-09-01"


class TalkingEngine:
    """A server with the OpenAI API whose every answer is a stream without end, in a thread of its own."""

    def __init__(self) -> None:
        self.port = 0
        self.talking = 0
        """How many streams are being read at this moment."""
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="talking-engine", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def settings(self) -> str:
        """Return the settings of a server that has it as a model."""
        return (
            f'[[models]]\nname = "{MODEL}"\n[models.upstream]\nurl = "http://127.0.0.1:{self.port}/v1"\n'
            'model = "talker"\n'
        )

    def start(self) -> None:
        self._thread.start()
        assert self._up.wait(PATIENCE_S)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512))
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(server.wait_closed())
        self._loop.run_until_complete(asyncio.sleep(0.05))  # transports close in the loop's next rounds
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
            length = next(int(value) for name, _, value in lines if name == b"content-length")
            pours = POUR.encode() in await reader.readexactly(length)
            writer.write(HEAD)
            event = b"data: {%s}\n\n" % (b" " * 16_000) if pours else EVENT
            self.talking += 1
            try:
                while not writer.is_closing() and not reader.at_eof():
                    writer.write(b"%x\r\n" % len(event) + event + b"\r\n")
                    await writer.drain()
                    await asyncio.sleep(0 if pours else EVERY_S)
            finally:
                self.talking -= 1
        writer.close()


@dataclass
class Stream:
    """One client's stream. `ended_at`: the monotonic time at which its last byte had come."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    events: int = 0
    ended_at: float = 0.0
    _reading: asyncio.Task[None] | None = None
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def own_port(self) -> int:
        return int(self.writer.get_extra_info("sockname")[1])

    @property
    def last_event(self) -> Any:
        """Return what the last event says."""
        events = [line for line in bytes(self.received).split(b"\n") if line.startswith(b"data: ")]
        return json.loads(events[-1][6:])

    async def another_event(self) -> None:
        """Return when one more event has come; AssertionError when the stream has ended."""
        seen = self.events
        async with asyncio.timeout(PATIENCE_S):
            while self.events <= seen:
                assert not self.ended_at, "the stream has ended"
                await asyncio.sleep(0.01)

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._end.wait()

    def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self.writer.transport.abort()

    def watch(self) -> None:
        """Begin to read."""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with suppress(OSError, ssl.SSLError):
            while data := await self.reader.read(65_536):
                self.received += data
                self.events += data.count(b"data: ")
                if self.received.endswith(b"\r\n0\r\n\r\n"):
                    break
                del self.received[:-65_536]
        self.ended_at = time.monotonic()
        self._end.set()


@dataclass(frozen=True)
class Target:
    """An account of a live server, and how one caller reaches it."""

    live: Live
    name: str
    headers: Mapping[str, str]
    source: str = "127.0.0.1"
    host: str = "127.0.0.1"
    port: int = 0

    async def open(self, message: str = "hello", *, reads: bool = True) -> Stream:
        """Open a stream and return it once its first event has come; AssertionError with the reply when it is refused."""
        context = ssl.create_default_context(cafile=self.live.ca)
        reader, writer = await asyncio.open_connection(
            self.host,
            self.port or self.live.ports[0],
            ssl=context,
            server_hostname="localhost",
            local_addr=(self.source, 0),
            limit=4096 if not reads else 65_536,
        )
        body = json.dumps({"messages": [{"role": "user", "content": message}], "stream": True}).encode()
        lines = {
            "host": "localhost",
            "content-type": "application/json",
            "content-length": str(len(body)),
            **self.headers,
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        path = f"/{self.name}/openai/deployments/chat/chat/completions?api-version=2024-10-21"
        writer.write(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        stream = Stream(reader, writer)
        try:
            async with asyncio.timeout(PATIENCE_S):
                first = await reader.readuntil(b"\r\n\r\n")
                if not first.startswith(b"HTTP/1.1 200"):
                    raise AssertionError((first + await reader.read(4096)).decode(errors="replace"))
            if reads:
                stream.watch()
                await stream.another_event()
        except BaseException:
            stream.close()
            raise
        return stream

    async def open_on_every_worker(self, workers: frozenset[int], each: int = 1) -> list[Stream]:
        """Open streams until every worker has at least so many of them."""
        streams: list[Stream] = []
        held: dict[int, int] = {}
        while len(held) < len(workers) or min(held.values()) < each:
            assert len(streams) < 64, f"64 connections did not reach every worker: {held}"
            streams.append(await self.open())
            (worker,) = workers_of([streams[-1]], workers)
            held[worker] = held.get(worker, 0) + 1
        return streams


def data_workers(live: Live) -> frozenset[int]:
    """Return the processes that serve the data plane's public listener."""
    lines = descendants(live.pid)
    main = next(pid for pid, line in lines.items() if "stockade.serve.listener data" in line)
    return frozenset(pid for pid in descendants(main) if "resource_tracker" not in lines.get(pid, ""))


class Held(Protocol):
    """A connection of ours."""

    @property
    def own_port(self) -> int: ...


def workers_of(streams: Sequence[Held], processes: frozenset[int]) -> set[int]:
    """Return the processes that hold the other ends of streams (Linux's /proc tells)."""
    ports = {f"{stream.own_port:04X}" for stream in streams}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{line[9]}]" for line in lines if line[2].rpartition(":")[2] in ports}
    return {pid for pid in processes if inodes & _descriptors(pid)}


def _descriptors(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.add(str(path.readlink()))
    return found


def new_account(live: Live, name: str, **properties: Any) -> dict[str, str]:
    """Create an account with a deployment `chat` of the talking model; return its keys."""
    account = live.account_id(name)
    body = {
        "kind": "OpenAI",
        "sku": {"name": "S0"},
        "location": live.location,
        "properties": {"customSubDomainName": name, **properties},
    }
    model = {"format": "OpenAI", "name": MODEL, "version": "1"}
    deployment = {"sku": {"name": "Standard", "capacity": 1000}, "properties": {"model": model}}
    for path, content in ((account, body), (f"{account}/deployments/chat", deployment)):
        made = live.request("PUT", path, content)
        assert made.status_code in (200, 201), made.text
    keys: dict[str, str] = live.request("POST", f"{account}/listKeys").json()
    return keys


def change(live: Live, name: str, **properties: Any) -> None:
    """Change an account's properties."""
    done = live.request("PATCH", live.account_id(name), {"properties": properties})
    assert done.status_code in (200, 202), done.text


@contextmanager
def talking_engine() -> Iterator[TalkingEngine]:
    engine = TalkingEngine()
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
