"""The gateway's WebSockets over real TLS, in this process, in front of a realtime server that a test controls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from stockade.gateway.app import Gateway
from stockade.gateway.websocket import Address
from stockade.settings import Limits
from tests.factories.certificates import certificates
from tests.factories.data_plane import Account, DataPlane
from tests.factories.realtime import Answer, RealtimeServer, realtime_server, talk

PATIENCE_S = 30.0
REALTIME = "/openai/realtime?api-version=2025-04-01-preview&deployment=voice"
REALTIME_V1 = "/openai/v1/realtime?model=voice"


@dataclass
class Sessions:
    """One account with the deployment `voice`, and how to reach it."""

    plane: DataPlane
    gateway: Gateway
    engine: RealtimeServer
    account: Account
    port: int
    tls: ssl.SSLContext
    server_tls: ssl.SSLContext

    async def listen_again(self) -> None:
        """Listen on a further port, and use that one from here on."""
        server = await self.gateway.websockets.listen(Address(self.server_tls, "127.0.0.1", 0))
        self.port = next(iter(server.sockets)).getsockname()[1]

    def url(self, below: str = REALTIME) -> str:
        return f"wss://localhost:{self.port}{self.account.path(below)}"

    def connect(self, below: str = REALTIME, *, key: str | None = None, **more: Any) -> connect:
        """Connect as the account's caller. key: another key, "" for none."""
        headers = dict(more.pop("headers", {}))
        if key != "":
            headers.setdefault("api-key", key or self.account.key)
        more.setdefault("compression", None)
        return connect(self.url(below), ssl=self.tls, additional_headers=headers, max_size=None, proxy=None, **more)

    @contextlib.asynccontextmanager
    async def session(self, below: str = REALTIME, **more: Any) -> AsyncIterator[ClientConnection]:
        """Connect, and read the first event."""
        async with self.connect(below, **more) as connection:
            assert (await event(connection))["type"] == "session.created"
            yield connection

    def records(self) -> list[dict[str, Any]]:
        """Return the audit records so far."""
        return self.plane.audit_lines(self.gateway)

    async def recorded(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are so many audit records, and return them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := self.records()) < count:  # noqa: ASYNC110 - the record is the event
                await asyncio.sleep(0.02)
        return found


async def event(connection: ClientConnection) -> dict[str, Any]:
    """Return the next event."""
    async with asyncio.timeout(PATIENCE_S):
        found: dict[str, Any] = json.loads(await connection.recv())
    return found


async def end(connection: ClientConnection) -> tuple[list[dict[str, Any]], int | None, str]:
    """Read to the end; return the events that came, the close code and its reason (None and "" without a close frame)."""
    events = []
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                events.append(json.loads(await connection.recv()))
            except ConnectionClosed as closed:
                return events, closed.rcvd.code if closed.rcvd else None, closed.rcvd.reason if closed.rcvd else ""


@contextlib.asynccontextmanager
async def sessions(
    folder: Path,
    answer: Answer = talk,
    *,
    limits: Limits | None = None,
    settings: Mapping[str, Any] | None = None,
    **properties: Any,
) -> AsyncIterator[Sessions]:
    """Run them. settings: others than the usual ones. properties: of the account."""
    made = certificates(folder / "tls")
    async with realtime_server(answer) as engine:
        changes = {**(settings or {}), **({} if limits is None else {"limits": limits})}
        (folder / "data").mkdir()
        plane = DataPlane(folder / "data", engine.url, **changes)
        account = plane.account(deployments=("chat",), **properties)
        plane.deployment(account.id, "voice", model="talker")
        gateway = plane.gateway()
        running = Sessions(plane, gateway, engine, account, 0, made.client_context(), made.server_context())
        await running.listen_again()
        try:
            yield running
        finally:
            await gateway.websockets.close()
