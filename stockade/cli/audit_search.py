"""`stockade audit search|prove`: finding records and proving one, through ARM as every client does, or with --local in the folder itself.

Whoever may read the subscription's records may ask, from wherever: on another machine the addresses and the client that `stockade env` names
are taken.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlencode

import typer

from stockade.cli.account import OutputFormat
from stockade.cli.arm import Arm
from stockade.cli.clock import seconds_of
from stockade.cli.context import DataDir, err, moment, print_columns, read_settings
from stockade.cli.speaking import speaking
from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Settings

T = TypeVar("T")

SHOWN: Final = 50
PAGE: Final = 1000
RECORDED_WITHIN_S: Final = 4.0
PROVEN_WITHIN_S: Final = 30.0
"""A record is in its log within seconds, and under a signed head within `audit.head_every_s`."""
INDEXED_WITHIN_S: Final = 600.0
PAUSE_S: Final = 1.0
_PLATFORM: Final = "platform"

LogName = Annotated[
    str,
    typer.Option(
        "--log",
        "--subscription",
        "-l",
        help="A subscription's id, or platform. [default: the subscription]",
        show_default=False,
    ),
]
Local = Annotated[
    bool, typer.Option("--local", help="Read the logs in the data directory, without the server: for operators.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a search is for, in ARM's words."""

    account: str
    principal: str
    decision: str
    operation: str
    outcome: str
    category: str
    status: tuple[int, int] | None
    since: float | None
    until: float | None

    def filter(self) -> str:
        """Return it as ARM's `$filter`."""
        texts = ("account", "principal", "decision", "operation", "outcome", "category")
        named = [(name, str(getattr(self, name)).replace("'", "''")) for name in texts]
        terms = [f"{name} eq '{value}'" for name, value in named if value]
        if self.status is not None:
            terms += [f"status ge {self.status[0]}", f"status le {self.status[1]}"]
        terms += [f"time ge {iso(self.since)}"] if self.since is not None else []
        terms += [f"time le {iso(self.until)}"] if self.until is not None else []
        return " and ".join(terms)


def search(
    account: Annotated[
        str,
        typer.Option(
            "--account", "-a", help="An account's name, or any ARM id: what is below it counts.", show_default=False
        ),
    ] = "",
    principal: Annotated[
        str,
        typer.Option(
            "--principal", "-p", help="An object id; Key1, Key2 or none for calls without a token.", show_default=False
        ),
    ] = "",
    decision: Annotated[Literal["allow", "deny"] | None, typer.Option("--decision", "-d", show_default=False)] = None,
    since: Annotated[
        str, typer.Option("--since", help="From when on: 30m, 24h, 7d, or 2026-11-26T12:00.", show_default=False)
    ] = "",
    until: Annotated[str, typer.Option("--until", help="Until when, written likewise.", show_default=False)] = "",
    operation: Annotated[
        str,
        typer.Option(
            "--operation", "-o", help="In full, or up to a final *: 'Microsoft.KeyVault/*'.", show_default=False
        ),
    ] = "",
    outcome: Annotated[
        str, typer.Option("--outcome", help="success, cancelled, failed:Conflict, 'failed*'.", show_default=False)
    ] = "",
    status: Annotated[str, typer.Option("--status", help="Of HTTP: 403, or 400-599.", show_default=False)] = "",
    category: Annotated[
        Literal["Audit", "RequestResponse"] | None,
        typer.Option("--category", help="Management and keys, or data planes.", show_default=False),
    ] = None,
    log: LogName = "",
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1_000_000, help="How many at most.")] = SHOWN,
    form: OutputFormat = "table",
    local: Local = False,
    data_dir: DataDir = None,
) -> None:
    """Find records, newest first, with where each stands in its log."""
    settings, arm = _source(local)
    asked = _Asked(
        account=_account(arm, account),
        principal=principal,
        decision=decision or "",
        operation=operation,
        outcome=outcome,
        category=category or "",
        status=_statuses(status),
        since=_instant(settings, since),
        until=_instant(settings, until),
    )
    found = islice(_here(settings, asked, log, count) if arm is None else _there(arm, asked, log, count), count)
    if form == "json":
        for one in found:
            sys.stdout.write(json.dumps(one) + "\n")
        return
    rows = [_row(one) for one in found]
    if not rows:
        err.print("There are none.")
        return
    print_columns(("Index", "Time", "", "Status", "Operation", "On", "By", "From", "Decision id"), rows)
    if len(rows) == count:
        err.print(f"The newest {count}; -n shows more.")


