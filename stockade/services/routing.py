"""From method and path to an operation, by one table made of all services' tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stockade.kernel.operation import Operation
from stockade.services.service import Service

VERSION = "version"
"""The name of a path segment that holds an api-version (`/face/{version}/detect`); only a well-formed one matches."""

_API_VERSION = re.compile(
    r"v?\d{4}-\d{2}-\d{2}(?:-preview)?|preview|latest|v?\d{1,4}(?:\.\d{1,4}){0,2}(?:-preview(?:\.\d{1,4})?)?",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Route:
    """A matched operation, its service, and the values of the path's template."""

    service: Service
    operation: Operation
    values: Mapping[str, str]


@dataclass(slots=True)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    suffixed: dict[str, tuple[str, _Node]] = field(default_factory=dict)
    """By what follows a parameter in the same segment: `{id}:analyze` stands under `:analyze`."""
    parameter: tuple[str, _Node] | None = None
    operations: dict[tuple[str, str], tuple[Service, Operation]] = field(default_factory=dict)


class Router:
    """A tree over path segments. Fixed segments match in any case, as Azure's do, and win over parameters."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._root = _Node()
        for service in services:
            for operation in service.operations:
                self._add(service, operation)

    @property
    def roots(self) -> frozenset[str]:
        """The first segments of every path, lower case."""
        return frozenset(self._root.children)

    def match(self, method: str, path: str, kind: str | None) -> Route | None:
        """Return the operation for a path below an account.

        kind: the account's; None before the account is known (regional endpoint), when any service's operation will do.
        """
        node, values = self._root, {}
        for segment in path[1:].split("/"):
            child = node.children.get(segment.lower())
            if child is None:
                if node.suffixed:
                    found = _suffixed(node, segment)
                    if found is not None:
                        name, values[name], node = found[0], found[1], found[2]
                        continue
                if node.parameter is None or not segment:
                    return None
                name, child = node.parameter
                values[name] = segment
            node = child
        if VERSION in values and not is_api_version(values[VERSION]):
            return None
        for wanted in ((method, kind or ""), (method, "")):
            row = node.operations.get(wanted)
            if row is not None:
                return Route(row[0], row[1], values)
        if kind is None:
            for (of_method, _), (service, operation) in node.operations.items():
                if of_method == method:
                    return Route(service, operation, values)
        return None

    def _add(self, service: Service, operation: Operation) -> None:
        node = self._root
        for segment in operation.path[1:].split("/"):
            if segment.startswith("{"):
                name, _, suffix = segment[1:].partition("}")
                known = node.suffixed.get(suffix.lower()) if suffix else node.parameter
                if known is None:
                    known = (name, _Node())
                    if suffix:
                        node.suffixed[suffix.lower()] = known
                    else:
                        node.parameter = known
                if known[0] != name:
                    raise ValueError(f"{operation.path} calls '{known[0]}' of another path '{name}'")
                node = known[1]
            else:
                node = node.children.setdefault(segment.lower(), _Node())
        for kind in service.kinds or {""}:
            key = (operation.method, kind)
            if key in node.operations:
                raise ValueError(f"{operation.method} {operation.path} is declared twice for kind {kind or 'any'}")
            node.operations[key] = (service, operation)


def _suffixed(node: _Node, segment: str) -> tuple[str, str, _Node] | None:
    """Return name, value and node of a parameter with a fixed end (`{id}:analyze`); None when the segment has no such end."""
    value, colon, end = segment.rpartition(":")
    found = node.suffixed.get(f":{end.lower()}") if colon and value else None
    return (found[0], value, found[1]) if found is not None else None


def is_api_version(text: str | None) -> bool:
    """Say whether a data-plane api-version is well formed (`2024-10-21`, `2025-04-01-preview`, `3.0`)."""
    return text is not None and _API_VERSION.fullmatch(text) is not None
