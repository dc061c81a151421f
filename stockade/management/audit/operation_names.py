"""What people call an ARM action: Azure's own names for those of Customer Lockbox, and for all others words made of the action itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_LOCKBOX: Final = "microsoft.customerlockbox/requests/activitylog/"
_NAMES: Final[Mapping[str, str]] = {
    f"{_LOCKBOX}createlockboxrequest/action": "Create Lockbox Request",
    f"{_LOCKBOX}approvelockboxrequest/action": "Approve Lockbox Request",
    f"{_LOCKBOX}denylockboxrequest/action": "Deny Lockbox Request",
    f"{_LOCKBOX}expirelockboxrequest/action": "Lockbox Request Expiry",
    f"{_LOCKBOX}cancellockboxrequest/action": "Cancel Lockbox Request",
    f"{_LOCKBOX}autoapprovelockboxrequest/action": "Auto Approve Lockbox Request",
    f"{_LOCKBOX}autodenylockboxrequest/action": "Auto Deny Lockbox Request",
}
_WORDS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+|[0-9]+")
_VERBS: Final[Mapping[str, str]] = {"write": "Create or Update", "delete": "Delete", "read": "Get"}


def display_name(operation: str) -> str:
    """Return an action's name for people: `Microsoft.CognitiveServices/accounts/write` is `Create or Update Accounts`."""
    named = _NAMES.get(operation.lower())
    if named is not None:
        return named
    *before, last = operation.split("/")
    what = " ".join(word[:1].upper() + word[1:] for word in _WORDS.findall(before[-1])) if before else ""
    if last.lower() == "action" and what:
        return what
    verb = _VERBS.get(last.lower())
    return f"{verb} {what}" if verb is not None and what else operation
