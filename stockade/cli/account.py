"""`stockade account`: what accounts there are. Creating and changing them is what `az` and the SDKs are for."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer

from stockade.cli.arm import connect
from stockade.cli.context import DataDir, print_columns, running_settings

app = typer.Typer(help="AI accounts.", no_args_is_help=True)

OutputFormat = Annotated[Literal["table", "json"], typer.Option("--format", "-f", help="How the result is written.")]


@app.callback()
def group() -> None:
    """Be a group even with one command in it."""


@app.command("list")
def list_accounts(form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """List the accounts and where they answer."""
    accounts = connect(running_settings()).accounts()
    if form == "json":
        rows = [
            {"name": a.name, "kind": a.kind, "location": a.location, "endpoint": a.endpoint, "id": a.id}
            for a in accounts
        ]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    print_columns(
        ("Name", "Kind", "Location", "Endpoint", "Keys"),
        ((a.name, a.kind, a.location, a.endpoint, "yes" if a.local_auth else "off") for a in accounts),
    )
