"""What approvers are given to sign, and what becomes of what they sign.

The payload is made here and kept as it was signed; whoever signs sees it, and may sign a narrower one: fewer things, sooner over. Everything else
in it has to be what was asked for. With a threshold of several it is the first one's payload that the others sign too. The challenge in it is the
broker's, and as old as its process: after a restart another one is signed. The broker verifies it all again before it lends a key: what is refused
here is refused early, and nothing is granted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import approval as approvals
from stockade.lockbox import signature, strict
from stockade.lockbox.approval import APPROVAL, BREAK_GLASS, Approval
from stockade.lockbox.signature import Signature, Signed
from stockade.lockbox.statement import Approver
from stockade.management.lockbox import approvers, documents
from stockade.management.lockbox.documents import Kept, Protection, Request
from stockade.management.resource_type import Call
from stockade.storage.documents import Document, Json

REQUIRED: Final = "SignatureRequired"
EARLY_S: Final = 300.0
"""How far approvers' clocks may differ from ours."""


def signers(request: Request, protection: Protection) -> tuple[tuple[Approver, ...], int]:
    """Return whose keys can sign for a request, and how many of them it takes."""
    statement = protection.statement
    if not request.asked.break_glass:
        return statement.approvers, statement.threshold
    glass = statement.break_glass
    return (glass.operators, glass.threshold) if glass is not None else ((), 0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What has to be signed for a request: its account's statement, and the broker's challenge for it."""

    request: Request
    protection: Protection
    nonce: str


def wanted(call: Call, request: Request, account: Document | None) -> Wanted:
    """Ask the broker for its challenge, as the caller, who is an operator or one of the approvers.

    Fault(PERMISSION_DENIED) for others, Fault(CONFLICT) where no statement is in force any more.
    """
    found = documents.protection(account) if account is not None else None
    if account is None or found is None:
        message = (
            "The account is gone, or protected by no statement any more: there is nothing that could be signed for."
        )
        raise Fault(FaultKind.CONFLICT, message, code="LockboxNotProtected")
    challenge = call.platform.broker.open_request(account.id, request.name, call.evidence)
    return Wanted(request, found, challenge.nonce)


def payload(what: Wanted, now: float) -> bytes:
    """Return the bytes to sign: those that somebody has signed already, as long as they are worth something, else new ones.

    Where one signature is enough, access ends with its time from now. Where others have yet to sign, at most with the request's own time and
    the access after it.
    """
    request, asked, course = what.request, what.request.asked, what.request.course
    if is_current(what, now):
        return request.kept.payload
    begins = course.lapses_at if signers(request, what.protection)[1] > 1 else now
    return approvals.encode(
        Approval(
            type=BREAK_GLASS if asked.break_glass else APPROVAL,
            request=request.name,
            account=asked.account.lower(),
            statement=what.protection.digest,
            scope=asked.scope,
            operator=asked.operator,
            purpose=asked.reason,
            case=asked.case,
            duration_s=course.duration_s,
            not_before=float(int(now)),
            not_after=float(int(begins + course.duration_s)),
            nonce=what.nonce,
        )
    )


def is_current(what: Wanted, now: float) -> bool:
    """Say whether what some have signed already can still be signed by the others."""
    if not what.request.kept.payload:
        return False
    held = approvals.read(what.request.kept.payload)
    return held.statement == what.protection.digest and held.nonce == what.nonce and held.not_after > now


def signed(what: Wanted, given: Signed, now: float) -> tuple[Approval, Kept, bool]:
    """Return what has been signed, what is to be kept of it, and whether it is enough.

    Fault(INVALID) with what is to be signed where nothing was given, or something else than what was asked for; Fault(PERMISSION_DENIED) for
    signatures that do not verify.
    """
    if not given.payload and not given.signatures:
        raise required(what, now)
    request, approval = what.request, approvals.read(given.payload)
    _check(what, approval, now)
    known, threshold = signers(request, what.protection)
    held: tuple[Signature, ...] = ()
    if request.kept.payload == given.payload and is_current(what, now):
        fresh = {one.key for one in given.signatures}
        held = tuple(one for one in request.kept.signatures if one.key not in fresh)
    whole = Signed(given.payload, (*held, *given.signatures))
    who = signature.verified(whole, known)
    if any(one.principal == request.asked.operator.object_id for one in who) and not request.asked.break_glass:
        message = "One of the signatures is the operator's own, and nobody approves a request of their own."
        raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="OwnLockboxRequest")
    enough = len({one.principal for one in who}) >= threshold
    return approval, msgspec.structs.replace(request.kept, payload=whole.payload, signatures=whole.signatures), enough


def required(what: Wanted, now: float) -> Fault:
    """Return the 400 for who approves without having signed: what to sign, and how."""
    _, threshold = signers(what.request, what.protection)
    message = (
        f"An approval is {'a signature' if threshold == 1 else f'{threshold} signatures'} over 'payload', by keys that the account's statement "
        f"names. `stockade lockbox approve {what.request.name}` and the console make one; send 'payload' and 'signatures' with the status. "
        "Denying takes no signature."
    )
    return Fault(
        FaultKind.INVALID,
        message,
        code=REQUIRED,
        target="signatures",
        details={"additionalInfo": to_sign(what, now)},
    )


def to_sign(what: Wanted, now: float) -> Json:
    """Return what somebody has to know to sign: the bytes, what they say, and by whom they have been signed."""
    known, threshold = signers(what.request, what.protection)
    made = payload(what, now)
    held = what.request.kept.signatures if made == what.request.kept.payload else ()
    return {
        "payload": strict.base64url(made),
        "decoded": msgspec.to_builtins(approvals.read(made)),
        "statement": what.protection.digest,
        "threshold": threshold,
        "signed": [one.key for one in held],
        "approvers": [one.id for one in known],
        "passkeys": [approvers.passkey(one) for one in known if one.passkey is not None],
    }


def _check(what: Wanted, approval: Approval, now: float) -> None:
    request, asked, course = what.request, what.request.asked, what.request.course
    members: Sequence[tuple[str, object, object]] = (
        ("type", approval.type, BREAK_GLASS if asked.break_glass else APPROVAL),
        ("request", approval.request, request.name),
        ("account", approval.account, asked.account.lower()),
        ("statement", approval.statement, what.protection.digest),
        ("operator", approval.operator, asked.operator),
        ("purpose", approval.purpose, asked.reason),
        ("case", approval.case, asked.case),
        ("nonce", approval.nonce, what.nonce),
    )
    for name, found, expected in members:
        if found != expected:
            raise _differs(what, now, name)
    if not set(approval.scope) <= set(asked.scope):
        raise _differs(what, now, "scope")
    if approval.duration_s > course.duration_s:
        raise _differs(what, now, "duration_s")
    if approval.not_before > now + EARLY_S or not now < approval.not_after <= course.lapses_at + course.duration_s:
        raise _differs(what, now, "not_before" if approval.not_before > now + EARLY_S else "not_after")


def _differs(what: Wanted, now: float, name: str) -> Fault:
    message = f"What was signed is not what was asked for: '{name}' differs. Sign what 'payload' holds here; it may only be narrower."
    return Fault(
        FaultKind.INVALID,
        message,
        code="ApprovalDiffers",
        target=f"payload.{name}",
        details={"additionalInfo": to_sign(what, now)},
    )
