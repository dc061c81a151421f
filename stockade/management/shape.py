"""Typed reading of ARM bodies: known members in Azure's spelling and of the right type, unknown members kept as they came.

Azure reads member names in any case. A `disablelocalauth` that were kept as an unknown member would look accepted and not be in force, so
known names are respelled before anything is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.documents import Json

S = TypeVar("S", bound=msgspec.Struct)


def respelled(body: Mapping[str, Any], shape: type[msgspec.Struct]) -> Json:
    """Return the body with the shape's members in its spelling, at every level the shape describes."""
    known = _members(shape)
    result: Json = {}
    for name, value in body.items():
        spelling, hint = known.get(name.lower(), (name, None))
        result[spelling] = _respelled(value, hint)
    return result


def typed(body: Mapping[str, Any], shape: type[S]) -> S:
    """Return the body as the shape; Fault(INVALID) naming the member whose type is wrong."""
    try:
        return msgspec.convert(dict(body), shape)
    except msgspec.ValidationError as failure:
        problem, _, where = str(failure).partition(" - at `$.")
        target = where.rstrip("`") or None
        member = f"property '{target}'" if target else "request content"
        raise Fault(
            FaultKind.INVALID, f"The {member} is invalid: {problem}.", code="InvalidRequestContent", target=target
        ) from failure


def one_of(value: str, choices: tuple[str, ...], target: str) -> str:
    """Return the choice in Azure's spelling; Fault(INVALID) for any other value."""
    for choice in choices:
        if choice.lower() == value.lower():
            return choice
    message = f"'{value[:80]}' is not a value of '{target}'; it is one of: {', '.join(choices)}."
    raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=target)


def whole_number(value: int | str, target: str, *, smallest: int = 1) -> int:
    """Return a count that may have come as text; Fault(INVALID) for anything else."""
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) < smallest:
        message = f"The property '{target}' must be a whole number of at least {smallest}."
        raise Fault(FaultKind.INVALID, message, code="InvalidCapacity", target=target)
    return int(text)


@cache
def _members(shape: type[msgspec.Struct]) -> dict[str, tuple[str, Any]]:
    hints = get_type_hints(shape)
    return {
        field.encode_name.lower(): (field.encode_name, hints[field.name]) for field in msgspec.structs.fields(shape)
    }


def _respelled(value: Any, hint: Any) -> Any:
    for candidate in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct) and isinstance(value, Mapping):
            return respelled(value, candidate)
        if get_origin(candidate) is list and isinstance(value, list):
            return [_respelled(item, get_args(candidate)[0]) for item in value]
    return value
