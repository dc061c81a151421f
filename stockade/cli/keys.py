"""`stockade keys`: the two keys of an account, who uses them, and a rotation that locks nobody out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import typer

from stockade.cli.account import OutputFormat
from stockade.cli.arm import Account, Arm, connect
from stockade.cli.context import DataDir, err, moment, out, print_columns, running_settings
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret

app = typer.Typer(help="Subscription keys, and the platform's own.", no_args_is_help=True)

Slot = Literal["Key1", "Key2"]
AccountArgument = Annotated[str, typer.Argument(help="An AI account: its name or ARM id.", show_default=False)]
Within = Annotated[
    float, typer.Option("--within", min=0, max=44_640, help="A key used within so many minutes counts as in use.")
]
Forget = Annotated[
    bool,
    typer.Option(
        "--forget", help="Keep no copy of the new key: it is printed this once. A Lockbox statement names no others."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Regenerate a key even though it is in use.")]

POLL_S = 2.0
GUARD_MINUTES = 15.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What is known of one slot. Instants are aware datetimes."""

    slot: Slot
    created: datetime
    last_used: datetime | None
    callers: tuple[Mapping[str, Any], ...]

    def in_use(self, now: datetime, within_minutes: float) -> bool:
        """Say whether it was used within so many minutes."""
        return self.last_used is not None and (now - self.last_used).total_seconds() < within_minutes * 60