def prove(
    decision: Annotated[
        str, typer.Argument(help="What a reply's x-stockade-decision or apim-request-id says.", show_default=False)
    ],
    file: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write. [default: standard output]", dir_okay=False)
    ] = None,
    index: Annotated[
        int | None,
        typer.Option("--index", help="Which of the request's records. [default: the last]", show_default=False),
    ] = None,
    log: LogName = "",
    local: Local = False,
    data_dir: DataDir = None,
) -> None:
    """Get the proof that a request's record stands in the log: for `stockade audit verify`, or anybody who reads RFC 9162."""
    settings, arm = _source(local)
    with _waiting("the record is not under a signed head yet"):
        if arm is None:
            content, others = _patiently(lambda: _proof_here(settings, decision, index, log), _comes_soon)
        else:
            content, others = _patiently(lambda: _proof_there(arm, decision, index, log), _comes_soon)
    if others and index is None:
        places = ", ".join(str(place) for place in others)
        err.print(f"This proves the last of the request's records; --index chooses another: {places}.", markup=False)
    if file is None:
        sys.stdout.write(content.decode())
        return
    try:
        file.write_bytes(content)
    except OSError as failure:
        raise Fault(FaultKind.UNAVAILABLE, f"{file} cannot be written: {failure.strerror}.") from failure
    err.print(f"Written to {file}. To verify it: stockade audit verify {file} --key KEY", markup=False)


# Through ARM


def _there(arm: Arm, asked: _Asked, log: str, count: int) -> Iterator[dict[str, Any]]:
    query = urlencode({"$filter": asked.filter(), "$top": str(min(count, PAGE))})
    path = f"{_scope(arm, log)}/providers/Stockade.Audit/records?{query}"
    following: str | None = path
    while following is not None:
        asked_for = following
        with _waiting("the log is being indexed"):
            entries, following = _patiently(lambda: arm.page(asked_for), _is_behind)  # noqa: B023 - done with before the next
        for one in entries:
            place = one["properties"]
            yield {"log": place["log"], "index": place["index"], "record": place["record"]}


def _proof_there(arm: Arm, decision: str, index: int | None, log: str) -> tuple[bytes, list[int]]:
    from msgspec import convert

    from stockade.audit.proof import Proof, encoded

    path = f"{_scope(arm, log)}/providers/Stockade.Audit/records/{_checked(decision)}"
    places = [one["properties"]["index"] for one in arm.call("GET", path)["value"]]
    bundle = arm.call("GET", f"{path}/proof{'' if index is None else f'?index={index}'}")
    return encoded(convert(bundle, Proof)), places[:-1]


def _scope(arm: Arm, log: str) -> str:
    if log == _PLATFORM:
        return ""
    return f"/subscriptions/{log}" if log else arm.subscription


def _account(arm: Arm | None, account: str) -> str:
    if not account or account.startswith("/"):
        return account
    if arm is None:
        raise typer.BadParameter("With --local an account is named by its ARM id.")
    return arm.account(account).id


# In the data directory


def _here(settings: Settings, asked: _Asked, log: str, count: int) -> Iterator[dict[str, Any]]:
    from stockade.audit.criteria import Wanted
    from stockade.audit.search import search as find
    from stockade.audit.store import Logs

    reader = Logs(settings.audit_dir).reader(_log(settings, log))
    wanted = Wanted(
        resource=asked.account,
        who=asked.principal,
        decision=asked.decision,
        operation=asked.operation,
        outcome=asked.outcome,
        category=asked.category,
        statuses=asked.status,
        since=asked.since,
        until=asked.until,
    )
    token = ""
    while True:
        with _progress() as progress:
            page = find(reader, settings.audit_dir, wanted, limit=min(count, PAGE), token=token, progress=progress)
        for found in page.found:
            yield {"log": reader.name, "index": found.index, "record": json.loads(found.line)}
        token = page.token
        if not token:
            return


