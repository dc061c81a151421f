"""Realtime sessions: events over a WebSocket, in front of any server with OpenAI's realtime API.

An event is parsed as a JSON object of raw members and written anew, as a body is: of a doubled member the engine sees the one we saw. A session's
`model` is set to what the engine calls the deployment's model, whatever the caller names. Source: Azure OpenAI realtime reference (addresses,
`api-key` in the query), openai 3.54.0 (`resources/realtime`, `types/realtime`: events, subprotocols of browsers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.services.dialect import STATUS
from stockade.services.openai.engines.engine import Engine
from stockade.services.session import EngineEnded, Handshake
from stockade.upstream.websocket import SEND_S, TooManyFragments, receive, send

CAPABILITY: Final = "realtime"
SUBPROTOCOL: Final = "realtime"
BETA_SUBPROTOCOL: Final = "openai-beta.realtime-v1"
_BETA_HEADER: Final = ("OpenAI-Beta", "realtime=v1")

_WITH_MODEL: Final = frozenset({"session", "response"})

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Event:
    """One event of the caller's: as it came, its members as raw JSON, and those of them that have been parsed further."""

    text: str
    members: dict[str, msgspec.Raw]
    looked_at: dict[str, Any]

    @property
    def id(self) -> str | None:
        """The caller's own id of the event, if it gave one."""
        raw = self.members.get("event_id")
        try:
            return msgspec.json.decode(raw, type=str)[:128] if raw is not None else None
        except msgspec.DecodeError:
            return None


def read_event(text: str, engine_model: msgspec.Raw) -> Event:
    """Parse an event and name the engine's model wherever it names one; Fault(INVALID) for what is no JSON object."""
    try:
        members = _decode_members(text)
        if "model" in members:
            members["model"] = engine_model
        for name in _WITH_MODEL & members.keys():
            inner = _decode_members(members[name])
            if "model" in inner:
                inner["model"] = engine_model
            members[name] = msgspec.Raw(_encode(inner))
    except (msgspec.DecodeError, UnicodeEncodeError) as failure:
        raise Fault(
            FaultKind.INVALID, f"The event is not a valid JSON object: {failure}.", code="invalid_json"
        ) from failure
    except RecursionError as failure:
        raise Fault(FaultKind.INVALID, "The event is nested too deeply.", code="invalid_json") from failure
    return Event(text, members, {})


def look_at(event: Event, names: Sequence[str] | None) -> Mapping[str, Any]:
    """Parse members and put them back as they were read; names: which, None for all. Fault(INVALID) for what cannot be read."""
    for name in event.members if names is None else names:
        raw = event.members.get(name)
        if raw is None:
            continue
        try:
            event.looked_at[name] = value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError) as failure:
            raise Fault(
                FaultKind.INVALID, f"'{name[:60]}' cannot be read: {failure}.", code="invalid_json", target=name[:60]
            ) from failure
        event.members[name] = msgspec.Raw(_encode(value))
    return event.looked_at


def event_text(event: Event) -> str:
    """Return the event as it goes to the engine."""
    return _encode(event.members).decode()


def error_event(fault: Fault, event: Event | None) -> str:
    """Return the `error` event that tells of a fault."""
    status, code = STATUS[fault.kind]
    if fault.kind is FaultKind.OUTBOUND_DENIED:
        code = "OutboundUriNotAllowed"
    error = {
        "type": "invalid_request_error" if status < 500 else "server_error",
        "code": fault.code or code,
        "message": fault.message,
        "param": fault.target,
        "event_id": event.id if event is not None else None,
    }
    return _encode({"type": "error", "event_id": f"event_{new_guid().replace('-', '')}", "error": error}).decode()


class RealtimeSession:
    """The engine's side of a session."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        try:
            await send(self._connection, text, SEND_S)
        except ConnectionClosed as closed:
            raise _ended(closed) from closed
        except TimeoutError as failure:
            raise EngineEnded(None) from failure

    async def receive(self) -> str:
        try:
            message = await receive(self._connection)
        except ConnectionClosed as closed:
            raise _ended(closed) from closed
        except TooManyFragments as failure:
            raise EngineEnded(None) from failure
        if not isinstance(message, str):
            raise EngineEnded(None)  # events are text: whatever this is, nobody has looked at it
        return message

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)

    def abort(self) -> None:
        self._connection.transport.abort()


async def open_session(engine: Engine, intent: str | None, handshake: Handshake) -> RealtimeSession:
    """Open a session with an engine. Of what the caller sent, only the intent and which of two wire formats it speaks are passed on.

    intent: `transcription`, None for a conversation.
    """
    query = {"model": engine.model_name} | ({} if intent is None else {"intent": intent})
    beta = BETA_SUBPROTOCOL in handshake.subprotocols or handshake.headers.get("openai-beta") == _BETA_HEADER[1]
    return RealtimeSession(await engine.websocket("/realtime?" + urlencode(query), [_BETA_HEADER] if beta else []))


def _ended(closed: ConnectionClosed) -> EngineEnded:
    if closed.rcvd is None:
        return EngineEnded(None)
    return EngineEnded(closed.rcvd.code, closed.rcvd.reason)
