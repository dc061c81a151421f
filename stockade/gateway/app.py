"""One data-plane request, from the server's hands to its reply.

1. address: host and path to an account, peer to the client's address
2. credential: headers and query to one credential
3. decide at the head
4. body, within the operation's limit; the service reads it and finds the deployment
5. decide at the body
6. engine
7. reply, streamed or whole
8. audit record and key usage, written elsewhere and later

Nothing here asks the database: when policy has changed, `SnapshotSource.current` catches up first.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from stockade.audit.log import AuditLog
from stockade.gateway import body as request_body
from stockade.gateway.address import AddressBook, ClientAddresses, Located
from stockade.gateway.counters import RateCounters
from stockade.gateway.credential import Credentials, Presented
from stockade.gateway.exchange import Exchange
from stockade.gateway.head import Queries, read_head
from stockade.gateway.idle import IdleConnections
from stockade.gateway.reply import ReplyHeaders
from stockade.gateway.routing import Route, Router, is_api_version
from stockade.gateway.running import Running
from stockade.gateway.usage import KeyUsage
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.principal import Credential, KeyCredential
from stockade.kernel.verdict import Deny
from stockade.policy.decide import decide
from stockade.policy.facts import Facts
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.policy.source import SnapshotSource
from stockade.services.dialect import gateway_body, refusal_headers, status_of
from stockade.services.service import Call, Reply, Stream
from stockade.settings import Limits

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
MAX_REMEMBERED_PLACE = 256
"""Longer addresses are looked up every time: what is remembered is chosen by callers, and its size must not be."""
_INTERNAL = "The request could not be completed. Quote the request id to the operator."


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that the rules at the head let pass."""

    account: AccountPolicy
    route: Route
    credential: Credential | None
    regional: bool


