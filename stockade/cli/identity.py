"""`stockade identity`: the principals with which roles are tried."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from stockade.cli.account import OutputFormat
from stockade.cli.arm import Arm, connect
from stockade.cli.context import DataDir, out, print_columns, running_settings

app = typer.Typer(help="Applications and groups that roles can be assigned to.", no_args_is_help=True)
groups = typer.Typer(help="Groups and their members.", no_args_is_help=True)
app.add_typer(groups, name="group")

Name = Annotated[str, typer.Argument(help="A display name.", show_default=False)]
Reference = Annotated[str, typer.Argument(help="An object id, client id or display name.", show_default=False)]
GroupId = Annotated[str, typer.Argument(help="A group's object id.", show_default=False)]
Days = Annotated[int, typer.Option("--days", min=1, max=3650, help="How long the secret lives.")]


@app.command("create")
def create(name: Name, form: OutputFormat = "table", days: Days = 730, data_dir: DataDir = None) -> None:
    """Create an application and print its client secret, which is shown this once."""
    arm = connect(running_settings())
    _print_credential(arm.call("POST", _path(arm, "principals"), {"displayName": name, "days": days}), form)


@app.command("list")
def list_principals(form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """List every principal: applications, managed identities, this machine."""
    arm = connect(running_settings())
    found = sorted(
        arm.call("GET", _path(arm, "principals"))["value"], key=lambda entry: (entry["kind"], entry["displayName"])
    )
    if form == "json":
        _print_json(found)
        return
    print_columns(
        ("Name", "Kind", "Object id", "Client id"),
        ((entry["displayName"], entry["kind"], entry["objectId"], entry["clientId"] or "") for entry in found),
    )


@app.command("secret")
def secret(
    reference: Reference,
    form: OutputFormat = "table",
    days: Days = 730,
    remove: Annotated[
        str, typer.Option("--remove", help="Remove the secret of this key id instead.", show_default=False)
    ] = "",
    show: Annotated[bool, typer.Option("--list", help="List the secrets (never their values) instead.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Give an application a further client secret and print it, this once. Older ones go on working."""
    arm = connect(running_settings())
    path = _path(arm, "principals", reference)
    if remove:
        arm.call("DELETE", f"{path}/secrets/{quote(remove, safe='')}")
    elif show:
        entries = arm.call("GET", path)["secrets"]
        if form == "json":
            _print_json(entries)
            return
        print_columns(
            ("Key id", "Name", "Begins with", "Created", "Ends"),
            (
                (e["keyId"], e["displayName"], f"{e['hint']}…", e["createdAt"][:19], e["expiresAt"][:19])
                for e in entries
            ),
        )
    else:
        _print_credential(arm.call("POST", f"{path}/secrets", {"days": days}), form)


@app.command("delete")
def delete(reference: Reference, data_dir: DataDir = None) -> None:
    """Delete a principal. Its tokens are refused from the next request on."""
    arm = connect(running_settings())
    arm.call("DELETE", _path(arm, "principals", reference))


@groups.command("create")
def create_group(name: Name, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Create an empty group."""
    arm = connect(running_settings())
    created = arm.call("POST", _path(arm, "groups"), {"displayName": name})
    if form == "json":
        _print_json(created)
    else:
        out.print(created["objectId"])


@groups.command("list")
def list_groups(form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """List the groups and how many members each has."""
    arm = connect(running_settings())
    found = arm.call("GET", _path(arm, "groups"))["value"]
    if form == "json":
        _print_json(found)
        return
    print_columns(
        ("Name", "Object id", "Members"),
        ((entry["displayName"], entry["objectId"], str(len(entry["members"]))) for entry in found),
    )


@groups.command("delete")
def delete_group(group: GroupId, data_dir: DataDir = None) -> None:
    """Delete a group; its members stay."""
    arm = connect(running_settings())
    arm.call("DELETE", _path(arm, "groups", group))


@groups.command("add")
def add_member(
    group: GroupId,
    member: Annotated[str, typer.Argument(help="The object id of a principal or group.", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Put a principal or another group into a group."""
    arm = connect(running_settings())
    arm.call("PUT", f"{_path(arm, 'groups', group)}/members/{quote(member, safe='')}")


@groups.command("remove")
def remove_member(
    group: GroupId,
    member: Annotated[str, typer.Argument(help="The object id of a member.", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Take a member out of a group."""
    arm = connect(running_settings())
    arm.call("DELETE", f"{_path(arm, 'groups', group)}/members/{quote(member, safe='')}")


def _path(arm: Arm, collection: str, reference: str = "") -> str:
    base = f"{arm.subscription}/providers/Stockade.Directory/{collection}"
    return f"{base}/{quote(reference, safe='')}" if reference else base


def _print_credential(answer: dict[str, Any], form: str) -> None:
    shown = {name: answer[name] for name in ("clientId", "clientSecret", "objectId", "tenantId")}
    if form == "json":
        _print_json(shown)
        return
    for name, value in shown.items():
        out.print(f"{name:<13} {value}")


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
