"""`stockade lockbox enable|disable|status|requests|approve|deny|revoke|new-key`: what the customer's people do.

They are who STOCKADE_APPROVER_ID and STOCKADE_APPROVER_SECRET name, where those are set; else the administrator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stockade.cli.account import OutputFormat
from stockade.cli.arm import Arm
from stockade.cli.clock import seconds_of
from stockade.cli.context import DataDir, out, print_columns
from stockade.cli.lockbox_request import (
    CUSTOMER_VERSION,
    OPEN,
    As,
    KeyOption,
    RequestName,
    Yes,
    confirm,
    customer_path,
    narrowed,
    operator_path,
    policy_path,
    print_json,
    print_one,
    print_requests,
    print_to_sign,
    to_be_signed,
)
from stockade.cli.lockbox_signing import Key, asked_passphrase, key_of, new_key, thumbprint
from stockade.cli.speaking import speaking
from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox import approval as approvals
from stockade.lockbox import statement as statements
from stockade.lockbox import strict
from stockade.lockbox.approval import APPROVAL, Approval
from stockade.lockbox.signature import Signature
from stockade.lockbox.statement import Approver

requests = typer.Typer(help="What operators have asked for.", no_args_is_help=True)


def enable(data_dir: DataDir = None) -> None:
    """Turn Lockbox on: operators can ask from now on. Without it they are refused, not free."""
    arm = speaking("APPROVER")
    arm.call("POST", "/providers/Microsoft.CustomerLockbox/enableLockbox", {}, CUSTOMER_VERSION)
    out.print("Lockbox is on. An account is opened to nobody before it has a statement: stockade lockbox protect")


def disable(data_dir: DataDir = None) -> None:
    """Turn Lockbox off: nobody can ask any more, and what accounts keep stays closed to operators."""
    speaking("APPROVER").call("POST", "/providers/Microsoft.CustomerLockbox/disableLockbox", {}, CUSTOMER_VERSION)
    out.print("Lockbox is off. Operators can ask for nothing, and read nothing.")


def status(form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Say whether Lockbox is on, which accounts have a statement, and what waits."""
    arm = speaking("APPROVER")
    tenant = arm.administrator.tenant_id
    path = f"/providers/Microsoft.CustomerLockbox/tenantOptedIn/{tenant}"
    on = bool(arm.call("GET", path, api_version=CUSTOMER_VERSION)["isOptedIn"])
    rows = [(one.name, *_protection(arm, one.id)) for one in arm.accounts()]
    waiting = [one for one in _all(arm) if one["properties"]["status"] in ("Pending", "Approving")]
    if form == "json":
        accounts = [{"name": name, "state": state, "approvers": who} for name, state, who in rows]
        print_json({"enabled": on, "accounts": accounts, "waiting": len(waiting)})
        return
    out.print(
        f"Lockbox is {'on' if on else 'off: operators can ask for nothing, and read nothing'}. {len(waiting)} requests wait."
    )
    print_columns(("Account", "Statement", "Approvers"), rows)


