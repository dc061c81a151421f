"""Where an operator reads what a customer has let them read: `GET /lockbox/v1/requests/{subscription}/{request}/content[/{kind}/{item}]`.

Not a part of ARM's pipeline, because what is read streams. The same token and the same checks; then the key broker gives a grant for what was
signed, and lends keys under it, each of which it has recorded first: nothing here decides what may be read. Nothing is kept: every request asks
again. The first read is told to the customer, and stored, before its first byte.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from stockade.audit.log import commit_refusal
from stockade.content.account_content import Contents, StoredContent
from stockade.content.item import Item, Kind
from stockade.identity.audiences import arm_audiences
from stockade.kernel.clock import iso
from stockade.kernel.evidence import ArmToken, OperatorGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.principal import PLATFORM, Person, TokenCredential
from stockade.kernel.record import AuditRecord
from stockade.kernel.resource_id import is_guid
from stockade.kernel.secret import Secret
from stockade.keys.content_actions import KINDS
from stockade.keys.lockbox import Lent
from stockade.lockbox import approval as approvals
from stockade.lockbox import workflow
from stockade.lockbox.sign_in import check_sign_in
from stockade.lockbox.signature import Signed
from stockade.lockbox.workflow import Status
from stockade.management import arm_wire, authorization, people
from stockade.management.authentication import Verify, authenticate
from stockade.management.lockbox import documents, events
from stockade.management.lockbox.deciding import WRITE
from stockade.management.lockbox.documents import Kept, Request
from stockade.management.lockbox.events import Desk
from stockade.management.lockbox.moving import moved
from stockade.management.resource_type import Platform
from stockade.policy.source import SnapshotSource
from stockade.storage.database import Database

PATH: Final = "/lockbox/v1/requests/{subscription}/{request}/content"
AT_ONCE: Final = 4
"""Reads under way; a further one is told to come back."""
PAGE: Final = 100
"""Things whose names are opened with one question to the broker."""
MAX_LISTED: Final = 10_000
CHALLENGE_OVER: Final = "ChallengeOver"

log = logging.getLogger(__name__)


class Granter(Protocol):
    """What of the key broker is needed here."""

    async def grant_access(self, request_id: str, signed: Signed, evidence: ArmToken) -> Lent: ...


@dataclass(frozen=True, slots=True)
class _Reader:
    """Somebody who may read for a request: evidence for the broker, and who they are for the record."""

    desk: Desk
    request: Request
    who: Person
    token: Secret


@dataclass(slots=True)
class _Visit:
    """One HTTP request, as far as it has come."""

    http: HttpRequest
    decision_id: str
    began: float
    headers: dict[str, str] = field(default_factory=dict)
    reader: _Reader | None = None


class Reading:
    """The endpoint. One per process; used on one event loop.

    client_address: tells the caller's address from the peer's and `X-Forwarded-For`.
    """

    def __init__(
        self,
        platform: Platform,
        database: Database,
        source: SnapshotSource,
        verify: Verify,
        broker: Granter,
        contents: Contents,
        client_address: Callable[[str, str], str] = lambda peer, _: peer,
    ) -> None:
        self._platform, self._database, self._source, self._verify = platform, database, source, verify
        self._broker, self._contents, self._client_address = broker, contents, client_address
        self._audiences = arm_audiences(platform.settings)
        self._free = asyncio.Semaphore(AT_ONCE)

    @property
    def routes(self) -> list[Route]:
        """Return the routes, to stand before ARM's catch-all."""
        return [
            Route(PATH, self._list, methods=["GET"]),
            Route(f"{PATH}/{{kind}}/{{item}}", self._item, methods=["GET"]),
        ]

    async def _list(self, http: HttpRequest) -> Response:
        async def answer(reader: _Reader) -> Response:
            lent = await self._granted(reader)
            found = [_listed(one) for kind in KINDS for one in await self._in_scope(reader, lent, cast("Kind", kind))]
            return Response(msgspec.json.encode({"value": found}), media_type="application/json")

        return await self._answered(http, answer)

    async def _item(self, http: HttpRequest) -> Response:
        kind, name = http.path_params["kind"], http.path_params["item"]

        async def answer(reader: _Reader) -> Response:
            if kind not in KINDS:
                raise Fault(FaultKind.NOT_FOUND, f"Nothing of the kind '{kind[:40]}' is kept.")
            content = self._opened(reader, await self._granted(reader), kind)
            item = await content.get(cast("Kind", kind), name)
            if http.query_params.get("part") == "metadata":
                return Response(msgspec.json.encode(_listed(item)), media_type="application/json")
            return await self._streamed(content, item)

        return await self._answered(http, answer)

    async def _answered(self, http: HttpRequest, answer: Callable[[_Reader], Awaitable[Response]]) -> Response:
        """Let somebody in, answer, and leave a record of what came of it."""
        visit = _Visit(http, new_guid(), self._platform.clock.now())
        if self._free.locked():
            message = f"{AT_ONCE} reads are under way. Try again when one has ended."
            return await self._refused(visit, Fault(FaultKind.LIMIT, message, code="TooManyReads", retry_after_s=5))
        await self._free.acquire()
        goes_on = False
        try:
            visit.headers = arm_wire.header_map(http.scope["headers"])
            visit.reader = await run_in_threadpool(self._admitted, visit)
            response = await answer(visit.reader)
            response.headers.update(arm_wire.standard_headers(visit.decision_id, visit.headers, refused=False))
            if isinstance(response, _Streamed):
                response.ended, goes_on = lambda outcome: self._ended(visit, outcome), True
            else:
                self._outcome(visit, "success")
        except Exception as failure:  # noqa: BLE001 - the one place where what went wrong becomes a reply
            return await self._refused(visit, failure)
        finally:
            if not goes_on:
                self._free.release()
        return response

    def _ended(self, visit: _Visit, outcome: str) -> None:
        self._free.release()
        self._outcome(visit, outcome)

    def _admitted(self, visit: _Visit) -> _Reader:
        """Return who reads, for a request that lets them; raises Fault. What the broker asks again, and for itself, is asked here for its words."""
        platform, http, headers, decision_id = self._platform, visit.http, visit.headers, visit.decision_id
        if not platform.audit.healthy:
            message = f"The audit log cannot be written ({platform.audit.why}), so nothing is read."
            raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5)
        snapshot, now = self._source.current(), platform.clock.now()
        header = headers.get("authorization", "")
        uri = f"{platform.settings.authority}/{platform.tenant_id}"
        credential = authenticate(snapshot, header, now, self._audiences, self._verify, uri)
        subscription, name = http.path_params["subscription"].lower(), http.path_params["request"]
        if not is_guid(subscription):
            raise Fault(FaultKind.NOT_FOUND, "There is no such subscription.")
        scope = f"/subscriptions/{subscription}"
        authorization.authorise(snapshot, credential, WRITE, scope, scope, decision_id, now=now, data=True)
        check_sign_in(credential, now, platform.settings.lockbox)
        if not documents.is_opted_in(snapshot):
            message = "Customer Lockbox is off in this tenant, so operators read nothing."
            raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="LockboxNotEnabled")
        peer = http.client.host if http.client is not None else ""
        address = self._client_address(peer, headers.get("x-forwarded-for", ""))
        desk = Desk(platform, now, decision_id, address, headers.get("user-agent", "")[:120])
        who = people.known(snapshot, credential)
        with self._database.read() as reader:
            request = documents.required(reader, subscription, name).at(now)
        _check(request, credential, who)
        workflow.require("use", request.course, now)
        return _Reader(desk, request, who, Secret(header.partition(" ")[2].strip()))

    async def _granted(self, reader: _Reader) -> Secret:
        """Return the broker's grant, having told the customer of the first one."""
        request = reader.request
        try:
            lent = await self._broker.grant_access(request.name, request.signed, ArmToken(reader.token))
        except Fault as fault:
            if fault.code != CHALLENGE_OVER:
                raise
            await run_in_threadpool(self._reopen, reader)
            message = (
                "The key broker has restarted since this was signed for, and knows of no approval any more: it has to be signed once more. The "
                "customer is told."
            )
            raise Fault(FaultKind.CONFLICT, message, code=CHALLENGE_OVER) from fault
        if request.course.first_used_at is None:
            await run_in_threadpool(self._used, reader)
        return lent.grant

    def _used(self, reader: _Reader) -> None:
        with self._database.write() as writer:
            request = documents.required(writer, reader.request.subscription, reader.request.name)
            course = workflow.used(request.course, reader.desk.now, reader.who)
            if course != request.course:
                moved(reader.desk, writer, request, course)

    def _reopen(self, reader: _Reader) -> None:
        with self._database.write() as writer:
            request = documents.required(writer, reader.request.subscription, reader.request.name)
            if (
                request.kept.payload != reader.request.kept.payload
                or request.at(reader.desk.now).course.status is not Status.APPROVED
            ):
                return
            why = "The key broker has restarted, and what it had been given has ended with it."
            moved(
                reader.desk, writer, request, workflow.reopened(request.course, reader.desk.now, PLATFORM, why), Kept()
            )

    def _opened(self, reader: _Reader, grant: Secret, kind: str) -> StoredContent:
        evidence = OperatorGrant(grant, reader.token)
        asked_by = f"control-plane lockbox {reader.request.name}"
        return self._contents.of(reader.request.asked.account, evidence, KINDS[kind].needs, asked_by)

    async def _in_scope(self, reader: _Reader, grant: Secret, kind: Kind) -> list[Item]:
        """Return what there is of a kind, as far as it was signed for."""
        wanted = [one.partition("/")[2] for one in _scope(reader.request) if one.startswith(f"{kind}/")]
        if not wanted:
            return []
        content, found = self._opened(reader, grant, kind), list[Item]()
        if "*" not in wanted:
            for name in wanted:
                try:
                    found.append(await content.get(kind, name))
                except Fault as fault:
                    if fault.kind is not FaultKind.NOT_FOUND:
                        raise
            return found
        while len(found) < MAX_LISTED:
            page = await content.find(kind, after=found[-1].id if found else None, limit=PAGE)
            found += page
            if len(page) < PAGE:
                break
        return found

    async def _streamed(self, content: StoredContent, item: Item) -> Response:
        """Begin to read before anything is answered: what cannot be opened is a refusal, not a broken reply."""
        pieces = content.read(item)
        try:
            first = await anext(pieces, b"")
        except BaseException:
            await pieces.aclose()
            raise
        return _Streamed(first, pieces, item.size)

    async def _refused(self, visit: _Visit, failure: Exception) -> Response:
        """Answer with a refusal, once it is on record; whatever is not a Fault becomes an internal error without details."""
        if isinstance(failure, Fault):
            fault = failure
        else:
            log.error("reading failed", exc_info=failure, extra={"decision": visit.decision_id})
            fault = Fault(FaultKind.INTERNAL, f"An internal error occurred. Decision: {visit.decision_id}.")
        reply = arm_wire.error_reply(fault)
        record = self._record(visit, reply.status, f"failed:{fault.kind.value}", fault.code or "")
        try:
            await run_in_threadpool(commit_refusal, self._platform.audit, record)
        except Fault as unwritable:
            reply = arm_wire.error_reply(unwritable)
        standard = arm_wire.standard_headers(visit.decision_id, visit.headers, refused=True)
        content = msgspec.json.encode(reply.body)
        return Response(content, reply.status, {**standard, **reply.headers}, "application/json; charset=utf-8")

    def _outcome(self, visit: _Visit, outcome: str) -> None:
        """Note how a read ended. That it begins has its place in the log already: the broker has seen to that."""
        self._platform.audit.record(self._record(visit, 200, outcome))

    def _record(self, visit: _Visit, status: int, outcome: str, reason: str = "") -> AuditRecord:
        now, path, reader = self._platform.clock.now(), visit.http.url.path, visit.reader
        record = AuditRecord(
            time=now,
            id=visit.decision_id,
            category="Audit",
            phase="outcome",
            operation=events.READ,
            resource=reader.request.id if reader is not None else path[:2048],
            client=visit.headers.get("user-agent", "")[:120],
            credential="token" if reader is not None else "none",
            decision="allow" if status < 400 else "deny",
            rule="lockbox",
            reason=reason,
            status=status,
            outcome=outcome,
            duration_ms=max(0.0, (now - visit.began) * 1000),
            because={"path": path.partition("/content")[2][:500] or "/"},
        )
        if reader is not None:
            who = {"principal": reader.who.object_id, "application": reader.who.app_id or ""}
            record = msgspec.structs.replace(record, caller_address=reader.desk.address, **who)
        return record


