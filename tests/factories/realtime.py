"""A model server with OpenAI's realtime API: says what a test tells it to, and remembers all that it was told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

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
