"""The OpenAI HTTP API in front of one loaded model, as an ASGI application.

It knows no callers, keys or accounts: whoever can open its socket is the gateway. It bounds what a request may cost, stops working for a
caller who is gone, and never logs what is in a body.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import logging
import struct
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

import msgspec

from stockade.kernel.faults import Fault, FaultKind

from .catalogue import BuiltInModel, Capability
from .engine import EmbeddingEngine, Finished, Text, TextEngine
from .errors_wire import error_body, error_headers, error_status
from .replies_wire import TextReply, embeddings_reply, models_reply
from .requests_wire import Generation, read_chat, read_completion, read_embeddings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 4 * 1024 * 1024
BODY_TIMEOUT_S = 30

_log = logging.getLogger(__name__)


OPERATIONS: dict[str, Capability] = {
    "/v1/chat/completions": "chatCompletion",
    "/v1/completions": "completion",
    "/v1/embeddings": "embeddings",
}

_Handler = Callable[[bytes, "_Reply"], Coroutine[Any, Any, None]]


class App:
    """Serve one model through the engine that runs it."""

    def __init__(
        self,
        model: BuiltInModel,
        *,
        text: TextEngine | None = None,
        embeddings: EmbeddingEngine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._at_work = 0
        self._last_used = clock()
        self._model = model
        self._get: dict[str, Callable[[], bytes]] = {
            "/healthz": self._health,
            "/v1/models": lambda: models_reply([model]),
        }
        self._post: dict[str, _Handler] = {}
        if text is not None:
            self._post["/v1/chat/completions"] = functools.partial(self._text, text, read_chat)
            self._post["/v1/completions"] = functools.partial(self._text, text, read_completion)
        if embeddings is not None:
            self._post["/v1/embeddings"] = functools.partial(self._embeddings, embeddings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; everything that goes wrong becomes an OpenAI error."""
        reply = _Reply(send)
        try:
            await self._answer(scope, receive, reply)
        except Fault as fault:
            await reply.fault(fault)
        except Exception as error:  # noqa: BLE001 - the rim: whatever it is, the caller gets an OpenAI error and the process goes on
            # Not the exception's text, which could quote the request: its type and place are enough to find the bug.
            place = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("unexpected %s at %s:%s", type(error).__name__, place.filename, place.lineno)
            await reply.fault(Fault(FaultKind.INTERNAL, "The built-in model failed."))

    async def _answer(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        path, method = scope["path"], scope["method"]
        if path not in self._get and path not in OPERATIONS:
            raise Fault(FaultKind.NOT_FOUND, "There is no such operation.")
        if method != ("GET" if path in self._get else "POST"):
            raise Fault(FaultKind.METHOD_NOT_ALLOWED, "The operation does not take this method.")
        if method == "GET":
            await reply.json(200, self._get[path]())
            return
        if path not in self._post:
            raise Fault(
                FaultKind.INVALID,
                f"The {OPERATIONS[path]} operation does not work with the model {self._model.name}.",
                code="OperationNotSupported",  # Azure's code for this case
                target="model",
            )
        self._at_work += 1
        try:
            body = await _read_body(scope, receive)
            await _while_connected(receive, self._post[path](body, reply))
        finally:
            self._at_work -= 1
            self._last_used = self._clock()

    def _health(self) -> bytes:
        """Return that all is well, and for how many seconds nobody has used the model: what the supervisor ends idle engines by."""
        idle_s = 0.0 if self._at_work else self._clock() - self._last_used
        return msgspec.json.encode({"status": "ok", "idleSeconds": round(idle_s, 1)})

    async def _text(
        self, engine: TextEngine, read: Callable[[bytes, BuiltInModel], Generation], body: bytes, reply: _Reply
    ) -> None:
        request = read(body, self._model)
        wire = TextReply(request.operation, self._model, int(time.time()), include_usage=request.include_usage)
        texts: list[str] = []
        async with contextlib.aclosing(engine.generate(request)) as pieces:
            async for piece in pieces:
                if request.stream:
                    await reply.open_stream(wire.opening())
                match piece:
                    case Text(text=text) if request.stream:
                        await reply.event(wire.piece(text))
                    case Text(text=text):
                        texts.append(text)
                    case Finished(reason=reason, usage=usage) if request.stream:
                        await reply.close_stream(wire.closing(reason, usage))
                    case Finished(reason=reason, usage=usage):
                        await reply.json(200, wire.whole("".join(texts), reason, usage))

    async def _embeddings(self, engine: EmbeddingEngine, body: bytes, reply: _Reply) -> None:
        request = read_embeddings(body, self._model)
        vectors, tokens = await engine.embed(request.texts)
        if request.encoding == "base64":
            await reply.json(
                200, embeddings_reply([base64.b64encode(vector).decode() for vector in vectors], tokens, self._model)
            )
        else:
            shown = [struct.unpack(f"<{len(vector) // 4}f", vector) for vector in vectors]
            await reply.json(200, embeddings_reply(shown, tokens, self._model))


class _Reply:
    """One HTTP response, which may be a stream of events; knows how far it has got, so that a late fault still finds its form."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._streaming = False
        self._closed = False

    async def json(self, status: int, body: bytes, extra: list[tuple[bytes, bytes]] | None = None) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(extra or [])]
        self._closed = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def open_stream(self, first: bytes) -> None:
        """Start the stream unless it has started."""
        if self._streaming:
            return
        self._streaming = True
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.event(first)

    async def event(self, data: bytes) -> None:
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def close_stream(self, last: bytes) -> None:
        self._closed = True
        await self._send({"type": "http.response.body", "body": last})

    async def fault(self, fault: Fault) -> None:
        """Tell the caller: as a response of its own, or, in the middle of a stream, as its last event."""
        if self._closed:
            return
        if self._streaming:
            await self.close_stream(b"data: " + error_body(fault) + b"\n\n")
        else:
            await self.json(error_status(fault), error_body(fault), error_headers(fault))


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    headers = dict(scope["headers"])
    if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
        raise Fault(FaultKind.UNSUPPORTED_MEDIA_TYPE, "The body must be application/json.")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Fault(FaultKind.INVALID, "The body broke off.")
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise Fault(FaultKind.TOO_LARGE, f"The body has more than {MAX_BODY_BYTES} bytes.")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Fault(FaultKind.TIMEOUT, f"The body did not arrive within {BODY_TIMEOUT_S} seconds.") from None


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run the work to its end, or cancel it when the caller goes away."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working = asyncio.create_task(work)
    tasks = (working, asyncio.create_task(gone()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        unfinished = [task for task in tasks if not task.done()]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
    if working.done() and not working.cancelled():
        working.result()