@app.command("show")
def show(
    account: AccountArgument,
    form: OutputFormat = "table",
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the keys themselves too.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Show when each key was made and last used, and by whom."""
    arm = connect(running_settings())
    found = arm.account(account)
    usages = usage(arm, found)
    values = [_shown(key) for key in arm.keys(found)] if reveal else ["", ""]
    if form == "json":
        rows = [
            {
                "keyName": entry.slot,
                **({"key": value} if reveal else {}),
                "createdAt": entry.created.isoformat(),
                "lastUsed": entry.last_used.isoformat() if entry.last_used is not None else None,
                "callers": [dict(caller) for caller in entry.callers],
            }
            for entry, value in zip(usages, values, strict=True)
        ]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    now = moment(arm.settings)
    for entry, value in zip(usages, values, strict=True):
        used = f"last used {_ago(now, entry.last_used)}" if entry.last_used is not None else "never used"
        out.print(f"[bold]{entry.slot}[/] made {_ago(now, entry.created)}, {used}" + (f"  {value}" if reveal else ""))
        if entry.callers:
            print_columns(
                ("  From", "Client", "Calls", "Last seen"),
                (
                    (
                        f"  {c['address']}",
                        c["client"] or "unknown",
                        str(c["count"]),
                        _ago(now, datetime.fromisoformat(c["lastSeen"])),
                    )
                    for c in entry.callers
                ),
            )


@app.command("regenerate")
def regenerate_one(
    account: AccountArgument,
    slot: Annotated[Slot, typer.Argument(help="Which key.", show_default=False)],
    within: Within = GUARD_MINUTES,
    force: Force = False,
    forget: Forget = False,
    data_dir: DataDir = None,
) -> None:
    """Replace one key, at once, and print the new one. Refused while the key is in use, unless forced."""
    arm = connect(running_settings())
    found = arm.account(account)
    out.print(regenerate(arm, found, slot, within, force=force, forget=forget))


@app.command("rotate")
def rotate(
    account: AccountArgument,
    within: Within = GUARD_MINUTES,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Minutes to wait for callers to move.")] = 60,
    force: Force = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with a rotation that was broken off: the newer key stays, the other is replaced."
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Replace both keys without locking anyone out.

    Regenerates the key nobody uses and prints it, waits until the callers of the other one have moved, and regenerates that one too. Ctrl-C is
    safe at any moment: what was printed is in force, the rest is as it was, and --resume goes on from there.
    """
    arm = connect(running_settings())
    found = arm.account(account)
    now = moment(arm.settings)
    if resume:
        second, first = sorted(usage(arm, found), key=lambda entry: entry.created)
        new = _shown(arm.keys(found)[("Key1", "Key2").index(first.slot)])
        err.print(f"1. {first.slot} was made {_ago(now, first.created)} and stays.")
    else:
        first, second = order(usage(arm, found), now, within)
        if first.in_use(now, within) and not force:
            callers = "; ".join(sorted({_who(caller) for caller in first.callers}))
            raise Fault(
                FaultKind.CONFLICT,
                f"Both keys of {found.name} were used within {within:g} minutes; the quieter one, {first.slot}, by {callers}. "
                "Move its callers to the other key first, or use --force.",
            )
        err.print(f"1. Regenerating {first.slot}" + ("." if first.in_use(now, within) else ", which is not in use."))
        new = regenerate(arm, found, first.slot, within, force=force)
    out.print(f"{first.slot} {new}")
    if not force:
        err.print(
            f"2. Give callers {first.slot}. Waiting until {second.slot} has not been used for {within:g} minutes."
        )
        try:
            moved = wait_until_quiet(
                lambda: _one(usage(arm, found), second.slot),
                now,
                within,
                timeout * 60,
                clock=lambda: moment(arm.settings),
            )
        except KeyboardInterrupt:
            err.print(
                f"Broken off. {first.slot} is in force, {second.slot} stays. Go on with: stockade keys rotate {found.name} --resume"
            )
            raise
        if not moved:
            raise Fault(
                FaultKind.CONFLICT,
                f"{second.slot} was still used after {timeout:g} minutes and stays as it is; {first.slot} is in force. "
                f"Move the rest (see `stockade keys show {found.name}`), then: stockade keys rotate {found.name} --resume",
            )
    err.print(f"3. Regenerating {second.slot}.")
    out.print(f"{second.slot} {regenerate(arm, found, second.slot, within, force=force)}")


def usage(arm: Arm, account: Account) -> tuple[Usage, Usage]:
    """Return what is known of both slots."""
    answer = arm.call("POST", f"{account.id}/listKeyUsage")
    first, second = (
        Usage(
            entry["keyName"],
            datetime.fromisoformat(entry["createdAt"]),
            datetime.fromisoformat(entry["lastUsed"]) if entry["lastUsed"] else None,
            tuple(entry["callers"]),
        )
        for entry in answer["value"]
    )
    return first, second


def order(usages: tuple[Usage, Usage], now: datetime, within_minutes: float) -> tuple[Usage, Usage]:
    """Return the slots in the order in which they are rotated: the quieter first; of two quiet ones the older."""
    key1, key2 = usages

    def rank(entry: Usage) -> tuple[bool, float, float]:
        used = entry.last_used.timestamp() if entry.last_used is not None else 0.0
        return entry.in_use(now, within_minutes), used, entry.created.timestamp()

    return (key1, key2) if rank(key1) <= rank(key2) else (key2, key1)


def wait_until_quiet(
    read: Callable[[], Usage],
    since: datetime,
    within_minutes: float,
    timeout_s: float,
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], datetime],
) -> bool:
    """Wait until a key has not been used for the guard time, reporting who still uses it; False when the time is up.

    A key that was not in use to begin with needs no waiting.
    """
    reported = ""
    deadline = clock().timestamp() + timeout_s
    while True:
        now, entry = clock(), read()
        if not entry.in_use(now, within_minutes):
            return True
        names = sorted({_who(c) for c in entry.callers if datetime.fromisoformat(c["lastSeen"]) >= since})
        using = (
            "; ".join(names) or f"nobody since then (last {_ago(now, entry.last_used)}, by {_who(entry.callers[0])})"
        )
        if using != reported:
            err.print(f"   {entry.slot} is used by {using}")
            reported = using
        if now.timestamp() >= deadline:
            return False
        pause(POLL_S)


def regenerate(
    arm: Arm, account: Account, slot: Slot, within_minutes: float, *, force: bool, forget: bool = False
) -> str:
    """Regenerate one slot through ARM, guarded there against a key in use, and return the new key."""
    guard = {"force": True} if force else {"ifUnusedForMinutes": within_minutes}
    body = {"keyName": slot, **guard, **({"forget": True} if forget else {})}
    return str(arm.call("POST", f"{account.id}/regenerateKey", body)[slot.lower()])


def _shown(key: Secret | None) -> str:
    return key.reveal_text() if key is not None else "(only its holder has it)"


def _one(usages: tuple[Usage, Usage], slot: Slot) -> Usage:
    return usages[0] if usages[0].slot == slot else usages[1]


def _who(caller: Mapping[str, Any]) -> str:
    return f"{caller['address']} ({caller['client'] or 'unknown client'})"


def _ago(now: datetime, then: datetime | None) -> str:
    if then is None:
        return "never"
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now" if seconds < 5 else f"{seconds} seconds ago"
