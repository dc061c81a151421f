"""What happens to every control-plane request, in nine steps.

They are numbered the same here, in the documentation and in the code below.

1. read: path, api-version, method (arm_wire.py); the resource type is found in step 3 (routing.py)
2. authenticate: the bearer token (authentication.py)
3. authorise: the ARM action at the scope, before the body is read and before storage is touched (authorization.py)
4. load: what is there, and what it lies in
5. plan: the resource type validates, defaults or refuses
6. intent: the audit record of what is about to be done; without it nothing is done (audit_trail.py)
7. write: store and publish, in the transaction that loaded
8. outcome: the audit record of what came of it
9. envelope: status, body, headers (envelope.py)

`admit` is 1 to 3, `answer` is 4 to 9. Both are synchronous and run in threads. Nothing reaches management's documents by another way.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import cast

from stockade.audit.log import AuditSink
from stockade.identity.audiences import arm_audiences
from stockade.kernel.evidence import ArmToken
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.kernel.resource_id import ResourceId, is_guid
from stockade.kernel.secret import Secret
from stockade.management import arm_wire, authorization
from stockade.management.audit_trail import AuditTrail, Subject
from stockade.management.authentication import Verify, authenticate
from stockade.management.envelope import check_preconditions, document_reply, envelope, not_found, page
from stockade.management.resource_type import Call, Method, Platform, Reply, ResourceType, display_id
from stockade.management.routing import ActionTarget, DocumentTarget, ListTarget, Registry, RouteTarget, Target
from stockade.policy import stranded
from stockade.policy.snapshot import Snapshot
from stockade.policy.source import SnapshotSource
from stockade.storage.database import Database, Reader, Writer
from stockade.storage.documents import Document, Json, State

_METHODS: Mapping[str, Method] = {
    "GET": "GET",
    "HEAD": "HEAD",
    "PUT": "PUT",
    "PATCH": "PATCH",
    "POST": "POST",
    "DELETE": "DELETE",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body. Header names in lower case; `path` and `query` as they came over the wire."""

    method: str
    path: bytes
    query: bytes
    headers: Mapping[str, str]
    decision_id: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that passed steps 1 to 3."""

    head: Head
    target: Target
    call: Call
    because: str


class Pipeline:
    """Answers control-plane requests. Holds no state of its own."""

    def __init__(
        self,
        *,
        database: Database,
        source: SnapshotSource,
        audit: AuditSink,
        registry: Registry,
        platform: Platform,
        verify: Verify,
    ) -> None:
        self._database, self._source, self._registry = database, source, registry
        self._platform, self._verify = platform, verify
        self._trail = AuditTrail(audit, platform.clock)
        self._audiences = arm_audiences(platform.settings)

    def refuse(self, head: Head, failure: Exception, admitted: Admitted | None = None) -> Reply:
        """Turn a failure into its reply, and return when that is on record; whatever is not a Fault becomes an internal error without details.

        For a thread: a refusal at the door is on disk before it is answered.
        """
        if isinstance(failure, Fault):
            fault = failure
        else:
            log.error("request failed", exc_info=failure, extra={"decision": head.decision_id})
            fault = Fault(FaultKind.INTERNAL, f"An internal error occurred. Decision: {head.decision_id}.")
        reply = arm_wire.error_reply(fault)
        try:
            self._trail.outcome(_subject(head, admitted), reply.status, fault)
        except Fault as unwritable:
            return arm_wire.error_reply(unwritable)
        return reply

    def admit(self, head: Head) -> Admitted:
        """Do steps 1 to 3; raises Fault."""
        # 1. read
        method = _METHODS.get(head.method)
        if method is None:
            raise Fault(FaultKind.METHOD_NOT_ALLOWED, f"The HTTP method '{head.method[:20]}' is not supported.")
        query = arm_wire.query_parameters(head.query)
        segments = arm_wire.path_segments(head.path)
        implied = None if query.get("api-version") else self._registry.implied_version(method, segments)
        version = arm_wire.api_version(query, implied)
        self._trail.require_healthy()
        snapshot, now = self._source.current(), self._platform.clock.now()
        # 2. authenticate
        settings = self._platform.settings
        uri = f"{settings.authority}/{self._platform.tenant_id}"
        header = head.headers.get("authorization", "")
        credential = authenticate(snapshot, header, now, self._audiences, self._verify, uri)
        target = self._registry.resolve(method, segments)
        # 3. authorise
        because = self._authorise(snapshot, credential, target, head, now)
        call = Call(
            method=method,
            id=target.id,
            query=query,
            body={},
            credential=credential,
            evidence=ArmToken(Secret(header.partition(" ")[2].strip())),
            snapshot=snapshot,
            platform=self._platform,
            now=now,
            decision_id=head.decision_id,
            address=head.address,
            client=head.headers.get("user-agent", "")[:120],
            api_version=version,
            base_url=settings.arm_endpoint,
            parameters=target.parameters if isinstance(target, RouteTarget) else {},
        )
        return Admitted(head, target, call, because)

    def answer(self, admitted: Admitted, body: Json) -> Reply:
        """Do steps 4 to 9 and return the reply, also when they fail."""
        admitted = replace(admitted, call=replace(admitted.call, body=body))
        try:
            reply = self._dispatch(admitted)
        except Exception as failure:  # noqa: BLE001 - the one place where what went wrong becomes a reply
            return self.refuse(admitted.head, failure, admitted)
        self._trail.outcome(_subject(admitted.head, admitted), reply.status)  # 8. outcome
        # 9. envelope
        warning = self._warning(admitted.call)
        if warning:
            reply = replace(reply, headers={**reply.headers, stranded.HEADER: warning})
        return replace(reply, status=204, body=None) if admitted.call.method == "HEAD" else reply

    def _warning(self, call: Call) -> str:
        """Return what a change has taken from others, to be told to whoever made it; "" when nothing, or when nobody can tell."""
        if call.method in ("GET", "HEAD"):
            return ""
        try:
            return stranded.warning(call.snapshot, self._source.current(), call.now)
        except Fault:
            return ""  # the change is made; that policy cannot be read just now is no reason to say it was not

    def _authorise(
        self, snapshot: Snapshot, credential: TokenCredential, target: Target, head: Head, now: float
    ) -> str:
        if target.permission is None:
            return "every authenticated caller"
        if (
            isinstance(target, ListTarget)
            and not authorization.granted(snapshot, credential, target.permission, target.scope, now=now)
            and authorization.access_below(snapshot, credential, target.scope, now=now)
        ):
            return "roles below the scope"  # the list is filtered: each entry is asked for on its own
        shown = target.id.text
        data = (isinstance(target, ActionTarget) and target.action.data) or (
            isinstance(target, RouteTarget) and target.route.data
        )
        return authorization.authorise(
            snapshot, credential, target.permission, target.scope, shown, head.decision_id, now=now, data=data
        )

    def _dispatch(self, admitted: Admitted) -> Reply:
        match admitted.target:
            case RouteTarget() as target:
                return self._route(admitted, target)
            case ActionTarget() as target:
                return self._act(admitted, target)
            case ListTarget() as target:
                return self._list(admitted, target)
            case DocumentTarget(type=kind):
                if admitted.call.method in ("GET", "HEAD"):
                    return self._get(admitted.call, kind)
                return self._write(admitted, kind)
        raise TypeError(admitted.target)

    def _transaction(self, *, writes: bool) -> AbstractContextManager[Writer]:
        # A Reader where nothing is written, as resource_type.Action says.
        return cast("AbstractContextManager[Writer]", self._database.write() if writes else self._database.read())

    def _route(self, admitted: Admitted, target: RouteTarget) -> Reply:
        call, route = admitted.call, target.route
        with self._transaction(writes=route.writes) as transaction:
            if route.permission is not None:
                self._require(transaction, call.id, itself=True)
            self._intend(admitted)
            answer = route.handler(call, transaction)
        return answer if isinstance(answer, Reply) else Reply(200, answer)

    def _act(self, admitted: Admitted, target: ActionTarget) -> Reply:
        call, action, kind = admitted.call, target.action, target.type
        self._require_registration(call, kind)
        with self._transaction(writes=action.writes) as transaction:
            document = self._load(call, kind, transaction)
            self._intend(admitted)
            answer = action.handler(call, transaction, document)
        return answer if isinstance(answer, Reply) else Reply(200, answer)

    def _get(self, call: Call, kind: ResourceType) -> Reply:
        with self._database.read() as reader:
            return document_reply(call, kind, self._load(call, kind, reader), 200)

    def _load(self, call: Call, kind: ResourceType, reader: Reader) -> Document:
        self._require(reader, call.id)
        document = kind.get(call, reader)
        if document is None:
            raise not_found(call.id, kind)
        return document

    def _list(self, admitted: Admitted, target: ListTarget) -> Reply:
        call, kind, permission = admitted.call, target.type, target.permission
        everywhere = authorization.granted(call.snapshot, call.credential, permission, call.id.key, now=call.now)
        with self._database.read() as reader:
            self._require(reader, call.id, itself=True)
            found = kind.list(call, reader)
            visible = [item for item in found if self._visible(call, kind, item, permission, everywhere)]
            return Reply(200, page(call, kind, visible, arm_wire.path_segments(admitted.head.path)))

    def _visible(self, call: Call, kind: ResourceType, document: Document, permission: str, everywhere: bool) -> bool:
        scope = ResourceId.parse(document.id)
        place = ResourceId.parse(scope.parent) if kind.extension else scope
        if not place.within(call.id.key):
            return everywhere  # inherited from above, or built in: whoever may read here may see it
        return authorization.granted(call.snapshot, call.credential, permission, place.key, now=call.now)

    def _write(self, admitted: Admitted, kind: ResourceType) -> Reply:
        call, head = admitted.call, admitted.head
        self._require_registration(call, kind)
        with self._database.write() as writer:
            # 4. load
            parent = self._require(writer, call.id)
            current = kind.get(call, writer)
            if current is None and kind.soft_deletes:
                current = writer.get(kind.stored_as(call.id).key, State.SOFT_DELETED)
            live = current if current is not None and current.state is State.LIVE else None
            check_preconditions(head.headers, live)
            if call.method == "DELETE":
                if live is None:
                    return Reply(204)
                self._require_no_denial_below(call, writer, live)
                self._intend(admitted)
                return kind.remove(call, writer, live) or Reply(200)  # 7. write
            if call.method == "PATCH" and live is None:
                raise not_found(call.id, kind)
            if current is None and not kind.name_pattern.fullmatch(call.id.name):
                message = f"The name '{call.id.name[:100]}' is not valid for the type '{kind.type}'."
                raise Fault(FaultKind.INVALID, message, code="InvalidResourceName", target="name")
            # 5. plan
            planned = kind.plan(call, current, writer)
            self._intend(admitted, planned.noted)
            # 7. write
            stored = kind.stored_as(call.id)
            body = envelope(call, kind, planned.body, current, parent)
            document = writer.put(
                stored.key,
                kind.type,
                body,
                planned.private,
                subscription=stored.subscription or "",
                resource_group=stored.resource_group or "",
            )
            document = kind.after_write(call, writer, document, current)
            tuple(kind.compile(document))  # what does not compile is rolled back, rather than stored and out of force
        status = planned.status or (kind.replaced_status if live is not None else kind.created_status)
        reply = document_reply(call, kind, document, status)
        return replace(reply, headers={**reply.headers, **planned.headers})

    def _require(self, reader: Reader, resource: ResourceId, *, itself: bool = False) -> Document | None:
        """Return what a resource lies in (itself: the scope); Fault(NOT_FOUND) saying what of it is missing."""
        chain = [resource] if itself else []
        place = resource
        while place.key != "/":
            place = ResourceId.parse(place.parent)
            chain.append(place)
        nearest: Document | None = None
        for scope in reversed(chain):
            if scope.key == "/":
                continue
            nearest = reader.get(scope.key)
            if nearest is None:
                raise self._missing(scope)
        return nearest

    def _require_no_denial_below(self, call: Call, writer: Writer, document: Document) -> None:
        """Refuse to delete what holds something that a deny assignment keeps the caller from deleting.

        Roles are inherited, so the right to delete the whole gives that of its parts; denials begin further down.
        """
        if not any(call.snapshot.keys("deny")):
            return
        for part in writer.below(document.id):
            kind = self._registry.of_document(part)
            if kind is None or kind.extension:
                continue
            shown = display_id(part)
            authorization.require_no_denial(
                call.snapshot,
                call.credential,
                f"{kind.permissions_prefix}/delete",
                part.id,
                shown,
                call.decision_id,
                now=call.now,
            )

    def _intend(self, admitted: Admitted, noted: Mapping[str, str] | None = None) -> None:
        # 6. intent: of everything but GET, also of what only reads, because listKeys hands out secrets.
        if admitted.call.method not in ("GET", "HEAD"):
            self._trail.intent(_subject(admitted.head, admitted), noted)

    def _missing(self, scope: ResourceId) -> Fault:
        if scope.type is not None:
            kind = self._registry.of(scope)
            return not_found(scope, kind, parent=True)
        if scope.resource_group is not None:
            message = f"Resource group '{scope.resource_group}' could not be found."
            return Fault(FaultKind.NOT_FOUND, message, code="ResourceGroupNotFound")
        message = f"The subscription '{scope.subscription}' could not be found."
        return Fault(FaultKind.NOT_FOUND, message, code="SubscriptionNotFound")

    def _require_registration(self, call: Call, kind: ResourceType) -> None:
        namespace = kind.type.partition("/")[0]
        if call.id.subscription is not None:
            off = call.snapshot.only("unregistered-provider", (call.id.subscription.lower(), namespace.lower()))
            if off is not None:
                # SDKs read the namespace from between the last quotes, register it and try again.
                message = f"The subscription is not registered to use namespace '{namespace}'"
                raise Fault(FaultKind.CONFLICT, message, code="MissingSubscriptionRegistration")


def _subject(head: Head, admitted: Admitted | None) -> Subject:
    client = head.headers.get("user-agent", "")[:120]
    correlation = head.headers.get("x-ms-correlation-request-id", "")
    correlation = correlation.lower() if is_guid(correlation) else ""
    if admitted is None:
        return Subject(head.decision_id, head.method[:20], head.path, head.address, client, correlation)
    call, permission = admitted.call, admitted.target.permission
    return Subject(
        head.decision_id, head.method, head.path, head.address, client, correlation, call, permission, admitted.because
    )