class Gateway:
    """The data plane of one worker process: an RSGI application."""

    def __init__(
        self,
        *,
        source: SnapshotSource,
        book: AddressBook,
        router: Router,
        clients: ClientAddresses,
        credentials: Credentials,
        counters: RateCounters,
        usage: KeyUsage,
        audit: AuditLog,
        heads: ReplyHeaders,
        limits: Limits,
        clock: Clock,
        port: int,
    ) -> None:
        self._source, self._book, self._router, self._clients = source, book, router, clients
        self._credentials, self._counters, self._usage, self._audit = credentials, counters, usage, audit
        self._heads, self._limits, self._clock = heads, limits, clock
        self._running = Running(limits.body_timeout_s, limits.request_timeout_s)
        self._idle = IdleConnections(port, limits.header_timeout_s, self._running.peers)
        self._loop: asyncio.AbstractEventLoop | None = None
        """Kept from the start: asking for it is a system call, see `upstream/deadlines.py`."""
        self._queries = Queries()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._audit.start()
        self._usage.start()
        self._idle.start()
        self._source.current()
        # Policy is large and lives long; requests are small and die by reference count. Without this, collections cost a tenth of the CPU
        # with ten thousand accounts loaded.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._idle.close()
        self._usage.close()
        self._audit.close()

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        if scope.proto != "http":
            proto.close(404)
            return
        if scope.path == "/healthz":
            healthy = self._audit.healthy
            head = self._heads.build(new_guid(), "", "text/plain", [])
            proto.response_str(200 if healthy else 503, head, "ok" if healthy else "audit log unavailable")
            return
        loop = self._loop or asyncio.get_running_loop()
        exchange = Exchange(proto, scope, self._clock.now(), loop)
        self._running.enter(exchange, loop)
        try:
            await self._serve(exchange, scope, proto)
        except Fault as fault:
            self._refuse(exchange, proto, fault)
        except asyncio.CancelledError:
            if exchange.ended_by == "slow-body":
                self._refuse(exchange, proto, Fault(FaultKind.TIMEOUT, "The request body did not arrive in time."))
            elif exchange.ended_by == "deadline":
                self._refuse(exchange, proto, _too_slow())
            else:
                exchange.outcome = "cancelled"
                if not exchange.ended_by:
                    raise
        except Exception as failure:
            log.exception("request failed", extra={"request": exchange.id})
            self._refuse(exchange, proto, Fault(FaultKind.INTERNAL, _INTERNAL), failure)
        finally:
            self._running.leave(exchange)
            self._audit.record(exchange.record((loop.time() - exchange.began) * 1000))

    async def _serve(self, exchange: Exchange, scope: Any, proto: Any) -> None:
        host, forwarded_for, presented = read_head(exchange, scope)
        if not self._audit.healthy:
            raise Fault(
                FaultKind.UNAVAILABLE,
                "The audit log cannot be written; requests are refused until it can.",
                retry_after_s=5,
            )
        exchange.address = self._clients.client(exchange.peer, forwarded_for)
        query = self._queries.read(scope.query_string, presented)
        exchange.snapshot = snapshot = self._source.current()

        # 1-3: who is addressed, by whom, and may they
        admitted = self._admit(
            exchange, snapshot, (exchange.method, host, scope.path, scope.query_string), query, presented
        )
        route, account, credential = admitted.route, admitted.account, admitted.credential

        # 4: the body
        operation = route.operation
        limit = min(operation.max_body_bytes, self._limits.max_body_bytes)
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
        route.service.read(call)

        # 5: decide again, with the deployment and what it has used
        facts = Facts(
            exchange.now,
            exchange.address,
            account,
            admitted.regional,
            credential,
            operation,
            scope.path,
            exchange.method,
        )
        if account.outbound is not None:
            facts.uris = route.service.uris(call)
        self._count_facts(facts, call)
        match decide(snapshot, facts, "body"):
            case Deny() as denied:
                exchange.denied = denied
                raise denied.fault
        self._count(call)
        if isinstance(credential, KeyCredential):
            self._usage.note(credential, exchange.address, exchange.agent, exchange.now)

        # 6-7: the engine, and its reply
        answer = await route.service.answer(call)
        if isinstance(answer, Stream):
            await self._stream(exchange, route, answer, proto)
        else:
            self._reply(exchange, proto, answer)

    def _admit(
        self,
        exchange: Exchange,
        snapshot: Snapshot,
        place: tuple[str, str, str, str],
        query: Mapping[str, str],
        presented: Presented,
    ) -> Admitted:
        """Locate the account, read the credential and decide at the head; raises the fault of whoever refuses.

        That a key is admitted follows from the snapshot, the place, the client's address and the key alone: no head rule asks the clock of
        a key. So the answer is remembered with the snapshot, under the key's digest. Refusals and tokens are worked out every time.
        """
        # A query string that holds a key must not become the name of anything remembered.
        memorable = not presented.in_query and sum(map(len, place)) <= MAX_REMEMBERED_PLACE
        name: tuple[Any, ...] | None = None
        if memorable and presented.key and not presented.bearer and not presented.conflicting:
            name = ("admitted", place, exchange.address, self._credentials.digest(presented.key))
            known: Admitted | None = snapshot.memo.get(name)
            if known is not None:
                exchange.account, exchange.credential, exchange.route = known.account, known.credential, known.route
                return known
        method, host, path, _ = place
        if memorable:
            located, route = snapshot.remembered(place, lambda: self._find(snapshot, method, host, path, query))
        else:
            located, route = self._find(snapshot, method, host, path, query)
        account = located.account
        credential = self._credentials.read(
            snapshot, presented, account, bearer_key=route is not None and route.operation.bearer_key, now=exchange.now
        )
        if located.regional and isinstance(credential, KeyCredential):
            account = snapshot.only("account", credential.account_id)
            route = self._route(method, located.path, account.kind if account is not None else None, query)
        exchange.account, exchange.credential, exchange.route = account, credential, route
        operation = route.operation if route is not None else None
        facts = Facts(
            exchange.now, exchange.address, account, located.regional, credential, operation, located.path, method
        )
        match decide(snapshot, facts, "head"):
            case Deny() as denied:
                exchange.denied = denied
                raise denied.fault
        if route is None or account is None:  # the rules have refused it; a rule that forgot must not open the way
            raise Fault(FaultKind.NOT_FOUND, "Resource not found")
        admitted = Admitted(account, route, credential, located.regional)
        if name is not None and isinstance(credential, KeyCredential):
            snapshot.remembered(name, lambda: admitted)
        return admitted

    async def _stream(self, exchange: Exchange, route: Route, stream: Stream, proto: Any) -> None:
        try:
            head = self._heads.build(exchange.id, exchange.client_request_id, stream.content_type, stream.headers)
            send = proto.response_stream(stream.status, head).send_bytes
            exchange.status = stream.status
            try:
                async for chunk in stream.chunks:
                    await send(chunk)
            except Fault as fault:
                broken = fault
            except asyncio.CancelledError:
                if exchange.ended_by != "deadline":
                    raise
                broken = _too_slow()
            else:
                return
            # The status is already sent; the error travels as an event, and there is no closing [DONE]. The blank line ends what the
            # engine may have left unfinished.
            exchange.outcome = f"failed:{broken.kind.value}"
            await send(b"\n\ndata: " + _encode(route.service.refuse(broken, status_of(broken))) + b"\n\n")
        except RuntimeError:  # the server's "protocol closed": the client has gone
            exchange.outcome = "cancelled"
        finally:
            stream.close()

    def _reply(self, exchange: Exchange, proto: Any, reply: Reply) -> None:
        head = self._heads.build(exchange.id, exchange.client_request_id, reply.content_type, reply.headers)
        proto.response_bytes(reply.status, head, reply.body)
        exchange.status = reply.status
        if reply.status >= 400:
            exchange.outcome = "failed:engine"

    def _refuse(self, exchange: Exchange, proto: Any, fault: Fault, failure: Exception | None = None) -> None:
        if exchange.status:
            return  # the reply has begun; nothing can be added to it
        status = exchange.status = status_of(fault)
        exchange.outcome = f"failed:{fault.kind.value}"
        inside = exchange.denied is None and failure is None and exchange.route is not None
        body = (
            exchange.route.service.refuse(fault, status)
            if inside and exchange.route is not None
            else gateway_body(fault, exchange.id)
        )
        extra = [("x-stockade-decision", exchange.id), *refusal_headers(fault)]
        head = self._heads.build(exchange.id, exchange.client_request_id, "application/json", extra)
        proto.response_bytes(status, head, _encode(body))

    def _find(
        self, snapshot: Snapshot, method: str, host: str, path: str, query: Mapping[str, str]
    ) -> tuple[Located, Route | None]:
        located = self._book.locate(snapshot, host, path)
        kind = located.account.kind if located.account is not None else None
        return located, self._route(method, located.path, kind, query)

    def _route(self, method: str, path: str, kind: str | None, query: Mapping[str, str]) -> Route | None:
        route = self._router.match(method, path, kind)
        if route is not None and route.operation.versioned and not is_api_version(query.get("api-version")):
            return None
        return route

    def _count_facts(self, facts: Facts, call: Call) -> None:
        minute, second = divmod(call.now, 60)
        facts.deployment = call.deployment
        facts.seconds_to_next_minute = 60 - second
        if call.account.calls_per_minute is not None:
            facts.calls_this_minute = self._counters.used(call.account.ordinal, int(minute))
        if call.deployment is not None and call.deployment.calls_per_minute is not None:
            facts.deployment_calls_this_minute = self._counters.used(call.deployment.ordinal, int(minute))

    def _count(self, call: Call) -> None:
        minute = int(call.now // 60)
        if call.account.calls_per_minute is not None:
            self._counters.count(call.account.ordinal, minute)
        if call.deployment is not None and call.deployment.calls_per_minute is not None:
            self._counters.count(call.deployment.ordinal, minute)


def _too_slow() -> Fault:
    return Fault(FaultKind.UPSTREAM_TIMEOUT, "The model server did not finish in time.")
