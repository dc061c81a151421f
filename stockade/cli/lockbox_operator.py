"""`stockade lockbox objects|request|review|wait|read|cancel|done|break-glass`: what operators do.

They are who STOCKADE_OPERATOR_ID and STOCKADE_OPERATOR_SECRET name, where those are set; a reviewer STOCKADE_REVIEWER_ID and
STOCKADE_REVIEWER_SECRET. Without them, the administrator.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from stockade.cli import outcome
from stockade.cli.account import OutputFormat
from stockade.cli.arm import Arm
from stockade.cli.clock import seconds_of
from stockade.cli.context import DataDir, err, moment, out, print_columns
from stockade.cli.lockbox_customer import sign, signed_body, signing_id
from stockade.cli.lockbox_policy import AccountOption
from stockade.cli.lockbox_request import (
    OPEN,
    As,
    KeyOption,
    RequestName,
    Yes,
    confirm,
    guid_of,
    operator_path,
    print_json,
    print_one,
    print_requests,
    print_to_sign,
    to_be_signed,
)
from stockade.cli.lockbox_signing import key_of
from stockade.cli.speaking import speaking
from stockade.lockbox import approval as approvals
from stockade.lockbox import visible
from stockade.lockbox.approval import BREAK_GLASS

POLL_S: Final = 2.0
DECIDED: Final = {"Approved": outcome.OK}
"""What `wait` ends with once somebody has decided; everything else that is over is a refusal."""
Why = Annotated[str, typer.Option("--reason", "-m", help="What the record says of it.", show_default=False)]


def objects(account: AccountOption, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """List what can be seen of what an account keeps without asking: ids, sizes, times, status. Never names, never bodies."""
    arm = speaking("OPERATOR")
    found = list(arm.pages(f"{arm.account(account).id}/providers/Stockade.Lockbox/objects"))
    if form == "json":
        print_json(found)
        return
    if not found:
        err.print("It keeps nothing.")
        return
    columns = [one for one in visible.OBJECT if one.heading]
    print_columns(
        [one.heading for one in columns], ([_cell(entry.get(one.member)) for one in columns] for entry in found)
    )


def request(
    account: AccountOption,
    scope: Annotated[
        list[str], typer.Option("--scope", help="files/file-4f..., or files/*; several times.", show_default=False)
    ],
    reason: Annotated[
        str, typer.Option("--reason", "-m", help="Why; approvers have nothing else to go by.", show_default=False)
    ],
    case: Annotated[
        str, typer.Option("--case", help="The https address of the support case.", show_default=False)
    ] = "",
    duration: Annotated[
        str, typer.Option("--duration", help="30m, 8h. [default: the longest there is]", show_default=False)
    ] = "",
    break_glass: Annotated[bool, typer.Option("--break-glass", help="Ask nobody; see `lockbox break-glass`.")] = False,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Ask the customer to let you read something."""
    arm = speaking("OPERATOR")
    properties: dict[str, Any] = {"account": arm.account(account).id, "scope": scope, "reason": reason, "case": case}
    if duration:
        properties["durationHours"] = seconds_of(duration) / 3600
    if break_glass:
        properties["breakGlass"] = True
    made = arm.call("PUT", operator_path(arm, str(uuid.uuid4())), {"properties": properties})
    print_one(made, form)
    if form != "json" and not break_glass:
        out.print(f"Wait for the answer: stockade lockbox wait {made['properties']['requestId']}")


