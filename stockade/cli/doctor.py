"""`stockade doctor`: whether names, listeners, certificates and engines fit together, and what has to change when they do not."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from stockade.cli import diagnosis, outcome, resolution
from stockade.cli.account import OutputFormat
from stockade.cli.arm import connect
from stockade.cli.context import DataDir, out, running_settings
from stockade.cli.diagnosis import Diagnosis, Finding
from stockade.kernel.clock import SimulatedClock, clock_of, iso
from stockade.serve import private_states, running
from stockade.settings import Settings

_MARKS = {"ok": ("ok   ", "green"), "note": ("note ", "yellow"), "wrong": ("WRONG", "bold red")}


def doctor(
    account: Annotated[
        str, typer.Argument(help="An AI account: its name or ARM id. [default: all of them]", show_default=False)
    ] = "",
    server: Annotated[
        str,
        typer.Option(
            "--server", help="Ask this name server, as callers do who use it: IP or IP:PORT.", show_default=False
        ),
    ] = "",
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Resolve accounts' names as callers would, connect, and say what is wrong and what DNS has to change.

    Ends with 1 when something is wrong.
    """
    from stockade.cli.engine_exposure import engines
    from stockade.cli.key_custody import custody

    if server:
        try:
            resolution.name_server(server)
        except ValueError as failure:
            raise typer.BadParameter(str(failure), param_hint="--server") from failure
    settings = running_settings()
    state = running.status(settings)
    if state is not None and state.get("sealed"):
        out.print("The platform is sealed and answers nobody: stockade unseal", style="bold")
        raise typer.Exit(outcome.FAILED)
    arm = connect(settings)
    chosen = [arm.account(account)] if account else arm.accounts()
    states = private_states.read(settings)
    asked = Diagnosis(settings, server, states or ())
    accounts = {
        one.name: asked.account(diagnosis.subject(arm.call("GET", one.id), states))
        for one in chosen[: diagnosis.MAX_ACCOUNTS]
    }
    behind, keys = engines(settings), custody(settings)
    time = _time(settings)
    everything = [*(finding for found in accounts.values() for finding in found), *behind, *keys]
    healthy = all(finding.level != "wrong" for finding in everything)
    if form == "json":
        told = {
            "healthy": healthy,
            "accounts": {name: [asdict(one) for one in found] for name, found in accounts.items()},
            "engines": [asdict(one) for one in behind],
            "keys": [asdict(one) for one in keys],
            "time": [asdict(one) for one in time],
        }
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        for name, found in accounts.items():
            _print(name, found)
        _print("Engines", behind)
        _print("Keys", keys)
        _print("Time", time)
        out.print("Nothing is wrong." if healthy else "Something is wrong: see the lines marked WRONG.", style="bold")
    if not healthy:
        raise typer.Exit(outcome.FAILED)


def _time(settings: Settings) -> list[Finding]:
    clock = clock_of(settings.data_dir)
    if not isinstance(clock, SimulatedClock):
        return []
    message = (
        f"simulated: {iso(clock.now())[:19]}Z, {clock.ahead_s / 86_400:.1f} days ahead. This is no platform to rely on."
    )
    return [Finding("clock", "note", message)]


def _print(title: str, found: Sequence[Finding]) -> None:
    if not found:
        return
    out.print(Text(title, style="bold"))
    for finding in found:
        mark, style = _MARKS[finding.level]
        out.print(Text.assemble("  ", (mark, style), f"  {finding.check}: {finding.message}"))
        for line in finding.advice:
            out.print(Text(f"           {line}"))
