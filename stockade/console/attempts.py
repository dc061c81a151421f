"""How often somebody may fail to sign in. Bounded; a secret has more bits than anybody can try, so this is against noise and cost."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from threading import Lock
from typing import Final

from stockade.kernel.clock import Clock
from stockade.kernel.faults import Fault, FaultKind

TRIES: Final = 10
WINDOW_S: Final = 300.0
MAX_KEPT: Final = 4096
"""Networks remembered; the one that failed longest ago goes first."""


class Attempts:
    """Failures by the caller's address, an IPv6 caller's by its /64: above `TRIES` within `WINDOW_S` nothing is tried any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = Lock()

    def require(self, address: str) -> None:
        """Raise Fault(LIMIT) for an address that has failed too often."""
        now = self._clock.monotonic()
        with self._lock:
            began, count = self._failed.get(_network(address), (now, 0))
        if count >= TRIES and now - began < WINDOW_S:
            message = "Too many sign-ins have failed from this address. Try again in a few minutes."
            raise Fault(FaultKind.LIMIT, message, retry_after_s=began + WINDOW_S - now)

    def failed(self, address: str) -> None:
        """Count a failure."""
        now, network = self._clock.monotonic(), _network(address)
        with self._lock:
            began, count = self._failed.pop(network, (now, 0))
            self._failed[network] = (began, count + 1) if now - began < WINDOW_S else (now, 1)
            while len(self._failed) > MAX_KEPT:
                self._failed.popitem(last=False)


def _network(address: str) -> str:
    try:
        found = ip_address(address)
    except ValueError:
        return address[:64]
    return found.exploded if found.version == 4 else found.exploded[:19]