def requests(
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """List what operators have asked for, as operators see it."""
    arm = speaking("OPERATOR")
    found = arm.call("GET", operator_path(arm))["value"]
    found = [one for one in found if everything or one["properties"]["status"] in OPEN]
    found.sort(key=lambda one: (one["properties"]["createdDateTime"], one["name"]))
    print_requests(found, form, "There are none.")


def review(
    name: RequestName,
    reason: Annotated[str, typer.Option("--reason", "-m", help="What the record says of it.", show_default=False)],
    refuse: Annotated[bool, typer.Option("--deny", help="The customer is not asked.")] = False,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Look at another operator's request before the customer is asked, where the platform wants that."""
    arm = speaking("REVIEWER")
    body = {"decision": "Deny" if refuse else "Approve", "reason": reason}
    print_one(arm.call("POST", operator_path(arm, name, "review"), body), form)


def wait(
    name: RequestName,
    timeout: Annotated[str, typer.Option("--timeout", help="How long: 10m, 4d.")] = "4d",
    data_dir: DataDir = None,
) -> None:
    """Wait until a request is decided on. Ends with 0 when it is approved, 5 when it is not, 8 when nobody has decided in time."""
    arm, until, told = speaking("OPERATOR"), time.monotonic() + seconds_of(timeout), ""
    while True:
        what = arm.call("GET", operator_path(arm, name))["properties"]
        if what["status"] != told:
            told = what["status"]
            out.print(f"{moment(arm.settings):%Y-%m-%d %H:%M}  {told}{_by(what)}", markup=False)
        if told not in ("Initializing", "Pending", "Approving"):
            raise typer.Exit(DECIDED.get(told, outcome.REFUSED))
        if time.monotonic() + POLL_S > until:
            err.print(f"Nobody has decided so far. It lapses at {what['expirationDateTime'][:16]}.")
            raise typer.Exit(outcome.BUSY)
        time.sleep(POLL_S)


def read(
    name: RequestName,
    path: Annotated[str, typer.Argument(help="files/file-4f...; what there is, without it.", show_default=False)] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file; - is what is printed.", show_default=False)
    ] = None,
    metadata: Annotated[bool, typer.Option("--metadata", help="Names and the like, instead of the body.")] = False,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Read what was approved. Each thing that is read stands in the customer's log before its first byte comes."""
    arm = speaking("OPERATOR")
    base = f"/lockbox/v1/requests/{arm.administrator.subscription_id}/{guid_of(name)}/content"
    if not path:
        _list_content(arm, base, form)
        return
    if not approvals.is_pattern(path) or path.endswith("/*"):
        raise typer.BadParameter("A path is a kind and an id: files/file-4f...")
    if output is None and not metadata:
        raise typer.BadParameter("Say where to with --output FILE; - prints it.")
    with _written_to(output) as file:
        for piece in arm.download(f"{base}/{path}" + ("?part=metadata" if metadata else "")):
            file.write(piece)
    if output is not None and str(output) != "-":
        err.print(f"{output}: {output.stat().st_size} bytes")


def cancel(name: RequestName, reason: Why = "", form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Take back a request of your own that nobody has decided on."""
    _end("cancel", name, reason, form)


def done(name: RequestName, reason: Why = "", form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Give back access that is not needed any more."""
    _end("complete", name, reason, form)


def break_glass(name: RequestName, key: KeyOption, key_id: As = "", yes: Yes = False, data_dir: DataDir = None) -> None:
    """Sign, as one of the operators whom the account's statement names, that its content is opened without an approver.

    It takes several: each runs this, with an own credential and an own key, on a request made with `lockbox request --break-glass`. The customer
    is told at once, and the record stands in their log before the first byte is read.
    """
    arm = speaking("OPERATOR")
    found = arm.call("GET", operator_path(arm, name))
    what, told = to_be_signed(found, BREAK_GLASS, arm.now())
    signer = key_of(key, arm)
    used = signing_id(arm, what, told, signer, key_id)
    print_to_sign(what, found["properties"]["stockade"]["operator"]["name"])
    confirm(f"Break the glass, as '{used}'?", yes=yes)
    payload = approvals.encode(what)
    body = signed_body(payload, sign(signer, payload, used))
    answered = arm.call("POST", operator_path(arm, name, "breakGlass"), body)
    print_one(answered, "table")


def _end(action: str, name: str, reason: str, form: str) -> None:
    arm = speaking("OPERATOR")
    body = {"reason": reason} if reason else {}
    print_one(arm.call("POST", operator_path(arm, name, action), body), form)


def _list_content(arm: Arm, base: str, form: str) -> None:
    import json

    found = json.loads(b"".join(arm.download(base)))["value"]
    if form == "json":
        print_json(found)
        return
    print_columns(
        ("Path", "Bytes", "Created", "Name"),
        (
            (
                f"{one['kind']}/{one['id']}",
                str(one["bytes"]),
                str(one["createdAt"])[:16],
                str((one.get("metadata") or {}).get("filename", "")),
            )
            for one in found
        ),
    )


@contextmanager
def _written_to(output: Path | None) -> Iterator[BinaryIO]:
    """Open what is written to: a new file that its owner alone can read, and that is not there when it was not all written."""
    if output is None or str(output) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as failure:
        raise typer.BadParameter(f"{output} is there already, and nothing is written over it.") from failure
    except OSError as failure:
        raise typer.BadParameter(f"{output} cannot be written: {failure.strerror}.") from failure
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except BaseException:
        with suppress(FileNotFoundError):
            output.unlink()
        raise


def _by(what: Any) -> str:
    last = what["stockade"]["history"][-1]
    comment = f": {' '.join(last['comment'].split())}" if last.get("comment") and last["event"] != "Created" else ""
    return f" by {last['by']['name']}{comment}" if last["event"] != "Created" else ""


def _cell(value: Any) -> str:
    return "" if value is None else str(value)[:19] if isinstance(value, str) and value[10:11] == "T" else str(value)
