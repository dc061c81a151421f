"""JSON: reading it in the one way there is; finding texts by declared paths (`messages[*].content[*].image_url.url`), and putting content there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from stockade.kernel.faults import Fault, FaultKind

ANY_DEPTH = "**"
_STEP = re.compile(r"([^.\[\]]+)")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NAMED = 80


def read_json(body: bytes, where: str = "The request body") -> Any:
    """Parse JSON strictly: UTF-8, no member twice in one object, no NaN, no half of a surrogate pair; Fault(INVALID) otherwise."""
    try:
        text = body.decode()
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as failure:
        raise Fault(FaultKind.INVALID, f"{where} is not UTF-8.") from failure
    except UnicodeEncodeError as failure:
        raise Fault(FaultKind.INVALID, f"{where} holds half of a surrogate pair.") from failure
    except _DoubledError as failure:
        raise Fault(FaultKind.INVALID, f"{where} gives the member '{failure}' twice in one object.") from failure
    except RecursionError as failure:
        raise Fault(FaultKind.INVALID, f"{where} is nested too deeply.") from failure
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, f"{where} is not valid JSON: {failure}.") from failure
    return value


def extract(paths: Sequence[str], document: Any, *, any_case: bool = False) -> Iterator[tuple[str, str]]:
    """Yield every text that stands at one of the paths, with its concrete place (`messages[0].content[1].image_url.url`).

    Looked at generously, since servers read generously: a list may stand where one value is expected and one value where a list is. any_case:
    members match in any case too, as most of Azure's servers read them. What stands at a path as an object is not looked into: it is no URI.
    Raises Fault(INVALID) for a document too deep to be walked.
    """
    try:
        for path in paths:
            for place, text, _, _ in _walk(_steps(path, any_case=any_case), document, "", {}, "", any_case=any_case):
                yield place, text
    except RecursionError as failure:
        raise Fault(FaultKind.INVALID, "The request body is nested too deeply.") from failure


def put(paths: Sequence[str], document: dict[str, Any], contents: Mapping[str, str]) -> bool:
    """Put content in the place of every text that stands at one of the paths and that `contents` names; say whether any did.

    By the text and not by its place: a caller chooses the names of members, and two places may be written alike.
    """
    found = [
        (holder, key, text)
        for path in paths
        for _, text, holder, key in _walk(_steps(path, any_case=False), document, "", {}, "", any_case=False)
        if text in contents
    ]
    for holder, key, text in found:
        holder[key] = contents[text]
    return bool(found)


def texts(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a document with its place, members' names too."""
    waiting = [(at, value)]
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, str):
            yield place, one
        elif isinstance(one, list):
            waiting += [(f"{place}[{index}]", item) for index, item in enumerate(one)]
        elif isinstance(one, dict):
            for name, item in one.items():
                inner = join(place, name)
                yield inner, name
                waiting.append((inner, item))


def join(at: str, name: str) -> str:
    """Return the place of a member. Its name is the caller's, so it is cut before it can fill a record."""
    short = name if len(name) <= _NAMED else name[:_NAMED] + "…"
    return f"{at}.{short}" if at else short


@cache
def _steps(path: str, *, any_case: bool) -> tuple[str, ...]:
    return tuple(name.casefold() if any_case else name for name in _STEP.findall(path))


def _walk(
    steps: Sequence[str], value: Any, at: str, holder: Any, key: str | int, *, any_case: bool
) -> Iterator[tuple[str, str, Any, str | int]]:
    """Yield place, text, and the object or list that holds it under which key."""
    if isinstance(value, list):
        rest = steps[1:] if steps and steps[0] == "*" else steps
        for index, item in enumerate(value):
            yield from _walk(rest, item, f"{at}[{index}]", value, index, any_case=any_case)
        return
    if not steps:
        if isinstance(value, str):
            yield at, value, holder, key
        return
    first, rest = steps[0], steps[1:]
    if first == "*":
        yield from _walk(rest, value, at, holder, key, any_case=any_case)
    elif isinstance(value, dict):
        for after, name, item in _members(steps, first, rest, value, any_case=any_case):
            # Without a name it is the object itself, which is no text and needs no holder.
            yield from _walk(after, item, join(at, name) if name else at, value, name, any_case=any_case)


def _members(
    steps: Sequence[str], first: str, rest: Sequence[str], value: dict[str, Any], *, any_case: bool
) -> Iterator[tuple[Sequence[str], str, Any]]:
    """Yield where a step into an object leads: the steps that remain, the member's name ("" for the object itself), and what stands there."""
    if first == ANY_DEPTH:
        yield rest, "", value
        yield from ((steps, name, item) for name, item in value.items() if isinstance(item, dict | list))
    elif any_case:
        yield from ((rest, name, item) for name, item in value.items() if name.casefold() == first)
    elif first in value:
        yield rest, first, value[first]


class _DoubledError(ValueError):
    """Its text is the member's name."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _DoubledError(name[:_NAMED])
            seen.add(name)
    return members


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")
