"""WebSockets, from the first byte to the open session: the same steps as a request's.

1. account, network, credential, role: as for every request and by the same code, before the upgrade. A refusal is an HTTP reply like any other.
2. the service finds the deployment, the quota is asked, and the engine is connected to; only then is the upgrade agreed to
3. `session.py`: messages both ways
4. when policy changes, the session is decided on again by `Running`, as every request under way is

They have a port of their own. The server of the data plane's HTTP can neither send a close frame with a code and a reason, nor choose a
subprotocol, nor bound a message; here all three are part of the contract. Source: RFC 6455, Granian's RSGI specification (websocket protocol).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from stockade.audit.log import AuditSink
from stockade.decisions.ring import DecisionRing
from stockade.gateway.address import ClientAddresses
from stockade.gateway.admission import Admission, Place, head_facts
from stockade.gateway.content import InlineContent
from stockade.gateway.credential import KEY_HEADERS, Presented
from stockade.gateway.exchange import Exchange
from stockade.gateway.head import WEBSOCKET_KEYS, Queries, read_head
from stockade.gateway.quota import Quota
from stockade.gateway.recording import recorded_first, unrecordable
from stockade.gateway.reply import ReplyHeaders
from stockade.gateway.running import Running
from stockade.gateway.session import Session
from stockade.gateway.usage import KeyUsage
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import KeyCredential
from stockade.policy.decide import decide
from stockade.policy.source import SnapshotSource
from stockade.services.dialect import gateway_body, refusal_headers, status_of
from stockade.services.service import Call
from stockade.services.session import Handshake, SessionService
from stockade.settings import Limits
from stockade.upstream.websocket import CLOSE_S, PING_S, QUEUE_FRAMES, QUIET, WRITE_LIMIT

MAX_CONNECTIONS: Final = 1024
"""Per worker, open sessions among them; above it connections are closed unheard."""
KEY_SUBPROTOCOL: Final = "openai-insecure-api-key."
"""Where a browser puts the key, as it can set no headers: OpenAI's realtime clients."""
MAX_SUBPROTOCOLS: Final = 16