def _proof_here(settings: Settings, decision: str, index: int | None, log: str) -> tuple[bytes, list[int]]:
    from stockade.audit.heads import Heads
    from stockade.audit.proof import encoded
    from stockade.audit.proof import prove as make
    from stockade.audit.search import records_of
    from stockade.audit.store import Logs

    reader = Logs(settings.audit_dir).reader(_log(settings, log))
    with _progress() as progress:
        found = records_of(reader, settings.audit_dir, decision, progress=progress)
    places = [one.index for one in found]
    if not places or (index is not None and index not in places):
        shown = ", ".join(str(place) for place in places) or "none"
        raise Fault(
            FaultKind.NOT_FOUND,
            f"The log {reader.name} has no such record of '{decision[:64]}'; there is: {shown}.",
            code="AuditRecordNotFound",
        )
    bundle = make(reader, Heads(reader.folder), places[-1] if index is None else index)
    return encoded(bundle), places[:-1]


def _log(settings: Settings, log: str) -> str:
    from stockade.serve.administrator import Administrator

    return log.lower() or Administrator.open(settings).subscription_id.lower()


def _source(local: bool) -> tuple[Settings, Arm | None]:
    if local:
        return read_settings(), None
    arm = speaking("APPROVER")
    return arm.settings, arm


# Words and waiting


def _patiently(ask: Callable[[], T], worth_s: Callable[[Fault], float]) -> T:
    """Ask until there is an answer, or waiting helps no longer. worth_s: how long a refusal is worth waiting for, since the first time."""
    began = time.monotonic()
    while True:
        try:
            return ask()
        except Fault as fault:
            if time.monotonic() - began >= worth_s(fault):
                raise
        time.sleep(PAUSE_S)


def _is_behind(fault: Fault) -> float:
    """Wait for a log that is being indexed, which asking goes on with."""
    return INDEXED_WITHIN_S if fault.code == "AuditIndexBehind" else 0.0


def _comes_soon(fault: Fault) -> float:
    """Wait for a record that may still be on its way, or under no signed head yet."""
    if fault.kind is FaultKind.UNAVAILABLE:
        return max(PROVEN_WITHIN_S, _is_behind(fault))
    return RECORDED_WITHIN_S if fault.code in ("AuditRecordNotFound", "AuditLogEmpty") else 0.0


def _statuses(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    low, _, high = text.partition("-")
    if not (low.isdecimal() and len(low) == 3 and (not high or (high.isdecimal() and len(high) == 3))):
        raise typer.BadParameter(f"'{text}' is no status: say 403, or 400-599.")
    return int(low), int(high or low)


def _instant(settings: Settings, text: str) -> float | None:
    """Return a moment, or so long ago by the server's clock."""
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return moment(settings).timestamp() - seconds_of(text)
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()


def _checked(decision: str) -> str:
    wanted = decision.strip().lower()
    if not wanted or len(wanted) > 128 or not all(mark.isalnum() or mark in "-_." for mark in wanted):
        raise typer.BadParameter(f"'{decision[:64]}' is no decision id.")
    return wanted


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    record = one["record"]
    when = datetime.fromtimestamp(record["time"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    return (
        str(one["index"]),
        when,
        record.get("decision") or record.get("phase", ""),
        str(record.get("status") or ""),
        record.get("operation") or "-",
        record.get("resource", "").rsplit("/", 1)[-1] or "-",
        record.get("principal") or record.get("credential") or "-",
        record.get("callerAddress") or "-",
        record.get("id", ""),
    )


@contextmanager
def _waiting(why: str) -> Iterator[None]:
    if not err.is_terminal:
        yield
        return
    with err.status(f"{why} ..."):
        yield


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show on a terminal how far indexing is."""
    if not err.is_terminal:
        yield None
        return
    with err.status("reading") as shown:
        yield lambda done, size: shown.update(f"indexed: {done:,} of {size:,} records")
