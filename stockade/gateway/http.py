"""One admitted HTTP request: its body, the decision on it, the engine, and the reply, streamed or whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from stockade.gateway import body as request_body
from stockade.gateway.admission import Admitted, head_facts
from stockade.gateway.content import InlineContent
from stockade.gateway.exchange import Exchange
from stockade.gateway.head import declared_headers
from stockade.gateway.output.reply import OutputReview, review
from stockade.gateway.quota import Quota
from stockade.gateway.reply import ReplyHeaders
from stockade.gateway.usage import KeyUsage
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import KeyCredential
from stockade.policy.decide import decide
from stockade.policy.snapshot import Snapshot
from stockade.services.dialect import gateway_body, refusal_headers, status_of
from stockade.services.routing import Route
from stockade.services.service import Call, Reply, Stream

LAST_WORDS_S: Final = 0.5
"""How long a client that is being cut off may take to accept the event that says why."""

_encode = msgspec.json.Encoder().encode


class HttpRequests:
    """Serves what the head admitted."""

    def __init__(
        self,
        quota: Quota,
        usage: KeyUsage,
        heads: ReplyHeaders,
        content: InlineContent,
        max_body_bytes: int,
        websocket_port: int,
    ) -> None:
        self._quota, self._usage, self._heads, self._max_body_bytes = quota, usage, heads, max_body_bytes
        self._content = content
        where = (
            f"on port {websocket_port} of this host" if websocket_port else "which this platform's settings turn off"
        )
        self._elsewhere = f"This operation is a WebSocket, {where}."

    async def serve(
        self, exchange: Exchange, admitted: Admitted, snapshot: Snapshot, path: str, query: Mapping[str, str]
    ) -> None:
        """Read the body, decide on it, and answer; Fault for every refusal."""
        proto, route, account, credential = exchange.proto, admitted.route, admitted.account, admitted.credential
        operation = route.operation
        if operation.websocket:
            raise Fault(FaultKind.UPGRADE_REQUIRED, self._elsewhere)
        limit = min(operation.max_body_bytes, self._max_body_bytes)
        data = b""
        if operation.body != "none":
            request_body.check_head(
                operation, exchange.content_type, exchange.content_encoding, exchange.content_length, limit
            )
            exchange.reads_body = True
            data = await request_body.read(proto, exchange.content_length, limit)
            exchange.reads_body = False
        call = Call(
            operation,
            account,
            credential,
            snapshot,
            route.values,
            query,
            exchange.content_type,
            data,
            exchange.id,
            exchange.now,
        )
        if operation.headers:
            call.headers = declared_headers(operation, exchange.scope.headers)
        call.query_string = exchange.scope.query_string
        route.service.read(call)

        facts = exchange.facts = head_facts(exchange, account, credential, path, regional=admitted.regional)
        if account.outbound is not None:
            facts.uris = exchange.uris = route.service.uris(call, deep=account.outbound.deep_scan)
        self._quota.tell(facts, call)
        exchange.point = "body"
        exchange.take(decide(snapshot, facts, "body"))
        self._quota.count(call)
        if isinstance(credential, KeyCredential):
            self._usage.note(credential, exchange.address, exchange.agent, exchange.now)

        if facts.uris and account.outbound is not None and account.outbound.inline:
            await self._content.hand_over(exchange, facts, call, route.service, limit)
        answer = await route.service.answer(call)
        looking = review(account) if account.output is not None and operation.body != "none" else None
        if looking is not None:
            await self._review(exchange, route, answer, looking)
        elif isinstance(answer, Stream):
            await self._stream(exchange, route, answer)
        else:
            self._reply(exchange, answer)

    async def _review(self, exchange: Exchange, route: Route, answer: Stream | Reply, looking: OutputReview) -> None:
        try:
            if isinstance(answer, Stream):
                answer.chunks = looking.stream(answer.chunks, answer.content_type)
                await self._stream(exchange, route, answer)
            else:
                answer.body = looking.body(answer.body, answer.content_type)
                self._reply(exchange, answer)
        finally:
            exchange.reported = (*exchange.reported, *looking.found)

    async def _stream(self, exchange: Exchange, route: Route, stream: Stream) -> None:
        try:
            head = self._heads.build(exchange.id, exchange.client_request_id, stream.content_type, stream.headers)
            send = exchange.proto.response_stream(stream.status, head).send_bytes
            exchange.status = stream.status
            try:
                async for chunk in stream.chunks:
                    await send(chunk)
            except Fault as fault:
                broken = fault
            except asyncio.CancelledError:
                ended = exchange.ending()
                if ended is None:
                    raise
                broken = ended
            else:
                return
            # The status is already sent; the error travels as an event, and there is no closing [DONE]. The blank line ends what the
            # engine may have left unfinished.
            exchange.outcome = f"failed:{broken.kind.value}"
            event = b"\n\ndata: " + _encode(route.service.refuse(broken, status_of(broken))) + b"\n\n"
            await asyncio.wait_for(send(event), LAST_WORDS_S)
        except TimeoutError:
            return  # it does not read; what waits for it in the server's buffers is all it will get
        except RuntimeError:  # the server's "protocol closed": the client has gone
            exchange.outcome = "cancelled"
        finally:
            stream.close()

    def _reply(self, exchange: Exchange, reply: Reply) -> None:
        head = self._heads.build(exchange.id, exchange.client_request_id, reply.content_type, reply.headers)
        exchange.proto.response_bytes(reply.status, head, reply.body)
        exchange.status = reply.status
        if reply.status >= 400:
            exchange.outcome = "failed:engine"

    def refuse(self, exchange: Exchange, fault: Fault, *, by_gateway: bool = False) -> None:
        """Answer with a fault, in the service's words where the request had got that far and the gateway's own where a rule refused it."""
        if exchange.status:
            return  # the reply has begun; nothing can be added to it
        status = exchange.status = status_of(fault)
        exchange.outcome = f"failed:{fault.kind.value}"
        # A refused URI is a mistake in the request as the service reads it, so the service words it, whoever found it.
        inside = (exchange.denied is None and not by_gateway) or fault.kind is FaultKind.OUTBOUND_DENIED
        body = (
            exchange.route.service.refuse(fault, status, exchange.id)
            if inside and exchange.route is not None
            else gateway_body(fault, exchange.id)
        )
        extra = [("x-stockade-decision", exchange.id), *refusal_headers(fault)]
        head = self._heads.build(exchange.id, exchange.client_request_id, "application/json", extra)
        exchange.proto.response_bytes(status, head, _encode(body))
