"""`stockade audit export|verify|keys`: the log for outsiders. Verifying a file needs that file, the public key, and nothing of the platform."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stockade.cli import outcome
from stockade.cli.context import DataDir, err, out, read_settings, running_settings
from stockade.kernel.faults import Fault, FaultKind

if TYPE_CHECKING:
    from stockade.audit.checkpoint import HeadKey, SignedHead
    from stockade.audit.export import Progress
    from stockade.audit.store import Logs
    from stockade.audit.verification import Verified

MAX_KEY: Final = 64 * 1024
MAX_WITNESS: Final = 512 * 1024 * 1024

LogName = Annotated[
    str, typer.Option("--log", "--subscription", "-l", help="A subscription's id, or platform.", show_default=False)
]


def export(
    file: Annotated[Path, typer.Option("--out", "-o", help="The file to write.", dir_okay=False, show_default=False)],
    log: LogName,
    start: Annotated[
        str, typer.Option("--from", help="The first record: its index, or a time (2026-11-26, 2026-11-26T12:00).")
    ] = "",
    end: Annotated[
        str, typer.Option("--to", help="Where to end: the index or time of the first record left out.")
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Write one log, or a part of it, with all that verifying it takes, into one file."""
    from stockade.audit.export import export as write
    from stockade.audit.heads import Heads

    logs = _logs()
    reader = logs.reader(log)
    if log not in logs.names():
        names = ", ".join(logs.names()) or "none yet"
        raise Fault(FaultKind.NOT_FOUND, f"There is no audit log {log}. There are: {names}.")
    first, last = _index(logs, log, start), _index(logs, log, end)
    draft = file.with_name(f".{file.name}.part")
    try:
        with open(draft, "wb", opener=_private) as to, _progress("written") as progress:
            start_at, end_at = write(reader, Heads(reader.folder), to, start=first or 0, end=last, progress=progress)
        draft.rename(file)
    except OSError as failure:
        raise Fault(FaultKind.UNAVAILABLE, f"{file} cannot be written: {failure.strerror}.") from failure
    finally:
        draft.unlink(missing_ok=True)
    err.print(f"{end_at - start_at} records, from {start_at} on, are in {file}.", markup=False)
    unsigned = reader.size - end_at
    if last is None and unsigned:
        err.print(f"{unsigned} newer ones are under no signed head yet.", markup=False)


