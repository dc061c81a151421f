"""A JSON body as a set of raw members: looked at where that is wanted, everything else as it came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from functools import cache
from typing import Any

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation, UriField
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.scan import scan_json
from stockade.services.service import Reply
from stockade.services.uris import extract, put

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode


def read_members(body: bytes) -> dict[str, msgspec.Raw]:
    """Return a body's members; Fault(INVALID) for one that is no JSON object."""
    try:
        if not body.isascii():
            body.decode()  # members pass as they came, and the parser does not look into their strings
        return _decode_object(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise Fault(FaultKind.INVALID, f"The request body is not a valid JSON object: {failure}.") from failure
    except RecursionError as failure:
        raise Fault(FaultKind.INVALID, "The request body is nested too deeply.") from failure


def value(raw: msgspec.Raw, name: str) -> Any:
    """Return what stands in a member; Fault(INVALID) when it cannot be read."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as failure:
        raise Fault(FaultKind.INVALID, f"'{name}' cannot be read: {failure}.", target=name) from failure


def text(members: Mapping[str, msgspec.Raw], name: str) -> str | None:
    """Return a member that has to be a string; None when it is not there."""
    raw = members.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError as failure:
        raise Fault(FaultKind.INVALID, f"'{name}' must be a string.", target=name) from failure


def boolean(members: Mapping[str, msgspec.Raw], name: str) -> bool | None:
    """Return a member that has to be true, false or null; None when it is not there."""
    raw = members.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=bool | None)
    except msgspec.DecodeError as failure:
        raise Fault(FaultKind.INVALID, f"'{name}' must be true or false.", target=name) from failure


def first_step(path: str) -> str:
    """Return the member that a declared path begins with."""
    return path.partition("[")[0].partition(".")[0]


def find(
    operation: Operation, body: bytes, members: MutableMapping[str, msgspec.Raw], *, deep: bool
) -> tuple[FoundUri, ...]:
    """Return the URIs in the members that may carry some, and write these members anew as they were read; deep: also those in every string.

    The deep scan sees both values of a member said twice, the declared fields what is dispatched of them.
    """
    declared: tuple[FoundUri, ...] = ()
    escaped = b"\\u00" in body  # letters of a name may be, and then nothing is seen without reading it
    fields = [field for field, name in _named(operation) if escaped or name in body]
    if fields:
        looked_at: dict[str, Any] = {}
        for name in {first_step(field.at) for field in fields}:
            raw = members.get(name)
            if raw is not None:
                looked_at[name] = value(raw, name)
                members[name] = msgspec.Raw(encode(looked_at[name]))
        declared = tuple(found_in(fields, looked_at))
    if not deep:
        return declared
    known = {found.uri for found in declared}
    return (*declared, *(found for found in scan_json(body) if found.uri not in known))


def found_in(fields: Sequence[UriField], document: Mapping[str, Any]) -> Iterator[FoundUri]:
    """Yield what stands in the fields of a document."""
    for field in fields:
        for path, uri in extract([field.at], document):
            yield FoundUri(path, uri, inline=field.inline)


def put_inline(operation: Operation, members: MutableMapping[str, msgspec.Raw], contents: Mapping[str, str]) -> None:
    """Put content in the place of URIs."""
    for name, paths in inline_paths(operation).items():
        if name in members:
            holder = {name: value(members[name], name)}
            if put(paths, holder, contents):
                members[name] = msgspec.Raw(encode(holder[name]))


@cache
def inline_paths(operation: Operation) -> dict[str, list[str]]:
    """Return the fields in whose place content may stand, by the body's member that they begin with."""
    found: dict[str, list[str]] = {}
    for field in operation.uris:
        if field.inline:
            found.setdefault(first_step(field.at), []).append(field.at)
    return found


@cache
def _named(operation: Operation) -> tuple[tuple[UriField, bytes], ...]:
    """Return the fields of an operation, each with the name of its last member as it stands in a body."""
    return tuple((field, b'"%b"' % field.at.rpartition(".")[2].encode()) for field in operation.uris)


def json_reply(document: object) -> Reply:
    """Return a reply of 200 with a JSON document."""
    return Reply(200, encode(document))
