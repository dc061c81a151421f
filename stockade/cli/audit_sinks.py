"""`stockade audit sinks` and `accept-rollback`: how records and tree heads get out, read from what the audit process has written on this machine."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from stockade.cli.account import OutputFormat
from stockade.cli.context import DataDir, moment, out, print_columns, running_settings
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Settings

if TYPE_CHECKING:  # what reads it takes time to import, which only these commands should pay for
    from stockade.audit.delivery import SinkState
    from stockade.audit.witnesses import WitnessState


def sinks(form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Show where records and tree heads are sent on to, how far each has got, and what is in the way."""
    from stockade.audit.witnesses import read_state

    settings = running_settings()
    found, witnesses = _states(settings), read_state(settings.delivery_dir)
    if form == "json":
        said: dict[str, Any] = {
            "sinks": [{**msgspec.to_builtins(one), "behind": one.behind} for one in found],
            **msgspec.to_builtins(witnesses),
        }
        sys.stdout.write(json.dumps(said, indent=2) + "\n")
        return
    if not found and not witnesses.witnesses:
        out.print("The settings name no further sink and no witness; the log and its copy are on this machine alone.")
        return
    rows = [_sink_row(one) for one in found] + [_witness_row(one) for one in witnesses.witnesses]
    print_columns(("NAME", "TYPE", "STATE", "SENT", "BEHIND", "LAST SUCCESS", ""), rows)
    for one in witnesses.contradictions:
        out.print(f"\nNOT HEALTHY: {one.message}", markup=False)


def accept_rollback(
    reason: Annotated[
        str, typer.Option("--reason", help="Why the log is another than witnesses know; it is put on record.")
    ],
    data_dir: DataDir = None,
) -> None:
    """Say that it is known why a log is shorter than what a witness has pinned, or another one (a restored backup, say)."""
    from stockade.audit.witnesses import accept

    settings = running_settings()
    if not reason.strip():
        raise Fault(FaultKind.INVALID, "Say why with --reason.")
    found = accept(settings.delivery_dir, reason.strip(), moment(settings).timestamp())
    if not found:
        raise Fault(FaultKind.NOT_FOUND, "No witness contradicts the logs of this machine.")
    for one in found:
        out.print(f"Accepted: {one.message}", markup=False)
    out.print("The audit process puts this on record in the log it is about, and is healthy again then.")


def _states(settings: Settings) -> list[SinkState]:
    from stockade.audit.delivery import states
    from stockade.audit.store import Logs

    logs, found = Logs(settings.audit_dir), states(settings.delivery_dir, settings.audit.sinks)
    for state in found:
        for name, place in state.logs.items():
            place.size = max(place.size, logs.reader(name).size)
    return found


def _sink_row(state: SinkState) -> tuple[str, ...]:
    missed = sum(place.missed for place in state.logs.values())
    notes = [state.last_error] if state.failing_since else []
    notes += [f"{missed} records were removed before it got them"] if missed else []
    what = _standing(state.failing_since, state.last_success)
    kind = f"{state.type} (everything)" if state.everything else state.type
    sent = (str(state.delivered), str(state.behind), _time(state.last_success))
    return (state.name, kind, what, *sent, "; ".join(notes))


def _witness_row(state: WitnessState) -> tuple[str, ...]:
    pinned = str(sum(place.size for place in state.logs.values()))
    what = _standing(state.failing_since, state.last_success)
    why = state.last_error if state.failing_since else ""
    return (state.address, "witness", what, pinned, "", _time(state.last_success), why)


def _standing(failing_since: float, last_success: float) -> str:
    if failing_since:
        return f"failing since {_time(failing_since)}"
    return "ok" if last_success else "nothing sent yet"


def _time(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d %H:%M:%S") if instant else "never"
