"""One admitted HTTP request: its body, the decision on it, the engine, and the reply, streamed or whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stockade.gateway import body as request_body
from stockade.gateway.admission import Admitted, head_facts
from stockade.gateway.content import InlineContent
from stockade.gateway.credential import Presented
from stockade.gateway.exchange import Exchange
from stockade.gateway.head import declared_headers
from stockade.gateway.kept import KeptContent
from stockade.gateway.output.reply import OutputReview, review
from stockade.gateway.pace import Pace
from stockade.gateway.quota import Quota
from stockade.gateway.receipts import HEADER as RECEIPT
from stockade.gateway.receipts import Receipts
from stockade.gateway.reply import Headers, ReplyHeaders
from stockade.gateway.transfers import Transfers
from stockade.gateway.usage import KeyUsage
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation
from stockade.kernel.principal import KeyCredential
from stockade.policy.decide import decide
from stockade.policy.snapshot import Snapshot
from stockade.services.dialect import gateway_body, refusal_headers, status_of
from stockade.services.routing import Route
from stockade.services.service import Call, Reply, Stream
from stockade.settings import Limits

LAST_WORDS_S: Final = 0.5
"""How long a client that is being cut off may take to accept the event that says why."""
FORM_BYTES: Final = 64 * 1024
"""What a form may say around the file that is uploaded in it."""
EVENTS: Final = "text/event-stream"
LEAST_BYTES_PER_S: Final = 128 * 1024
"""Whoever sends or takes a large file may need longer than other requests do, as long as it does not go slower than this in all."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply that refuses, ready to be sent."""

    status: int
    head: Headers
    body: bytes

    def send(self, proto: Any) -> None:
        proto.response_bytes(self.status, self.head, self.body)


