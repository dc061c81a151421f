"""The Lockbox statement of an account: who may approve, and whose calls are the customer's. Signed by its approvers, not by the platform.

An account's data keys are wrapped along with the digest of its statement, so they open only beside exactly what was signed: whoever writes
into the database can take a statement away, and has then taken the keys away too. A new statement names the one before it and is signed by
that one's approvers; the first is signed by an approver whom the account's Owner has made one.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

TYPE: Final = "stockade-lockbox-statement/1"
MAX_BYTES: Final = 32 * 1024
MAX_APPROVERS: Final = 16

Digest: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""SHA-256, 64 hex digits."""


class Passkey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A WebAuthn credential (W3C Web Authentication Level 3). Values in base64url without padding."""

    credential_id: str
    public_key: str
    """COSE_Key, as the authenticator gave it."""
    rp_id: str
    origin: str


class Approver(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A person's or group's key that can approve.

    id:        the key's name within the statement.
    principal: object id, in this platform's directory or an external issuer's, of whom the key belongs to. The role is asked for too, but it
               is this key without which nothing opens.
    jwk:       a public key (EC P-256/P-384, RSA of 2048 bits and more, Ed25519), wherever its private half is: a key vault, a file, a card.
    """

    id: str
    principal: str
    jwk: dict[str, Any] | None = None
    passkey: Passkey | None = None


class PinnedIssuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens of this issuer are the customer's when one of these keys has signed them. keys: RFC 7638 thumbprints (SHA-256, base64url)."""

    issuer: str
    keys: tuple[str, ...]
    principals: tuple[str, ...] = ()
    """Object ids, where not everybody at that issuer who has a role may read; empty: they all may."""


class Callers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whose calls open what the account keeps. What is named here cannot be forged with the platform's own keys or database.

    platform: whoever the platform's own documents admit. Simple, and as safe as the database and the token service are.
    issuers:  tokens that a pinned key has signed.
    keys:     subscription keys by SHA-256; the platform then keeps none of them in a form it can read (`listKeys` has nothing to show).
    """

    platform: bool = False
    issuers: tuple[PinnedIssuer, ...] = ()
    keys: tuple[Digest, ...] = ()


class BreakGlass(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be done without an approver, agreed beforehand: operators' keys, of which `threshold` (at least two) sign the same statement."""

    operators: tuple[Approver, ...]
    threshold: int = 2
    hours: int = 1


class Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is signed, as JSON; the bytes are kept as they were signed.

    account:   the lower-case ARM id.
    account_guid: the account's internal id, so that a statement is not another account's of the same name later.
    sequence:  1 for the first. previous: digest of the statement before it.
    protected: False ends the protection: data keys are bound to nothing again. Signed by the approvers like any change.
    threshold: how many of the approvers sign an approval, or a change.
    """

    type: Literal["stockade-lockbox-statement/1"] = TYPE
    account: str
    account_guid: str
    sequence: int
    previous: str = ""
    protected: bool = True
    approvers: tuple[Approver, ...]
    threshold: int = 1
    callers: Callers
    break_glass: BreakGlass | None = None
    issued_at: float


def digest(payload: bytes) -> str:
    """Return what names a payload: SHA-256 of its bytes, in hex."""
    return sha256(payload).hexdigest()
