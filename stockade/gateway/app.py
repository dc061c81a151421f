"""One data-plane request, from the server's hands to its reply.

1. address: host and path to an account, peer to the client's address
2. credential: headers and query to one credential
3. decide at the head (`admission.py`)
4. body, within the operation's limit; the service reads it and finds the deployment (`http.py`, as all that follows)
5. decide at the body
6. engine
7. reply, streamed or whole
8. audit record, decision and key usage, written elsewhere and later

Nothing here asks the database: when policy has changed, `SnapshotSource.current` catches up first.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

from stockade.audit.spool import Spool
from stockade.decisions.ring import DecisionRing
from stockade.gateway.address import ClientAddresses
from stockade.gateway.admission import Admission, Place
from stockade.gateway.content import InlineContent
from stockade.gateway.exchange import Exchange
from stockade.gateway.head import Queries, read_head
from stockade.gateway.http import HttpRequests
from stockade.gateway.idle import IdleConnections
from stockade.gateway.quota import Quota
from stockade.gateway.recording import recorded_first, unrecordable
from stockade.gateway.reply import ReplyHeaders
from stockade.gateway.running import Running
from stockade.gateway.usage import KeyUsage
from stockade.gateway.websocket import Address, WebSockets
from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.verdict import Deny
from stockade.policy.snapshot import Snapshot
from stockade.policy.source import SnapshotSource
from stockade.settings import Limits

log = logging.getLogger(__name__)

_INTERNAL = "The request could not be completed. Quote the request id to the operator."


class Gateway:
    """The data plane of one worker process: an RSGI application."""

    def __init__(
        self,
        *,
        source: SnapshotSource,
        admission: Admission,
        requests: HttpRequests,
        clients: ClientAddresses,
        usage: KeyUsage,
        audit: Spool,
        decisions: DecisionRing,
        heads: ReplyHeaders,
        limits: Limits,
        clock: Clock,
        port: int,
        quota: Quota,
        content: InlineContent,
        websocket_port: int,
        websockets_at: Address | None,
    ) -> None:
        self._source, self._admission, self._requests, self._clients = source, admission, requests, clients
        self._usage, self._audit, self._heads, self._clock = usage, audit, heads, clock
        self._decisions = decisions
        self._running = Running(limits.request_timeout_s, source.current, self._again)
        self._idle = [IdleConnections(port, limits.header_timeout_s, self._running.peers)]
        self.websockets = WebSockets(
            source=source,
            admission=admission,
            clients=clients,
            quota=quota,
            usage=usage,
            content=content,
            audit=audit,
            decisions=decisions,
            heads=heads,
            running=self._running,
            limits=limits,
            clock=clock,
        )
        self._websockets_at = websockets_at
        if websocket_port:
            self._idle.append(IdleConnections(websocket_port, limits.header_timeout_s, self._running.peers))
        self._loop: asyncio.AbstractEventLoop | None = None
        """Kept from the start: asking for it is a system call, see `upstream/deadlines.py`."""
        self._queries = Queries()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._audit.start()
        self._usage.start()
        self._decisions.start()
        for idle in self._idle:
            idle.start()
        self._source.current()
        if self._websockets_at is not None:
            loop.run_until_complete(self.websockets.listen(self._websockets_at))
        # Policy is large and lives long; requests are small and die by reference count. Without this, collections cost a tenth of the CPU
        # with ten thousand accounts loaded.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        if not loop.is_running():  # whoever runs it has closed them
            loop.run_until_complete(self.websockets.close())
        for idle in self._idle:
            idle.close()
        self._usage.close()
        self._decisions.close()
        self._audit.close()

    def policy(self) -> Snapshot:
        """Return the snapshot in force; Fault(UNAVAILABLE) when it cannot be read."""
        return self._source.current()

    def _again(self, exchange: Exchange, snapshot: Snapshot) -> Deny | None:
        return self._admission.again(exchange, snapshot, self._clock.now())

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        await self.handle(scope, proto)

    async def handle(self, scope: Any, proto: Any, private_endpoint: str | None = None) -> None:
        """Answer one request. private_endpoint: the connection whose listener took it, None on the public one.

        WebSockets have listeners of their own: `websockets`.
        """
        if scope.proto != "http":
            proto.close(404)
            return
        if scope.path == "/healthz":
            why = self._audit.why
            head = self._heads.build(new_guid(), "", "text/plain", [("retry-after", "5")] if why else [])
            proto.response_str(503 if why else 200, head, f"The audit log cannot be written ({why})." if why else "ok")
            return
        loop = self._loop or asyncio.get_running_loop()
        exchange = Exchange(proto, scope, self._clock.now(), loop)
        if private_endpoint is not None:
            exchange.private_endpoint = private_endpoint
        self._running.enter(exchange, loop)
        try:
            await self._serve(exchange, scope)
        except Fault as fault:
            await self._refuse(exchange, fault)
        except asyncio.CancelledError:
            ended = exchange.ending()
            if ended is not None:
                await self._refuse(exchange, ended)
            else:
                exchange.outcome = "cancelled"
                if not exchange.ended_by:
                    raise
        except Exception:
            log.exception("request failed", extra={"request": exchange.id})
            await self._refuse(exchange, Fault(FaultKind.INTERNAL, _INTERNAL), by_gateway=True)
        finally:
            self._running.leave(exchange)
            record = exchange.recorded
            if record is None:
                record = exchange.record((loop.time() - exchange.began) * 1000)
                self._audit.record(record)
            self._decisions.note(exchange, record)

    async def _refuse(self, exchange: Exchange, fault: Fault, *, by_gateway: bool = False) -> None:
        """Answer with a fault; where that refuses, once its record is on disk, many of them with one sync."""
        await self._requests.sign_refusal(exchange, fault)
        refusal = self._requests.refusal(exchange, fault, by_gateway=by_gateway)
        if refusal is None:
            return  # the reply has begun; nothing can be added to it
        try:
            await recorded_first(self._audit, self._running, exchange)
        except Fault as unwritable:
            refusal = self._requests.refusal(exchange, unwritable, by_gateway=True, again=True)
        if refusal is not None:
            refusal.send(exchange.proto)

    async def _serve(self, exchange: Exchange, scope: Any) -> None:
        host, forwarded_for, presented = read_head(exchange, scope)
        if not self._audit.healthy:
            raise unrecordable(self._audit)
        exchange.address, exchange.address_derivation = self._clients.derive(exchange.peer, forwarded_for)
        query = self._queries.read(scope.query_string, presented)
        exchange.snapshot = snapshot = self._source.current()
        place = Place(exchange.method, host, scope.path, scope.query_string)
        admitted = exchange.admitted = self._admission.admit(exchange, snapshot, place, query, presented)
        await self._requests.serve(exchange, admitted, snapshot, scope.path, query, presented)
