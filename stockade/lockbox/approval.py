"""What is signed to let an operator read: an approval by the customer, or, where the statement agrees to it, two operators' breaking of the glass."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

APPROVAL: Final = "stockade-lockbox-approval/1"
BREAK_GLASS: Final = "stockade-lockbox-break-glass/1"
MAX_BYTES: Final = 16 * 1024
MAX_SCOPE: Final = 100


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
