"""Work without a runner: a `Run` that remembers in memory, and a `Workplace` to do it in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from stockade.audit.spool import Spool
from stockade.content.item import AccountContent
from stockade.content.job_grants import Grantor, JobGrants
from stockade.jobs.job import Workplace
from stockade.kernel.clock import Clock, ManualClock
from stockade.kernel.evidence import Evidence
from stockade.kernel.secret import Secret
from stockade.keys.broker import Broker, JobScope
from stockade.policy.snapshot import Snapshot
from stockade.settings import Settings
from stockade.storage.database import Database
from tests.factories.content import KeptInMemory

T = TypeVar("T")


@dataclass
class InProcessRun:
    """One run of a piece. memory: what steps answered; hand it to another run to see what happens after a kill.

    done: the names of the steps that this run really did. kill_at: the step before which it dies (KilledAt).
    """

    piece: str
    memory: dict[str, Any] = field(default_factory=dict)
    kill_at: str = ""
    done: list[str] = field(default_factory=list)

    async def step(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        if name not in self.memory:
            if name == self.kill_at:
                raise KilledAt(name)
            result = await do()
            self.memory[name] = json.loads(json.dumps(result))  # what is remembered is JSON
            self.done.append(name)
        return cast("T", self.memory[name])

    def again(self) -> InProcessRun:
        """Return the run that follows when this one was killed."""
        return InProcessRun(self.piece, self.memory)


class KilledAt(BaseException):
    """Stands for the end of the process: nothing may catch it."""


def workplace(
    tmp_path: Path,
    database: Database,
    *,
    snapshot: Callable[[], Snapshot] = Snapshot,
    clock: Clock | None = None,
    broker: Broker | None = None,
    settings: Settings | None = None,
    open_content: Callable[[str, Evidence, str, str], AccountContent] | None = None,
    grantor: Grantor | None = None,
) -> Workplace:
    """Return a place to work in. broker: leave it out for work that asks it nothing. open_content: `KeptInMemory.of`, for example."""
    configured, time = settings or Settings(data_dir=tmp_path), clock or ManualClock()
    audit = Spool(Settings(data_dir=tmp_path))
    grants = JobGrants(database, grantor or GrantsEverything(), time)
    opened = open_content or KeptInMemory(time.now).of
    return Workplace(configured, time, database, snapshot, cast("Broker", broker), audit, opened, grants)


class GrantsEverything:
    """A key broker that grants whatever is asked, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, JobScope, str, Evidence]] = []

    def job_grant(self, account_id: str, job: str, scope: JobScope, data_action: str, evidence: Evidence) -> Secret:
        self.asked.append((account_id, job, scope, data_action, evidence))
        return Secret(f"grant of {job}".encode())

    def purpose_key(self, purpose: str) -> Secret:
        return Secret(hashlib.sha256(purpose.encode()).digest())
