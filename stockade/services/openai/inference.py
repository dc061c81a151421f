"""Chat completions, completions and embeddings: passed on to the engine of the deployment's model.

The body is parsed once, as a JSON object of raw members: `model` is set to what the engine calls the model, everything else passes as it
came. The object is written anew, so that what was checked is what is dispatched: of a doubled member the engine sees the one we saw.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.uris.found import FoundUri
from stockade.services.openai import bodies
from stockade.services.openai.deployments import Deployments, Served
from stockade.services.openai.engines.engine import Engine
from stockade.services.openai.stored_completions import Keeper
from stockade.services.service import Call, Reply, Stream
from stockade.settings import Content
from stockade.upstream.connection import UpstreamReply

MAX_REPLY_BYTES = 64 * 1024 * 1024

_ROUTES = {
    "ChatCompletions_Create": ("/chat/completions", "chatCompletion", "messages"),
    "Completions_Create": ("/completions", "completion", "prompt"),
    "Embeddings_Create": ("/embeddings", "embeddings", "input"),
}
_PASSED_ERRORS = frozenset({400, 404, 408, 409, 413, 415, 422, 429})
"""Statuses an engine may tell the caller. Its 401 and 403 are about our credential, its 5xx about itself."""


@dataclass(slots=True)
class _Parsed:
    members: dict[str, msgspec.Raw]
    stream: bool
    served: Served
    keeper: Keeper | None = None
    """Keeps the completion, where the caller has asked for that."""


class Inference:
    """Sends bodies on to engines."""

    answers = frozenset(_ROUTES)

    def __init__(self, deployments: Deployments, kept: Content) -> None:
        self._deployments, self._kept = deployments, kept

    def read(self, call: Call) -> None:
        """Parse the body and find the deployment."""
        members = bodies.read_members(call.body)
        name = call.values.get("deployment")
        if name is None:
            name = bodies.text(members, "model")
            if name is None:
                raise Fault(
                    FaultKind.INVALID, "The parameter 'model' is required and names a deployment.", target="model"
                )
        _, capability, required = _ROUTES[call.operation.name]
        served = self._deployments.find(call, name, capability)
        if required not in members:
            raise Fault(FaultKind.INVALID, f"Missing required parameter: '{required}'.", target=required)
        keeper = self._keeper(call, members) if call.operation.name == "ChatCompletions_Create" else None
        call.parsed = _Parsed(members, bodies.boolean(members, "stream") is True, served, keeper)

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]:
        """Look into the members that may carry URIs."""
        parsed: _Parsed | None = call.parsed
        members = (
            parsed.members if parsed is not None else bodies.read_members(call.body)
        )  # a trial asks without `read`
        return bodies.find(call.operation, call.body, members, deep=deep)

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        """Put images in the place of their URIs."""
        parsed: _Parsed = call.parsed
        bodies.put_inline(call.operation, parsed.members, contents)

    async def answer(self, call: Call) -> Reply | Stream:
        """Dispatch to the engine."""
        parsed: _Parsed = call.parsed
        route, keeper = _ROUTES[call.operation.name][0], parsed.keeper
        if keeper is not None:
            keeper.messages = parsed.members["messages"]
        reply = await ask(parsed.served, route, parsed.members, stream=parsed.stream)
        return reply if keeper is None else await keeper.take(reply)

    def _keeper(self, call: Call, members: dict[str, msgspec.Raw]) -> Keeper | None:
        """Return what keeps the completion. Keeping is this platform's affair: an engine never hears of it, and keeps nothing itself."""
        if "store" not in members:
            return None
        store = bodies.boolean(members, "store")
        del members["store"]
        if not store:
            return None
        metadata = members.pop("metadata", None)
        return Keeper(call, self._kept, bodies.value(metadata, "metadata") if metadata is not None else None)


async def ask(served: Served, route: str, members: dict[str, msgspec.Raw], *, stream: bool) -> Reply | Stream:
    """Send a body to a deployment's engine, and return what of its reply the caller gets."""
    members["model"] = served.engine_model
    reply = await served.engine.post(route, bodies.encode(members))
    return await relay(reply, served.engine, stream)


async def relay(reply: UpstreamReply, engine: Engine, wants_stream: bool) -> Reply | Stream:
    """Return what of an engine's reply the caller gets; Fault where it is about the platform's affairs with the engine."""
    status = reply.status
    content_type = _media_type(reply.headers.get("content-type", ""))
    if status == 200 and wants_stream and content_type.startswith("text/event-stream"):
        return Stream(200, _chunks(reply, engine.idle_timeout_s), reply.close, content_type)
    if status == 200 or status in _PASSED_ERRORS:
        body = reply.whole()
        if body is None:
            body = await reply.read(MAX_REPLY_BYTES, engine.idle_timeout_s)
        passed = Reply(status, body, content_type)
        if status == 429:
            seconds = _bounded_wait(reply.headers.get("retry-after", "1"))
            passed.headers = [("retry-after", str(seconds)), ("retry-after-ms", str(seconds * 1000))]
        return passed
    reply.close()
    if status in (401, 403):
        raise Fault(
            FaultKind.UPSTREAM_FAILED,
            "The model server refused this platform's own credential; its operator must mend that.",
        )
    if status == 503:
        raise Fault(FaultKind.UNAVAILABLE, "The model server is not available.", retry_after_s=2)
    raise Fault(FaultKind.UPSTREAM_FAILED, f"The model server failed with status {status}.")


async def _chunks(reply: UpstreamReply, idle_timeout_s: float) -> AsyncIterator[bytes]:
    while chunk := await reply.next_chunk(idle_timeout_s):
        yield chunk


def _bounded_wait(text: str) -> int:
    return max(1, min(60, int(text))) if text.isascii() and text.isdigit() and len(text) < 10 else 1


def _media_type(text: str) -> str:
    return text if text.isascii() and text.isprintable() and 0 < len(text) <= 256 else "application/json"
