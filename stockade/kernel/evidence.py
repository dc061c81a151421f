"""What somebody shows the key broker to be given a key: not what another process says of them, but the thing itself.

The broker verifies it again, against its own snapshot: whoever has taken over a worker has the credentials that pass through it while they
do, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from stockade.kernel.secret import Secret


@dataclass(frozen=True, slots=True)
class CallerKey:
    """A subscription key as it was presented."""

    key: Secret


@dataclass(frozen=True, slots=True)
class CallerToken:
    """A bearer value as it was presented: an access token, or a ten-minute token that stands for a key. Without `aad#` and resource id."""

    token: Secret


@dataclass(frozen=True, slots=True)
class JobGrant:
    """What the broker gave a job when it was started, on the evidence of whoever started it: bound to account, job, objects and time."""

    grant: Secret


@dataclass(frozen=True, slots=True)
class ArmToken:
    """An access token as it was presented to ARM. It is worth what its principal may do there, and nothing at accounts and vaults."""

    token: Secret


@dataclass(frozen=True, slots=True)
class OperatorGrant:
    """What the broker made of a customer's signed approval (Lockbox), and the operator's own token for ARM, which it was made for."""

    grant: Secret
    token: Secret


Evidence: TypeAlias = CallerKey | CallerToken | JobGrant | ArmToken | OperatorGrant
