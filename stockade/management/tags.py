"""Tags, which every resource and group may carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind

MAX_TAGS = 50


def checked_tags(value: Any) -> dict[str, str]:
    """Return the tags of a body ({} for none); Fault(INVALID). Source: Azure's limits, 50 tags of 512 and 256 characters."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise Fault(FaultKind.INVALID, "Tags are an object of strings.", code="InvalidTags", target="tags")
    if len(value) > MAX_TAGS or any(len(name) > 512 or len(text) > 256 for name, text in value.items()):
        message = f"A resource has at most {MAX_TAGS} tags, with names up to 512 and values up to 256 characters."
        raise Fault(FaultKind.INVALID, message, code="InvalidTags", target="tags")
    return dict(value)
