"""What a decision can be. There is no third outcome, and neither can be mistaken for a truth value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from stockade.kernel.faults import Fault


@dataclass(frozen=True, slots=True)
class Allow:
    """Every rule let the request pass."""

    reported: tuple[Deny, ...] = ()
    """What the account's controls in `report` would have refused."""

    def __bool__(self) -> NoReturn:
        raise TypeError("match a Verdict, do not test its truth")


@dataclass(frozen=True, slots=True)
class Deny:
    """One rule refused, and this is which and why."""

    rule: str
    fault: Fault
    because: Mapping[str, object] = field(default_factory=dict)
    """What an explanation shows: addresses, ids, actions. Never a secret, never a body."""
    reported: tuple[Deny, ...] = ()
    """What controls in `report` would have refused before this one did."""

    def __bool__(self) -> NoReturn:
        raise TypeError("match a Verdict, do not test its truth")


Verdict: TypeAlias = Allow | Deny
