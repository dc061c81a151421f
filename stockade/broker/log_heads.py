"""Tree heads of the audit log, signed with a key that signs nothing else, and only if each continues the one before.

Whoever has the disk and may ask the broker can have a log signed that goes on, and never one that has been rewritten or shortened: the broker
remembers the last head of each log (`floors.py`), and before a signature is given away it is on disk that there is one. A log's first head is on
record, so that a second first one shows; of the others there is none, because the record would be what the next head is signed for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockade.audit import tree
from stockade.audit.checkpoint import Head, HeadKey, origin_of, sign_note
from stockade.audit.store import check_name
from stockade.broker.floors import Floors, HeadFloor
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.root import RootKey

PURPOSE: Final = "broker/tree-heads/1"
MAX_SIZE: Final = 2**62
AHEAD_S: Final = 60.0
"""How far a head's time may be ahead of the broker's own."""


class TreeHeads:
    """Signs heads. Safe to call from several threads.

    tenant: the directory's id; Fault(UNAVAILABLE) before there is one. begun: told of a log that is signed for the first time, and its size.
    """

    def __init__(
        self, keys: RootKey, floors: Floors, tenant: Callable[[], str], begun: Callable[[str, int], None]
    ) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(keys.derive(PURPOSE).reveal())
        self.public = HeadKey(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        self._floors, self._tenant, self._begun = floors, tenant, begun
        self._lock = Lock()
        """Between looking at the last head and having noted the next one, nobody else signs."""

    def sign(self, log: str, size: int, root: bytes, time: float, consistency: Sequence[bytes]) -> bytes:
        """Do what `LogSigner.sign_tree_head` promises."""
        check_name(log)
        if not 0 < size <= MAX_SIZE or len(root) != tree.HASH:
            raise Fault(FaultKind.INVALID, "A tree head has a size above 0 and a root of 32 bytes.")
        if len(consistency) > tree.MAX_PATH or any(len(value) != tree.HASH for value in consistency):
            raise Fault(FaultKind.INVALID, "A consistency proof is at most 64 hashes of 32 bytes.")
        tenant_id, now = self._tenant(), self._floors.now()
        if not time <= now + AHEAD_S:
            raise Fault(FaultKind.INVALID, "The tree head's time has not come yet.")
        with self._lock:
            last = self._floors.head(log)
            if last is not None:
                _check_continues(log, last, size, root, consistency)
            if last is None:
                self._begun(log, size)
            if last is None or size != last.size:
                try:
                    self._floors.set_head(log, HeadFloor(size, root))
                except OSError as failure:
                    message = "It cannot be written down what is signed, so nothing is."
                    raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5) from failure
            return sign_note(Head(origin_of(tenant_id, log), size, root, max(time, now)), self.public, self._key.sign)


def _check_continues(log: str, last: HeadFloor, size: int, root: bytes, consistency: Sequence[bytes]) -> None:
    details = {"size": last.size}
    if size < last.size:
        message = f"The audit log {log} was signed with {last.size} records and is not signed with {size}."
        raise Fault(FaultKind.CONFLICT, message, details=details)
    if not tree.continues(last.size, size, last.root, root, consistency):
        message = f"It is not proven that the audit log {log} at {size} records continues the one of {last.size} that was signed."
        raise Fault(FaultKind.CONFLICT, message, details=details)
