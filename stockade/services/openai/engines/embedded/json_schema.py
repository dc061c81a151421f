"""Admit only the JSON schemas that are certain to become a small grammar.

A schema is turned into a grammar by native, recursive code. Patterns, references and counted repetitions can make that grammar
explode, so they are refused rather than tried; what is left describes the shape of ordinary structured outputs.
"""

from __future__ import annotations

from typing import Any

from stockade.kernel.faults import Fault, FaultKind

MAX_DEPTH = 8
MAX_NODES = 256
MAX_STRING = 256

_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_SHAPE = frozenset({"type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const"})
_PROSE = frozenset({"title", "description", "$schema"})


def bounded(schema: Any, at: str) -> dict[str, Any]:
    """Return the schema without its prose, or raise Fault(INVALID or UNSUPPORTED) naming the place.

    at: where the schema stands in the request, the first part of the `param` of an error.
    """
    if not isinstance(schema, dict):
        raise _invalid("The schema is not an object.", at)
    return _Walk().node(schema, at, 0)


class _Walk:
    def __init__(self) -> None:
        self._nodes = 0

    def node(self, schema: Any, at: str, depth: int) -> dict[str, Any]:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise Fault(
                FaultKind.UNSUPPORTED,
                f"The built-in model takes schemas of at most {MAX_NODES} parts, nested at most {MAX_DEPTH} deep.",
                target=at,
            )
        if not isinstance(schema, dict):
            raise _invalid("A schema must be an object.", at)
        unknown = sorted(schema.keys() - _SHAPE - _PROSE)
        if unknown:
            raise Fault(
                FaultKind.UNSUPPORTED,
                f"The built-in model does not support the schema keyword '{_shown(unknown[0])}'; it knows {', '.join(sorted(_SHAPE))}.",
                target=at,
            )
        kept = {name: value for name, value in schema.items() if name in _SHAPE}
        self._check_type(kept, at)
        self._check_values(kept, at)
        return kept | self._children(kept, at, depth)

    def _children(self, kept: dict[str, Any], at: str, depth: int) -> dict[str, Any]:
        inner: dict[str, Any] = {}
        if "properties" in kept:
            properties = kept["properties"]
            if not isinstance(properties, dict) or any(len(name) > MAX_STRING for name in properties):
                raise _invalid(f"'properties' must be an object whose names have at most {MAX_STRING} characters.", at)
            inner["properties"] = {
                n: self.node(s, f"{at}.properties.{_shown(n)}", depth + 1) for n, s in properties.items()
            }
        required = kept.get("required", [])
        if not isinstance(required, list) or not all(
            isinstance(name, str) and name in inner.get("properties", {}) for name in required
        ):
            raise _invalid("'required' must list names from 'properties'.", at)
        if kept.get("additionalProperties", False) is not False:
            raise Fault(
                FaultKind.UNSUPPORTED, "The built-in model supports only 'additionalProperties': false.", target=at
            )
        if "items" in kept:
            inner["items"] = self.node(kept["items"], f"{at}.items", depth + 1)
        if "anyOf" in kept:
            if not isinstance(kept["anyOf"], list) or not kept["anyOf"]:
                raise _invalid("'anyOf' must be a list of schemas.", at)
            inner["anyOf"] = [
                self.node(choice, f"{at}.anyOf[{i}]", depth + 1) for i, choice in enumerate(kept["anyOf"])
            ]
        return inner

    @staticmethod
    def _check_type(kept: dict[str, Any], at: str) -> None:
        types = kept.get("type", [])
        types = types if isinstance(types, list) else [types]
        if not all(isinstance(name, str) and name in _TYPES for name in types):
            raise _invalid(f"'type' must be one of {', '.join(sorted(_TYPES))}, or a list of them.", at)

    def _check_values(self, kept: dict[str, Any], at: str) -> None:
        values = kept.get("enum", [])
        if not isinstance(values, list) or ("enum" in kept and not values):
            raise _invalid("'enum' must be a list with at least one value.", at)
        values = [*values, *([kept["const"]] if "const" in kept else [])]
        self._nodes += len(values)
        if not all(_is_scalar(value) for value in values):
            raise _invalid(
                f"'enum' and 'const' take numbers, booleans, null and strings of at most {MAX_STRING} characters.", at
            )


def _is_scalar(value: Any) -> bool:
    return (
        value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= MAX_STRING)
    )


def _shown(name: str) -> str:
    return name[:40]


def _invalid(message: str, at: str) -> Fault:
    return Fault(FaultKind.INVALID, message, target=at)
