"""`stockade lockbox protect|unprotect|policy`: an account's statement, drafted, shown, signed and sent.

Whoever signs it first has to be Owner of the account and one of its approvers; later ones are signed by the approvers of the one before. Where it
takes several, `--draft FILE` writes what is to be signed instead of sending it, everybody signs the file, and one of them sends it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from stockade.cli import lockbox_options as options
from stockade.cli.account import OutputFormat
from stockade.cli.arm import Account, Arm
from stockade.cli.context import DataDir, out, print_columns
from stockade.cli.lockbox_customer import own_id, sign, signed_body
from stockade.cli.lockbox_request import Yes, confirm, policy_path, print_json
from stockade.cli.lockbox_signing import Key, key_of, thumbprint
from stockade.cli.speaking import speaking
from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import attackers, strict
from stockade.lockbox import statement as statements
from stockade.lockbox.signature import Signature
from stockade.lockbox.statement import Approver, BreakGlass, PinnedIssuer, Statement
from stockade.serve.files import write_private

policy = typer.Typer(
    help="An account's statement: who may approve, and whose calls are the customer's.", no_args_is_help=True
)

AccountOption = Annotated[
    str, typer.Option("--account", "-a", help="An AI account: its name or ARM id.", show_default=False)
]
SignWith = Annotated[
    list[str] | None,
    typer.Option(
        "--key", help="What to sign with, several times. [default: the first --approver-key]", show_default=False
    ),
]
DraftFile = Annotated[Path, typer.Argument(help="What --draft wrote.", show_default=False)]
DraftOption = Annotated[
    Path | None,
    typer.Option("--draft", help="Write what is to be signed to this file, instead of sending it.", show_default=False),
]


class Draft(msgspec.Struct, forbid_unknown_fields=True):
    """A statement on its way from one signer to the next. payload: base64url. ends: it ends the protection."""

    account: str
    payload: str
    signatures: list[Signature]
    contacts: list[str] | None = None
    ends: bool = False


def protect(
    account: AccountOption,
    approver_keys: Annotated[
        list[str] | None,
        typer.Option(
            "--approver-key",
            help="Who may approve: [PRINCIPAL=]KEY, several times. PRINCIPAL is a name, client id or object id; yourself without it.",
            show_default=False,
        ),
    ] = None,
    callers: Annotated[
        list[str] | None,
        typer.Option(
            "--callers",
            help="Whose calls are the customer's, several times: platform, issuer:URL=JWKS_FILE, or keys=FILE.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", min=1, help="How many of them sign. [default: 1]", show_default=False)
    ] = None,
    principals: Annotated[
        list[str] | None,
        typer.Option("--principal", help="Of issuers, only these object ids, several times.", show_default=False),
    ] = None,
    audiences: Annotated[
        list[str] | None,
        typer.Option(
            "--audience",
            help="Of issuers, what their tokens have to be for (`aud`), several times. [default: Azure's AI services]",
            show_default=False,
        ),
    ] = None,
    claim: Annotated[str, typer.Option("--claim", help="Of issuers, the claim that says who somebody is.")] = "oid",
    jobs: Annotated[
        bool, typer.Option("--jobs", help="Let batches of such callers go on, on keys of their own.")
    ] = False,
    break_glass: Annotated[
        list[str] | None,
        typer.Option(
            "--break-glass-key",
            help="Agree to operators opening it without you: PRINCIPAL=KEY of an operator, at least twice.",
            show_default=False,
        ),
    ] = None,
    break_glass_hours: Annotated[int, typer.Option("--break-glass-hours", min=1, max=8, help="For how long.")] = 1,
    no_break_glass: Annotated[bool, typer.Option("--no-break-glass", help="Agree to that no more.")] = False,
    contacts: Annotated[
        list[str] | None,
        typer.Option(
            "--contact", help="An address of e-mail that hears of requests, several times.", show_default=False
        ),
    ] = None,
    key: SignWith = None,
    draft: DraftOption = None,
    yes: Yes = False,
    data_dir: DataDir = None,
) -> None:
    """Bind what an account keeps to a statement of yours; or change it. Shows what is signed, and whom it stops."""
    arm = speaking("APPROVER")
    found = arm.account(account)
    named = [options.approver(arm, one) for one in approver_keys or []]
    wanted: dict[str, Any] = {}
    if named:
        wanted["approvers"] = _builtins(options.numbered([one for one, _ in named]))
    if threshold is not None:
        wanted["threshold"] = threshold
    if callers:
        pinned = PinnedIssuer("", (), tuple(principals or ()), tuple(one.rstrip("/") for one in audiences or ()), claim)
        wanted["callers"] = _builtins(options.callers(callers, pinned, jobs=jobs))
    elif principals or audiences or jobs:
        raise typer.BadParameter("--principal, --audience and --jobs belong to --callers.")
    if break_glass:
        operators = options.numbered([options.approver(arm, one)[0] for one in break_glass])
        wanted["breakGlass"] = _builtins(BreakGlass(operators, hours=break_glass_hours))
    elif no_break_glass:
        wanted["breakGlass"] = None
    if not wanted and contacts:
        arm.call("PUT", policy_path(found.id), {"properties": {"contacts": contacts}})
        out.print(f"{found.name}: {', '.join(contacts)} hear of requests.")
        return
    proposed = arm.call("POST", policy_path(found.id, "draft"), wanted)
    stated = _compared(arm, found, proposed, wanted)
    _print_statement(stated, proposed)
    if draft is not None:
        _write(draft, Draft(found.id, proposed["payload"], [], contacts))
        return
    signers = [key_of(one, arm) for one in key or []] or [signer for _, signer in named[:1]]
    if not signers:
        raise typer.BadParameter("Say what to sign with: --key file:approver.pem, or a key vault's.")
    confirm(f"Sign this for {found.name}?", yes=yes)
    made = _signatures(arm, found, stated, proposed, signers)
    _send(arm, Draft(found.id, proposed["payload"], made, contacts))


def unprotect(
    account: AccountOption, key: SignWith = None, draft: DraftOption = None, yes: Yes = False, data_dir: DataDir = None
) -> None:
    """End an account's protection, signed by its approvers: data keys are bound to nothing any more, and nobody can approve."""
    arm = speaking("APPROVER")
    found = arm.account(account)
    proposed = arm.call("POST", policy_path(found.id, "draft"), {"protected": False})
    stated = _compared(arm, found, proposed, {"protected": False})
    _print_statement(stated, proposed)
    if draft is not None:
        _write(draft, Draft(found.id, proposed["payload"], [], ends=True))
        return
    signers = [key_of(one, arm) for one in key or []]
    if not signers:
        raise typer.BadParameter("Say what to sign with: --key file:approver.pem, or a key vault's.")
    confirm(f"End the protection of {found.name}?", yes=yes)
    made = _signatures(arm, found, stated, proposed, signers)
    _send(arm, Draft(found.id, proposed["payload"], made, ends=True))


