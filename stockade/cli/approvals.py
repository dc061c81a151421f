"""`stockade approvals`: asking for the SKU E0, and deciding on what others have asked for.

The administrator asks; whoever STOCKADE_APPROVER_ID and STOCKADE_APPROVER_SECRET name decides, if they are set, because nobody decides on a
request of their own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

import typer
from rich.text import Text

from stockade.cli.account import OutputFormat
from stockade.cli.arm import Arm, connect
from stockade.cli.context import DataDir, err, out, print_columns, running_settings
from stockade.kernel.secret import Secret

app = typer.Typer(help="Requests for the SKU E0: asking, the queue, deciding.", no_args_is_help=True)

ID_VARIABLE, SECRET_VARIABLE = "STOCKADE_APPROVER_ID", "STOCKADE_APPROVER_SECRET"
OPEN: Final = frozenset({"Submitted", "UnderReview", "Queued"})
Name = Annotated[str, typer.Argument(help="A request's name.", show_default=False)]
Comment = Annotated[str, typer.Option("--comment", "-m", help="What the requester is told.", show_default=False)]
State = Literal["Submitted", "UnderReview", "Queued", "Approved", "Denied", "Withdrawn"]


@app.command("request")
def request(
    name: Annotated[str, typer.Argument(help="A name for it, new in the subscription.", show_default=False)],
    kind: Annotated[str, typer.Option("--kind", help="Of the accounts: Face, LUIS, OpenAI, ...", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="What they are for.", show_default=False)],
    contact: Annotated[
        str, typer.Option("--contact", help="The address of e-mail that hears of it.", show_default=False)
    ],
    location: Annotated[
        str, typer.Option("--location", "-l", help="[default: the platform's]", show_default=False)
    ] = "",
    count: Annotated[int, typer.Option("--count", min=1, max=100, help="How many accounts.")] = 1,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Ask for accounts with the SKU E0."""
    arm = connect(running_settings())
    place = location or arm.settings.names.location
    asked = {"kind": kind, "sku": "E0", "location": place, "reason": reason, "contact": contact, "count": count}
    _print_one(arm.call("PUT", _path(arm, name), {"properties": asked}), form)


@app.command("list")
def list_requests(
    state: Annotated[State | None, typer.Option("--state", help="Only these.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that are decided, too.")] = False,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """List the requests that wait: what is overdue first, then as they were made."""
    arm = _decider()
    wanted = {state} if state is not None else None if everything else OPEN
    found = [one for one in arm.pages(_path(arm)) if wanted is None or one["properties"]["state"] in wanted]
    found.sort(key=lambda one: (not one["properties"]["overdue"], one["properties"]["submittedAt"], one["name"]))
    if form == "json":
        _print_json(found)
        return
    if not found:
        err.print("Nobody waits." if wanted == OPEN else "There are none.")
        return
    print_columns(
        ("Name", "Kind", "Location", "Accounts", "State", "Asked by", "Since", "Answer by"),
        (_row(one) for one in found),
    )


@app.command("show")
def show(name: Name, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Show a request, and what has become of it so far."""
    arm = _decider()
    _print_one(arm.call("GET", _path(arm, name)), form)


@app.command("review")
def review(name: Name, comment: Comment = "", form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Say that somebody is looking at a request."""
    _act(_decider(), name, "startReview", comment, form)


@app.command("approve")
def approve(name: Name, comment: Comment = "", form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Approve a request. Where its region has no room it waits in the queue, and needs nobody any more to move up."""
    _act(_decider(), name, "approve", comment, form)


@app.command("deny")
def deny(
    name: Name,
    comment: Annotated[str, typer.Option("--comment", "-m", help="Why; the requester is told.", show_default=False)],
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Deny a request, and say why."""
    _act(_decider(), name, "deny", comment, form)


@app.command("withdraw")
def withdraw(name: Name, comment: Comment = "", form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Take back a request, or what is left of an approval. Accounts that are there stay."""
    _act(connect(running_settings()), name, "withdraw", comment, form)


@app.command("notices")
def notices(
    failed: Annotated[bool, typer.Option("--failed", help="Only those that were given up.")] = False,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """List the notices of the last 30 days: to whom, and whether they arrived."""
    arm = _decider()
    found = arm.call("GET", f"{arm.subscription}/providers/Stockade.Access/notices")["value"]
    found = [one for one in found if not failed or one["state"] == "Failed"]
    if form == "json":
        _print_json(found)
        return
    print_columns(
        ("When", "What", "To", "State", "Attempts", ""),
        (
            (
                one["createdAt"][:16],
                one["title"],
                one["to"].removeprefix("mailto:"),
                one["state"],
                str(one["attempts"]),
                one["lastError"],
            )
            for one in found
        ),
    )


def _decider() -> Arm:
    arm = connect(running_settings())
    client_id, secret = os.environ.get(ID_VARIABLE, ""), os.environ.get(SECRET_VARIABLE, "")
    if bool(client_id) != bool(secret):
        raise typer.BadParameter(f"Set {ID_VARIABLE} and {SECRET_VARIABLE}, both or neither.")
    return arm.speaking_for(client_id, Secret(secret)) if client_id else arm


def _act(arm: Arm, name: str, action: str, comment: str, form: str) -> None:
    body = {"comment": comment} if comment else {}
    _print_one(arm.call("POST", f"{_path(arm, name)}/{action}", body), form)


def _path(arm: Arm, name: str = "") -> str:
    base = f"{arm.subscription}/providers/Stockade.Access/skuRequests"
    return f"{base}/{quote(name, safe='')}" if name else base


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    what = one["properties"]
    return (
        one["name"],
        what["kind"],
        what["location"],
        str(what["count"]),
        _state(what),
        what["requestedBy"]["name"],
        what["submittedAt"][:16],
        what["dueBy"][:10] + (" OVERDUE" if what["overdue"] else "")
        if what["state"] in ("Submitted", "UnderReview")
        else "",
    )


def _state(what: Mapping[str, Any]) -> str:
    if what["state"] == "Queued":
        return f"Queued, place {what['queuePosition']}"
    if what["state"] == "Approved":
        return f"Approved, {what['remaining']} of {what['count']} left"
    return str(what["state"])


def _print_one(one: Mapping[str, Any], form: str) -> None:
    if form == "json":
        _print_json(one)
        return
    what = one["properties"]
    out.print(Text(f"{one['name']}  {_state(what)}", style="bold"))
    rows = [("Asks for", f"{what['count']} × {what['sku']} of kind {what['kind']} in {what['location']}")]
    rows += [("Reason", line) for line in what["reason"].splitlines()[:1]]
    rows += [("Contact", what["contact"])]
    if what["state"] in ("Submitted", "UnderReview"):
        rows.append(("Answer by", what["dueBy"][:16] + ("  OVERDUE" if what["overdue"] else "")))
    rows += [("Account", account) for account in what["accounts"]]
    print_columns(("", ""), rows)
    print_columns(
        ("When", "What", "By", ""),
        (
            (entry["at"][:16], entry["state"], entry["by"]["name"], " ".join(entry.get("comment", "").split()))
            for entry in what["history"]
        ),
    )


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
