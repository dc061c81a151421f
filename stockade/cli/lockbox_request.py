"""A Lockbox request as the commands show it, and what its approver signs: read from the very bytes, and compared with what was asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import typer
from rich.text import Text

from stockade.cli.arm import Arm
from stockade.cli.context import err, out, print_columns
from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import approval as approvals
from stockade.lockbox import strict
from stockade.lockbox.approval import APPROVAL, Approval, Operator

CUSTOMER_VERSION: Final = "2018-02-28-preview"
REQUIRED: Final = "SignatureRequired"
CLOCKS_S: Final = 300.0
"""How far the approver's clock and the platform's may differ."""
OPEN: Final = frozenset({"Initializing", "Pending", "Approving", "Approved"})

RequestName = Annotated[str, typer.Argument(help="A request's GUID, or LockboxRequest_GUID.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to sign what was shown.")]
KeyOption = Annotated[
    str,
    typer.Option(
        "--key", help="What to sign with: file:approver.pem, https://VAULT/keys/KEY or VAULT/KEY.", show_default=False
    ),
]
As = Annotated[
    str, typer.Option("--as", help="The key's id in the statement, where that cannot be read.", show_default=False)
]


def customer_path(arm: Arm, name: str = "", action: str = "") -> str:
    """Return the path of a request, or of all of them, where the customer decides."""
    return _path(f"{arm.subscription}/providers/Microsoft.CustomerLockbox/requests", name, action)


def operator_path(arm: Arm, name: str = "", action: str = "") -> str:
    """Return the path of a request, or of all of them, where operators ask."""
    return _path(f"{arm.subscription}/providers/Stockade.Lockbox/requests", name, action)


def policy_path(account_id: str, action: str = "") -> str:
    """Return the path of an account's statement."""
    return f"{account_id}/providers/Stockade.Lockbox/policies/default" + (f"/{action}" if action else "")


def guid_of(name: str) -> str:
    """Return a request's GUID, whichever of its names was given."""
    return name.removeprefix("LockboxRequest_").lower()


def to_be_signed(request: Mapping[str, Any], kind: str, now: float) -> tuple[Approval, Mapping[str, Any]]:
    """Return what is to be signed for a request, and the server's word on by whom.

    Read strictly from the bytes that the server proposes, which have to say what the request says and nothing else: whoever signs has seen all of
    it. Fault(CONFLICT) when nothing is to be signed, Fault(INVALID) when the bytes say something else. kind: APPROVAL or BREAK_GLASS.
    """
    properties = request["properties"]
    more = properties["stockade"]
    told = more.get("approval")
    if told is None:
        status = properties["status"]
        message = f"The request is {status}, and there is nothing to sign for it."
        if status in ("Pending", "Approving"):
            message = f"The request is {status}, but you are not told what to sign: you are none of those who can, or no statement is in force."
        raise Fault(FaultKind.CONFLICT, message)
    try:
        payload = strict.from_base64url(str(told["payload"]))
    except ValueError as failure:
        raise _differs("payload") from failure
    found = approvals.read(payload)
    hours = float(more["durationHours"])
    for name, says, asked in (
        ("type", found.type, kind),
        ("request", found.request, guid_of(str(properties["requestId"]))),
        ("account", found.account, str(more["account"]).lower()),
        ("scope", set(found.scope) <= set(more["scope"]), True),
        ("operator", found.operator, Operator(more["operator"]["objectId"].lower(), more["operator"]["tenant"])),
        ("purpose", found.purpose, more["reason"]),
        ("case", found.case, more["case"]),
        ("duration_s", found.duration_s <= hours * 3600, True),
        ("not_before", found.not_before <= now + CLOCKS_S, True),
        ("not_after", now < found.not_after <= _instant(properties["expirationDateTime"]) + hours * 3600, True),
    ):
        if says != asked:
            raise _differs(name)
    if approvals.encode(found) != payload:
        raise _differs("payload")  # it can be read, and written otherwise: two readers might read it differently
    return found, told


def narrowed(asked: Approval, scope: list[str], duration_s: float | None) -> Approval:
    """Return what is signed where the approver allows less than was asked for; typer.BadParameter for more."""
    if scope and not set(scope) <= set(asked.scope):
        raise typer.BadParameter(f"--scope can only leave out: {', '.join(asked.scope)} was asked for.")
    if duration_s is not None and not 0 < duration_s <= asked.duration_s:
        raise typer.BadParameter(
            f"--duration can only be shorter than the {_hours(asked.duration_s)} that was asked for."
        )
    kept = tuple(one for one in asked.scope if not scope or one in scope)
    return msgspec.structs.replace(asked, scope=kept, duration_s=duration_s or asked.duration_s)


