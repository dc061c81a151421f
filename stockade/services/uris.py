"""Find the URIs in a body by the paths an operation declares (`messages[*].content[*].image_url.url`), and put content in their place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_STEP = re.compile(r"([^.\[\]]+)|\[(\*)\]")
_CONCRETE = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def extract(paths: Sequence[str], document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every text that stands at one of the paths, with its concrete path (`messages[0].content[1].image_url.url`).

    A member that is no list where the path says `[*]`, or no object where it names a member, holds nothing at that path.
    """
    for path in paths:
        steps = [name or star for name, star in _STEP.findall(path)]
        yield from _walk(steps, document, "")


def members_of(contents: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Sort what is to be put at concrete paths by the body's member that each begins with."""
    found: dict[str, dict[str, str]] = {}
    for path, content in contents.items():
        name, _ = _CONCRETE.findall(path)[0]
        found.setdefault(name, {})[path] = content
    return found


def replace(document: dict[str, Any], path: str, content: str) -> None:
    """Put content where a text was found, at a path as `extract` yields it; KeyError or IndexError when nothing stands there."""
    steps: list[Any] = [name or int(number) for name, number in _CONCRETE.findall(path)]
    value: Any = document
    for step in steps[:-1]:
        value = value[step]
    if not isinstance(value[steps[-1]], str):
        raise KeyError(path)
    value[steps[-1]] = content


def _walk(steps: Sequence[str], value: Any, at: str) -> Iterator[tuple[str, str]]:
    if not steps:
        if isinstance(value, str):
            yield at, value
    elif steps[0] == "*":
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from _walk(steps[1:], item, f"{at}[{index}]")
    elif isinstance(value, dict) and steps[0] in value:
        yield from _walk(steps[1:], value[steps[0]], f"{at}.{steps[0]}" if at else steps[0])
