"""`stockade clock`: what time it is on the platform, and moving it where that was allowed when the data directory was made.

It works on the data directory and not through the server, so that time can be set back even when every credential has ended in the future.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Annotated, Final

import typer

from stockade.audit.spool import Spool
from stockade.cli.account import OutputFormat
from stockade.cli.context import DataDir, err, out, read_settings
from stockade.kernel.clock import SimulatedClock, SystemClock, clock_of, iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord
from stockade.settings import Settings
from stockade.storage.generation import GENERATION_FILE, GenerationCell

app = typer.Typer(
    help="The platform's time; it can be moved where `stockade up --simulation` made the data directory.",
    no_args_is_help=True,
)

UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_PERIOD = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?")


@app.command("show")
def show(form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Say what time it is on the platform, and how far that is ahead."""
    _print(clock_of(read_settings().data_dir), form)


@app.command("advance")
def advance(
    period: Annotated[str, typer.Argument(help="How far: 4d, 3h, 90m, 1d12h.", show_default=False)],
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Move time ahead, for every process at once. What has ended by then has ended."""
    seconds = seconds_of(period)
    settings = read_settings()
    clock = _movable(settings)
    try:
        _move(settings, clock, f"advance {period}", lambda: clock.advance(seconds))
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, f"It cannot: {failure}.") from failure
    _print(clock, form)


@app.command("reset")
def reset(form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Go back to the machine's time, the only way back there is. What was dated later keeps its date."""
    settings = read_settings()
    clock = _movable(settings)
    _move(settings, clock, "reset", clock.reset)
    _print(clock, form)


def seconds_of(period: str) -> float:
    """Return a period in seconds: 4d, 3h, 90m, 1d12h; typer.BadParameter."""
    found = _PERIOD.fullmatch(period.strip().lower())
    numbers = found.groups() if found is not None else ()
    if not any(numbers):
        raise typer.BadParameter(f"'{period}' is no period: say 4d, 3h, 90m or 1d12h.")
    return sum(int(number) * size for number, size in zip(numbers, UNITS.values(), strict=True) if number)


def _movable(settings: Settings) -> SimulatedClock:
    clock = clock_of(settings.data_dir)
    if not isinstance(clock, SimulatedClock):
        raise Fault(
            FaultKind.CONFLICT,
            f"The time of {settings.data_dir} cannot be moved: it was not made for rehearsals, and cannot be made so afterwards. "
            "Make another: stockade up --simulation --data-dir ANOTHER",
        )
    return clock


def _move(settings: Settings, clock: SimulatedClock, what: str, move: Callable[[], None]) -> None:
    """Move time, with a record before it; and have every process look again at what follows from it."""
    from stockade.storage.database import (
        Database,
    )  # only here: it is a quarter second, which other commands do not need

    audit = Spool(settings)
    record = AuditRecord(
        time=clock.now(),
        id=new_guid(),
        category="Audit",
        phase="intent",
        operation="Stockade.Platform/clock/write",
        resource=f"/providers/Stockade.Platform/clock ({what})",
        client="stockade clock",
        decision="allow",
        rule="whoever has the data directory",
    )
    audit.commit(record)  # taken in by the audit process, now or at the next start
    audit.close()
    move()
    database = Database(
        settings.database, clock=clock, published=GenerationCell(settings.run_dir / GENERATION_FILE).publish
    )
    try:
        with database.write():
            pass  # a new generation, and nothing in it
    except Fault:  # time has moved all the same; what is due is found with the next look
        err.print("The database cannot be reached; what is due now is done when it can.")
    finally:
        database.close()


def _print(clock: SystemClock | SimulatedClock, form: str) -> None:
    simulated = isinstance(clock, SimulatedClock)
    ahead = clock.ahead_s if isinstance(clock, SimulatedClock) else 0.0
    if form == "json":
        facts = {"time": iso(clock.now()), "simulated": simulated, "aheadSeconds": round(ahead)}
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    elif simulated:
        out.print(f"{iso(clock.now())[:19]}Z, simulated: {ahead / UNITS['d']:.2f} days ahead")
    else:
        out.print(f"{iso(clock.now())[:19]}Z, the machine's own time, which cannot be moved")
