"""What was found in one reply: which host, where, how often. Never a URI: it may hold the secret."""

from __future__ import annotations

from typing import Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny

RULE: Final = "output"
MAX_FINDINGS: Final = 20
"""Kinds of finding kept apart; further ones are counted together, since a model chooses how many there are."""
MAX_NAMED: Final = 100
MAX_REFUSED: Final = 10_000
"""Refused URIs in one reply. Each costs more than plain text does, so a reply of nothing else is not looked at to its end."""
_UNNAMED = {"unchecked": "What could not be looked at", "more": "What else was found"}


class Findings:
    """Counts them. enforced: they were redacted, not only seen."""

    def __init__(self, *, enforced: bool) -> None:
        self._enforced = enforced
        self._counts: dict[tuple[str, str, str], int] = {}
        self._more = self._total = 0

    def note(self, host: str, where: str) -> None:
        """Count a refused URI; host "": it cannot be read. where: `choices[0].delta.content`. Fault(UPSTREAM_FAILED) for one too many."""
        self._total += 1
        if self._total > MAX_REFUSED:
            raise Fault(
                FaultKind.UPSTREAM_FAILED,
                "The model server's reply could not be checked: it has too many refused URIs.",
            )
        self._count((host[:MAX_NAMED], where[:MAX_NAMED], "host" if host else "unreadable"))

    def unchecked(self) -> None:
        """Note that the reply could not be looked at to its end."""
        self._count(("", "", "unchecked"))

    def _count(self, key: tuple[str, str, str]) -> None:
        if key in self._counts:
            self._counts[key] += 1
        elif len(self._counts) < MAX_FINDINGS:
            self._counts[key] = 1
        else:
            self._more += 1

    def told(self) -> tuple[Deny, ...]:
        """Return one refusal for each kind of finding, for the record."""
        action = "redacted" if self._enforced else "passed"
        counts = dict(self._counts)
        if self._more:
            counts["", "", "more"] = self._more
        found = []
        for (host, where, why), count in counts.items():
            named = f"The hostname '{host}'" if host else _UNNAMED.get(why, "What cannot be read as a URI,")
            message = f"{named} in the reply is not in the allowed FQDN list for this resource."
            fault = Fault(FaultKind.OUTBOUND_DENIED, message, target=where or None)
            found.append(Deny(RULE, fault, {"host": host, "path": where, "why": why, "count": count, "action": action}))
        return tuple(found)
