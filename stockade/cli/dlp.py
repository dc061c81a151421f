"""`stockade dlp`: where an account's requests may point to, and what would become of one.

`test` asks the running server, so that the gateway's own code judges, and then looks the hosts up here: the machine and the settings are the same.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from stockade.cli.account import OutputFormat
from stockade.cli.arm import Arm, connect
from stockade.cli.context import DataDir, err, out, print_columns, running_settings
from stockade.egress.addresses import AddressPolicy, read_address
from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.uris.parse import parse
from stockade.settings import Settings

if TYPE_CHECKING:
    from stockade.egress.resolve import Resolver

app = typer.Typer(help="Data-loss prevention: where requests may point to.", no_args_is_help=True)

AccountArgument = Annotated[str, typer.Argument(help="An AI account: its name or ARM id.", show_default=False)]
Hosts = Annotated[
    list[str],
    typer.Argument(help="Hosts (example.com), parents (*.example.com), addresses or networks.", show_default=False),
]

MAX_FILE: Final = 2 * 1024 * 1024
"""A third more, as base64, has to fit into what management reads."""
MAX_LOOKED_UP: Final = 100
SHOWN_CHARACTERS: Final = 100
_TYPES: Final = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".ndjson": "application/x-ndjson",
    ".xml": "application/xml",
    ".ssml": "application/ssml+xml",
    ".txt": "text/plain",
    ".form": "application/x-www-form-urlencoded",
}


@app.command("show")
def show(account: AccountArgument, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Show whether an account restricts where requests point to, and its list."""
    arm = connect(running_settings())
    _print_state(_properties(arm, arm.account(account).id), form)