class _Streamed(StreamingResponse):
    """Content on its way. ended: told what came of it, once, also when the client has gone before the first byte."""

    def __init__(self, first: bytes, pieces: AsyncGenerator[bytes, None], size: int) -> None:
        super().__init__(
            self._body(first, pieces), headers={"content-length": str(size)}, media_type="application/octet-stream"
        )
        self.ended: Callable[[str], None] = lambda _: None
        self._pieces, self._outcome = pieces, "cancelled"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except Fault as fault:
            # Cut off where it is: fewer bytes than were announced, so that nobody takes it for the whole.
            self._outcome = f"failed:{fault.kind.value}"
            log.info("reading has ended before its end: %s", fault)
        finally:
            await self._pieces.aclose()
            self.ended(self._outcome)

    async def _body(self, first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece
        self._outcome = "success"


def _check(request: Request, credential: TokenCredential, who: Person) -> None:
    operator = request.asked.operator
    if (operator.object_id, operator.tenant) != (credential.object_id, credential.tenant_id):
        raise Fault(
            FaultKind.AUTHORIZATION_FAILED,
            f"The request '{request.name}' is another operator's; what was signed lets '{request.course.filed_by.name}' read, and not '{who.name}'.",
            code="LockboxRequestOfAnother",
        )


def _scope(request: Request) -> tuple[str, ...]:
    """Return what was signed for, which may be less than what was asked."""
    return approvals.read(request.kept.payload).scope


def _listed(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "id": item.id,
        "bytes": item.size,
        "createdAt": iso(item.created_at),
        "status": item.status,
        "metadata": dict(item.metadata),
    }
