"""The `permissions` member of role definitions and deny assignments, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.documents import Json

MEMBERS = ("actions", "notActions", "dataActions", "notDataActions")
MAX_PATTERNS = 2048
# `Microsoft.X/things/*/read`, `*/read`, `*`. The last part is a verb or ends in the wildcard.
_PATTERN = re.compile(
    r"\*|[A-Za-z0-9.*_-]+(/[A-Za-z0-9.*_-]+)*/([A-Za-z0-9_.-]*\*|read|write|delete|action)", re.IGNORECASE
)


def checked_permissions(value: Any) -> list[Json]:
    """Return permission sets with all four lists; Fault(INVALID) for patterns that could match nothing, and for conditions."""
    if not isinstance(value, list) or not value or not all(isinstance(item, Mapping) for item in value):
        raise _invalid(
            "The permissions are a list of at least one object with actions, notActions, dataActions and notDataActions."
        )
    return [_checked(item) for item in value]


def _checked(item: Mapping[str, Any]) -> Json:
    names = {name.lower(): name for name in MEMBERS}
    spelled = {names.get(name.lower(), name): part for name, part in item.items()}
    if spelled.get("condition"):
        raise _invalid(
            "Conditions are not evaluated here, so permissions with one are not accepted.", "ConditionNotSupported"
        )
    checked: Json = {}
    for name in MEMBERS:
        patterns = spelled.get(name) or []
        if not isinstance(patterns, list) or len(patterns) > MAX_PATTERNS:
            raise _invalid(f"'{name}' is a list of at most {MAX_PATTERNS} strings.")
        for pattern in patterns:
            if not isinstance(pattern, str) or len(pattern) > 512 or not _PATTERN.fullmatch(pattern):
                shown = pattern[:200] if isinstance(pattern, str) else type(pattern).__name__
                raise _invalid(
                    f"'{shown}' does not match any of the actions supported by the providers.",
                    "InvalidActionOrNotAction",
                )
        checked[name] = list(dict.fromkeys(patterns))
    return checked


def _invalid(message: str, code: str = "InvalidPermissions") -> Fault:
    return Fault(FaultKind.INVALID, message, code=code, target="permissions")
