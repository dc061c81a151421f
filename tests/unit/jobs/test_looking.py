"""The state of jobs as operators see it, from a process that does none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stockade.cli.root import app
from stockade.jobs import durable as durable_module
from stockade.jobs.durable import Durable
from stockade.jobs.job import Run
from stockade.jobs.looking import Job, looking
from stockade.jobs.nodes import Nodes
from stockade.jobs.runner import Runner
from stockade.kernel.clock import SystemClock
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.database import Database
from tests.factories.jobs import workplace
from tests.unit.jobs.test_runner import Trial


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable_module, "POLL_S", 0.01)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


async def leave_behind(tmp_path: Path, database: Database) -> None:
    """Run four pieces: one done, one failed, one to be tried again, one that never ends."""
    seen: set[str] = set()
    all_seen = asyncio.Event()

    async def do(run: Run) -> None:
        async def counted() -> dict[str, int]:
            return {"lines": 3}

        await run.step("counted", counted)
        seen.add(run.piece)
        if len(seen) == 4:
            all_seen.set()
        match run.piece:
            case "failed":
                raise Fault(FaultKind.NOT_FOUND, "gone")
            case "waiting":
                raise Fault(FaultKind.UNAVAILABLE, "away", retry_after_s=200)
            case "running":
                await asyncio.Event().wait()

    durable, nodes = Durable(database, tmp_path, "n1"), Nodes(database, "n1")
    place = workplace(tmp_path, database, clock=SystemClock())
    kind = Trial(do, "done", "failed", "waiting", "running")
    runner = Runner(place, [kind], durable, nodes, lambda: 0)
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop))
    await asyncio.wait_for(all_seen.wait(), 15)
    await asyncio.sleep(0.2)
    stop.set()
    await task
    nodes.leave()
    await durable.close()


async def test_every_state_is_told_apart(tmp_path: Path, database: Database) -> None:
    now = SystemClock().now()
    if database.is_sqlite:
        with looking(database, tmp_path) as nothing:
            assert nothing is None
    await leave_behind(tmp_path, database)
    with looking(database, tmp_path) as found:
        assert found is not None
        jobs: dict[str, Job] = {job.id: job for job in found.jobs(now, ended=True, limit=10)}
        assert {name: job.state for name, job in jobs.items()} == {
            "trial/done": "done",
            "trial/failed": "failed",
            "trial/waiting": "waiting",
            "trial/running": "running",
        }
        assert {job.id for job in found.jobs(now, ended=False, limit=10)} == {"trial/waiting", "trial/running"}
        failed, waiting = jobs["trial/failed"], jobs["trial/waiting"]
        assert (failed.why, failed.progress, failed.node) == ("NotFound", "counted", "n1")
        assert (waiting.why, waiting.again_at is not None and waiting.again_at > now) == ("Unavailable", True)
        shown = found.job("trial/done", now)
        assert shown is not None
        assert [(step.name, step.answer) for step in shown.steps] == [("counted", {"lines": 3})]
        assert found.job("trial/none", now) is None


async def test_the_command_line_shows_them(
    tmp_path: Path, migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKADE_DATA_DIR", str(tmp_path))
    (tmp_path / "stockade.db").write_bytes(migrated_sqlite.read_bytes())  # noqa: ASYNC240
    assert run("list", "--format", "json") == []
    database = Database(f"sqlite:///{tmp_path / 'stockade.db'}")
    await leave_behind(tmp_path, database)
    database.close()
    assert {job["id"] for job in run("list", "--format", "json")} == {"trial/waiting", "trial/running"}
    assert run("show", "trial/failed", "--format", "json")["why"] == "NotFound"
    table = CliRunner().invoke(app, ["jobs", "show", "trial/waiting"]).output
    assert "waiting" in table
    assert "counted" in table
    assert isinstance(CliRunner().invoke(app, ["jobs", "show", "trial/none"]).exception, Fault)


def run(*arguments: str) -> Any:
    done = CliRunner().invoke(app, ["jobs", *arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)
