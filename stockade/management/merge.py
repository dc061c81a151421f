"""How PATCH changes a body: what it names is replaced, what it does not name stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stockade.storage.documents import Json


def merge_patch(current: Mapping[str, Any], patch: Mapping[str, Any], *, whole: frozenset[str] = frozenset()) -> Json:
    """Return the merged object; neither argument changes.

    Objects merge, everything else (arrays too) is replaced, null removes. whole: dotted paths of objects that are replaced as one, such as
    `properties.networkAcls`. Source: RFC 7396; which objects are replaced as one is Azure's, per resource type.
    """
    return _merge(current, patch, whole, "")


def _merge(current: Mapping[str, Any], patch: Mapping[str, Any], whole: frozenset[str], path: str) -> Json:
    merged = dict(current)
    for name, value in patch.items():
        where = f"{path}{name}"
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping) and where not in whole:
            before = merged.get(name)
            merged[name] = _merge(before if isinstance(before, Mapping) else {}, value, whole, where + ".")
        else:
            merged[name] = value
    return merged
