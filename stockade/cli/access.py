"""`stockade access`: asking for a role for a while, and deciding on what others have asked for.

The administrator asks, or whoever STOCKADE_OPERATOR_ID and STOCKADE_OPERATOR_SECRET name; whoever STOCKADE_APPROVER_ID and
STOCKADE_APPROVER_SECRET name decides, if they are set, because nobody decides on a request of their own.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.text import Text

from stockade.cli.account import OutputFormat
from stockade.cli.arm import Arm
from stockade.cli.clock import seconds_of
from stockade.cli.context import DataDir, err, out, print_columns
from stockade.cli.speaking import speaking
from stockade.kernel.faults import Fault, FaultKind

app = typer.Typer(help="Roles for a while: asking, deciding, taking away.", no_args_is_help=True)

OPEN: Final = frozenset({"Pending", "Approved"})
Name = Annotated[str, typer.Argument(help="A request's name, or its whole id.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", "-m", help="What the record says of it.", show_default=False)]


@app.command("request")
def request(
    role: Annotated[str, typer.Option("--role", help="A role's name or GUID.", show_default=False)],
    period: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1h30m.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", "-m", help="What it is for.", show_default=False)],
    scope: Annotated[str, typer.Option("--scope", help="An ARM id. [default: the subscription]")] = "",
    name: Annotated[str, typer.Option("--name", help="A name for it, new at the scope. [default: a new one]")] = "",
    contact: Annotated[str, typer.Option("--contact", help="The address of e-mail that hears of it.")] = "",
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Ask for a role for a while. Somebody else who could assign it decides."""
    arm = speaking("OPERATOR")
    asked = {"roleName": role, "durationMinutes": round(seconds_of(period) / 60), "reason": reason}
    if contact:
        asked["contact"] = contact
    path = f"{scope.rstrip('/') or arm.subscription}/providers/Stockade.Access/roleRequests/{quote(name or _name(), safe='')}"
    _print_one(arm.call("PUT", path, {"properties": asked}), form)


@app.command("list")
def list_requests(
    scope: Annotated[str, typer.Option("--scope", help="An ARM id. [default: the subscription]")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """List the requests that wait or are in force."""
    arm = speaking("APPROVER")
    found = [one for one in _all(arm, scope) if everything or one["properties"]["status"] in OPEN]
    found.sort(key=lambda one: (one["properties"]["requestedAt"], one["name"]))
    if form == "json":
        _print_json(found)
        return
    if not found:
        err.print("There are none." if everything else "Nobody waits, and no role for a while is in force.")
        return
    print_columns(("Name", "Role", "For", "Scope", "Status", "Asked by", "Until"), (_row(one) for one in found))


@app.command("show")
def show(name: Name, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Show a request, and what has become of it so far."""
    arm = speaking("APPROVER")
    _print_one(arm.call("GET", _path(arm, name)), form)


@app.command("approve")
def approve(name: Name, reason: Reason = "", form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Approve a request: the role is in force from now until its time is over, or somebody takes it away."""
    _act(speaking("APPROVER"), name, "approve", reason, form)


@app.command("deny")
def deny(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; who asked is told.", show_default=False)],
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Deny a request, and say why."""
    _act(speaking("APPROVER"), name, "deny", reason, form)


@app.command("revoke")
def revoke(name: Name, reason: Reason = "", form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Take a role away before its time is over, with effect from the next request on; or a request that waits."""
    _act(speaking("APPROVER"), name, "revoke", reason, form)


@app.command("cancel")
def cancel(name: Name, reason: Reason = "", form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Take back a request of your own, or give back the role it was granted."""
    _act(speaking("OPERATOR"), name, "cancel", reason, form)


def _act(arm: Arm, name: str, action: str, reason: str, form: str) -> None:
    body = {"reason": reason} if reason else {}
    _print_one(arm.call("POST", f"{_path(arm, name)}/{action}", body), form)


def _all(arm: Arm, scope: str = "") -> list[dict[str, Any]]:
    return list(arm.pages(f"{scope.rstrip('/') or arm.subscription}/providers/Stockade.Access/roleRequests"))


def _path(arm: Arm, name: str) -> str:
    """Return a request's id; a bare name is looked for in the whole subscription."""
    if name.startswith("/"):
        return name.rstrip("/")
    found = [one["id"] for one in _all(arm) if one["name"].lower() == name.lower()]
    if not found:
        raise Fault(FaultKind.NOT_FOUND, f"There is no request '{name}' for a role that you may see.")
    if len(found) > 1:
        raise Fault(FaultKind.CONFLICT, f"Several requests are called '{name}'; use one of the ids {', '.join(found)}.")
    return str(found[0])


def _name() -> str:
    return f"role-{secrets.token_hex(4)}"


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    what = one["properties"]
    until = what.get("endsAt") or what["lapsesAt"]
    return (
        one["name"],
        what["roleName"],
        _period(what["durationMinutes"]),
        what["scope"],
        what["status"],
        what["requestedBy"]["name"],
        until[:16],
    )


def _period(minutes: int) -> str:
    hours, rest = divmod(int(minutes), 60)
    return f"{hours}h{rest:02}m" if hours and rest else f"{hours}h" if hours else f"{rest}m"


def _print_one(one: Mapping[str, Any], form: str) -> None:
    if form == "json":
        _print_json(one)
        return
    what = one["properties"]
    out.print(Text(f"{one['name']}  {what['status']}", style="bold"))
    rows = [("Asks for", f"{what['roleName']} for {_period(what['durationMinutes'])} at {what['scope']}")]
    rows += [("Reason", line) for line in what["reason"].splitlines()[:1]]
    rows += [("Asked by", f"{what['requestedBy']['name']} ({what['requestedBy']['objectId']})")]
    rows += [("Lapses", what["lapsesAt"][:16])] if what["status"] == "Pending" else []
    rows += [("Ends" if what["status"] == "Approved" else "Ended", what["endsAt"][:19])] if "endsAt" in what else []
    rows += [("Assignment", what["roleAssignmentId"])] if "roleAssignmentId" in what else []
    print_columns(("", ""), rows)
    print_columns(
        ("When", "What", "By", ""),
        (
            (entry["at"][:16], entry["event"], entry["by"]["name"], " ".join(entry.get("comment", "").split()))
            for entry in what["history"]
        ),
    )


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
