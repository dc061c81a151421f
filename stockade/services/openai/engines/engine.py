"""An engine speaks the OpenAI API over HTTP. Built-in and upstream engines differ only in where they listen and who starts them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection

from stockade.egress import dial
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Limits, Model, Upstream
from stockade.upstream.connection import UpstreamReply
from stockade.upstream.pool import Target, UpstreamPool, read_credential
from stockade.upstream.websocket import connect

START_TIMEOUT_S = 90.0
"""Hashing and loading a built-in model on a busy machine; a cold start takes about two seconds on an idle one."""
_CRASHED = "The built-in model broke off and is started again. Please retry your request."


class Engine(Protocol):
    """Answers OpenAI requests for one model."""

    @property
    def model_name(self) -> str:
        """The name the engine knows the model by."""
        ...

    @property
    def idle_timeout_s(self) -> float: ...

    def post(self, path: str, body: bytes) -> Coroutine[Any, Any, UpstreamReply]:
        """Send a request (`/chat/completions`) and return the reply; Fault when the engine cannot be reached."""
        ...

    def websocket(self, path: str, headers: Sequence[tuple[str, str]]) -> Coroutine[Any, Any, ClientConnection]:
        """Open a WebSocket (`/realtime?model=...`); Fault when the engine has none or cannot be reached."""
        ...

    def close(self) -> None: ...


class UpstreamEngine:
    """A server of the operator's: vLLM, Ollama, llama.cpp, real Azure OpenAI. The caller's own credentials never reach it."""

    def __init__(self, model: Model, upstream: Upstream, limits: Limits) -> None:
        self.model_name = upstream.model or model.name
        self.idle_timeout_s = upstream.timeout_s
        self._upstream, self._limits = upstream, limits
        self._pool: UpstreamPool | None = None

    def post(self, path: str, body: bytes) -> Coroutine[Any, Any, UpstreamReply]:
        return self._connections().request("POST", path, body)

    def websocket(self, path: str, headers: Sequence[tuple[str, str]]) -> Coroutine[Any, Any, ClientConnection]:
        return connect(
            self._connections().target,
            path,
            headers=headers,
            max_message_bytes=self._limits.websocket_message_bytes,
            timeout_s=self._limits.upstream_connect_timeout_s,
        )

    def _connections(self) -> UpstreamPool:
        if self._pool is None:
            credential = read_credential(
                self._upstream.credential_header, self._upstream.credential_env, self._upstream.credential_file
            )
            try:
                target = Target.from_url(self._upstream.url, ca_file=self._upstream.ca_file, credential=credential)
            except (ValueError, OSError) as failure:
                raise Fault(
                    FaultKind.UNAVAILABLE, "The model server's address or CA file in the settings is not usable."
                ) from failure
            self._pool = UpstreamPool(
                target,
                connect_timeout_s=self._limits.upstream_connect_timeout_s,
                reply_timeout_s=self._upstream.timeout_s,
            )
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()


class BuiltInEngine:
    """A built-in model in a process of its own. The supervisor starts it at the first request and again after a crash."""

    def __init__(self, model: Model, supervisor_socket: str, limits: Limits) -> None:
        self.model_name = model.name
        self.idle_timeout_s = limits.request_timeout_s
        self._supervisor_socket, self._limits = supervisor_socket, limits
        self._pool: UpstreamPool | None = None
        self._starting: asyncio.Task[UpstreamPool] | None = None

    async def post(self, path: str, body: bytes) -> UpstreamReply:
        try:
            return await self._post("/v1" + path, body)
        except Fault as fault:
            if fault.kind is not FaultKind.UPSTREAM_FAILED:
                raise
            # It is ours and broke off, so it has crashed. Not sent again: the request may be what it crashed of.
            raise Fault(FaultKind.UNAVAILABLE, _CRASHED, retry_after_s=1) from fault

    async def websocket(self, path: str, headers: Sequence[tuple[str, str]]) -> ClientConnection:
        raise Fault(FaultKind.UNSUPPORTED, "The built-in models have no realtime sessions.")

    async def _post(self, path: str, body: bytes) -> UpstreamReply:
        pool = self._pool or await self._started()
        try:
            return await pool.request("POST", path, body)
        except Fault as fault:
            if fault.kind is not FaultKind.UNAVAILABLE or not isinstance(fault.__cause__, OSError):
                raise  # busy is not gone: a new pool would end the requests that keep it busy
        # Nobody listens there any more: it was stopped for idleness or has crashed. Ask for a new one, once.
        pool = await self._started()
        return await pool.request("POST", path, body)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()

    async def _started(self) -> UpstreamPool:
        if self._starting is None or self._starting.done():
            self._starting = asyncio.ensure_future(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> UpstreamPool:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                reader, writer = await dial.local_streams(self._supervisor_socket, 65_536)
                try:
                    writer.write(json.dumps({"engine": self.model_name}).encode() + b"\n")
                    await writer.drain()
                    answer = json.loads(await reader.readline() or b"{}")
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as failure:
            raise Fault(FaultKind.UNAVAILABLE, "The built-in model could not be started.", retry_after_s=5) from failure
        if "socket" not in answer:
            reason = str(answer.get("error", "no answer"))
            raise Fault(FaultKind.UNAVAILABLE, f"The built-in model could not be started: {reason}", retry_after_s=5)
        if self._pool is not None:
            self._pool.close()
        target = Target("localhost", 80, unix_socket=str(answer["socket"]))
        self._pool = UpstreamPool(
            target,
            connect_timeout_s=self._limits.upstream_connect_timeout_s,
            reply_timeout_s=self._limits.request_timeout_s,
        )
        return self._pool


def engine_for(model: Model, supervisor_socket: str, limits: Limits) -> Engine:
    """Return the engine that serves a model of the catalogue."""
    if model.upstream is not None:
        return UpstreamEngine(model, model.upstream, limits)
    return BuiltInEngine(model, supervisor_socket, limits)