def print_to_sign(what: Approval, name: str) -> None:
    """Print everything that a signature will say, member by member, from what is going to be signed itself."""
    title = "You are about to sign this" if what.type == APPROVAL else "You are about to BREAK THE GLASS with this"
    out.print(Text(title, style="bold"))
    rows = [("Request", what.request), ("Account", what.account)]
    rows += [("May be read", one) for one in what.scope]
    rows += [
        ("By", f"{name} ({what.operator.object_id}, tenant {what.operator.tenant})"),
        *[("Reason", line) for line in what.purpose.splitlines()],
        ("Case", what.case or "none"),
        ("For", f"{_hours(what.duration_s)} from the first time, and not after {iso(what.not_after)[:19]}Z"),
        ("Valid from", f"{iso(what.not_before)[:19]}Z"),
        ("Statement", what.statement),
        ("Challenge", what.nonce),
    ]
    print_columns(("", ""), rows)


def confirm(question: str, *, yes: bool) -> None:
    """Ask whether to go on; typer.BadParameter where nobody is there to answer, typer.Exit(1) for no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("Nobody can be asked here: add --yes once you have read what is signed.")
    typer.confirm(question, abort=True, err=True)


def print_requests(found: list[dict[str, Any]], form: str, none: str) -> None:
    """Print a list of requests."""
    if form == "json":
        print_json(found)
    elif not found:
        err.print(none)
    else:
        print_columns(("Request", "Account", "Scope", "Operator", "Status", "Hours", "Until"), map(_row, found))


def print_one(one: Mapping[str, Any], form: str) -> None:
    """Print a request, and what has become of it."""
    if form == "json":
        print_json(one)
        return
    what = one["properties"]
    more = what["stockade"]
    out.print(Text(f"{what['requestId']}  {what['status']}", style="bold"))
    rows = [("Account", more["account"])]
    rows += [("Asks to read", path) for path in more["scope"]]
    rows += [("Operator", f"{more['operator']['name']} ({more['operator']['objectId']})")]
    rows += [("Reason", line) for line in more["reason"].splitlines()]
    rows += [("Case", more["case"] or "none"), ("For", f"{what['duration']} hours")]
    rows += [("Break-glass", "yes")] if more["breakGlass"] else []
    rows += [("Lapses", what["expirationDateTime"][:16])] if what["status"] in OPEN - {"Approved"} else []
    rows += [("Access ends", more["accessEndsAt"][:19])] if "accessEndsAt" in more else []
    told = more.get("approval")
    if told is not None:
        signed = f"{len(told['signed'])} of {told['threshold']}" + (
            f" ({', '.join(told['signed'])})" if told["signed"] else ""
        )
        rows += [("Signed", signed), ("Can sign", ", ".join(told["approvers"]))]
    print_columns(("", ""), rows)
    print_columns(
        ("When", "What", "By", ""),
        (
            (entry["at"][:16], entry["event"], entry["by"]["name"], " ".join(entry.get("comment", "").split()))
            for entry in more["history"]
        ),
    )


def print_json(value: Any) -> None:
    """Print JSON for programs."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    what = one["properties"]
    more = what["stockade"]
    scope = more["scope"][0] + (f" and {len(more['scope']) - 1} more" if len(more["scope"]) > 1 else "")
    until = more.get("accessEndsAt") or what["expirationDateTime"]
    return (
        what["requestId"],
        more["account"].rsplit("/", 1)[-1],
        scope,
        more["operator"]["name"],
        what["status"],
        what["duration"],
        until[:16],
    )


def _path(base: str, name: str, action: str) -> str:
    return base + (f"/{quote(guid_of(name), safe='')}" if name else "") + (f"/{action}" if action else "")


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return "1 hour" if hours == 1 else f"{hours:g} hours"


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _differs(name: str) -> Fault:
    message = (
        f"What the platform proposes to sign is not what the request says: '{name}' differs. Nothing was signed. "
        "Somebody may be trying to have you sign something else; tell who runs the platform, and keep the output of `stockade lockbox requests show`."
    )
    return Fault(FaultKind.INVALID, message, code="ApprovalDiffers")
