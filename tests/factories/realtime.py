"""A model server with OpenAI's realtime API: says what a test tells it to, and remembers all that it was told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.factories.streams import EVERY_S, PATIENCE_S, workers_of
from tests.live import Live

Answer = Callable[["RealtimeServer", ServerConnection, dict[str, Any]], Awaitable[None]]


@dataclass
class RealtimeServer:
    """What has happened so far."""

    answer: Answer
    port: int = 0
    refuse_with: int = 0
    requests: list[Request] = field(default_factory=list)
    messages: list[str | bytes] = field(default_factory=list)
    open: set[ServerConnection] = field(default_factory=set)
    ended: asyncio.Queue[tuple[int | None, str | None]] = field(default_factory=asyncio.Queue)
    """Close code and reason of each session that has ended."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """Return the events that have come, of one type or all."""
        found: list[dict[str, Any]] = [json.loads(message) for message in self.messages]
        return [event for event in found if not kind or event.get("type") == kind]

    async def serve(self, connection: ServerConnection) -> None:
        self.open.add(connection)
        try:
            with contextlib.suppress(ConnectionClosed):
                await connection.send(json.dumps({"type": "session.created", "event_id": "e0", "session": {}}))
                async for message in connection:
                    self.messages.append(message)
                    await self.answer(self, connection, json.loads(message))
        finally:
            self.open.discard(connection)
            self.ended.put_nowait((connection.close_code, connection.close_reason))

    def refusal(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return connection.respond(self.refuse_with, "no\n") if self.refuse_with else None


SETTINGS = """
[[models]]
name = "voice-talker"
capabilities = ["realtime"]
upstream = {{ url = "{url}", model = "real-talker" }}
"""
DEPLOYMENT = {
    "sku": {"name": "Standard", "capacity": 10_000},
    "properties": {"model": {"format": "OpenAI", "name": "voice-talker", "version": "1"}},
}


async def talk(server: RealtimeServer, connection: ServerConnection, event: dict[str, Any]) -> None:
    """Answer as a model that says `Hello there.` whenever it is asked for a response, and nothing else."""
    match event["type"]:
        case "session.update":
            await connection.send(
                json.dumps({"type": "session.updated", "event_id": "e1", "session": event["session"]})
            )
        case "response.create":
            common = {"event_id": "e2", "response_id": "r1", "item_id": "i1", "output_index": 0, "content_index": 0}
            for part in ("Hello ", "there."):
                await connection.send(json.dumps({"type": "response.output_text.delta", "delta": part, **common}))
            await connection.send(json.dumps({"type": "response.output_text.done", "text": "Hello there.", **common}))
            await connection.send(
                json.dumps({"type": "response.done", "event_id": "e3", "response": {"id": "r1", "status": "completed"}})
            )


@contextlib.asynccontextmanager
async def realtime_server(answer: Answer = talk, port: int = 0) -> AsyncIterator[RealtimeServer]:
    """Run one on loopback; its last sessions are closed at the end. port: 0 for any that is free."""
    running = RealtimeServer(answer)
    async with serve(
        running.serve,
        "127.0.0.1",
        port,
        process_request=running.refusal,
        max_size=64 * 1024 * 1024,
        ping_interval=None,
    ) as server:
        running.port = next(iter(server.sockets)).getsockname()[1]
        yield running


async def talk_on(_: RealtimeServer, connection: ServerConnection, __: dict[str, Any]) -> None:
    """Answer as a model that, once asked anything, does not end."""
    while True:
        await connection.send(json.dumps({"type": "response.output_text.delta", "delta": "still here "}))
        await asyncio.sleep(EVERY_S)


@contextlib.contextmanager
def realtime_server_in_a_thread(answer: Answer = talk_on) -> Iterator[RealtimeServer]:
    """Run one beside the event loops of those who talk with it."""
    loop, up, found = asyncio.new_event_loop(), threading.Event(), []
    stop = asyncio.Event()

    async def run() -> None:
        async with realtime_server(answer) as running:
            found.append(running)
            up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="realtime-server", daemon=True)
    thread.start()
    assert up.wait(PATIENCE_S)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE_S)
        loop.close()


@dataclass
class OpenSession:
    """One caller's session that is being read. `ended_at`: the monotonic time at which its close frame, or its connection's end, had come."""

    connection: ClientConnection
    ended_at: float = 0.0
    events: int = 0

    def __post_init__(self) -> None:
        self._reading = asyncio.create_task(self._read())

    @property
    def own_port(self) -> int:
        return int(self.connection.local_address[1])

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(self._reading)

    def close(self) -> None:
        self._reading.cancel()
        self.connection.transport.abort()

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.connection.recv()
                self.events += 1
        self.ended_at = time.monotonic()


@dataclass(frozen=True)
class SessionTarget:
    """The deployment `voice` of an account of a live server, and how one caller reaches it."""

    live: Live
    name: str
    key: str
    host: str = "localhost"

    async def open(self) -> OpenSession:
        """Open a session in which the model talks."""
        url = f"wss://localhost:{self.live.websocket_port}/{self.name}/openai/v1/realtime?model=voice"
        headers = {"api-key": self.key}
        connection = await connect(url, ssl=self.live.trust(), proxy=None, additional_headers=headers, host=self.host)
        await connection.send('{"type":"response.create"}')
        return OpenSession(connection)

    async def open_on_every_worker(self, workers: frozenset[int], each: int = 1) -> list[OpenSession]:
        """Open sessions until every worker has at least so many of them."""
        found: list[OpenSession] = []
        held: Counter[int] = Counter()
        while len(held) < len(workers) or min(held.values()) < each:
            assert len(found) < 64, f"64 connections did not reach every worker: {held}"
            found.append(await self.open())
            held.update(workers_of([found[-1]], workers))
        return found
