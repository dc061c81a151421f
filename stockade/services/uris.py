"""Find the URIs in a body by the paths an operation declares (`messages[*].content[*].image_url.url`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_STEP = re.compile(r"([^.\[\]]+)|\[(\*)\]")


def extract(paths: Sequence[str], document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every text that stands at one of the paths, with its concrete path (`messages[0].content[1].image_url.url`).

    A member that is no list where the path says `[*]`, or no object where it names a member, holds nothing at that path.
    """
    for path in paths:
        steps = [name or star for name, star in _STEP.findall(path)]
        yield from _walk(steps, document, "")


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
