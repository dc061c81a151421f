"""What a decision may depend on, and what a rule is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from stockade.kernel.control import Control
from stockade.kernel.operation import Operation
from stockade.kernel.principal import Credential
from stockade.kernel.verdict import Deny
from stockade.policy.snapshot import AccountPolicy, DeploymentPolicy, Snapshot
from stockade.policy.uris.found import FoundUri

Point: TypeAlias = Literal["head", "body"]
"""When a rule is asked: before the body is read, or after."""


@dataclass(slots=True)
class Facts:
    """Everything a decision may depend on, gathered before it is taken. `head` facts first; the rest is filled in for `body`."""

    now: float
    address: str
    """The client's address as worked out by the gateway, e.g. `203.0.113.7` or `2001:db8::1`."""
    account: AccountPolicy | None
    regional: bool
    """The request came by the regional endpoint: only a key names the account."""
    credential: Credential | None
    operation: Operation | None
    path: str
    method: str
    deployment: DeploymentPolicy | None = None
    private_endpoint: str | None = None
    """The private endpoint connection whose listener took the request, lower-case id; None on the public listener."""
    uris: tuple[FoundUri, ...] = ()
    """The URIs the request carries; gathered for accounts that restrict them."""
    calls_this_minute: int = 0
    deployment_calls_this_minute: int = 0
    seconds_to_next_minute: float = 60.0


class Rule(Protocol):
    """One check. Pure: no clock, no I/O."""

    NAME: str
    POINT: Point
    CONTROL: Control | None
    """Whose mode on the account decides what a refusal does; None: always enforced."""

    def decide(self, snapshot: Snapshot, facts: Facts) -> Deny | None: ...
