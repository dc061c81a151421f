"""A WebSocket session once it is open: messages both ways, each of the caller's decided on before it is passed on.

Nothing is queued: a message is read when the one before it has been taken by the other side, so a slow reader slows its sender down, and one
that does not read at all is cut off. Close codes: RFC 6455 section 7.4.1; 1007 for a refused URI is choices.md's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from stockade.gateway.admission import head_facts
from stockade.gateway.content import InlineContent
from stockade.gateway.exchange import Exchange
from stockade.gateway.output.messages import MessageReview
from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.decide import decide
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.services.service import Call
from stockade.services.session import EngineEnded, EngineSession, SessionService
from stockade.settings import Limits
from stockade.upstream.websocket import SEND_S, TooManyFragments, receive, send

LAST_WORDS_S: Final = 0.5
"""How long a caller that is being cut off may take to accept the event that says why."""
LOOK_S: Final = 1.0
"""How often it is looked whether anything has been said at all."""
MAX_REASON_BYTES: Final = 123
"""Of a close frame: 125 bytes less the code (RFC 6455 section 5.5)."""
MAX_REPORTED: Final = 32
"""Would-be refusals in the record of one session, the same one counted once."""

NORMAL, GOING_AWAY, UNSUPPORTED_DATA, NO_CODE, INVALID_DATA, POLICY, TOO_BIG, BROKEN = (
    1000, 1001, 1003, 1005, 1007, 1008, 1009, 1011,
)  # fmt: skip
_PASSED_CODES: Final = frozenset({1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 1013})
"""Those that say something of the session; the others say something of one of its two connections."""
_INDEX = re.compile(r"\[\d+\]")

_INTERNAL = "The session could not be continued. Quote the request id to the operator."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class End:
    """How a session ends for the caller.

    code, reason: of the close frame. fault: told in an `error` event before it. message: the caller's, where one is to blame.
    """

    code: int
    reason: str = ""
    fault: Fault | None = None
    message: Any = None


class Session:
    """One open session. in_force: returns the snapshot in force; Fault when it cannot be read."""

    def __init__(
        self,
        exchange: Exchange,
        service: SessionService,
        call: Call,
        engine: EngineSession,
        path: str,
        in_force: Callable[[], Snapshot],
        content: InlineContent,
        limits: Limits,
    ) -> None:
        self.engine, self._content = engine, content
        self._exchange, self._service, self._call, self._path = exchange, service, call, path
        self._in_force, self._idle_timeout_s = in_force, limits.websocket_idle_timeout_s
        self._max_message_bytes = min(call.operation.max_body_bytes, limits.websocket_message_bytes)
        self._loop = asyncio.get_running_loop()
        self._last_message = self._loop.time()
        self._told: set[tuple[str, str, str]] = set()
        self._output = MessageReview()

    async def run(self, caller: ServerConnection) -> None:
        """Pass messages both ways until one side ends it or it is ended from outside; then say why and close both."""
        exchange = self._exchange
        try:
            end = await self._relay(caller)
        except asyncio.CancelledError:
            fault = exchange.ending()
            if fault is None:
                exchange.outcome = "cancelled"
                self.engine.abort()
                raise
            if exchange.ended_by == "deadline":
                fault = Fault(
                    FaultKind.TIMEOUT, "The session has lasted as long as sessions may.", code="session_expired"
                )
            end = End(GOING_AWAY if exchange.ended_by == "deadline" else POLICY, fault.message, fault)
        except Exception:
            log.exception("a session failed", extra={"request": exchange.id})
            end = End(BROKEN, _INTERNAL, Fault(FaultKind.INTERNAL, _INTERNAL))
        if end.fault is not None:
            exchange.outcome = f"failed:{end.fault.kind.value}"
        try:
            await asyncio.gather(self._leave(caller, end), self.engine.close(NORMAL, ""))
        finally:
            self.engine.abort()
            exchange.reported = (*exchange.reported, *self._output.found)

    async def _relay(self, caller: ServerConnection) -> End:
        both = {self._loop.create_task(self._from_caller(caller)), self._loop.create_task(self._from_engine(caller))}
        try:
            while True:
                done, _ = await asyncio.wait(both, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    return next(iter(done)).result()
                if self._loop.time() - self._last_message >= self._idle_timeout_s:
                    fault = Fault(FaultKind.TIMEOUT, "Nothing has been said for too long.", code="session_expired")
                    return End(GOING_AWAY, fault.message, fault)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _from_caller(self, caller: ServerConnection) -> End:
        while True:
            try:
                text = await receive(caller)
            except ConnectionClosed as closed:
                return self._closed(closed)
            except TooManyFragments:
                fault = Fault(FaultKind.TOO_LARGE, "The message comes in too many fragments.")
                return End(TOO_BIG, fault.message, fault)
            self._last_message = self._loop.time()
            if not isinstance(text, str):
                fault = Fault(FaultKind.UNSUPPORTED_MEDIA_TYPE, "Messages are text.")
                return End(UNSUPPORTED_DATA, fault.message, fault)
            try:
                message = self._service.message(self._call, text)
                end = await self._decide(message, text)
                if end is not None:
                    return end
                dispatched = self._service.dispatched(self._call, message)
            except Fault as fault:
                if self._exchange.denied is not None:
                    return End(_code(fault), fault.message, fault)
                # It is not passed on, and the session goes on: what cannot be read has been asked of nobody.
                end = await self._tell(caller, self._service.error_event(fault))
                if end is not None:
                    return end
                continue
            try:
                await self.engine.send(dispatched)
            except EngineEnded as ended:
                return _ended(ended)

    async def _from_engine(self, caller: ServerConnection) -> End:
        while True:
            try:
                text = await self.engine.receive()
            except EngineEnded as ended:
                for rest in self._output.rest():
                    await self._tell(caller, rest)
                return _ended(ended)
            self._last_message = self._loop.time()
            account: AccountPolicy = self._policy().only("account", self._call.account.id) or self._call.account
            try:
                passed = self._output.passed(account, text)
            except Fault as fault:
                return End(BROKEN, fault.message, fault)
            for message in passed:
                end = await self._tell(caller, message)
                if end is not None:
                    return end

    async def _tell(self, caller: ServerConnection, text: str) -> End | None:
        try:
            await send(caller, text, SEND_S)
        except ConnectionClosed as closed:
            return self._closed(closed)
        except TimeoutError:
            self._exchange.outcome = "cancelled"
            caller.transport.abort()
            return End(GOING_AWAY)
        return None

    async def _decide(self, message: Any, text: str) -> End | None:
        """Decide on one message under the policy now in force; None when it may be passed on, with contents in the place of URIs.

        Raises Fault for contents that cannot be had; `exchange.denied` says whether that is a refusal.
        """
        exchange, call = self._exchange, self._call
        snapshot = self._policy()
        account: AccountPolicy | None = snapshot.only("account", call.account.id)
        if account is None:
            fault = Fault(FaultKind.NOT_FOUND, "Resource not found")
            exchange.denied = Deny("address", fault)
            return End(POLICY, fault.message, fault)
        if account.outbound is None or account.mode(Control.DLP) == "off":
            return None
        facts = head_facts(
            exchange,
            account,
            call.credential,
            self._path,
            regional=exchange.admitted is not None and exchange.admitted.regional,
        )
        facts.uris = self._service.message_uris(call, message, deep=account.outbound.deep_scan)
        if not facts.uris:
            return None
        verdict = decide(snapshot, facts, "body")
        if verdict.reported:
            self._report(verdict.reported)
            exchange.uris = facts.uris
        match verdict:
            case Deny() as denied:
                exchange.facts, exchange.denied, exchange.uris = facts, denied, facts.uris
                return End(_code(denied.fault), denied.fault.message, denied.fault, message)
        if account.outbound.inline:
            # A call of its own for what is fetched: the policy may have changed since the session's, and the limits are the message's.
            about = replace(call, account=account, snapshot=snapshot, body=text.encode(), parsed=message)
            await self._content.hand_over(exchange, facts, about, _Inside(self._service), self._max_message_bytes)
            exchange.fetched = exchange.fetched[-MAX_REPORTED:]
            exchange.reported = exchange.reported[:MAX_REPORTED]
        return None

    def _policy(self) -> Snapshot:
        try:
            return self._in_force()
        except Fault:
            # What was admitted under the last one goes on, as streams do; `Running` says the same.
            assert self._exchange.snapshot is not None
            return self._exchange.snapshot

    def _report(self, reported: tuple[Deny, ...]) -> None:
        for denied in reported:
            because = denied.because
            place = _INDEX.sub("[]", str(because.get("path", "")))[:128]
            told = (denied.rule, str(because.get("host", ""))[:256], place)
            if told not in self._told and len(self._told) < MAX_REPORTED:
                self._told.add(told)
                self._exchange.reported = (*self._exchange.reported, denied)

    def _closed(self, closed: ConnectionClosed) -> End:
        """Say what the caller's close frame means, or ours, where the library has sent one."""
        if closed.rcvd is not None and not (closed.sent is not None and not closed.rcvd_then_sent):
            return End(closed.rcvd.code if closed.rcvd.code in _PASSED_CODES else NORMAL)
        sent = closed.sent.code if closed.sent is not None else None
        if sent == TOO_BIG:
            self._exchange.outcome = f"failed:{FaultKind.TOO_LARGE.value}"
        elif sent in (1002, INVALID_DATA):
            self._exchange.outcome = f"failed:{FaultKind.INVALID.value}"
        elif sent != GOING_AWAY:  # it is gone without a word, or did not answer pings
            self._exchange.outcome = "cancelled"
        return End(GOING_AWAY)

    async def _leave(self, caller: ServerConnection, end: End) -> None:
        if end.fault is not None:
            try:
                await send(caller, self._service.error_event(end.fault, end.message), LAST_WORDS_S)
            except TimeoutError:
                caller.transport.abort()  # it does not read; nothing more is said to it
            except ConnectionClosed:
                return
        with contextlib.suppress(ConnectionClosed):
            await caller.close(end.code, cut(end.reason))


class _Inside:
    """Takes contents for one message, as a service takes them for the body of a call."""

    def __init__(self, service: SessionService) -> None:
        self._service = service

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        self._service.inline_message(call, call.parsed, contents)


def _code(fault: Fault) -> int:
    return INVALID_DATA if fault.kind is FaultKind.OUTBOUND_DENIED else POLICY


def cut(reason: str) -> str:
    """Return as much of a text as a close frame carries, from its beginning; an ellipsis says that there was more."""
    encoded = reason.encode()
    if len(encoded) <= MAX_REASON_BYTES:
        return reason
    return encoded[: MAX_REASON_BYTES - 3].decode(errors="ignore") + "…"


def _ended(ended: EngineEnded) -> End:
    """Say what the engine's end means for the caller: its own code where it gave one that is about the session, else 1011."""
    if ended.code in _PASSED_CODES:
        return End(ended.code, ended.reason)
    if ended.code == NO_CODE:
        return End(NORMAL)
    fault = Fault(FaultKind.UPSTREAM_FAILED, "The model server broke off the session.")
    return End(BROKEN, fault.message, fault)
