"""`stockade jobs`: what goes on without a caller, read from the state of jobs on this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from stockade.cli.account import OutputFormat
from stockade.cli.context import DataDir, print_columns, running_settings
from stockade.kernel.clock import clock_of
from stockade.kernel.faults import Fault, FaultKind

if TYPE_CHECKING:  # what reads it takes a quarter of a second to import, which only these commands should pay for
    from stockade.jobs.looking import Job, Looking

T = TypeVar("T")

app = typer.Typer(
    help="Work that goes on without a caller: batches, re-wrapping, retention, notices.", no_args_is_help=True
)

MAX_LISTED = 1000


@app.command("list")
def list_jobs(
    ended: Annotated[
        bool, typer.Option("--all", "-a", help="Also those that have ended, of the last seven days.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MAX_LISTED, help="How many of the newest.")] = 50,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """List jobs that are running or wait to be tried again, the newest last."""
    found = _look(lambda looking, now: looking.jobs(now, ended=ended, limit=limit)) or []
    if form == "json":
        sys.stdout.write(json.dumps([dataclasses.asdict(one) for one in found], indent=2) + "\n")
        return
    rows = [(one.id, one.state, _time(one.began_at), one.progress, _why(one)) for one in found]
    print_columns(("JOB", "STATE", "BEGAN", "PROGRESS", ""), rows)


@app.command("show")
def show(
    job: Annotated[str, typer.Argument(help="Its name, as `stockade jobs list` prints it.", show_default=False)],
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Show one job: how it stands, and what is remembered of it."""
    found = _look(lambda looking, now: looking.job(job, now))
    if found is None:
        raise Fault(FaultKind.NOT_FOUND, f"There is no job '{job[:200]}'.")
    if form == "json":
        sys.stdout.write(json.dumps(dataclasses.asdict(found), indent=2) + "\n")
        return
    said = [
        ("job", found.id),
        ("state", found.state),
        ("why", _why(found)),
        ("node", found.node),
        ("began", _time(found.began_at)),
        ("changed", _time(found.changed_at)),
        ("taken up anew", str(max(found.runs - 1, 0))),
        *((f"at {_time(step.ended_at)}", step.name) for step in found.steps),
    ]
    print_columns(("", ""), [(name, value) for name, value in said if value])


def _look(read: Callable[[Looking, float], T]) -> T | None:
    """Return what is read; None when no job has ever been begun."""
    from stockade.jobs.looking import looking
    from stockade.storage.database import Database  # a quarter second of import that no other command needs

    configured = running_settings()
    database = Database(configured.database)
    try:
        with looking(database, configured.data_dir) as found:
            return read(found, clock_of(configured.data_dir).now()) if found is not None else None
    finally:
        database.close()


def _why(job: Job) -> str:
    again = f", again at {_time(job.again_at)}" if job.again_at is not None else ""
    return job.why + again


def _time(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d %H:%M:%S")