@policy.command("show")
def show(account: AccountOption, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Show the statement that is in force, read from what was signed."""
    arm = speaking("APPROVER")
    properties = arm.call("GET", policy_path(arm.account(account).id))["properties"]
    if form == "json":
        print_json(properties)
        return
    stated = statements.read(strict.from_base64url(properties["payload"]))
    _print_statement(stated, {"payload": properties["payload"], "signers": None})
    signers = ", ".join(one["key"] for one in properties["signatures"])
    print_columns(
        ("", ""),
        [("Signed by", signers), ("Told of requests", ", ".join(properties["contacts"]) or "nobody by e-mail")],
    )


@policy.command("sign")
def sign_draft(file: DraftFile, key: SignWith = None, yes: Yes = False, data_dir: DataDir = None) -> None:
    """Add your signature to a statement that `--draft` wrote, having shown what it says."""
    arm = speaking("APPROVER")
    held, stated = _opened(file)
    if not key:
        raise typer.BadParameter("Say what to sign with: --key file:approver.pem, or a key vault's.")
    proposed = {"payload": held.payload, "signers": None}
    _print_statement(stated, proposed)
    confirm(f"Sign this for {held.account.rsplit('/', 1)[-1]}?", yes=yes)
    made = _signatures(arm, arm.account(held.account), stated, proposed, [key_of(one, arm) for one in key])
    fresh = {one.key for one in made}
    held.signatures = [*(one for one in held.signatures if one.key not in fresh), *made]
    _write(file, held)


@policy.command("send")
def send_draft(file: DraftFile, data_dir: DataDir = None) -> None:
    """Send a statement that has been signed by everybody it takes."""
    held, _ = _opened(file)
    _send(speaking("APPROVER"), held)


# What is signed


def _compared(arm: Arm, account: Account, proposed: dict[str, Any], wanted: dict[str, Any]) -> Statement:
    """Return the statement in a draft's bytes, which has to say what was wanted; Fault(INVALID) when it says something else."""
    payload = strict.from_base64url(str(proposed["payload"]))
    stated = statements.read(payload)
    says = {
        "approvers": _builtins(stated.approvers),
        "threshold": stated.threshold,
        "callers": _builtins(stated.callers),
        "breakGlass": _builtins(stated.break_glass) if stated.break_glass is not None else None,
        "protected": stated.protected,
    }
    differs = [name for name, value in {"protected": True, **wanted}.items() if says[name] != value]
    if stated.account != account.id.lower():
        differs.append("account")
    if statements.encode(stated) != payload:
        differs.append("payload")
    if differs:
        message = f"The draft that the platform made says something else than you asked for: {', '.join(differs)}. Nothing was signed."
        raise Fault(FaultKind.INVALID, message, code="StatementDiffers")
    return stated


def _signatures(
    arm: Arm, account: Account, stated: Statement, proposed: dict[str, Any], signers: list[Key]
) -> list[Signature]:
    known = stated.approvers
    if stated.sequence > 1:
        held = arm.call("GET", policy_path(account.id))["properties"]
        before = strict.from_base64url(held["payload"])
        if statements.digest(before) != stated.previous:
            message = "The draft does not continue the statement that is in force. Nothing was signed."
            raise Fault(FaultKind.INVALID, message, code="StatementDiffers")
        known = statements.read(before).approvers
    payload = strict.from_base64url(proposed["payload"])
    return [sign(one, payload, own_id(known, one)) for one in signers]


def _send(arm: Arm, held: Draft) -> None:
    payload = strict.from_base64url(held.payload)
    properties: dict[str, Any] = signed_body(payload, *held.signatures)
    if held.contacts is not None and not held.ends:
        properties["contacts"] = held.contacts
    arm.call("DELETE" if held.ends else "PUT", policy_path(held.account), {"properties": properties})
    name = held.account.rsplit("/", 1)[-1]
    if held.ends:
        out.print(f"{name} is protected no more.")
        return
    out.print(f"{name} is protected by statement {statements.digest(payload)}.")
    out.print("Write that down, away from the platform: whoever approves compares it with what they sign.")


def _print_statement(stated: Statement, proposed: dict[str, Any]) -> None:
    out.print(Text(f"Statement number {stated.sequence} of {stated.account}", style="bold"))
    rows = [("Protected", "yes" if stated.protected else "NO: this ends the protection")]
    rows += [("Approves", f"{one.id}: {one.principal}, {_material(one)}") for one in stated.approvers]
    rows += [("It takes", f"{stated.threshold} of them")]
    callers = stated.callers
    rows += [("Opens", "calls that the platform's own documents admit")] if callers.platform else []
    for one in callers.issuers:
        who = f", only {', '.join(one.principals)}" if one.principals else ""
        rows.append(("Opens", f"tokens of {one.issuer} signed by {', '.join(one.keys)}{who}"))
    rows += [("Opens", f"the subscription key whose SHA-256 is {one}") for one in callers.keys]
    rows += [
        ("Batches", "go on, on keys of their own" if callers.jobs or callers.platform else "get no keys of their own")
    ]
    glass = stated.break_glass
    rows += [] if glass is not None else [("Break-glass", "agreed to by nobody: there is none")]
    if glass is not None:
        rows += [("Break-glass", f"{one.id}: {one.principal}, {_material(one)}") for one in glass.operators]
        rows += [("", f"{glass.threshold} of them, for {glass.hours} hours; you are told at once")]
    rows += [
        ("Issued", f"{iso(stated.issued_at)[:19]}Z"),
        ("Digest", statements.digest(strict.from_base64url(proposed["payload"]))),
    ]
    signers = proposed.get("signers")
    rows += [("To be signed by", f"{signers['threshold']} of {', '.join(signers['approvers'])}")] if signers else []
    print_columns(("", ""), rows)
    if stated.protected:
        out.print(Text("Whom it stops from reading what the account keeps, without an approval", style="bold"))
        print_columns(
            ("", ""), [("stops" if held else "DOES NOT STOP", one.who) for one, held in attackers.stopped(callers)]
        )


def _material(one: Approver) -> str:
    if one.passkey is not None:
        return f"passkey at {one.passkey.origin}"
    return f"key {thumbprint(one.jwk or {})}"


# Files


def _opened(file: Path) -> tuple[Draft, Statement]:
    try:
        held = msgspec.json.decode(file.read_bytes()[: options.MAX_FILE], type=Draft)
        return held, statements.read(strict.from_base64url(held.payload))
    except OSError as failure:
        raise typer.BadParameter(f"{file} cannot be read: {failure.strerror}.") from failure
    except (ValueError, msgspec.MsgspecError) as failure:
        raise typer.BadParameter(f"{file} is no draft of a statement.") from failure


def _write(file: Path, held: Draft) -> None:
    write_private(file, msgspec.json.format(msgspec.json.encode(held), indent=2) + b"\n")
    signed = ", ".join(one.key for one in held.signatures) or "nobody yet"
    out.print(
        f"{file}: signed by {signed}. Sign it with `stockade lockbox policy sign {file} --key KEY`, then `policy send {file}`.",
        markup=False,
    )


def _builtins(value: Any) -> Any:
    return msgspec.to_builtins(value)
