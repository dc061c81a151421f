"""`stockade receipt`: signed receipts of requests (`x-stockade-receipt: 1`), had again, and checked with the public key alone."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

import typer

from stockade.cli.account import OutputFormat
from stockade.cli.audit_search import LogName
from stockade.cli.context import DataDir, err, print_columns
from stockade.cli.speaking import speaking
from stockade.kernel.faults import Fault, FaultKind

app = typer.Typer(help="Signed receipts of requests.", no_args_is_help=True)

MAX_FILE: Final = 64 * 1024 * 1024
MAX_KEY: Final = 64 * 1024
_RECEIPT: Final = re.compile(rb"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@app.command("show")
def show(
    decision: Annotated[str, typer.Argument(help="The request's decision id.", show_default=False)],
    log: LogName = "",
    data_dir: DataDir = None,
) -> None:
    """Print the receipt that a request's caller asked for, also after the caller has lost it."""
    arm = speaking("APPROVER")
    scope = "" if log == "platform" else f"/subscriptions/{log}" if log else arm.subscription
    answer = arm.call("GET", f"{scope}/providers/Stockade.Audit/records/{quote(decision.strip(), safe='')}/receipt")
    sys.stdout.write(str(answer["receipt"]) + "\n")


@app.command("verify")
def verify(
    file: Annotated[
        Path,
        typer.Argument(
            help="A receipt, or a reply with one in it: headers, or the stream it ended.",
            dir_okay=False,
            show_default=False,
        ),
    ],
    key: Annotated[
        str,
        typer.Option(
            "--key",
            "-k",
            help="The public key, or a file with it: base64url, a JWK, a set. [default: the platform is asked]",
            show_default=False,
        ),
    ] = "",
    body: Annotated[
        Path | None,
        typer.Option(
            "--body",
            help="The request's body, to be compared with what was signed.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    query: Annotated[
        str, typer.Option("--query", help="The request's query, as it was sent, without '?'.", show_default=False)
    ] = "",
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Check a receipt. With --key it needs nothing of the platform; ends with 7 for one that was not signed so."""
    import msgspec

    from stockade.keys import request_receipts

    found = _RECEIPT.findall(_content(file, MAX_FILE))
    if not found:
        raise Fault(FaultKind.INVALID, f"There is no receipt in {file}.")
    text = found[-1].decode()
    public = request_receipts.read_key(_key(key), request_receipts.key_named(text))
    receipt = request_receipts.verify(text, public)
    if body is not None or query:
        digest = sha256(_content(body, MAX_FILE) if body is not None else b"").digest()
        if request_receipts.request_hash(receipt.method, receipt.path, query, digest) != receipt.request:
            raise Fault(FaultKind.INVALID, "The receipt is genuine, but of a request with another body or query.")
    if form == "json":
        sys.stdout.write(json.dumps(msgspec.to_builtins(receipt), indent=2) + "\n")
        return
    err.print(f"Valid. Signed with the key {request_receipts.key_id(public)}.", markup=False)
    when = datetime.fromtimestamp(receipt.iat, UTC).isoformat(sep=" ", timespec="seconds")
    stored = receipt.stored if isinstance(receipt.stored, str) else ", ".join(receipt.stored)
    rows = [
        ("Request", f"{receipt.method} {receipt.path}"),
        ("Body", "read" if receipt.body else "not read"),
        (
            "Compared",
            "the same request" if body is not None or query else "no: give --body, and --query where there was one",
        ),
        ("Answered", f"{receipt.status}, {receipt.outcome}"),
        ("Stored", stored),
        ("Account", receipt.account or "-"),
        ("Policy", str(receipt.policy)),
        ("Decision id", receipt.jti),
        ("Signed", f"{when} by {receipt.iss}"),
    ]
    print_columns(("", ""), rows)


def _key(given: str) -> str:
    if not given:
        answer = speaking("APPROVER").call("GET", "/providers/Stockade.Audit/keys")
        return json.dumps(answer["receipts"])
    path = Path(given)
    try:
        is_file = len(given) < 1024 and path.is_file()
    except (OSError, ValueError):
        is_file = False
    return _content(path, MAX_KEY).decode(errors="replace") if is_file else given


def _content(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as failure:
        raise Fault(FaultKind.NOT_FOUND, f"{path} cannot be read: {failure.strerror}.") from failure
    if len(data) > limit:
        raise Fault(FaultKind.TOO_LARGE, f"{path} is too large for what it should be.")
    return data
