"""What a kind of work is.

`due` is asked from time to time which pieces of work there are to do; each becomes one durable run under the name `{name}/{piece}`, which is
done once, however often it is named and whoever is killed meanwhile. What a run has to remember it does in steps (`Run.step`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, TypeVar, runtime_checkable

from stockade.audit.log import AuditSink
from stockade.content.item import AccountContent
from stockade.content.job_grants import JobGrants
from stockade.kernel.clock import Clock
from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import FaultKind
from stockade.keys.broker import Broker
from stockade.policy.snapshot import Snapshot
from stockade.settings import Settings
from stockade.storage.database import Database

T = TypeVar("T")

AGAIN: Final = frozenset(
    {FaultKind.UNAVAILABLE, FaultKind.LIMIT, FaultKind.UPSTREAM_FAILED, FaultKind.UPSTREAM_TIMEOUT}
)
"""Kinds of Fault that may pass, so that what raised them is done again later; everything else ends a piece as failed."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """What work may use.

    snapshot:     returns the policy in force; Fault(UNAVAILABLE) when it cannot be read.
    open_content: opens what an account keeps, from account id, evidence, data action and who asks.
    grants:       what jobs that callers have started go on with.
    """

    settings: Settings
    clock: Clock
    database: Database
    snapshot: Callable[[], Snapshot]
    broker: Broker
    audit: AuditSink
    open_content: Callable[[str, Evidence, str, str], AccountContent]
    grants: JobGrants


class Run(Protocol):
    """One run of a piece of work."""

    piece: str

    async def step(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        """Do something and remember its result (JSON). After a kill the run begins anew, and steps that had ended answer what they did then."""
        ...


@runtime_checkable
class Work(Protocol):
    """A kind of work. Built once per process."""

    name: ClassVar[str]
    every_s: ClassVar[float]
    """How often `due` is asked; also whenever policy changes, where `on_change`."""
    on_change: ClassVar[bool]

    def due(self, place: Workplace) -> Iterable[str]:
        """Return the pieces of work that are to be done now. Cheap, called in a thread; what has been done is not named again."""
        ...

    async def do(self, place: Workplace, run: Run) -> None:
        """Do one piece. Raise Fault to have it tried again later (UNAVAILABLE, LIMIT, UPSTREAM_*); anything else ends it as failed."""
        ...
