"""Work without a runner: a `Run` that remembers in memory, and a `Workplace` to do it in."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from stockade.audit.log import AuditLog
from stockade.jobs.job import Workplace
from stockade.kernel.clock import Clock, ManualClock
from stockade.keys.broker import Broker
from stockade.policy.snapshot import Snapshot
from stockade.settings import Settings
from stockade.storage.database import Database

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
) -> Workplace:
    """Return a place to work in. broker: leave it out for work that asks it nothing."""
    configured = settings or Settings(data_dir=tmp_path)
    audit = AuditLog(tmp_path / "audit", rotate_bytes=1 << 20, keep_files=2)
    return Workplace(configured, clock or ManualClock(), database, snapshot, cast("Broker", broker), audit)
