"""Azure OpenAI: one handler for each group of operations, found by the operation's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.uris.found import FoundUri
from stockade.services.dialect import STATUS, gateway_body
from stockade.services.openai import realtime
from stockade.services.openai.batches import Batches
from stockade.services.openai.deployments import Deployments, Listings
from stockade.services.openai.files import Files
from stockade.services.openai.handler import Handler
from stockade.services.openai.inference import Inference
from stockade.services.openai.operations import OPERATIONS
from stockade.services.openai.responses import Responses
from stockade.services.openai.sessions import Sessions
from stockade.services.openai.stored_completions import StoredCompletions
from stockade.services.service import Call, Reply, Stream
from stockade.services.session import EngineSession, Handshake
from stockade.settings import Settings


class OpenAIService:
    """The service as the gateway sees it."""

    name = "openai"
    kinds = frozenset({"OpenAI", "AIServices"})
    operations = OPERATIONS

    def __init__(self, settings: Settings) -> None:
        self._deployments = Deployments(settings)
        self._sessions = Sessions(self._deployments)
        handlers: tuple[Handler, ...] = (
            Inference(self._deployments, settings.content),
            self._sessions,
            Listings(self._deployments),
            Files(settings.content),
            Batches(settings.content),
            Responses(self._deployments, settings.content),
            StoredCompletions(),
        )
        self._handlers = {name: handler for handler in handlers for name in handler.answers}

    def read(self, call: Call) -> None:
        """Parse the body, or the address of a session, and find the deployment."""
        self._handlers[call.operation.name].read(call)

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]:
        """Look into the members that may carry URIs, and write them anew as they were read; deep: also at every string of the body as it came."""
        return self._handlers[call.operation.name].uris(call, deep=deep)

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        """Put images in the place of their URIs."""
        self._handlers[call.operation.name].inline(call, contents)

    async def answer(self, call: Call) -> Reply | Stream:
        """Dispatch to the engine, or answer ourselves."""
        return await self._handlers[call.operation.name].answer(call)

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        """Wrap a fault as Azure OpenAI does: `{"error": {"code", "message", "param", "type"}}`."""
        if fault.kind is FaultKind.OUTBOUND_DENIED:
            return gateway_body(fault, request_id)
        error: dict[str, Any] = {"code": fault.code or STATUS[fault.kind][1], "message": fault.message}
        if fault.target is not None:
            error |= {"param": fault.target, "type": "invalid_request_error"}
        return {"error": error}

    # A realtime session: `services/session.py`.

    def subprotocol(self, offered: Sequence[str]) -> str | None:
        """Speak `realtime` with a browser; other clients name none."""
        return realtime.SUBPROTOCOL if realtime.SUBPROTOCOL in offered else None

    async def open(self, call: Call, handshake: Handshake) -> EngineSession:
        """Open the session with the engine of the deployment's model."""
        return await self._sessions.open(call, handshake)

    def message(self, call: Call, text: str) -> realtime.Event:
        """Parse an event, and name the engine's model wherever it names one."""
        return realtime.read_event(text, call.parsed.engine_model)

    def message_uris(self, call: Call, message: realtime.Event, *, deep: bool) -> tuple[FoundUri, ...]:
        """Look into the members of an event that may carry URIs."""
        return self._sessions.message_uris(call, message, deep=deep)

    def inline_message(self, call: Call, message: realtime.Event, contents: Mapping[str, str]) -> None:
        """Put images in the place of their URIs."""
        self._sessions.inline_message(call, message, contents)

    def dispatched(self, call: Call, message: realtime.Event) -> str:
        """Return the event as it goes to the engine."""
        return realtime.event_text(message)

    def error_event(self, fault: Fault, message: realtime.Event | None = None) -> str:
        """Return the `error` event that tells of a fault."""
        return realtime.error_event(fault, message)

    async def close(self) -> None:
        self._deployments.close()


PLUGIN = OpenAIService
