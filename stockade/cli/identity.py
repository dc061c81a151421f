"""`stockade identity`: the principals that roles can be assigned to, and what they prove themselves with."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from stockade.cli.account import OutputFormat
from stockade.cli.arm import Arm, connect
from stockade.cli.context import DataDir, out, print_columns, running_settings
from stockade.identity.external_ids import object_id_of
from stockade.kernel.faults import Fault, FaultKind

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
    """List every principal: applications, managed identities, this machine, those of further issuers."""
    arm = connect(running_settings())
    found = sorted(
        arm.call("GET", _path(arm, "principals"))["value"], key=lambda entry: (entry["kind"], entry["displayName"])
    )
    if form == "json":
        _print_json(found)
        return
    print_columns(
        ("Name", "Kind", "Object id", "Client id", ""),
        (
            (
                entry["displayName"],
                entry["kind"],
                entry["objectId"],
                entry["clientId"] or "",
                "" if entry["enabled"] else "disabled",
            )
            for entry in found
        ),
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


@app.command("certificate")
def certificate(
    reference: Reference,
    file: Annotated[
        Path | None, typer.Option("--file", help="A certificate in PEM form to register.", show_default=False)
    ] = None,
    remove: Annotated[
        str, typer.Option("--remove", help="Remove the certificate of this key id instead.", show_default=False)
    ] = "",
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Register a certificate an application may prove itself with instead of a secret; without options, list them.

    Only the first certificate of the file is sent: a private key in it stays here.
    """
    if file is not None and remove:
        raise typer.BadParameter("Use either --file or --remove.")
    pem = _certificate_in(file) if file is not None else ""
    arm = connect(running_settings())
    path = _path(arm, "principals", reference)
    if remove:
        arm.call("DELETE", f"{path}/certificates/{quote(remove, safe='')}")
        return
    if pem:
        entries = [arm.call("POST", f"{path}/certificates", {"certificate": pem})["certificate"]]
    else:
        entries = arm.call("GET", path)["certificates"]
    if form == "json":
        _print_json(entries[0] if pem else entries)
        return
    print_columns(
        ("Key id", "Thumbprint", "Registered", "Ends"),
        ((e["keyId"], e["thumbprint"], e["createdAt"][:19], e["expiresAt"][:19]) for e in entries),
    )


@app.command("register")
def register(
    object_id: Annotated[
        str,
        typer.Argument(help="What the issuer's tokens call it: an object id, or any other name.", show_default=False),
    ],
    issuer: Annotated[
        str, typer.Option("--issuer", help="Its issuer, as in settings.toml and in the tokens.", show_default=False)
    ],
    name: Annotated[str, typer.Option("--name", help="A display name.", show_default=False)],
    principal_type: Annotated[
        Literal["ServicePrincipal", "User", "Group"], typer.Option("--type", help="What it is.")
    ] = "ServicePrincipal",
    client_id: Annotated[
        str, typer.Option("--client-id", help="An application's client id, to find it by.", show_default=False)
    ] = "",
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Make a principal of a further issuer known, so that roles can be assigned to it, and print its object id here."""
    arm = connect(running_settings())
    path = _path(arm, "principals", object_id_of(issuer, object_id, group=principal_type == "Group"))
    body = {"displayName": name, "issuer": issuer, "principalType": principal_type, "subject": object_id}
    registered = arm.call("PUT", path, {**body, "clientId": client_id} if client_id else body)
    if form == "json":
        _print_json(registered)
    else:
        out.print(registered["objectId"])


@app.command("disable")
def disable(reference: Reference, data_dir: DataDir = None) -> None:
    """Disable a principal: whatever tokens it has are refused from the next request on, and it gets no new ones here."""
    arm = connect(running_settings())
    arm.call("POST", f"{_path(arm, 'principals', reference)}/disable")


@app.command("enable")
def enable(reference: Reference, data_dir: DataDir = None) -> None:
    """Enable a disabled principal again. Tokens that have not ended meanwhile are accepted again too."""
    arm = connect(running_settings())
    arm.call("POST", f"{_path(arm, 'principals', reference)}/enable")


@app.command("delete")
def delete(reference: Reference, data_dir: DataDir = None) -> None:
    """Delete a principal. Its tokens are refused from the next request on."""
    arm = connect(running_settings())
    arm.call("DELETE", _path(arm, "principals", reference))


@app.command("assign")
def assign(
    reference: Reference,
    role: Annotated[str, typer.Argument(help="A role's name or GUID.", show_default=False)],
    scope: Annotated[
        str, typer.Option("--scope", help="An ARM id. [default: the subscription]", show_default=False)
    ] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take the role away instead.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Give a principal a role; what is there already stays."""
    arm = connect(running_settings())
    place = scope.rstrip("/") or arm.subscription
    principal = arm.call("GET", _path(arm, "principals", reference))["objectId"]
    authorization = f"{place}/providers/Microsoft.Authorization"
    filtered = quote(f"roleName eq '{role.replace(chr(39), chr(39) * 2)}'")
    found = arm.call("GET", f"{authorization}/roleDefinitions?$filter={filtered}")["value"]
    found = found or [one for one in arm.pages(f"{authorization}/roleDefinitions") if one["name"] == role.lower()]
    if not found:
        raise Fault(FaultKind.NOT_FOUND, f"There is no role '{role}' that can be assigned at {place}.")
    # A name that follows from what it says, so that doing it twice is doing it once, and undoing it needs no look-up.
    name = uuid.uuid5(uuid.UUID(principal), f"{place} {found[0]['name']}".lower())
    path = f"{authorization}/roleAssignments/{name}"
    if remove:
        arm.call("DELETE", path)
        return
    try:
        arm.call("PUT", path, {"properties": {"roleDefinitionId": found[0]["id"], "principalId": principal}})
    except Fault as fault:
        if fault.code != "RoleAssignmentExists":  # somebody has given it under another name
            raise


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


def _certificate_in(file: Path) -> str:
    """Return the first certificate of a PEM file and nothing else of it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        found = x509.load_pem_x509_certificate(file.read_bytes())
    except OSError as failure:
        raise typer.BadParameter(f"{file} cannot be read: {failure.strerror}.") from failure
    except ValueError as failure:
        raise typer.BadParameter(f"{file} holds no certificate in PEM form.") from failure
    return found.public_bytes(Encoding.PEM).decode()


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
