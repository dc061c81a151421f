"""Grants: what a job goes on with when its starter has gone. Made and read by the broker alone, under a key that is nobody else's.

A grant is bound to account, job, data action, objects and time. It cannot be widened: whoever changes a byte has no grant any more.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.root import RootKey

PURPOSE: Final = "broker/job-grants/1"
LONGEST_S: Final = 7 * 86_400.0
MAX_PATHS: Final = 1000
_MAGIC: Final = b"stockade-grant\x01"
_TAG: Final = 32


class Grant(msgspec.Struct, frozen=True):
    """What a grant says. reads, writes: paths in full, or a kind's prefix that ends in `/*`."""

    account_id: str
    job: str
    data_action: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    expires_at: float
    starter: str
    """Who started the job: a principal's object id, or a key's slot."""
    statement: str = ""
    """The digest of the account's Lockbox statement when it was started."""

    def permits(self, path: str, access: str) -> bool:
        """Say whether the job may read or write an object. What it writes it may read back."""
        patterns = self.writes if access == "write" else (*self.reads, *self.writes)
        return any(covers(pattern, path) for pattern in patterns)


def covers(pattern: str, path: str) -> bool:
    """Say whether a scope's pattern takes in a path."""
    return path.startswith(pattern[:-1]) and len(path) >= len(pattern) if pattern.endswith("/*") else path == pattern


class Grants:
    """Makes and reads grants."""

    def __init__(self, keys: RootKey) -> None:
        self._key = keys.derive(PURPOSE)

    def make(self, grant: Grant) -> Secret:
        content = _MAGIC + msgspec.msgpack.encode(grant)
        return Secret(content + self._tag(content))

    def read(self, shown: Secret, account_id: str, now: float) -> Grant:
        """Return what a grant says; Fault(UNAUTHENTICATED) when it is none, has ended, or is another account's."""
        value = shown.reveal()
        content, tag = value[:-_TAG], value[-_TAG:]
        try:
            if not content.startswith(_MAGIC) or not hmac.compare_digest(self._tag(content), tag):
                raise ValueError
            grant = msgspec.msgpack.decode(content[len(_MAGIC) :], type=Grant)
            if grant.expires_at <= now or grant.account_id != account_id:
                raise ValueError
        except (ValueError, msgspec.MsgspecError) as failure:
            raise Fault(FaultKind.UNAUTHENTICATED, "The job's grant does not hold.") from failure
        return grant

    def _tag(self, content: bytes) -> bytes:
        return hmac.new(self._key.reveal(), content, sha256).digest()
