"""Key Vault over ASGI: one request in eight numbered steps.

1. address: host and path name a vault; without a credential the answer is a challenge, before anything else is looked at
2. body: bounded and within its time, only of somebody who shows a credential
3. vault: it exists
4. network and token (access.py)
5. operation: api-version, path, names
6. permission (policy/vault_access.py)
7. record of what is about to be changed
8. answer (key_operations.py, secret_operations.py), and its record

All but 1 and 2 runs in a few threads, because it reads documents and asks the key broker; only the use of keys, which needs no documents, does not.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, quote

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from stockade.audit.log import AuditSink
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord
from stockade.kernel.threads import BoundedThreads
from stockade.policy import stranded
from stockade.policy.snapshot import Snapshot, VaultPolicy
from stockade.policy.source import SnapshotSource
from stockade.vault import key_operations, secret_operations
from stockade.vault.access import Admitted, Verify, admit, require
from stockade.vault.address import Addresses, Place, item_name, segments, version_name
from stockade.vault.asked import Asked, Operation, Shop
from stockade.vault.rate import Rates
from stockade.vault.records import Records, Subject
from stockade.vault.wire import STATUS, bad_parameter, error_body

OPERATIONS: Final = (*key_operations.OPERATIONS, *secret_operations.OPERATIONS)
THREADS: Final = 16
MAX_UNDER_WAY: Final = 256
"""Requests being answered; above it the answer is 503, so that a flood cannot fill memory."""
MAX_BODIES: Final = 64
"""Bodies being read at once."""
MAX_QUERY: Final = 8192
SERVICE_VERSION: Final = "1.9.2300.1"
"""What Azure's vaults call their own version; some clients log it."""
_API_VERSION: Final = re.compile(r"\d+\.\d+(-[A-Za-z]+[.\d]*)?|\d{4}-\d{2}-\d{2}(-[A-Za-z]+[.\d]*)?")

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


_Reply: TypeAlias = tuple[int, bytes, Mapping[str, str], AuditRecord | None]
"""Status, body, headers of its own, and the record that is on disk before it is sent."""
_BODY_LIMITS: Final[Mapping[tuple[str, bytes], int]] = {
    (operation.method, operation.path[0].encode()): max(
        other.body_limit
        for other in OPERATIONS
        if (other.method, other.path[0]) == (operation.method, operation.path[0])
    )
    for operation in OPERATIONS
}
"""Per method and first segment what any operation takes: which one it is is not known before the caller is."""
_BY_SHAPE: Final = {
    (operation.path[0], len(operation.path)): tuple(
        other for other in OPERATIONS if (other.path[0], len(other.path)) == (operation.path[0], len(operation.path))
    )
    for operation in OPERATIONS
}
"""The operations that a path of so many segments can mean."""
_ONCE: Final = frozenset({b"authorization", b"host", b"content-length"})
"""Headers that decide something: sent twice, nobody could say which one was meant."""
_READ: Final[Mapping[bytes, str]] = {
    name.encode(): name
    for name in (
        "authorization",
        "host",
        "content-length",
        "x-forwarded-for",
        "user-agent",
        "x-ms-client-request-id",
    )
}
"""The headers that are looked at."""
_ALWAYS: Final = (
    (b"x-ms-keyvault-service-version", SERVICE_VERSION.encode()),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"pragma", b"no-cache"),
)
_JSON: Final = (b"content-type", b"application/json; charset=utf-8")
_KNOWN_PATHS: Final = 4096
_KNOWN_PATH: Final = 512
"""Bytes of a path, or query, whose reading is remembered."""
_USES: Final = frozenset({b"encrypt", b"decrypt", b"sign", b"verify", b"wrapkey", b"unwrapkey"})


class Gone(Exception):
    """Whoever asked is not there any more."""


class Head(msgspec.Struct, frozen=True):
    """A request without its body."""

    place: Place
    method: str
    path: bytes
    query: bytes
    headers: Mapping[str, str]
    address: str
    decision_id: str
    started: float


@dataclass(slots=True)
class _Progress:
    """How far a request has come, for its record."""

    vault: VaultPolicy | None = None
    who: Admitted | None = None
    operation: Operation | None = None
    permitted_by: str = ""
    snapshot: Snapshot | None = None


