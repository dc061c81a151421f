"""What loss prevention would make of a request that somebody describes: the services' own reading, the account's own list, nobody is called.

An operation is found by its name, by method and path, or, when neither is given, by the body: the one of the account's kind that finds most in the
fields it declares; of equals the first in the table. A file of JSON lines is what a batch is made of, so each line is looked at as a chat request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation, UriField
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.policy.uris.found import FoundUri
from stockade.services.routing import Route, Router
from stockade.services.service import Call, Service
from stockade.services.uris import find_uris, read_content, search
from stockade.services.uris.content import LINE_TYPES, Content, read_lines

BATCH: Final = "Batch_Lines"
"""The name under which a file of JSON lines is looked at. No operation takes one yet."""
_MOST_NAMES: Final = 400


@dataclass(frozen=True, slots=True)
class Described:
    """A request as somebody describes it. Everything but the body may be left out. query, headers: names in lower case."""

    body: bytes
    content_type: str = "application/json"
    operation: str = ""
    method: str = "POST"
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found. service: "" for a file of JSON lines."""

    service: str
    operation: Operation
    uris: tuple[FoundUri, ...]


def look(
    services: Sequence[Service],
    account: AccountPolicy,
    snapshot: Snapshot,
    described: Described,
    *,
    deep: bool,
    now: float,
) -> Looked:
    """Find the URIs of a described request as the gateway would; Fault as the gateway's for a body it would refuse."""
    media = described.content_type.partition(";")[0].strip().lower()
    if media in LINE_TYPES:
        return _lines(services, described, deep=deep)
    route = _route(services, account, described)
    call = Call(
        route.operation,
        account,
        None,
        snapshot,
        route.values,
        described.query,
        described.content_type,
        described.body,
        "",
        now,
        headers={name: value for name, value in described.headers.items() if name in route.operation.headers},
    )
    return Looked(route.service.name, route.operation, route.service.uris(call, deep=deep))


def _lines(services: Sequence[Service], described: Described, *, deep: bool) -> Looked:
    content = Content(described.body, described.content_type, lines=read_lines(described.body))
    fields = dict.fromkeys(
        UriField(f"lines:body.{declared.at}", declared.use, inline=False)
        for service in services
        if service.name == "openai"
        for operation in service.operations
        for declared in operation.uris
        if ":" not in declared.at
    )
    operation = Operation(BATCH, "POST", "", None, "binary", uris=tuple(fields))
    found = tuple(one for _, one in find_uris(operation.uris, content, {}, {}))
    known = {one.uri for one in found}
    others = tuple(one for one in search(content, {}, {}) if one.uri not in known) if deep else ()
    return Looked("", operation, (*found, *others))


def _route(services: Sequence[Service], account: AccountPolicy, described: Described) -> Route:
    rows = [
        Route(service, operation, {})
        for service in services
        if not service.kinds or account.kind in service.kinds
        for operation in service.operations
    ]
    if described.operation:
        return _named(rows, account.kind, described.operation)
    if described.path:
        route = Router(services).match(described.method.upper(), described.path, account.kind)
        if route is None:
            message = f"No operation of an account of kind {account.kind} answers {described.method[:10]} {described.path[:200]}."
            raise Fault(FaultKind.INVALID, message, target="path")
        return route
    return _guessed(rows, account.kind, described)


def _named(rows: Sequence[Route], kind: str, name: str) -> Route:
    """Return the operation of a name, `NAME` or `SERVICE.NAME`; several paths of one operation are alike in what they declare."""
    wanted = name.lower()
    for row in rows:
        if wanted in (row.operation.name.lower(), f"{row.service.name}.{row.operation.name}".lower()):
            return row
    names = ", ".join(sorted({row.operation.name for row in rows if row.operation.uris}))
    message = (
        f"'{name[:80]}' is no operation of an account of kind {kind}. Those that declare URIs: {names[:_MOST_NAMES]}."
    )
    raise Fault(FaultKind.INVALID, message, target="operation")


def _guessed(rows: Sequence[Route], kind: str, described: Described) -> Route:
    best: tuple[int, Route] | None = None
    for row in rows:
        fitting = row.operation.body not in ("none", "binary", "stream")
        count = _count(row.operation, described) if fitting else None
        if count is not None and (best is None or count > best[0]):
            best = count, row
    if best is None:
        message = f"No operation of an account of kind {kind} reads a body of the type '{described.content_type[:60]}'."
        raise Fault(FaultKind.INVALID, message, target="contentType")
    return best[1]


def _count(operation: Operation, described: Described) -> int | None:
    """Return how many of the declared fields hold something; None for a body the operation does not read."""
    media = described.content_type.partition(";")[0].strip().lower()
    if (operation.body == "json") != media.endswith("json") and operation.body != "media":
        return None
    try:
        content = read_content(operation, described.content_type, described.body)
        return sum(1 for _ in find_uris(operation.uris, content, described.query, described.headers))
    except Fault as fault:
        if fault.kind is FaultKind.UNSUPPORTED_MEDIA_TYPE or not media.endswith("json"):
            return None
        return 0  # broken, and the operation is to say how
