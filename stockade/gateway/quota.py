"""What an account and a deployment have used of their calls a minute: told to the rule, and counted once it has let a call pass."""

from __future__ import annotations

from stockade.gateway.counters import RateCounters
from stockade.policy.facts import Facts
from stockade.services.service import Call


class Quota:
    """Reads and moves the shared counters for one call."""

    def __init__(self, counters: RateCounters) -> None:
        self._counters = counters

    def tell(self, facts: Facts, call: Call) -> None:
        """Put into the facts what the quota rule asks for."""
        minute, second = divmod(call.now, 60)
        facts.deployment = call.deployment
        facts.seconds_to_next_minute = 60 - second
        if call.account.calls_per_minute is not None:
            facts.calls_this_minute = self._counters.used(call.account.ordinal, int(minute))
        if call.deployment is not None and call.deployment.calls_per_minute is not None:
            facts.deployment_calls_this_minute = self._counters.used(call.deployment.ordinal, int(minute))

    def count(self, call: Call) -> None:
        """Count an admitted call."""
        minute = int(call.now // 60)
        if call.account.calls_per_minute is not None:
            self._counters.count(call.account.ordinal, minute)
        if call.deployment is not None and call.deployment.calls_per_minute is not None:
            self._counters.count(call.deployment.ordinal, minute)
