"""The operations of all services, as far as management has to know them: to say which one a described request is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation
from stockade.kernel.shelf import Shelf
from stockade.settings import Settings

Row = tuple[frozenset[str], Operation]


@lru_cache(1)
def _table(settings: Settings) -> tuple[Row, ...]:
    """Return every operation with the kinds of account it is for; an empty set: every kind."""
    shelf: Shelf[type] = Shelf.load("stockade.services", type, folders_only=True)
    services = [plugin(settings) for plugin in shelf]
    return tuple((service.kinds, operation) for service in services for operation in service.operations)


def named(settings: Settings, kind: str, name: str) -> Operation:
    """Return an account kind's operation by its name in any case; Fault(INVALID) naming those there are."""
    known = [operation for kinds, operation in _table(settings) if not kinds or kind in kinds]
    for operation in known:
        if operation.name.lower() == name.lower():
            return operation
    names = ", ".join(sorted({operation.name for operation in known}))
    message = f"'{name[:80]}' is no operation of an account of kind {kind}; there is: {names}."
    raise Fault(FaultKind.INVALID, message, target="operation")


def addressed(settings: Settings, kind: str, method: str, path: str) -> tuple[Operation, dict[str, str]]:
    """Return the operation for a method and a path below the account, and the path's values; Fault(INVALID) when there is none."""
    found = [
        (operation, values)
        for kinds, operation in _table(settings)
        if (not kinds or kind in kinds) and operation.method == method.upper()
        if (values := _values(operation.path.split("/"), path.split("?", 1)[0].split("/"))) is not None
    ]
    if not found:
        message = f"No operation of an account of kind {kind} answers {method[:10]} {path[:200]}."
        raise Fault(FaultKind.INVALID, message, target="path")
    return min(found, key=lambda one: len(one[1]))  # fixed segments win over parameters, as in the gateway


def _values(template: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    if len(template) != len(segments):
        return None
    pairs: Iterator[tuple[str, str]] = zip(template, segments, strict=True)
    values: dict[str, str] = {}
    for part, segment in pairs:
        if part.startswith("{") and segment:
            values[part[1:-1]] = segment
        elif part.lower() != segment.lower():
            return None
    return values
