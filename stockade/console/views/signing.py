"""What an authenticator answered, as a signature of one of a statement's approvers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox.signature import Signature, signed_by_passkey

MAX_ASSERTION: Final = 8192


@dataclass(frozen=True, slots=True)
class Key:
    """A passkey of an approver, as far as a browser has to know it. id: the approver's in the statement."""

    id: str
    credential_id: str
    relying_party: str
    principal: str


def signature_of(sent: str, keys: Iterable[Key]) -> Signature:
    """Return a signature from what the page's script filled in; Fault(INVALID) for what no known passkey can have made.

    Whether it verifies is the broker's to say: it does not take this process's word.
    """
    if not sent:
        message = "Nothing was signed. It takes a passkey of one of the approvers, and a browser that runs this page's script."
        raise Fault(FaultKind.INVALID, message)
    try:
        answer = msgspec.json.decode(sent[: MAX_ASSERTION + 1])
        signed = signed_by_passkey("", answer)
    except (msgspec.MsgspecError, ValueError, RecursionError) as failure:
        raise Fault(FaultKind.INVALID, "The browser's answer is not readable; try again.") from failure
    assert signed.assertion is not None
    name = signed.assertion.credential_id
    found = next((key for key in keys if key.credential_id == name), None)
    if found is None:
        raise Fault(FaultKind.INVALID, "That passkey is none of the approvers' in the statement in force.")
    return Signature(found.id, assertion=signed.assertion)
