"""Connections to one engine: kept open between requests, bounded in number, opened within a time limit."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stockade.egress import dial
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.upstream.connection import UpstreamConnection, UpstreamReply
from stockade.upstream.deadlines import Deadlines

MAX_CONNECTIONS = 256
MAX_WAITING = 1024
IDLE_LIMIT_S = 30.0


@dataclass(frozen=True)
class Target:
    """Where an engine listens: a TCP address, with or without TLS, or a unix socket."""

    host: str
    port: int
    base_path: str = ""
    tls: ssl.SSLContext | None = None
    unix_socket: str | None = None
    credential: tuple[str, Secret] | None = None
    """Header name and value that authenticate this platform to the engine."""

    @classmethod
    def from_url(cls, url: str, *, ca_file: str = "", credential: tuple[str, Secret] | None = None) -> Target:
        """Parse an engine's base URL (`http`, `https`); ValueError when it is neither or carries credentials or a query."""
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or "@" in parts.netloc
            or parts.query
            or parts.fragment
        ):
            raise ValueError(f"not a usable engine URL: {parts.scheme}://{parts.hostname}")
        context = None
        if parts.scheme == "https":
            context = dial.tls_context(ca_file)
        port = parts.port or (443 if context else 80)
        return cls(parts.hostname, port, parts.path.rstrip("/"), context, None, credential)

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class UpstreamPool:
    """All connections of this process to one target."""

    def __init__(self, target: Target, *, connect_timeout_s: float = 5.0, reply_timeout_s: float = 300.0) -> None:
        self.target = target
        self._connect_timeout_s, self._reply_timeout_s = connect_timeout_s, reply_timeout_s
        self._idle: deque[UpstreamConnection] = deque()
        self._open: set[UpstreamConnection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._heads: dict[tuple[object, ...], bytes] = {}
        self._limits: Deadlines | None = None

    async def request(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        content_type: str = "application/json",
        accept: str = "*/*",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> UpstreamReply:
        """Send one request and return the reply.

        path: below the target's base path. headers: further ones, names in lower case and none of those that are written here.

        A kept-alive connection that the engine closed just as we used it is replaced once, by a
        fresh one, and only when not one byte of a reply had arrived.
        Raises Fault(UNAVAILABLE) when no connection can be had, UPSTREAM_FAILED and UPSTREAM_TIMEOUT as `UpstreamConnection.exchange` does.
        """
        head = self._head(method, path, content_type, accept, headers) + b"%d\r\n\r\n" % len(body)
        connection = await self._acquire()
        try:
            return await connection.exchange(head, body, self._reply_timeout_s)
        except Fault as fault:
            if fault.kind is not FaultKind.UPSTREAM_FAILED or not connection.reused or connection.answered:
                raise
        connection = await self._acquire(fresh=True)
        return await connection.exchange(head, body, self._reply_timeout_s)

    def close(self) -> None:
        """Close every connection."""
        for connection in tuple(self._open):
            connection.abort()

    def _head(
        self, method: str, path: str, content_type: str, accept: str, headers: tuple[tuple[str, str], ...]
    ) -> bytes:
        key = (method, path, content_type, accept, headers)
        head = self._heads.get(key)
        if head is None:
            lines = [f"{method} {self.target.base_path}{path} HTTP/1.1", f"host: {self.target.host_header}"]
            if self.target.credential is not None:
                name, secret = self.target.credential
                lines.append(f"{name}: {secret.reveal_text()}")
            lines += [f"content-type: {content_type}", f"accept: {accept}"] if content_type else [f"accept: {accept}"]
            lines += [*(f"{name}: {value}" for name, value in headers), "content-length: "]
            if " " in path or not all(line.isascii() and line.isprintable() for line in lines):
                raise Fault(FaultKind.INVALID, "The head of the request to the model server would break in two.")
            head = "\r\n".join(lines).encode()
            if len(self._heads) < 256:
                self._heads[key] = head
        return head

    async def _acquire(self, *, fresh: bool = False) -> UpstreamConnection:
        """Return a connection. fresh: one just opened; whatever made one idle connection useless did so to the others."""
        if self._limits is None:
            self._limits = Deadlines(asyncio.get_running_loop())
        loop = self._limits.loop
        deadline = loop.time() + self._connect_timeout_s
        while True:
            while self._idle:
                connection = self._idle.pop()
                if not fresh and connection.is_open and loop.time() - connection.idle_since < IDLE_LIMIT_S:
                    connection.reused = True
                    return connection
                connection.abort()
            if len(self._open) + self._opening < MAX_CONNECTIONS:
                return await self._connect(self._limits)
            if len(self._waiting) >= MAX_WAITING:
                raise Fault(
                    FaultKind.UNAVAILABLE,
                    "The model server is busy; too many requests are waiting for it.",
                    retry_after_s=1,
                )
            await self._wait(loop, deadline)

    async def _wait(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        """Wait until a connection may have become free; Fault(UNAVAILABLE) when none has by then."""
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except BaseException as failure:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # it was this one's turn, and it cannot take it
            if isinstance(failure, TimeoutError):
                raise Fault(FaultKind.UNAVAILABLE, "The model server is busy.", retry_after_s=1) from None
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    async def _connect(self, limits: Deadlines) -> UpstreamConnection:
        def make() -> UpstreamConnection:
            return UpstreamConnection(self._released, self._lost, limits)

        self._opening += 1
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                if self.target.unix_socket is not None:
                    _, connection = await dial.local(make, self.target.unix_socket)
                else:
                    _, connection = await dial.named(make, self.target.host, self.target.port, tls=self.target.tls)
            if not connection.is_open:
                raise ConnectionResetError("closed as soon as it was opened")
            self._open.add(connection)
            return connection
        except (OSError, TimeoutError, ssl.SSLError) as failure:
            raise Fault(FaultKind.UNAVAILABLE, "The model server cannot be reached.", retry_after_s=2) from failure
        finally:
            self._opening -= 1
            if len(self._open) + self._opening < MAX_CONNECTIONS:
                self._wake()

    def _released(self, connection: UpstreamConnection) -> None:
        connection.idle_since = connection.now()
        self._idle.append(connection)
        self._wake()

    def _lost(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


def read_credential(header: str, env: str, file: str) -> tuple[str, Secret] | None:
    """Return the header that authenticates us to an engine, from the environment or a file; None when neither is named.

    Raises Fault(UNAVAILABLE) when it is named but not there: an engine is never called without the credential it was given.
    """
    value = ""
    if env:
        value = os.environ.get(env, "")
    elif file:
        try:
            value = Path(file).expanduser().read_text().strip()
        except OSError as failure:
            raise Fault(FaultKind.UNAVAILABLE, "The model server's credential file cannot be read.") from failure
    else:
        return None
    if not value or not value.isascii() or not value.isprintable():
        raise Fault(
            FaultKind.UNAVAILABLE,
            f"The model server's credential is not set, or no header can carry it ({env or file}).",
        )
    return header, Secret(f"Bearer {value}" if header.lower() == "authorization" else value)
