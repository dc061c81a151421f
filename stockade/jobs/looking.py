"""The state of jobs, read from outside the process that does them: for operators."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from dbos import DBOSClient
from dbos._serialization import DBOSPortableJSON

from stockade.jobs.durable import FILE, SCHEMA, WORKFLOW
from stockade.jobs.runner import PAUSE
from stockade.storage.database import Database

State: TypeAlias = Literal["running", "waiting", "done", "failed"]
_UNFINISHED: Final = ("PENDING", "ENQUEUED", "DELAYED")
_FAILED: Final = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is remembered of a job."""

    name: str
    ended_at: float
    answer: Any


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work that has been begun.

    state:    `waiting` until `again_at`, when it is tried again.
    why:      the kind of the failure that ended it, or for which it waits.
    progress: the last thing that it has done.
    """

    id: str
    state: State
    node: str
    began_at: float
    changed_at: float
    runs: int
    """How often its process had to take it up anew."""
    why: str = ""
    again_at: float | None = None
    progress: str = ""
    steps: tuple[Step, ...] = ()


class Looking:
    """Reads; changes nothing."""

    def __init__(self, client: DBOSClient) -> None:
        self._client = client

    def jobs(self, now: float, *, ended: bool, limit: int) -> list[Job]:
        """Return jobs that have not ended, or also those that have, the newest last."""
        statuses = None if ended else list(_UNFINISHED)
        found = self._client.list_workflows(
            status=statuses, name=WORKFLOW, limit=limit, sort_desc=True, load_input=False
        )
        return [self._job(one, now) for one in reversed(found)]

    def job(self, job_id: str, now: float) -> Job | None:
        """Return one job; None when there is none of that name."""
        found = self._client.list_workflows(workflow_ids=[job_id], load_input=False)
        return self._job(found[0], now) if found else None

    def _job(self, found: Any, now: float) -> Job:
        steps = tuple(_steps(self._client.list_workflow_steps(found.workflow_id)))
        did = [step for step in steps if step.name != PAUSE]
        state: State
        why, again_at = "", None
        if found.status in _UNFINISHED:
            state = "running"
            if steps and steps[-1].name == PAUSE and steps[-1].answer["until"] > now:
                state, why, again_at = "waiting", str(steps[-1].answer["why"]), float(steps[-1].answer["until"])
        elif found.status in _FAILED:
            state, why = "failed", found.status
        else:
            said = found.output if isinstance(found.output, dict) else {}
            state, why = ("failed" if said.get("ended") == "failed" else "done"), str(said.get("why", ""))
        return Job(
            id=found.workflow_id,
            state=state,
            node=found.executor_id or "",
            began_at=(found.created_at or 0) / 1000,
            changed_at=max([(found.updated_at or 0) / 1000, *(step.ended_at for step in steps)]),
            runs=found.recovery_attempts or 0,
            why=why,
            again_at=again_at,
            progress=did[-1].name if did else "",
            steps=steps,
        )


@contextlib.contextmanager
def looking(database: Database, data_dir: Path) -> Iterator[Looking | None]:
    """Look at the state of jobs while the block runs; None when there is none yet."""
    file = data_dir / FILE
    if database.is_sqlite and not file.exists():
        yield None
        return
    client = (
        DBOSClient(system_database_url=f"sqlite:///{file}", serializer=DBOSPortableJSON)
        if database.is_sqlite
        else DBOSClient(
            system_database_url=database.url,
            system_database_engine=database.engine,
            dbos_system_schema=SCHEMA,
            serializer=DBOSPortableJSON,
        )
    )
    try:
        yield Looking(client)
    finally:
        client.destroy()


def _steps(found: Any) -> Iterator[Step]:
    for step in found:
        output = step["output"]
        if isinstance(output, dict) and "result" in output:
            yield Step(step["function_name"], (step["completed_at_epoch_ms"] or 0) / 1000, output["result"])
