"""The Lockbox statement of an account: who may approve, and whose calls are the customer's. Signed by its approvers, not by the platform.

An account's data keys are wrapped along with the digest of its statement, so they open only beside exactly what was signed: whoever writes
into the database can take a statement away, and has then taken the keys away too. A new statement names the one before it and is signed by
that one's approvers; the first is signed by an approver whom the account's Owner has made one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from stockade.lockbox import strict
from stockade.lockbox.public_keys import check_cose, import_jwk

TYPE: Final = "stockade-lockbox-statement/1"
MAX_BYTES: Final = 32 * 1024
MAX_APPROVERS: Final = 16
MAX_ISSUERS: Final = 8
MAX_PINNED_KEYS: Final = 32
MAX_PRINCIPALS: Final = 200
MAX_SEQUENCE: Final = 1_000_000
LONGEST_BREAK_GLASS_H: Final = 8
_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_INTERNAL_ID: Final = re.compile(r"[0-9a-z-]{8,64}")
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_NAME: Final = re.compile(r"[\x21-\x7e]{1,512}")
_ORIGIN: Final = re.compile(r"https://[a-z0-9.-]{1,253}(?::[0-9]{1,5})?")

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
    audiences: tuple[str, ...] = ()
    """What those tokens have to be for, without a trailing slash; empty: Azure's AI services, by the names that Azure has for them. Here and
    not in the platform's settings, because a token that was given to another program must not open anything."""
    claim: str = "oid"
    """The claim of those tokens that says who somebody is."""


class Callers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whose calls open what the account keeps. What is named here cannot be forged with the platform's own keys or database.

    platform: whoever the platform's own documents admit. Simple, and as safe as the database and the token service are.
    issuers:  tokens that a pinned key has signed.
    keys:     subscription keys by SHA-256; the platform then keeps none of them in a form it can read (`listKeys` has nothing to show).
    jobs:     whether background jobs (batches) that such a caller starts get keys of their own to go on with. Whoever can read the platform's
              database and ask its broker has what a job has, for as long as it runs. `platform` has them anyway.
    """

    platform: bool = False
    issuers: tuple[PinnedIssuer, ...] = ()
    keys: tuple[Digest, ...] = ()
    jobs: bool = False


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


def read(payload: bytes) -> Statement:
    """Return what a statement says; Fault(INVALID) for what is none in every detail."""
    found = strict.read(payload, Statement, MAX_BYTES, "statement")
    first, glass = found.sequence == 1, found.break_glass
    _hold(
        ("account", strict.is_account(found.account)),
        ("account_guid", _INTERNAL_ID.fullmatch(found.account_guid) is not None),
        ("sequence", 1 <= found.sequence <= MAX_SEQUENCE),
        ("previous", (found.previous == "") if first else re.fullmatch("[0-9a-f]{64}", found.previous) is not None),
        ("protected", found.protected or not first),
        ("issued_at", strict.is_instant(found.issued_at)),
    )
    _check_approvers(found.approvers, found.threshold, "approvers")
    _check_callers(found.callers)
    if glass is not None:
        _check_approvers(glass.operators, glass.threshold, "break_glass.operators")
        _hold(
            ("break_glass.threshold", glass.threshold >= 2),
            ("break_glass.hours", 1 <= glass.hours <= LONGEST_BREAK_GLASS_H),
        )
    return found


def encode(statement: Statement) -> bytes:
    """Return a statement's bytes, to be signed and kept as they are."""
    return msgspec.json.encode(statement)


def _check_approvers(approvers: tuple[Approver, ...], threshold: int, name: str) -> None:
    _hold(
        (name, 0 < len(approvers) <= MAX_APPROVERS),
        (name, _differ(one.id for one in approvers)),
        (name, all(_ID.fullmatch(one.id) and strict.is_guid(one.principal) for one in approvers)),
        (f"{name}.threshold", 1 <= threshold <= len({one.principal for one in approvers})),
    )
    materials = []
    for one in approvers:
        if (one.jwk is None) == (one.passkey is None):
            raise strict.wrong("statement", f"`{one.id}` has to have a jwk or a passkey", name)
        try:
            if one.passkey is not None:
                materials.append(_check_passkey(one.passkey))
            elif one.jwk is not None:
                materials.append(import_jwk(one.jwk).thumbprint())
        except ValueError as failure:
            raise strict.wrong("statement", f"the key `{one.id}` cannot be used, {failure}", name) from failure
    _hold((name, _differ(materials)))


def _check_passkey(passkey: Passkey) -> str:
    credential, public = strict.from_base64url(passkey.credential_id), strict.from_base64url(passkey.public_key)
    host = passkey.origin.removeprefix("https://").partition(":")[0]
    if not 0 < len(credential) <= 1023:
        raise ValueError("its credential id is too long")
    if _ORIGIN.fullmatch(passkey.origin) is None or not (host == passkey.rp_id or host.endswith("." + passkey.rp_id)):
        raise ValueError("its origin is no https address, or not of its rp_id")
    check_cose(public)
    return passkey.public_key


def _check_callers(callers: Callers) -> None:
    _hold(
        ("callers", callers.platform or bool(callers.issuers) or bool(callers.keys)),
        ("callers.issuers", len(callers.issuers) <= MAX_ISSUERS and _differ(one.issuer for one in callers.issuers)),
        ("callers.keys", len(callers.keys) <= MAX_PINNED_KEYS and _differ(callers.keys)),
    )
    for one in callers.issuers:
        _hold(
            ("callers.issuers.issuer", _NAME.fullmatch(one.issuer) is not None),
            ("callers.issuers.keys", 0 < len(one.keys) <= MAX_PINNED_KEYS and _differ(one.keys)),
            ("callers.issuers.keys", all(_THUMBPRINT.fullmatch(key) for key in one.keys)),
            ("callers.issuers.principals", len(one.principals) <= MAX_PRINCIPALS and _differ(one.principals)),
            ("callers.issuers.principals", all(strict.is_guid(name) for name in one.principals)),
            ("callers.issuers.audiences", len(one.audiences) <= MAX_ISSUERS),
            ("callers.issuers.audiences", all(_NAME.fullmatch(name) for name in one.audiences)),
            ("callers.issuers.audiences", not any(name.endswith("/") for name in one.audiences)),
            ("callers.issuers.claim", _NAME.fullmatch(one.claim) is not None),
        )


def _differ(values: Iterable[str]) -> bool:
    held = list(values)
    return len(set(held)) == len(held)


def _hold(*rules: tuple[str, object]) -> None:
    for name, holds in rules:
        if not holds:
            raise strict.wrong("statement", f"`{name}` is not as it has to be", name)