@requests.command("list")
def list_requests(
    everything: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """List what operators have asked for, the newest last."""
    found = [one for one in _all(speaking("APPROVER")) if everything or one["properties"]["status"] in OPEN]
    found.sort(key=lambda one: (one["properties"]["createdDateTime"], one["name"]))
    print_requests(found, form, "There are none." if everything else "Nobody asks, and nobody has access.")


@requests.command("show")
def show(name: RequestName, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Show a request, and what has become of it so far."""
    print_one(_get(speaking("APPROVER"), name), form)


def approve(
    name: RequestName,
    reason: Annotated[str, typer.Option("--reason", "-m", help="What the record says of it.", show_default=False)],
    key: KeyOption,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="Only this of what was asked for; several times.", show_default=False),
    ] = None,
    duration: Annotated[
        str, typer.Option("--duration", help="Shorter than was asked for: 30m, 2h.", show_default=False)
    ] = "",
    key_id: As = "",
    yes: Yes = False,
    data_dir: DataDir = None,
) -> None:
    """Let an operator read: shows what that is, has it signed by your key, and sends it. You may allow less than was asked for."""
    arm = speaking("APPROVER")
    request = _get(arm, name)
    asked, told = to_be_signed(request, APPROVAL, arm.now())
    if told["signed"] and (scope or duration):
        raise typer.BadParameter("Others have signed already, and all sign the same. Deny it, or sign what they did.")
    what = narrowed(asked, scope or [], seconds_of(duration) if duration else None)
    signer = key_of(key, arm)
    used = signing_id(arm, what, told, signer, key_id)
    print_to_sign(what, request["properties"]["stockade"]["operator"]["name"])
    confirm(f"Sign it as '{used}'?", yes=yes)
    payload = approvals.encode(what)
    sent = {"status": "Approve", "reason": reason, **signed_body(payload, sign(signer, payload, used))}
    arm.call("POST", customer_path(arm, name, "updateApproval"), sent, CUSTOMER_VERSION)
    _say(_get(arm, name))


def deny(
    name: RequestName,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why; the operator is told.", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Refuse a request. That takes no key: it opens nothing."""
    arm = speaking("APPROVER")
    body = {"status": "Deny", "reason": reason}
    arm.call("POST", customer_path(arm, name, "updateApproval"), body, CUSTOMER_VERSION)
    _say(_get(arm, name))


def revoke(
    name: RequestName,
    reason: Annotated[str, typer.Option("--reason", "-m", help="What the record says of it.", show_default=False)] = "",
    data_dir: DataDir = None,
) -> None:
    """Take access back, at once and for good; or a request that waits."""
    arm = speaking("APPROVER")
    body = {"reason": reason} if reason else {}
    _say(arm.call("POST", operator_path(arm, name, "revoke"), body))


def make_key(
    path: Annotated[Path, typer.Option("--output", "-o", help="A new file for it.", show_default=False)],
    open_file: Annotated[
        bool, typer.Option("--no-passphrase", help="Keep it as it is: whoever reads the file can sign.")
    ] = False,
) -> None:
    """Make a key that can approve, in a file. Keep it where the platform's operators are not: on your own machine, or a card of yours."""
    passphrase = None if open_file else asked_passphrase(f"A passphrase for {path}", twice=True)
    made = new_key(path, passphrase)
    out.print(f"{path}: EC P-256, thumbprint {made.thumbprint}")
    out.print(
        f"Use it: stockade lockbox protect --account ACCOUNT --approver-key file:{path} --callers platform",
        markup=False,
    )


def signing_id(arm: Arm, what: Approval, told: Any, signer: Key, given: str) -> str:
    """Return under which of the statement's names a key signs.

    Where the statement can be read, it is also compared with what is signed, and the key looked for in it; Fault(INVALID) when it is another one.
    """
    try:
        properties = arm.call("GET", policy_path(what.account))["properties"]
    except Fault as fault:
        if fault.kind is not FaultKind.AUTHORIZATION_FAILED:
            raise
        names = [str(name) for name in told["approvers"]]
        if given or len(names) == 1:
            return given or names[0]
        message = f"You may not read the account's statement, so say which of its keys yours is, with --as: {', '.join(names)}."
        raise typer.BadParameter(message) from fault
    payload = strict.from_base64url(str(properties["payload"]))
    if statements.digest(payload) != what.statement:
        message = "The statement that the platform shows is not the one that would be signed for. Nothing was signed."
        raise Fault(FaultKind.INVALID, message, code="StatementDiffers")
    stated = statements.read(payload)
    glass = stated.break_glass.operators if stated.break_glass is not None else ()
    return own_id(stated.approvers if what.type == APPROVAL else glass, signer, given)


def own_id(known: tuple[Approver, ...], signer: Key, given: str = "") -> str:
    """Return a key's id among a statement's approvers; typer.BadParameter when it is none of them."""
    found = [one.id for one in known if one.jwk is not None and thumbprint(one.jwk) == signer.thumbprint]
    if given and given in [one.id for one in known] and given not in found:
        raise typer.BadParameter(f"'{given}' is another key in the statement than {signer.name}.")
    if not found:
        names = ", ".join(f"{one.id} ({'passkey: the console' if one.passkey else 'key'})" for one in known) or "nobody"
        raise typer.BadParameter(f"{signer.name} is none of the keys that the statement has. It has: {names}.")
    return found[0]


def sign(signer: Key, payload: bytes, key_id: str) -> Signature:
    """Return a key's signature; typer.BadParameter where only its public half is there."""
    if signer.sign is None:
        raise typer.BadParameter(f"{signer.name} holds the public half alone, which signs nothing.")
    return signer.sign(payload, key_id)


def signed_body(payload: bytes, *signatures: Signature) -> dict[str, Any]:
    """Return a payload and its signatures as they are sent."""
    made = [{"key": one.key, "jws": one.jws} for one in signatures]
    return {"payload": strict.base64url(payload), "signatures": made}


def _get(arm: Arm, name: str) -> Any:
    return arm.call("GET", customer_path(arm, name), api_version=CUSTOMER_VERSION)


def _all(arm: Arm) -> list[dict[str, Any]]:
    return list(arm.call("GET", customer_path(arm), api_version=CUSTOMER_VERSION)["value"])


def _protection(arm: Arm, account_id: str) -> tuple[str, str]:
    try:
        stated = arm.call("GET", policy_path(account_id))["properties"]["statement"]
    except Fault as fault:
        if fault.kind not in (FaultKind.NOT_FOUND, FaultKind.AUTHORIZATION_FAILED):
            raise
        return (
            ("none", "nobody: operators read nothing")
            if fault.kind is FaultKind.NOT_FOUND
            else ("not shown to you", "")
        )
    who = ", ".join(one["id"] for one in stated["approvers"])
    return f"number {stated['sequence']}", f"{stated.get('threshold', 1)} of {who}"


def _say(request: Any) -> None:
    what = request["properties"]
    more = what["stockade"]
    told = more.get("approval")
    further = f": until {more['accessEndsAt'][:19]}" if what["status"] == "Approved" and "accessEndsAt" in more else ""
    if what["status"] == "Approving" and told is not None:
        further = f": {len(told['signed'])} of {told['threshold']} have signed, and the others sign the same"
    out.print(f"{what['requestId']}  {what['status']}{further}", markup=False)