class HttpRequests:
    """Serves what the head admitted."""

    def __init__(
        self,
        quota: Quota,
        usage: KeyUsage,
        heads: ReplyHeaders,
        content: InlineContent,
        kept: KeptContent,
        receipts: Receipts,
        limits: Limits,
        port: int,
        websocket_port: int,
    ) -> None:
        self._quota, self._usage, self._heads, self._limits = quota, usage, heads, limits
        self._content, self._kept, self._receipts, self._port = content, kept, receipts, port
        self._pace, self._transfers = Pace(), Transfers()
        where = (
            f"on port {websocket_port} of this host" if websocket_port else "which this platform's settings turn off"
        )
        self._elsewhere = f"This operation is a WebSocket, {where}."

    async def serve(
        self,
        exchange: Exchange,
        admitted: Admitted,
        snapshot: Snapshot,
        path: str,
        query: Mapping[str, str],
        presented: Presented,
    ) -> None:
        """Read the body, decide on it, and answer; Fault for every refusal."""
        route, account, credential = admitted.route, admitted.account, admitted.credential
        operation = route.operation
        if operation.websocket:
            raise Fault(FaultKind.UPGRADE_REQUIRED, self._elsewhere)
        limit = self._limit(operation)
        data = b"" if operation.body == "none" else await self._body(exchange, operation, limit)
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
        self._kept.offer(call, presented)
        if exchange.receipt is not None:
            exchange.receipt.watch(call)
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
        if operation.body == "stream":
            exchange.longest_s = self._longest_s(int(exchange.content_length or limit))
            upload = request_body.pieces(exchange, limit, self._limits.body_timeout_s)
            call.upload = upload if exchange.receipt is None else exchange.receipt.pieces(upload)
            with self._transfers.one(account.id):
                answer = await route.service.answer(call)
        else:
            answer = await route.service.answer(call)
        models_answer = operation.body != "none" or operation.stores == "customer-content"
        looking = review(account) if account.output is not None and models_answer else None
        if looking is not None:
            await self._review(exchange, route, answer, looking)
        elif isinstance(answer, Stream):
            await self._stream(exchange, route, answer)
        else:
            await self._reply(exchange, answer)

    async def _body(self, exchange: Exchange, operation: Operation, limit: int) -> bytes:
        """Return the body; of a stream nothing, whose head is looked at all the same."""
        request_body.check_head(
            operation, exchange.content_type, exchange.content_encoding, exchange.content_length, limit
        )
        if operation.body == "stream":
            return b""
        exchange.client_due = exchange.began + self._limits.body_timeout_s
        data = await request_body.read(exchange.proto, exchange.content_length, limit)
        exchange.client_due = None
        if exchange.receipt is not None:
            exchange.receipt.took(data)
        return data

    async def _review(self, exchange: Exchange, route: Route, answer: Stream | Reply, looking: OutputReview) -> None:
        try:
            if isinstance(answer, Stream):
                if looking.alters(answer.content_type):
                    answer.headers = [(name, value) for name, value in answer.headers if name != "content-length"]
                answer.chunks = looking.stream(answer.chunks, answer.content_type)
                await self._stream(exchange, route, answer)
            else:
                answer.body = looking.body(answer.body, answer.content_type)
                await self._reply(exchange, answer)
        finally:
            exchange.reported = (*exchange.reported, *looking.found)

    async def _stream(self, exchange: Exchange, route: Route, stream: Stream) -> None:
        length = next((int(value) for name, value in stream.headers if name == "content-length"), None)
        if length is not None:
            account = exchange.account
            with self._transfers.one(account.id if account is not None else ""):
                await self._download(exchange, stream, length)
            return
        events = stream.content_type.startswith(EVENTS)
        try:
            extra = stream.headers
            if exchange.receipt is not None and not events:
                extra = [*extra, *await self._receipts.header(exchange, stream.status, "success")]
            head = self._heads.build(exchange.id, exchange.client_request_id, stream.content_type, extra)
            send = exchange.proto.response_stream(stream.status, head).send_bytes
            exchange.status = stream.status
            try:
                async for chunk in stream.chunks:
                    await send(chunk)
                if exchange.receipt is not None and events:
                    await send(await self._receipts.comment(exchange))
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
            if exchange.receipt is not None and events:
                event += await self._receipts.comment(exchange)
            await asyncio.wait_for(send(event), LAST_WORDS_S)
        except TimeoutError:
            return  # it does not read; what waits for it in the server's buffers is all it will get
        except RuntimeError:  # the server's "protocol closed": the client has gone
            exchange.outcome = "cancelled"
        finally:
            stream.close()

    async def _download(self, exchange: Exchange, stream: Stream, length: int) -> None:
        """Send a reply of known length no faster than its client takes it. What breaks off is cut: so nobody takes a part for the whole."""
        exchange.longest_s = self._longest_s(length)
        idle_s, loop = self._limits.body_timeout_s, asyncio.get_running_loop()
        paced, chunks = self._pace.enter(exchange.peer, self._port), aiter(stream.chunks)
        try:
            # The first piece before the head: what cannot be opened at all is refused, not cut.
            chunk = await anext(chunks, None)
            extra = stream.headers
            if exchange.receipt is not None:
                extra = [*extra, *await self._receipts.header(exchange, stream.status, "success")]
            head = self._heads.build(exchange.id, exchange.client_request_id, stream.content_type, extra)
            send = exchange.proto.response_stream(stream.status, head).send_bytes
            exchange.status = stream.status
            while chunk is not None:
                exchange.client_due = loop.time() + idle_s
                await paced.room(len(chunk))
                await send(chunk)
                exchange.client_due = None
                chunk = await anext(chunks, None)
        except Fault as fault:
            if not exchange.status:
                raise
            paced.cut()
            exchange.outcome = f"failed:{fault.kind.value}"
        except asyncio.CancelledError:
            ended = exchange.ending()
            if ended is None or not exchange.status:
                raise
            paced.cut()
            exchange.outcome = f"failed:{ended.kind.value}"
        except RuntimeError:  # the server's "protocol closed": the client has gone
            exchange.outcome = "cancelled"
        finally:
            exchange.client_due = None
            paced.leave()
            stream.close()
            if isinstance(
                chunks, AsyncGenerator
            ):  # it holds keys on loan, which are wiped now and not when somebody collects it
                await chunks.aclose()

    def _limit(self, operation: Operation) -> int:
        if operation.body == "stream":
            return min(operation.max_body_bytes, self._kept.max_file_bytes) + FORM_BYTES
        return min(operation.max_body_bytes, self._limits.max_body_bytes)

    def _longest_s(self, size: int) -> float:
        return max(self._limits.request_timeout_s, size / LEAST_BYTES_PER_S)

    async def _reply(self, exchange: Exchange, reply: Reply) -> None:
        outcome, extra = "failed:engine" if reply.status >= 400 else "success", reply.headers
        if exchange.receipt is not None:
            extra = [*extra, *await self._receipts.header(exchange, reply.status, outcome)]
        head = self._heads.build(exchange.id, exchange.client_request_id, reply.content_type, extra)
        exchange.proto.response_bytes(reply.status, head, reply.body)
        exchange.status, exchange.outcome = reply.status, outcome

    async def sign_refusal(self, exchange: Exchange, fault: Fault) -> None:
        """Have a receipt ready for a refusal, where one was asked for and can be given."""
        if exchange.receipt is not None and not exchange.status:
            await self._receipts.signed(exchange, status_of(fault), f"failed:{fault.kind.value}")

    def refusal(
        self, exchange: Exchange, fault: Fault, *, by_gateway: bool = False, again: bool = False
    ) -> Refusal | None:
        """Return the reply to a fault, in the service's words where the request had got that far and the gateway's own where a rule refused it.

        None when a reply has begun already. again: in the place of one that was not sent.
        """
        if exchange.status and not again:
            return None
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
        if exchange.receipt is not None and exchange.receipt.signed and not again:
            extra.append((RECEIPT, exchange.receipt.signed))
        head = self._heads.build(exchange.id, exchange.client_request_id, "application/json", extra)
        return Refusal(status, head, _encode(body))