_BUSY = "As many sessions as this platform holds at once are open. Please retry."
_INTERNAL = "The request could not be completed. Quote the request id to the operator."
_SECRET_HEADERS = KEY_HEADERS | {"authorization", "sec-websocket-protocol", "cookie", "proxy-authorization"}

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Caller(ServerConnection):
    """The caller's connection. What it has not read of ours holds up what we read of it: else its pings alone could fill our memory."""

    sessions: WebSockets
    private_endpoint: str | None = None
    exchange: Exchange | None = None
    session: Session | None = None
    subprotocol_chosen: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.recv_messages.resume = self._resume_reading
        if len(self.server.handler_tasks) > MAX_CONNECTIONS:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.sessions.abandon(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._resume_reading()

    def _resume_reading(self) -> None:
        if not self.paused and not self.recv_messages.paused:
            self.transport.resume_reading()


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: host and port, which workers may share, or a socket that listens already.

    private_endpoint: the connection, lower-case id, that the address is bound to; None for a public one.
    """

    tls: ssl.SSLContext
    host: str | None = None
    port: int | None = None
    socket: socket.socket | None = None
    private_endpoint: str | None = None


class _Head:
    """A request's head, as `read_head` and `Exchange` take one from any server."""

    method = "GET"
    authority: str | None = None

    def __init__(self, client: str, headers: Headers) -> None:
        self.client = client
        self._pairs = [(name.lower(), value) for name, value in headers.raw_items()]
        self.by_name = dict(self._pairs)

    @property
    def headers(self) -> _Head:
        return self

    def items(self) -> list[tuple[str, str]]:
        return self._pairs


class WebSockets:
    """The WebSocket listeners of one worker."""

    def __init__(
        self,
        *,
        source: SnapshotSource,
        admission: Admission,
        clients: ClientAddresses,
        quota: Quota,
        usage: KeyUsage,
        content: InlineContent,
        audit: AuditSink,
        decisions: DecisionRing,
        heads: ReplyHeaders,
        running: Running[Exchange],
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._source, self._admission, self._clients = source, admission, clients
        self._quota, self._usage, self._audit, self._heads = quota, usage, audit, heads
        self._decisions, self._content = decisions, content
        self._running, self._limits, self._clock = running, limits, clock
        self._queries = Queries(WEBSOCKET_KEYS)
        self._servers: set[Server] = set()
        self._open = 0

    async def listen(self, address: Address) -> Server:
        """Listen; OSError when the address cannot be had. Workers share one."""

        def make(*arguments: Any, **named: Any) -> Caller:
            caller = Caller(*arguments, **named)
            caller.sessions, caller.private_endpoint = self, address.private_endpoint
            return caller

        limits = self._limits
        server = await serve(
            self._session,  # type: ignore[arg-type]
            address.host,
            address.port,
            ssl=address.tls,
            **({"reuse_port": True} if address.socket is None else {"sock": address.socket}),
            compression=None,  # a few bytes of it unpack to any number
            process_request=self._request,  # type: ignore[arg-type]
            process_response=self._response,  # type: ignore[arg-type]
            select_subprotocol=lambda caller, _: caller.subprotocol_chosen,  # type: ignore[attr-defined]
            server_header=None,
            open_timeout=limits.header_timeout_s + limits.upstream_connect_timeout_s,
            ssl_handshake_timeout=limits.header_timeout_s,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            close_timeout=CLOSE_S,
            max_size=limits.websocket_message_bytes,
            max_queue=QUEUE_FRAMES,
            write_limit=WRITE_LIMIT,
            logger=QUIET,
            create_connection=make,  # type: ignore[arg-type]
        )
        self._servers.add(server)
        return server

    async def stop(self, server: Server, *, sessions: bool) -> None:
        """Stop one listener. sessions: end those that came by it, with 1001; else wait for them."""
        self._servers.discard(server)
        server.close(sessions, reason="This server is stopping." if sessions else "")
        await server.wait_closed()

    async def close(self) -> None:
        """Stop listening and end every session with 1001."""
        await asyncio.gather(*(self.stop(server, sessions=True) for server in tuple(self._servers)))

    def abandon(self, caller: Caller) -> None:
        """Give up what a connection had begun, if it was lost before its session was."""
        exchange, caller.exchange = caller.exchange, None
        if exchange is None:
            return
        if caller.session is not None:
            caller.session.engine.abort()
        exchange.outcome = "cancelled"
        self._leave(exchange, admitted=caller.session is not None)

    async def _request(self, caller: Caller, request: Request) -> Response | None:
        loop = asyncio.get_running_loop()
        head = _Head(_peer(caller), request.headers)
        exchange = caller.exchange = Exchange(None, head, self._clock.now(), loop)
        exchange.private_endpoint = caller.private_endpoint
        exchange.longest_s = self._limits.websocket_timeout_s
        self._running.enter(exchange, loop)
        try:
            caller.session = await self._opened(caller, exchange, request, head)
        except Fault as fault:
            return await self._refused(exchange, fault)
        except asyncio.CancelledError:
            ended = exchange.ending()
            if ended is None:
                raise
            return await self._refused(exchange, ended)
        except Exception:
            log.exception("request failed", extra={"request": exchange.id})
            return await self._refused(exchange, Fault(FaultKind.INTERNAL, _INTERNAL), by_gateway=True)
        return None

    async def _opened(self, caller: Caller, exchange: Exchange, request: Request, head: _Head) -> Session:
        """Admit the request and open its session with the engine; Fault for every refusal."""
        host, forwarded_for, presented = read_head(exchange, head)
        subprotocols = _subprotocols(head.by_name.get("sec-websocket-protocol", ""), presented)
        path, query_string = _target(request)
        if not self._audit.healthy:
            raise unrecordable(self._audit)
        exchange.address, exchange.address_derivation = self._clients.derive(exchange.peer, forwarded_for)
        query = self._queries.read(query_string, presented)
        exchange.snapshot = snapshot = self._source.current()
        place = Place(exchange.method, host, path, query_string)
        admitted = exchange.admitted = self._admission.admit(exchange, snapshot, place, query, presented)
        route, account, credential = admitted.route, admitted.account, admitted.credential
        operation, service = route.operation, route.service
        if not operation.websocket or not isinstance(service, SessionService):
            raise Fault(FaultKind.NOT_FOUND, "Resource not found")
        if not _asks_for_upgrade(head.by_name):
            raise Fault(FaultKind.UPGRADE_REQUIRED, "This operation is a WebSocket.")
        call = Call(operation, account, credential, snapshot, route.values, query, "", b"", exchange.id, exchange.now)
        service.read(call)
        facts = exchange.facts = head_facts(exchange, account, credential, path, regional=admitted.regional)
        self._quota.tell(facts, call)
        exchange.point = "body"
        exchange.take(decide(snapshot, facts, "body"))
        if self._open >= self._limits.websocket_sessions:
            raise Fault(FaultKind.UNAVAILABLE, _BUSY, retry_after_s=5)
        self._quota.count(call)
        if isinstance(credential, KeyCredential):
            self._usage.note(credential, exchange.address, exchange.agent, exchange.now)
        caller.subprotocol_chosen = service.subprotocol(subprotocols)
        caller.protocol.max_message_size = min(operation.max_body_bytes, self._limits.websocket_message_bytes)
        headers = {name: value for name, value in head.items() if name not in _SECRET_HEADERS}
        self._open += 1
        try:
            engine = await service.open(call, Handshake(subprotocols, headers))
        except BaseException:
            self._open -= 1
            raise
        return Session(exchange, service, call, engine, path, self._source.current, self._content, self._limits)

    def _response(self, caller: Caller, _: Request, response: Response) -> None:
        exchange = caller.exchange
        if exchange is None:
            return
        exchange.status = response.status_code
        for name, value in self._heads.build(exchange.id, exchange.client_request_id, "", []):
            if name != "content-type" and name not in response.headers:
                response.headers[name] = value
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            caller.exchange = None
            if caller.session is not None:  # the library has found something wrong with the upgrade
                caller.session.engine.abort()
            if exchange.outcome == "success":
                exchange.outcome = f"failed:{FaultKind.INVALID.value}"
            self._leave(exchange, admitted=caller.session is not None)

    async def _session(self, caller: Caller) -> None:
        exchange, session = caller.exchange, caller.session
        if exchange is None or session is None:
            return
        caller.exchange = caller.session = None
        try:
            await session.run(caller)
        finally:
            self._leave(exchange, admitted=True)

    def _leave(self, exchange: Exchange, *, admitted: bool) -> None:
        if admitted:
            self._open -= 1
        self._running.leave(exchange)
        record = exchange.recorded
        if record is None:
            lasted_s = asyncio.get_running_loop().time() - exchange.began
            record = exchange.record(lasted_s * 1000)
            self._audit.record(record)
        self._decisions.note(exchange, record)

    async def _refused(self, exchange: Exchange, fault: Fault, *, by_gateway: bool = False) -> Response:
        """Return the HTTP reply that refuses an upgrade, once its record is on disk."""
        response = self._refusal(exchange, fault, by_gateway=by_gateway)
        try:
            await recorded_first(self._audit, self._running, exchange)
        except Fault as unwritable:
            response = self._refusal(exchange, unwritable, by_gateway=True)
        return response

    def _refusal(self, exchange: Exchange, fault: Fault, *, by_gateway: bool = False) -> Response:
        """Return the HTTP reply that refuses an upgrade, as `HttpRequests.refuse` words it."""
        status = HTTPStatus(status_of(fault))
        exchange.status = status
        exchange.outcome = f"failed:{fault.kind.value}"
        inside = exchange.denied is None and not by_gateway and exchange.route is not None
        body = _encode(
            exchange.route.service.refuse(fault, status)
            if inside and exchange.route is not None
            else gateway_body(fault, exchange.id)
        )
        extra = [
            ("x-stockade-decision", exchange.id),
            *refusal_headers(fault),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        head = self._heads.build(exchange.id, exchange.client_request_id, "application/json", extra)
        return Response(status, status.phrase, Headers(head), body)


def _target(request: Request) -> tuple[str, str]:
    """Return path, decoded once, and query; Fault(INVALID) for what could be read in two ways."""
    if len(request.headers.get_all("host")) != 1 or not request.path.startswith("/"):
        raise Fault(FaultKind.INVALID, "The request does not say clearly whom it is for.")
    path, _, query = request.path.partition("?")
    try:
        return unquote(path, errors="strict"), query
    except UnicodeDecodeError as failure:
        raise Fault(FaultKind.INVALID, "The path cannot be read.") from failure


def _subprotocols(text: str, presented: Presented) -> tuple[str, ...]:
    """Return the subprotocols offered. A key among them is moved out before anything can log it."""
    offered: list[str] = []
    for part in text.split(",", MAX_SUBPROTOCOLS)[:MAX_SUBPROTOCOLS]:
        name = part.strip(" \t")
        if name.startswith(KEY_SUBPROTOCOL):
            presented.add_authorization(f"Bearer {name.removeprefix(KEY_SUBPROTOCOL)}")
        elif name:
            offered.append(name)
    return tuple(offered)


def _asks_for_upgrade(headers: Mapping[str, str]) -> bool:
    connection = {token.strip().lower() for token in headers.get("connection", "").split(",")}
    return "upgrade" in connection and headers.get("upgrade", "").strip().lower() == "websocket"


def _peer(caller: Caller) -> str:
    """Return the peer as the other listeners write it: `127.0.0.1:50123`, `[::1]:50123`."""
    found = caller.transport.get_extra_info("peername")
    if not found:
        return ""
    host, port = found[0], found[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
