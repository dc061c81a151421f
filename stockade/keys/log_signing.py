"""What the key broker does for the audit log; a part of `Broker`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class LogSigner(Protocol):
    """Signs tree heads, with a key that signs nothing else."""

    def sign_tree_head(self, log: str, size: int, root: bytes, time: float, consistency: Sequence[bytes]) -> bytes:
        """Return a signed tree head, in the form of `audit/checkpoint.py`; Fault(CONFLICT) unless it continues the last one signed.

        consistency: proves it against the head of this log that the broker signed last; [] for the first, and for one it has signed already.
        A conflict's details name the last one's `size`. time: not ahead of the broker's own, which never goes back and is what is signed.
        """
        ...

    def tree_head_key(self) -> bytes:
        """Return the public key (Ed25519, 32 bytes) that tree heads verify with."""
        ...
