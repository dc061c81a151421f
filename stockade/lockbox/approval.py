"""What is signed to let an operator read: an approval by the customer, or, where the statement agrees to it, two operators' breaking of the glass."""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from stockade.lockbox import strict

APPROVAL: Final = "stockade-lockbox-approval/1"
BREAK_GLASS: Final = "stockade-lockbox-break-glass/1"
MAX_BYTES: Final = 16 * 1024
MAX_SCOPE: Final = 100
MAX_PURPOSE: Final = 2000
MAX_CASE: Final = 2000
LONGEST_S: Final = 8 * 3600.0
"""The longest access that anybody can sign for."""
LATEST_S: Final = 5 * 86_400.0
"""How long after not_before an access may end."""
_PATTERN: Final = re.compile(r"[a-z]{1,32}/(?:\*|[0-9A-Za-z._-]{1,200})")
_TEXT: Final = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]*")
"""No control characters, and none that turn the direction of what approvers read."""


class Operator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may read: one principal, by object id (and the tenant or issuer it is of)."""

    object_id: str
    tenant: str


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything an access is bound to. As JSON; the bytes are kept as they were signed, and nothing is taken from anywhere else.

    type:       an approval's, or a break-glass's: the one is signed by approvers of the statement, the other by its break-glass operators.
    request:    the request's GUID. account, statement: the account's lower-case id, and the digest of the statement in force.
    scope:      paths of kept content (`files/file-4f...`), or a kind's prefix (`files/*`).
    purpose:    the operator's reason as it was asked for; case: the support case's URL, "" for none.
    not_before, not_after: epoch seconds. Access ends at not_after, and no later than duration_s after the broker first saw it.
    nonce:      the broker's, from when the request was made: it knows a request it has seen, and takes an approval for no other.
    """

    type: Literal["stockade-lockbox-approval/1", "stockade-lockbox-break-glass/1"] = APPROVAL
    request: str
    account: str
    statement: str
    scope: tuple[str, ...]
    operator: Operator
    purpose: str
    case: str
    duration_s: float
    not_before: float
    not_after: float
    nonce: str


def read(payload: bytes) -> Approval:
    """Return what an approval says; Fault(INVALID) for what is none in every detail."""
    found = strict.read(payload, Approval, MAX_BYTES, "approval")
    for name, holds in (
        ("request", strict.is_guid(found.request)),
        ("account", strict.is_account(found.account)),
        ("statement", re.fullmatch("[0-9a-f]{64}", found.statement) is not None),
        ("scope", 0 < len(found.scope) <= MAX_SCOPE and len(set(found.scope)) == len(found.scope)),
        ("scope", all(is_pattern(pattern) for pattern in found.scope)),
        ("operator", strict.is_guid(found.operator.object_id) and 0 < len(found.operator.tenant) <= 256),
        ("purpose", 0 < len(found.purpose) <= MAX_PURPOSE and _TEXT.fullmatch(found.purpose) is not None),
        ("case", len(found.case) <= MAX_CASE and (not found.case or _is_address(found.case))),
        ("duration_s", 0 < found.duration_s <= LONGEST_S),
        ("not_before", strict.is_instant(found.not_before) and strict.is_instant(found.not_after)),
        ("not_after", found.not_before < found.not_after <= found.not_before + LATEST_S),
        ("nonce", 0 < len(found.nonce) <= 256 and re.fullmatch("[A-Za-z0-9_-]+", found.nonce) is not None),
    ):
        if not holds:
            raise strict.wrong("approval", f"`{name}` is not as it has to be", name)
    return found


def is_pattern(text: str) -> bool:
    """Say whether a text can stand in a scope: a path of kept content, or a kind's `files/*`."""
    return _PATTERN.fullmatch(text) is not None


def encode(approval: Approval) -> bytes:
    """Return an approval's bytes, to be signed and kept as they are."""
    return msgspec.json.encode(approval)


def _is_address(text: str) -> bool:
    return text.startswith("https://") and text.isascii() and text.isprintable() and " " not in text
