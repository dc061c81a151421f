"""`stockade audit`: what was decided and changed, read from the log on this machine."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import typer

from stockade.audit.mirror import FILE_NAME
from stockade.cli.account import OutputFormat
from stockade.cli.context import DataDir, out, print_columns, read_settings, running_settings
from stockade.kernel.faults import Fault, FaultKind

app = typer.Typer(help="The audit log.", no_args_is_help=True)

POLL_S = 0.3
WRITTEN_WITHIN_S = 2.0
"""Workers write their records a few times a second, so the newest may still be on its way."""
MAX_ID = 128


@app.command("tail")
def tail(
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=100_000, help="How many of the newest records.")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on with new ones until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The records as they are stored, one JSON object per line.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Print the newest records, oldest first."""
    path = read_settings().mirror_dir / FILE_NAME
    if not path.exists():
        raise Fault(FaultKind.NOT_FOUND, f"There is no audit log at {path} yet.")
    for line in records(path, lines, follow=follow):
        out.print(line.decode() if as_json else describe(line), markup=False)


@app.command("show")
def show(
    decision: Annotated[
        str, typer.Argument(help="What a reply's x-stockade-decision or apim-request-id says.", show_default=False)
    ],
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Show one decision: the rule that made it, the facts it was made on, and every record of the same request."""
    directory = read_settings().mirror_dir
    deadline = time.monotonic() + WRITTEN_WITHIN_S
    found = find(directory, decision)
    while not found and time.monotonic() < deadline:
        time.sleep(POLL_S)
        found = find(directory, decision)
    if not found:
        raise Fault(
            FaultKind.NOT_FOUND,
            f"No record of '{decision[:MAX_ID]}' in {directory}; old ones are dropped as the log rotates.",
        )
    if form == "json":
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    for number, record in enumerate(found):
        if number:
            out.print()
        print_columns(("", ""), explain(record))
    if any(record.get("category") == "RequestResponse" for record in found):
        out.print(f"\nEvery check, and what would have helped: stockade explain {found[0]['id']}", markup=False)


@app.command("hash")
def hashed(
    value: Annotated[str, typer.Argument(help="What is looked for, such as a host.", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Print what stands for a value in records: they hold no host out of a request's body, only its keyed hash.

    For whoever may ask the key broker on this machine.
    """
    from stockade.audit.hiding import PURPOSE, keyed_hash
    from stockade.keys.broker_client import BrokerClient

    settings = running_settings()
    broker = BrokerClient(settings.broker_socket)
    try:
        sys.stdout.write(keyed_hash(broker.purpose_key(PURPOSE), value) + "\n")
    finally:
        broker.close()


def find(directory: Path, decision: str) -> list[dict[str, Any]]:
    """Return the records with this id, oldest first, from the present file and the rotated ones."""
    wanted = decision.strip().lower()
    if not wanted or len(wanted) > MAX_ID:
        return []
    needle = wanted.encode()
    found = []
    for path in [*sorted(directory.glob("audit-*.jsonl")), directory / FILE_NAME]:
        try:
            file = path.open("rb")
        except FileNotFoundError:  # rotated, or dropped, between listing and opening
            continue
        with file:
            found += [_decoded(line) for line in file if needle in line]
    return [record for record in found if record.get("id") == wanted]


def explain(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a record says, in the order in which one asks: what was decided, why, about whom and what."""
    yield "Time", datetime.fromtimestamp(record["time"], UTC).isoformat(sep=" ", timespec="milliseconds")
    named = {
        "Decision": "decision",
        "Rule": "rule",
        "Reason": "reason",
        "Status": "status",
        "Outcome": "outcome",
        "Phase": "phase",
        "Operation": "operation",
        "Resource": "resource",
        "Credential": "credential",
        "Principal": "principal",
        "Application": "application",
        "Caller": "callerAddress",
        "Let in by": "network",
        "Client": "client",
        "Took ms": "durationMs",
    }
    for heading, member in named.items():
        if record.get(member) not in (None, "", 0):
            yield heading, str(record[member])
    for name, value in (record.get("because") or {}).items():
        yield f"  {name}", str(value)


def records(path: Path, count: int, *, follow: bool, pause: Callable[[float], None] = time.sleep) -> Iterator[bytes]:
    """Yield the newest records and, when following, every later one, across rotations of the file."""
    file = path.open("rb")
    try:
        yield from deque(_new_lines(file), maxlen=count)
        while follow:
            yield from _new_lines(file)
            if _rotated(file, path):
                yield from _new_lines(file)  # what came between the last read and the rotation
                file.close()
                file = path.open("rb")
            pause(POLL_S)
    finally:
        file.close()


def describe(line: bytes) -> str:
    """Return one record in one readable line; the line itself when it is not a record."""
    try:
        record: dict[str, Any] = msgspec.json.decode(line)
        when = datetime.fromtimestamp(record["time"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        what = [
            record.get("decision") or record.get("phase", ""),
            str(record.get("status") or ""),
            record.get("operation") or "-",
        ]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError):
        return line.decode(errors="replace")
    who = record.get("principal") or record.get("credential") or "-"
    place = record.get("resource", "").rsplit("/", 1)[-1] or "-"
    why = record.get("rule") or record.get("reason") or ""
    return f"{when}  {what[0]:<8} {what[1]:<4} {what[2]}  on {place}  by {who} from {record.get('callerAddress') or '-'}  {why}".rstrip()


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        record = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("time"), int | float) else {}


def _new_lines(file: BinaryIO) -> Iterator[bytes]:
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):  # half a line: its writer has not finished
            file.seek(start)
            return
        yield line.rstrip(b"\n")


def _rotated(file: BinaryIO, path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino != path.stat().st_ino
    except FileNotFoundError:
        return False
