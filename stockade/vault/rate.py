"""How often a vault may be asked. Source: contracts, control-plane section 6.2 (429, some 4000 transactions in 10 seconds)."""

from __future__ import annotations

import threading
from typing import Final

from stockade.kernel.faults import Fault, FaultKind

WINDOW_S: Final = 10.0


class Rates:
    """Counts requests per vault in windows of ten seconds. Only vaults that exist are counted, so there is no more to remember than those."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}
        self._window = 0.0
        self._lock = threading.Lock()

    def count(self, vault_id: str, monotonic: float) -> None:
        """Count one request; Fault(LIMIT) above the limit."""
        with self._lock:
            if monotonic - self._window >= WINDOW_S:
                self._window = monotonic - monotonic % WINDOW_S
                self._counts.clear()
            seen = self._counts[vault_id] = self._counts.get(vault_id, 0) + 1
            left = self._window + WINDOW_S - monotonic
        if seen > self._limit:
            message = f"Request was not processed because too many requests were received: a vault takes {self._limit} in 10 seconds."
            raise Fault(FaultKind.LIMIT, message, retry_after_s=max(1.0, left))