@app.command("allow")
def allow(account: AccountArgument, hosts: Hosts, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Add hosts to an account's list; in force from the next request."""
    arm = connect(running_settings())
    account_id = arm.account(account).id
    now = _list(_properties(arm, account_id))
    wanted: dict[str, str] = {}
    for entry in (*now, *hosts):
        wanted.setdefault(entry.lower(), entry)
    _print_state(_change(arm, account_id, {"allowedFqdnList": list(wanted.values())}), form)


@app.command("remove")
def remove(account: AccountArgument, hosts: Hosts, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Take hosts off an account's list; in force from the next request. One that is not on it is an error, and nothing changes."""
    arm = connect(running_settings())
    account_id = arm.account(account).id
    now = _list(_properties(arm, account_id))
    gone = {host.lower() for host in hosts}
    missing = gone - {entry.lower() for entry in now}
    if missing:
        raise Fault(FaultKind.NOT_FOUND, f"Not on the list: {', '.join(sorted(missing))}.")
    _print_state(
        _change(arm, account_id, {"allowedFqdnList": [entry for entry in now if entry.lower() not in gone]}), form
    )


@app.command("restrict")
def restrict(
    account: AccountArgument,
    mode: Annotated[
        Literal["on", "off", "report"], typer.Argument(help="report: let pass, and record what on would refuse.")
    ],
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Refuse URIs that are not on the list (on), only record them (report), or let requests point anywhere (off)."""
    arm = connect(running_settings())
    account_id = arm.account(account).id
    wanted: dict[str, Any] = {"restrictOutboundNetworkAccess": mode != "off"}
    if mode != "off":
        wanted["stockade"] = {"controls": {"dlp": "report" if mode == "report" else "enforce"}}
    _print_state(_change(arm, account_id, wanted), form)


@app.command("test")
def try_request(
    account: AccountArgument,
    file: Annotated[
        Path,
        typer.Option("--file", "-f", help="The request's body: JSON, JSON lines, XML, a form; - for standard input."),
    ],
    operation: Annotated[
        str,
        typer.Option("--operation", help="What it is sent to (Face_Detect). Default: by the body.", show_default=False),
    ] = "",
    method: Annotated[str, typer.Option("--method", "-X", help="With --path.")] = "POST",
    path: Annotated[
        str, typer.Option("--path", help="Path and query below the account's address.", show_default=False)
    ] = "",
    content_type: Annotated[
        str, typer.Option("--content-type", help="Default: by the file's name, else JSON.", show_default=False)
    ] = "",
    resolve: Annotated[bool, typer.Option("--resolve/--no-resolve", help="Look the hosts up.")] = True,
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="How the result is written.")] = "table",
    data_dir: DataDir = None,
) -> None:
    """Show every URI in a request: where it stands, what the list says, what its host resolves to, and what would happen. Sends nothing."""
    settings = running_settings()
    arm = connect(settings)
    account_id = arm.account(account).id
    body = _read(file)
    place, _, query = path.partition("?")
    asked = {
        "body": base64.b64encode(body).decode(),
        "contentType": content_type or _TYPES.get(file.suffix.lower(), "application/json"),
        "operation": operation,
        "method": method,
        "path": place,
        "query": query,
    }
    found: dict[str, Any] = arm.call("POST", f"{account_id}/testLossPrevention", asked)
    if resolve:
        asyncio.run(_look_up(settings, found["uris"]))
    if form == "json":
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        _print_found(found, account, resolved=resolve)


def _read(file: Path) -> bytes:
    try:
        if str(file) == "-":
            body = sys.stdin.buffer.read(MAX_FILE + 1)
        else:
            with file.open("rb") as stream:
                body = stream.read(MAX_FILE + 1)
    except OSError as failure:
        raise typer.BadParameter(f"{file}: {failure.strerror}", param_hint="--file") from failure
    if len(body) > MAX_FILE:
        raise typer.BadParameter(f"{file} is larger than {MAX_FILE} bytes", param_hint="--file")
    return body


def _properties(arm: Arm, account_id: str) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = arm.call("GET", account_id)["properties"]
    return properties


def _change(arm: Arm, account_id: str, properties: Mapping[str, Any]) -> Mapping[str, Any]:
    changed: Mapping[str, Any] = arm.call("PATCH", account_id, {"properties": properties})["properties"]
    return changed


def _list(properties: Mapping[str, Any]) -> list[str]:
    return list(properties.get("allowedFqdnList") or ())


def _print_state(properties: Mapping[str, Any], form: str) -> None:
    restricted = properties.get("restrictOutboundNetworkAccess") is True
    mode = ((properties.get("stockade") or {}).get("controls") or {}).get("dlp", "enforce")
    allowed = _list(properties)
    if form == "json":
        state = {"restrictOutboundNetworkAccess": restricted, "mode": mode, "allowedFqdnList": allowed}
        sys.stdout.write(json.dumps(state, indent=2) + "\n")
        return
    if not restricted:
        out.print(
            "[bold]Not restricted:[/] requests may point anywhere. `stockade dlp restrict ACCOUNT on` changes that."
        )
    else:
        said = {"enforce": "URIs off the list are refused", "report": "URIs off the list pass, and are recorded"}
        out.print(f"[bold]Restricted:[/] {said.get(mode, 'the control is off, so nothing is looked at')}.")
    out.print("The list:" if allowed else "The list is empty" + (": every URI is off it." if restricted else "."))
    for entry in allowed:
        out.print(f"  {entry}", markup=False)


# Looking hosts up


async def _look_up(settings: Settings, uris: Sequence[dict[str, Any]]) -> None:
    """Put into each URI what its host resolves to (`addresses`), and whether this platform would connect there (`egress`)."""
    from stockade.egress.resolve import resolver_for  # the name servers' library takes a third of a second

    resolver, policy = resolver_for(settings.egress), AddressPolicy(settings.egress.allowed_networks)
    known: dict[str, tuple[list[str], str]] = {}
    for uri in uris:
        # A reference without a scheme is judged as if it were https, and so it is looked up.
        text = f"https:{uri['uri']}" if uri["uri"].startswith(("/", "\\")) and not uri["declared"] else uri["uri"]
        parsed = None if uri["content"] else parse(text)
        host = parsed.host if parsed is not None else ""
        if not host:
            continue
        if host not in known and len(known) < MAX_LOOKED_UP:
            known[host] = await _addresses(resolver, policy, host)
        if host in known:
            uri["addresses"], uri["egress"] = known[host]


async def _addresses(resolver: Resolver, policy: AddressPolicy, host: str) -> tuple[list[str], str]:
    address = read_address(host)
    try:
        found = (address,) if address is not None else await resolver.resolve(host)
    except Fault as fault:
        return [], fault.message
    refused = policy.refused_of(found)
    return [str(one) for one in found], f"refused: {refused}" if refused is not None else "would connect"


# Printing


def _print_found(found: Mapping[str, Any], account: str, *, resolved: bool) -> None:
    if "operation" in found:
        path = f" ({found['method']} {found['path']})" if found["path"] else ""
        out.print(f"Looked at as {found['operation']}{path}.", markup=False)
    if found["uris"]:
        headings = ["Where", "URI", "Found by", "The list says", *(["Resolves to", "Going there"] if resolved else [])]
        print_columns(headings, [_row(uri, resolved=resolved) for uri in found["uris"]])
    elif "operation" in found:  # else it could not be read
        out.print("There is no URI in it.")
    if found["more"]:
        out.print(f"... and {found['more']} more.")
    said = {
        "refused": "[bold red]Refused.[/]",
        "reported": "[bold yellow]Passes, and is recorded.[/]",
        "passes": "[bold green]Passes.[/]",
    }
    out.print(said[found["outcome"]], end=" ")
    out.print(found["message"] or "", markup=False)
    if not found["restricted"]:
        err.print(f"{account} restricts nothing yet: stockade dlp restrict {account} report", markup=False)


def _row(uri: Mapping[str, Any], *, resolved: bool) -> list[str]:
    text = uri["uri"] if len(uri["uri"]) <= SHOWN_CHARACTERS else uri["uri"][:SHOWN_CHARACTERS] + "…"
    says = "content, no destination" if uri["content"] else "allowed"
    if not uri["allowed"]:
        says = {"host": "not on the list", "unreadable": "cannot be read"}.get(uri["reason"], uri["reason"])
        says += f": {uri['detail']}" if uri["detail"] else ""
    elif uri["fetchedHere"]:
        says += ", fetched here and handed over"
    row = [
        uri["place"],
        "".join(c if c.isprintable() else "�" for c in text),
        "field" if uri["declared"] else "deep scan",
        says,
    ]
    if resolved:
        row += [", ".join(uri.get("addresses", ())[:4]), uri.get("egress", "")]
    return row
