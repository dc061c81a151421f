"""Challenges and grants of Lockbox: each a MAC under a key that was made with this process and is nowhere else.

So whoever puts the database, the disk, the floors and the clock back to yesterday has nothing from yesterday that counts.
"""

from __future__ import annotations

import base64
import hmac
import os
from hashlib import sha256
from typing import Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret

_TAG: Final = 32
_SALT: Final = 8
_GRANT: Final = b"stockade-operator-grant\x01"
_NONCE: Final = b"stockade-lockbox-nonce\x01"


class OperatorGranted(msgspec.Struct, frozen=True):
    """What a grant says, for as long as its request lasts. approval: the digest of what was signed."""

    request: str
    account: str
    statement: str
    approval: str
    scope: tuple[str, ...]
    operator: str
    tenant: str
    break_glass: bool


class LockboxTokens:
    """Makes and reads them."""

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def challenge(self, request: str, account: str, statement: str, created_at: float) -> str:
        """Return the nonce of a request for an account under a statement."""
        head = int(created_at).to_bytes(8, "big") + os.urandom(_SALT)
        return _text(head + self._tag(_NONCE, msgspec.msgpack.encode((request, account, statement)) + head))

    def created_at(self, nonce: str, request: str, account: str, statement: str) -> float:
        """Return when a nonce was made; Fault(CONFLICT) when it is no nonce of this process's for that request, account and statement."""
        try:
            value = base64.urlsafe_b64decode(nonce + "=" * (-len(nonce) % 4))
        except ValueError:
            value = b""
        head, tag = value[:-_TAG], value[-_TAG:]
        wanted = self._tag(_NONCE, msgspec.msgpack.encode((request, account, statement)) + head)
        if len(head) != 8 + _SALT or _text(value) != nonce or not hmac.compare_digest(wanted, tag):
            message = (
                "What was signed has a challenge that does not hold: it is another request's or statement's, or from before the key broker "
                "was started. Open the request anew, and have it signed again."
            )
            raise Fault(FaultKind.CONFLICT, message, code="ChallengeOver")
        return float(int.from_bytes(head[:8], "big"))

    def grant(self, granted: OperatorGranted) -> Secret:
        content = msgspec.msgpack.encode(granted)
        return Secret(content + self._tag(_GRANT, content))

    def read(self, shown: Secret) -> OperatorGranted:
        """Return what a grant says; Fault(UNAUTHENTICATED) when it is none of this process's. Whether it has ended is the caller's to ask."""
        value = shown.reveal()
        content, tag = value[:-_TAG], value[-_TAG:]
        try:
            if not hmac.compare_digest(self._tag(_GRANT, content), tag):
                raise ValueError
            return msgspec.msgpack.decode(content, type=OperatorGranted)
        except (ValueError, msgspec.MsgspecError) as failure:
            raise Fault(FaultKind.UNAUTHENTICATED, "The operator's grant does not hold.") from failure

    def _tag(self, kind: bytes, content: bytes) -> bytes:
        return hmac.new(self._key, kind + content, sha256).digest()


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
