"""`stockade account`: what accounts there are, and how their controls stand. All else about them is what `az` and the SDKs are for."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from stockade.cli.arm import connect
from stockade.cli.context import DataDir, print_columns, running_settings
from stockade.kernel.control import Mode

app = typer.Typer(help="AI accounts.", no_args_is_help=True)

OutputFormat = Annotated[Literal["table", "json"], typer.Option("--format", "-f", help="How the result is written.")]


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


@app.command("controls")
def controls(
    account: Annotated[str, typer.Argument(help="Name or ARM id.", show_default=False)],
    network: Annotated[
        Mode | None, typer.Option(help="networkAcls, publicNetworkAccess, perimeters.", show_default=False)
    ] = None,
    dlp: Annotated[Mode | None, typer.Option(help="allowedFqdnList on requests.", show_default=False)] = None,
    output: Annotated[Mode | None, typer.Option(help="allowedFqdnList on replies.", show_default=False)] = None,
    local_auth: Annotated[Mode | None, typer.Option(help="disableLocalAuth.", show_default=False)] = None,
    rbac: Annotated[Mode | None, typer.Option(help="Data actions of identities.", show_default=False)] = None,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Show how each control of an account stands, after setting those that are named."""
    arm = connect(running_settings())
    account_id = arm.account(account).id
    asked = {"network": network, "dlp": dlp, "output": output, "localAuth": local_auth, "rbac": rbac}
    wanted = {name: mode for name, mode in asked.items() if mode is not None}
    if wanted:
        arm.call("PATCH", account_id, {"properties": {"stockade": {"controls": wanted}}})
    properties = arm.call("GET", account_id)["properties"]
    rows = {name: {"wanted": is_wanted(name, properties), "mode": mode_of(name, properties)} for name in asked}
    if form == "json":
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    print_columns(
        ("Control", "Mode", "Wanted by the account"),
        ((name, str(row["mode"]), "yes" if row["wanted"] else "no") for name, row in rows.items()),
    )


def mode_of(control: str, properties: Mapping[str, Any]) -> str:
    """Return a control's mode as it is in force: what is not named is enforced, `output` only reported where URIs are restricted."""
    named = ((properties.get("stockade") or {}).get("controls") or {}).get(control)
    if named is None and control == "output":
        return "report" if properties.get("restrictOutboundNetworkAccess") is True else "off"
    return str(named or "enforce")


def is_wanted(control: str, properties: Mapping[str, Any]) -> bool:
    """Say whether Azure's own properties ask for a control; without that its mode does nothing."""
    match control:
        case "network":
            closed = (properties.get("networkAcls") or {}).get("defaultAction") == "Deny"
            return closed or properties.get("publicNetworkAccess") == "Disabled"
        case "dlp" | "output":
            return properties.get("restrictOutboundNetworkAccess") is True
        case "localAuth":
            return properties.get("disableLocalAuth") is True
    return True