class VaultApp:
    """Answers for every vault.

    source: of the policy in force. client_address: tells the caller's address from the peer's and `X-Forwarded-For`.
    """

    def __init__(
        self,
        shop: Shop,
        audit: AuditSink,
        source: SnapshotSource,
        verify: Verify,
        client_address: Callable[[str, str], str] = lambda peer, _: peer,
    ) -> None:
        self._shop, self._verify, self._client_address = shop, verify, client_address
        self._snapshot, self._known = source.current, source.known
        self._addresses = Addresses(shop.settings)
        self._region = shop.settings.names.location.encode("latin-1", "replace")
        self._records = Records(audit, shop.clock)
        self._rates = Rates(shop.settings.vault.transactions_per_10_s)
        self._threads = BoundedThreads(THREADS, MAX_UNDER_WAY)
        self._bodies = self._using = 0

    def place(self, scope: Scope) -> Place | None:
        """Return which vault a request is for; None when it is none's."""
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        return self._addresses.place(host, _raw_path(scope))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = self.place(scope)
        assert place is not None
        await self.answer(place, scope, receive, send)

    async def answer(self, place: Place, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for a vault."""
        headers, twice = _headers(scope)
        client = scope.get("client")
        head = Head(
            place,
            scope["method"],
            _raw_path(scope),
            scope.get("query_string", b""),
            headers,
            self._client_address(client[0] if client else "", headers.get("x-forwarded-for", "")),
            new_guid(),
            time.perf_counter(),
        )
        try:
            if twice:
                raise bad_parameter(f"The header {twice} was sent more than once.")
            content = await self._body(receive, head) if headers.get("authorization") else b""
            reply = await self._used(head, content)
            if reply is None:
                reply = await self._threads.run(self._answer, head, content)
        except Gone:
            return
        except Fault as fault:
            reply = self._refuse(head, _Progress(), fault)
        status, body, more, record = reply
        unwritable = await self._records.first(record) if record is not None else None
        if unwritable is not None:
            status, body, more = self._refusal(head, unwritable)
        shown = self._shown(head, status, body, more)
        await send({"type": "http.response.start", "status": status, "headers": shown})
        await send({"type": "http.response.body", "body": body})

    async def _body(self, receive: Receive, head: Head) -> bytes:
        """Read a body up to what any operation on the path takes."""
        # 2. body
        limit = _BODY_LIMITS.get((head.method, _first(head.path)), 0)
        announced = head.headers.get("content-length", "0")
        length = int(announced[:12]) if announced.isdigit() else -1
        if not 0 <= length <= limit:
            raise Fault(FaultKind.TOO_LARGE, f"The request body is larger than {limit} bytes.")
        if self._bodies >= MAX_BODIES:
            raise Fault(FaultKind.UNAVAILABLE, "Too many requests at once; try again.", retry_after_s=1)
        self._bodies += 1
        content = bytearray()
        try:
            async with asyncio.timeout(self._shop.settings.limits.body_timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Gone
                    content += message.get("body", b"")
                    if len(content) > limit:
                        raise Fault(FaultKind.TOO_LARGE, f"The request body is larger than {limit} bytes.")
                    # What was announced has come: to be told that nothing follows costs as much as reading it did.
                    more = message.get("more_body", False) and not 0 < length == len(content)
        except TimeoutError as failure:
            raise Fault(FaultKind.TIMEOUT, "The request body did not arrive in time.") from failure
        finally:
            self._bodies -= 1
        return bytes(content)

    async def _used(self, head: Head, content: bytes) -> _Reply | None:
        """Answer the use of a key without leaving the event loop; None for all else, and while there is policy that has to be read first.

        It reads no documents, and handing it to a thread and back costs more than all of its checks.
        """
        snapshot = self._known() if head.path.rpartition(b"/")[2] in _USES else None
        if snapshot is None:
            return None
        progress = _Progress()
        self._using += 1
        try:
            if self._using > MAX_UNDER_WAY:
                raise Fault(FaultKind.UNAVAILABLE, "Too many requests at once; try again.", retry_after_s=1)
            asked = self._admit(head, content, progress, snapshot)
            use = asked.operation.use
            if use is None:
                return None  # a path that only looked like one
            found = await key_operations.used(self._shop, asked, use)
        except Exception as failure:  # noqa: BLE001 - the one place where what went wrong becomes a reply
            return self._failed(head, progress, failure)
        finally:
            self._using -= 1
        return self._done(head, progress, found)

    def _answer(self, head: Head, content: bytes) -> _Reply:
        progress = _Progress()
        try:
            asked = self._admit(head, content, progress, self._snapshot())
            if asked.operation.changes:
                self._records.intent(_subject(head, progress))  # 7. record
            found = asked.operation.answer(self._shop, asked)  # 8. answer
        except Exception as failure:  # noqa: BLE001 - as above
            return self._failed(head, progress, failure)
        return self._done(head, progress, found)

    def _done(self, head: Head, progress: _Progress, found: Mapping[str, Any] | None) -> _Reply:
        status = 204 if found is None else 200
        record = self._records.outcome(_subject(head, progress), status, None)
        return status, b"" if found is None else _encode(found), self._warning(progress), record

    def _failed(self, head: Head, progress: _Progress, failure: Exception) -> _Reply:
        if isinstance(failure, Fault):
            return self._refuse(head, progress, failure)
        log.error("a request to a vault failed", exc_info=failure, extra={"decision": head.decision_id})
        message = f"An internal error occurred. Decision: {head.decision_id}."
        return self._refuse(head, progress, Fault(FaultKind.INTERNAL, message))

    def _admit(self, head: Head, content: bytes, progress: _Progress, snapshot: Snapshot) -> Asked:
        """Do steps 3 to 6; raises Fault."""
        self._records.require_healthy()
        now, settings = self._shop.clock.now(), self._shop.settings
        # 3. vault
        vault_id = snapshot.only("vault-named", head.place.vault)
        vault: VaultPolicy | None = snapshot.only("vault", vault_id) if vault_id is not None else None
        if vault is None:
            message = f"There is no key vault '{head.place.vault[:63]}' at this address."
            raise Fault(FaultKind.NOT_FOUND, message, code="VaultNotFound")
        progress.vault, progress.snapshot = vault, snapshot
        # 4. network and token
        authorization = head.headers.get("authorization", "")
        who = admit(snapshot, settings, head.place, vault, authorization, head.address, now, self._verify)
        progress.who = who
        self._rates.count(vault.id, self._shop.clock.monotonic())
        # 5. operation
        query = _query(head.query) if len(head.query) > _KNOWN_PATH else _known_query(head.query)
        read = _operation if len(head.path) > _KNOWN_PATH else _known_operation
        operation, captured = read(head.method, head.path)
        progress.operation = operation
        kind = "key" if operation.path[0] in ("keys", "deletedkeys") else "secret"
        name = item_name(captured["name"], f"{kind}-name") if "name" in captured else ""
        version = version_name(captured.get("version", ""), f"{kind}-version")
        # 6. permission
        item_id = f"{vault.id}/{kind}s/{name.lower()}" if name else vault.id
        progress.permitted_by = require(
            snapshot, vault, who.credential, operation.permission, item_id, head.decision_id, now=now
        )
        return Asked(operation, snapshot, vault, head.place.base, name, version, query, content, who.token, now)

    def _warning(self, progress: _Progress) -> Mapping[str, str]:
        """Return the header that tells whoever has changed a key what they have taken from others by it."""
        if progress.snapshot is None or progress.operation is None or not progress.operation.changes:
            return {}
        try:
            told = stranded.warning(progress.snapshot, self._snapshot(), self._shop.clock.now())
        except Fault:
            return {}  # the change is made; that policy cannot be read just now is no reason to say it was not
        return {stranded.HEADER: told} if told else {}

    def _refuse(self, head: Head, progress: _Progress, fault: Fault) -> _Reply:
        record = self._records.outcome(_subject(head, progress), STATUS[fault.kind][0], fault)
        return *self._refusal(head, fault), record

    def _refusal(self, head: Head, fault: Fault) -> tuple[int, bytes, Mapping[str, str]]:
        status = STATUS[fault.kind][0]
        headers = {"x-stockade-decision": head.decision_id}
        challenge = fault.details.get("wwwAuthenticate")
        if challenge is not None:
            headers["www-authenticate"] = str(challenge)
        if fault.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(fault.retry_after_s)))
        return status, _encode(error_body(fault)), headers

    def _shown(self, head: Head, status: int, body: bytes, more: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        """Return a reply's headers. more: of its own."""
        family = "Ipv6" if ":" in head.address else "Ipv4"
        network = f"conn_type={family};addr={head.address};act_addr_fam=InterNetwork;"
        shown = [
            *_ALWAYS,
            (b"x-ms-keyvault-region", self._region),
            (b"x-ms-keyvault-network-info", network.encode("latin-1", "replace")),
            (b"x-ms-request-id", head.decision_id.encode()),
        ]
        client = head.headers.get("x-ms-client-request-id", "")
        if client and len(client) <= 128 and client.isascii() and client.isprintable():
            shown.append((b"x-ms-client-request-id", client.encode()))
        shown.extend((name.encode(), value.encode("latin-1", "replace")) for name, value in more.items())
        if body:
            shown.append(_JSON)
        if status != 204:
            shown.append((b"content-length", str(len(body)).encode()))
        return shown


class VaultsFirst:
    """Takes what is for a vault out of the control plane's requests; the rest is another application's."""

    def __init__(self, app: VaultApp, rest: ASGIApp) -> None:
        self._app, self._rest = app, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = self._app.place(scope) if scope["type"] == "http" else None
        if place is None:
            await self._rest(scope, receive, send)
        else:
            await self._app.answer(place, scope, receive, send)


def _headers(scope: Scope) -> tuple[dict[str, str], str]:
    """Return the headers that are looked at, the first of several, and which one came twice that must not."""
    found: dict[str, str] = {}
    twice = ""
    for raw, value in scope["headers"]:
        name = _READ.get(raw) or _READ.get(raw.lower())
        if name is None:
            continue
        if name not in found:
            found[name] = value.decode("latin-1").strip()
        elif name.encode() in _ONCE:
            twice = name
    return found, twice


def _raw_path(scope: Scope) -> bytes:
    return scope.get("raw_path") or quote(scope["path"]).encode()


def _first(path: bytes) -> bytes:
    return path.lstrip(b"/").partition(b"/")[0].lower()


def _operation(method: str, path: bytes) -> tuple[Operation, Mapping[str, str]]:
    """Return what is asked for; Fault(NOT_FOUND), Fault(METHOD_NOT_ALLOWED)."""
    parts = segments(path)
    if len(parts) == 2 and parts[1] == "":
        parts = parts[:1]
    if parts[0].lower() in ("certificates", "deletedcertificates"):
        raise Fault(FaultKind.UNSUPPORTED, "Vaults of this platform keep keys and secrets, and no certificates.")
    known = False
    for operation in _BY_SHAPE.get((parts[0].lower(), len(parts)), ()):
        captured = operation.match(parts)
        if captured is not None:
            if operation.method == method:
                return operation, captured
            known = True
    if known:
        raise Fault(FaultKind.METHOD_NOT_ALLOWED, f"The HTTP method {method[:20]} is not allowed on this resource.")
    raise Fault(FaultKind.NOT_FOUND, "The request URI names nothing that a vault can be asked.", code="NotFound")


def _query(raw: bytes) -> Mapping[str, str]:
    """Return decoded parameters by lower-case name, the first of several; JavaScript clients send `api%2Dversion`."""
    if len(raw) > MAX_QUERY:
        raise Fault(FaultKind.TOO_LARGE, f"The query is longer than {MAX_QUERY} bytes.")
    found: dict[str, str] = {}
    try:
        for name, value in parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32):
            found.setdefault(name.lower(), value)
    except ValueError as failure:
        raise bad_parameter("The query string is malformed.") from failure
    version = found.get("api-version", "")
    if not version:
        raise bad_parameter("The query parameter api-version is required.", "api-version")
    if _API_VERSION.fullmatch(version) is None:
        raise bad_parameter(
            "The query parameter api-version is not a version, such as 7.6 or 2025-07-01.", "api-version"
        )
    return found


_known_operation = lru_cache(_KNOWN_PATHS)(_operation)
_known_query = lru_cache(_KNOWN_PATHS)(_query)


def _subject(head: Head, progress: _Progress) -> Subject:
    return Subject(
        decision_id=head.decision_id,
        method=head.method[:20],
        path=head.path[:2048].decode("latin-1"),
        address=head.address,
        client=head.headers.get("user-agent", "")[:120],
        vault=progress.vault.arm_id if progress.vault is not None else head.place.vault,
        operation=progress.operation.name if progress.operation is not None else "",
        changes=progress.operation is not None and progress.operation.changes,
        who=progress.who.credential if progress.who is not None else None,
        network=progress.who.network if progress.who is not None else "",
        permitted_by=progress.permitted_by,
        started=head.started,
    )
