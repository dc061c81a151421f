"""What a service with WebSocket operations is to the gateway, beside what every service is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from stockade.kernel.faults import Fault
from stockade.policy.uris.found import FoundUri
from stockade.services.service import Call, Service


class EngineEnded(Exception):
    """The engine has ended the session, or is gone.

    code, reason: of its close frame; None and "" where it sent none, because it broke off.
    """

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(f"the engine ended the session: {code}")
        self.code, self.reason = code, reason


@dataclass(frozen=True, slots=True)
class Handshake:
    """What else a caller has said when it asked for the WebSocket.

    subprotocols: those it offers, in its order. headers: names in lower case; without any that carry a credential.
    """

    subprotocols: tuple[str, ...]
    headers: Mapping[str, str]


class EngineSession(Protocol):
    """An open session with an engine. One task sends, one receives."""

    async def send(self, text: str) -> None:
        """Send one message and wait until there is room for the next; EngineEnded when it is gone or does not read."""
        ...

    async def receive(self) -> str:
        """Return the next message; EngineEnded when there is none to come."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """End the session in bounded time; never raises."""
        ...

    def abort(self) -> None:
        """Let go of the connection at once."""
        ...


@runtime_checkable
class SessionService(Service, Protocol):
    """A service some of whose operations are WebSockets. `Service.read` finds the deployment, from the address alone."""

    def subprotocol(self, offered: Sequence[str]) -> str | None:
        """Return which of the subprotocols the caller offers is spoken; None where none is named."""
        ...

    async def open(self, call: Call, handshake: Handshake) -> EngineSession:
        """Open the session with the engine; Fault when it cannot be had."""
        ...

    def message(self, call: Call, text: str) -> Any:
        """Parse one message of the caller's; Fault(INVALID) in the service's words."""
        ...

    def message_uris(self, call: Call, message: Any, *, deep: bool) -> tuple[FoundUri, ...]:
        """Return every URI a parsed message carries, as `Service.uris` does for a body."""
        ...

    def inline_message(self, call: Call, message: Any, contents: Mapping[str, str]) -> None:
        """Put content in the place of URIs, as `Service.inline` does in a body."""
        ...

    def dispatched(self, call: Call, message: Any) -> str:
        """Return the message written anew from what was parsed and looked at, for the engine."""
        ...

    def error_event(self, fault: Fault, message: Any = None) -> str:
        """Return the message that tells the caller of a fault. message: the parsed one that it answers, None where there is none."""
        ...
