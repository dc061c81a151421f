"""What is sent: checked, in Azure's spelling; Fault(INVALID) naming what is wrong."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import strict
from stockade.lockbox.signature import MAX_SIGNATURES, Signature, Signed
from stockade.management import outbox
from stockade.management.resource_type import Call
from stockade.management.shape import respelled, typed

MAX_TEXT: Final = 2000
MAX_CONTACTS: Final = 10


class Decision(msgspec.Struct):
    """The body of `updateApproval` and `review`; an older example of Azure's has `decision` for `status`."""

    status: str | None = None
    decision: str | None = None
    reason: str | None = None
    payload: str | None = None
    signatures: list[Any] | None = None


class Reason(msgspec.Struct):
    """The body of `cancel`, `complete` and `revoke`."""

    reason: str | None = None


class PolicyProperties(msgspec.Struct):
    """`properties` of a policy."""

    payload: str | None = None
    signatures: list[Any] | None = None
    contacts: list[str] | None = None


class Policy(msgspec.Struct):
    """The body of a policy's PUT and DELETE."""

    properties: PolicyProperties | None = None


class AskedProperties(msgspec.Struct, rename="camel"):
    """`properties` of a request."""

    account: str | None = None
    scope: list[str] | None = None
    reason: str | None = None
    case: str | None = None
    duration_hours: float | str | None = None
    break_glass: bool | None = None


class Asking(msgspec.Struct):
    """A request as it is PUT."""

    properties: AskedProperties | None = None


def decision(call: Call) -> tuple[Literal["Approve", "Deny"], str, Signed]:
    """Return what was decided, why, and what was signed for it."""
    body = typed(respelled(call.body, Decision), Decision)
    said = [text.strip().lower() for text in (body.status, body.decision) if text]
    words: dict[str, Literal["Approve", "Deny"]] = {"approve": "Approve", "deny": "Deny"}
    if len(set(said)) != 1 or said[0] not in words:
        message = "'status' is Approve or Deny; 'decision' may say the same."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target="status")
    return words[said[0]], text(body.reason or "", "reason"), signed(body.payload, body.signatures)


def reason(call: Call) -> str:
    """Return why something was done."""
    return text(typed(respelled(call.body, Reason), Reason).reason or "", "reason")


def signed_body(call: Call) -> Signed:
    """Return what `breakGlass` was sent with."""
    body = typed(respelled(call.body, Decision), Decision)
    return signed(body.payload, body.signatures)


def signed(payload: str | None, signatures: list[Any] | None) -> Signed:
    """Return what was signed as it was sent; empty where nothing was."""
    if signatures is not None and len(signatures) > MAX_SIGNATURES:
        message = f"There are more than {MAX_SIGNATURES} signatures."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target="signatures")
    try:
        given = strict.from_base64url(payload or "")
        found = msgspec.convert(signatures or [], tuple[Signature, ...])
    except msgspec.ValidationError as failure:
        message = f"'signatures' is a list of {{key, jws}} or {{key, assertion}}: {failure}."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target="signatures") from failure
    except ValueError as failure:
        message = "'payload' is base64url without padding."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target="payload") from failure
    return Signed(given, found)


def contacts(given: list[str]) -> list[str]:
    """Return addresses of e-mail."""
    if len(given) > MAX_CONTACTS or not all(outbox.is_address(one) for one in given):
        message = f"'contacts' is a list of at most {MAX_CONTACTS} addresses of e-mail."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target="properties.contacts")
    return list(dict.fromkeys(given))


def text(value: str, target: str) -> str:
    """Return text that people are shown."""
    found = value.strip()
    if len(found) > MAX_TEXT or any(not (sign.isprintable() or sign in "\n\t") for sign in found):
        message = f"'{target}' is text of at most {MAX_TEXT} characters."
        raise Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=target)
    return found
