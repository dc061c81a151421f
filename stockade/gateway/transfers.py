"""How many files go up and down at a time: each holds some megabytes of memory while it does, however slow its client is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from stockade.kernel.faults import Fault, FaultKind

AT_ONCE: Final = 32
"""In one worker."""
OF_ONE_ACCOUNT: Final = 16


class Transfers:
    """Those of one worker."""

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()

    @contextmanager
    def one(self, account_id: str) -> Iterator[None]:
        """Count one while the block runs; Fault(LIMIT) when there are too many."""
        if self._of[account_id] >= OF_ONE_ACCOUNT or self._of.total() >= AT_ONCE:
            message = f"Too many files are being sent or read at a time; at most {OF_ONE_ACCOUNT} of one resource."
            raise Fault(FaultKind.LIMIT, message, retry_after_s=1)
        self._of[account_id] += 1
        try:
            yield
        finally:
            self._of[account_id] -= 1
            if not self._of[account_id]:
                del self._of[account_id]