def verify(
    file: Annotated[
        Path | None,
        typer.Argument(help="An export, or a proof of one record. Without it: the logs here.", show_default=False),
    ] = None,
    key: Annotated[
        str,
        typer.Option("--key", "-k", help="The public key, or a file with it: PEM, or name+id+key.", show_default=False),
    ] = "",
    witness: Annotated[
        Path | None,
        typer.Option("--witness", help="A file of heads pinned elsewhere, to hold it to.", show_default=False),
    ] = None,
    part: Annotated[bool, typer.Option("--part", help="Take a part of a log (--from, --to) as such.")] = False,
    log: Annotated[
        str, typer.Option("--log", "--subscription", "-l", help="Only this one of the logs here.", show_default=False)
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Verify an export or a proof with nothing but the public key; or, without a file, the logs of this data directory.

    Every record's place, every head's signature, and that each head continues the one before. Ends with 0 when all is as it was signed, with 7
    when something was changed, left out, added or moved, with 9 when the witness has seen more records, with 10 when it has seen others.
    """
    from stockade.audit.verification import read_witness

    heads = read_witness(_content(witness, MAX_WITNESS)) if witness is not None else []
    if file is None:
        _verify_here(key, heads, log)
        return
    if not key:
        message = "Which key? `stockade audit keys` prints it; have it from the platform itself, not from who gave you the file."
        raise Fault(FaultKind.INVALID, message)
    try:
        with file.open("rb") as content:
            is_export = content.read(32).startswith(b'{"stockadeAuditExport"')
    except OSError as failure:
        raise Fault(FaultKind.NOT_FOUND, f"{file} cannot be read: {failure.strerror}.") from failure
    if is_export:
        _verify_export(file, _keys(key), heads, part)
    else:
        _verify_proof(file, _keys(key))


def keys(
    log: Annotated[
        str, typer.Option("--log", "--subscription", "-l", help="Only for this log.", show_default=False)
    ] = "",
    pem: Annotated[bool, typer.Option("--pem", help="In PEM, once for all logs.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Print the public key that tree heads verify with: for each log a line of name, id and key, as C2SP's tools take it."""
    from stockade.audit.heads import Heads

    (key,) = _own_key()
    if pem:
        sys.stdout.write(key.pem())
        return
    logs = _logs()
    newest = [Heads(logs.reader(name).folder).newest() for name in logs.names() if log in ("", name)]
    origins = [signed.head.origin for signed in newest if signed is not None]
    if not origins:
        raise Fault(
            FaultKind.NOT_FOUND, "No tree head has been signed yet. With --pem the key is printed without a log's name."
        )
    for origin in origins:
        sys.stdout.write(key.text(origin) + "\n")


def forget_head(log: LogName, data_dir: DataDir = None) -> None:
    """Let a log be signed again that was restored from before its newest head. The platform must be stopped; it takes the root key.

    Whoever holds a newer head still sees that records are gone; that it was signed anew is a record of the log.
    """
    from stockade.audit.store import check_name
    from stockade.boot.key_broker import forget_head as forget
    from stockade.cli.root_key import root_of
    from stockade.keys.keyring import FILE_NAME, Keyring, sealing_key
    from stockade.serve import running

    check_name(log)
    settings = read_settings()
    if running.status(settings) is not None or settings.broker_socket.exists():
        raise Fault(FaultKind.CONFLICT, "Stop the platform and its key broker first.")
    keyring = Keyring.open(settings.data_dir / FILE_NAME, sealing_key(root_of(settings)))
    size = forget(settings, keyring, log)
    if not size:
        raise Fault(FaultKind.NOT_FOUND, f"The key broker has signed no head of {log}.")
    err.print(
        f"The head of {size} records of {log} is forgotten; the next one is signed whatever it continues.", markup=False
    )


def _verify_export(file: Path, keys: Sequence[HeadKey], witness: Sequence[SignedHead], part: bool) -> None:
    from stockade.audit.verification import verify_export

    with file.open("rb") as content, _progress("verified") as progress:
        found = verify_export(content, keys, witness, progress)
    if not part:
        _check_whole(found)
    _tell(found)


def _verify_proof(file: Path, keys: Sequence[HeadKey]) -> None:
    from stockade.audit.proof import MAX_BYTES, read, verify_proof

    proven = verify_proof(read(_content(file, MAX_BYTES)), keys)
    sys.stdout.write(proven.line.decode() + "\n")
    err.print(
        f"Verified: this is record {proven.index} of {proven.head.origin}, as it was signed at {proven.head.size} records on "
        f"{_time(proven.head.time)}.",
        markup=False,
    )


def _verify_here(key: str, witness: Sequence[SignedHead], only: str) -> None:
    """Verify all logs, also those after one that does not fit; ends with the code of the first that did not."""
    from stockade.audit.heads import Heads
    from stockade.audit.standing import Standing
    from stockade.audit.store import check_name
    from stockade.audit.verification import verify_log
    from stockade.serve import running

    logs = _logs()
    newest = [Heads(logs.reader(name).folder).newest() for name in logs.names()]
    ours = tuple(signed.head.origin.removesuffix(signed.head.log) for signed in newest if signed is not None)
    # A witness may have other platforms' heads too.
    witness = [signed for signed in witness if not ours or signed.head.origin.startswith(ours)]
    names = {*logs.names(), *(signed.head.log for signed in witness)}
    if only:
        check_name(only)
        names &= {only}
    if not names:
        raise Fault(FaultKind.NOT_FOUND, f"There is no such log below {logs.folder} yet.")
    given, code = _keys(key) if key else _own_key(), outcome.OK
    for name in sorted(names):
        try:
            with _progress(name) as progress:
                found = verify_log(logs.reader(name), given, witness, progress)
            _check_whole(found)
            _tell(found)
        except Fault as fault:
            err.print(f"{name}: {fault.message}", style="bold red", markup=False)
            # What is damaged will not be less so later.
            code = code or (outcome.INVALID if fault.kind is FaultKind.UNAVAILABLE else outcome.exit_code(fault))
    settings = read_settings()
    unsigned = Standing(settings.run_dir).read().heads if running.status(settings) is not None else ""
    if unsigned:
        err.print(f"New heads are not signed: {unsigned}", markup=False)
    if code:
        raise typer.Exit(code)


def _check_whole(found: Verified) -> None:
    if found.missing_before:
        message = (
            f"The records before {found.start} are not there, and the log does not say that retention has removed them."
        )
        raise Fault(FaultKind.INVALID, message + " If it is to be a part, say --part.")
    if found.missing_after and found.newest is not None:
        message = f"The records from {found.end} to {found.newest.size - 1} are not there, and were signed."
        raise Fault(FaultKind.INVALID, message + " If it is to be a part, say --part.")


def _tell(found: Verified) -> None:
    count = found.end - found.start
    which = f"{count} records ({found.start} to {found.end - 1})" if count else "that there are no records"
    lines = [f"Verified: {which} of {found.origin}."]
    if found.newest is None:
        lines.append("No head has been signed yet.")
    else:
        newest = f"{found.newest.size} records, on {_time(found.newest.time)}"
        lines.append(f"{found.heads} signed heads, each continuing the one before; the newest is of {newest}.")
        if found.end > found.newest.size:
            lines.append(f"{found.end - found.newest.size} records are newer than it.")
    if found.start and not found.missing_before:
        lines.append(f"The {found.start} records before them were removed by retention, as a record of the log says.")
    elif found.missing_before or found.missing_after:
        lines.append("This is a part; of the other records it shows nothing but that the heads agree on them.")
    if found.unwitnessed:
        lines.append(f"{found.unwitnessed} of the witness's heads lie where nothing is here to compare them with.")
    for line in lines:
        out.print(line, markup=False)


def _logs() -> Logs:
    from stockade.audit.store import Logs

    return Logs(read_settings().audit_dir)


def _index(logs: Logs, log: str, text: str) -> int | None:
    """Return which record is meant by an index or a time; None for nothing."""
    from stockade.audit.export import index_at

    if not text or text.isdecimal():
        return int(text) if text else None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as failure:
        raise typer.BadParameter(f"'{text}' is neither an index nor a time like 2026-11-26T12:00.") from failure
    return index_at(logs.reader(log), (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp())


def _keys(given: str) -> list[HeadKey]:
    from stockade.audit.checkpoint import read_keys

    path = Path(given)
    try:
        is_file = len(given) < 1024 and path.is_file()
    except (OSError, ValueError):
        is_file = False
    return read_keys(_content(path, MAX_KEY).decode(errors="replace") if is_file else given)


def _own_key() -> list[HeadKey]:
    """Return the key of the platform that runs here."""
    from stockade.audit.checkpoint import HeadKey
    from stockade.cli.root_key import key_broker

    with key_broker(running_settings()) as broker:
        return [HeadKey(broker.tree_head_key())]


def _content(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as failure:
        raise Fault(FaultKind.NOT_FOUND, f"{path} cannot be read: {failure.strerror}.") from failure
    if len(data) > limit:
        raise Fault(FaultKind.TOO_LARGE, f"{path} is too large for what it should be.")
    return data


@contextmanager
def _progress(what: str) -> Iterator[Progress | None]:
    """Show on a terminal how far it is."""
    if not err.is_terminal:
        yield None
        return
    with err.status(what) as shown:
        yield lambda done, total: shown.update(f"{what}: {done:,} of {total:,} records")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
