"""`stockade keys check`, `encryption`, `rewrap`, `dependents`, `receipts`, `verify-receipt`: customers' own keys, and what hangs on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from stockade.cli import outcome
from stockade.cli.account import OutputFormat
from stockade.cli.arm import Arm, connect
from stockade.cli.context import DataDir, err, out, print_columns, running_settings
from stockade.cli.keys import AccountArgument
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import receipts as signed
from stockade.settings import Settings

MAX_FILE = 1024 * 1024

KeyArgument = Annotated[
    str, typer.Argument(help="A key: its address, or VAULT/KEY for a vault of this platform.", show_default=False)
]
KeyOption = Annotated[
    str, typer.Option("--key", help="Another key than the account's: its address, or VAULT/KEY.", show_default=False)
]


def check(
    account: AccountArgument,
    key: KeyOption = "",
    identity: Annotated[
        str, typer.Option("--identity", help="Client id of the user-assigned identity that is to use it.")
    ] = "",
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """Say whether a customer-managed key could be bound to an account now, and everything that is wrong. Changes nothing."""
    settings = running_settings()
    arm = connect(settings)
    found = arm.account(account)
    body: dict[str, Any] = {}
    if key:
        named = key_properties(key_uri(settings, key))
        if identity:
            named["identityClientId"] = identity
        body = {"encryption": {"keySource": "Microsoft.KeyVault", "keyVaultProperties": named}}
    answer = arm.call("POST", f"{found.id}/checkEncryption", body)
    if form == "json":
        _json(answer)
    elif answer["keySource"] == "Microsoft.CognitiveServices":
        out.print(f"{found.name} has the platform's key. Name another with --key to see whether it could be bound.")
    elif answer["ready"]:
        out.print(f"{answer['keyName']} in {answer['keyVaultUri']} is ready for {found.name}.")
    else:
        _print_problems(answer["problems"])
    if not answer["ready"]:
        raise typer.Exit(outcome.CONFLICT)


def encryption(account: AccountArgument, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """Show which key an account's data is encrypted with, whether it serves, and how far data keys follow its newest version."""
    arm = connect(running_settings())
    found = arm.account(account)
    status = arm.call("GET", f"{found.id}/encryptionStatus")
    if form == "json":
        _json(status)
        return
    if status["keySource"] == "Microsoft.KeyVault":
        follows = "follows the newest version" if status["followsNewestVersion"] else "pinned"
        out.print(f"{found.name}: customer-managed key {status['keyName']} in {status['keyVaultUri']}")
        out.print(
            f"Version {status['keyVersion'] or 'unknown'} ({follows}); stateless inference without it: {status['statelessInference']}"
        )
    else:
        out.print(f"{found.name}: the platform's key")
    progress = status["rewrap"]
    out.print(f"{status['state']}; data keys at the newest versions: {progress['done']} of {progress['of']}")
    _print_problems(status.get("problems", []))


def rewrap(
    account: Annotated[str, typer.Argument(help="An AI account; all of them without it.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Wrap data keys anew now, with the newest versions of the customer's and the platform's key. Content is not touched.

    It is done by itself after a rotation; this is for those who do not want to wait, and for keys in vaults elsewhere.
    """
    arm = connect(running_settings())
    accounts = [arm.account(account)] if account else arm.accounts()
    failed = 0
    for number, one in enumerate(accounts, 1):
        try:
            status = arm.call("POST", f"{one.id}/rewrapDataKeys")
        except Fault as fault:
            failed += 1
            err.print(f"[{number}/{len(accounts)}] {one.name}: {fault.message}", markup=False)
            continue
        done = status["rewrap"]
        out.print(f"[{number}/{len(accounts)}] {one.name}: {done['done']} of {done['of']} data keys", markup=False)
    if failed:
        raise typer.Exit(outcome.CONFLICT)


def dependents(key: KeyArgument, form: OutputFormat = "table", data_dir: DataDir = None) -> None:
    """List the accounts and encryption scopes that hang on a key, deleted ones that can be restored included, with what they keep."""
    settings = running_settings()
    arm = connect(settings)
    named = quote(key_uri(settings, key), safe="")
    answer = arm.call("GET", f"{arm.subscription}/providers/Stockade.Keys/dependents?key={named}")
    if form == "json":
        _json(answer)
        return
    rows = answer["value"]
    if rows:
        print_columns(
            ("Name", "State", "Version in use", "Items", "Bytes", "Id"),
            (
                (
                    str(one["id"]).rsplit("/", 1)[-1],
                    one["state"],
                    ", ".join(one["keyVersions"]) or "-",
                    str(one["keeps"]["items"]),
                    str(one["keeps"]["bytes"]),
                    one["id"],
                )
                for one in rows
            ),
        )
    else:
        out.print("Nothing that you may see hangs on this key.")
    if answer["notShown"]:
        out.print(f"And {answer['notShown']} that you may not see.")


def receipts(
    receipt: Annotated[str, typer.Argument(help="One receipt's id: print it whole, to be kept.")] = "",
    form: OutputFormat = "table",
    data_dir: DataDir = None,
) -> None:
    """List the receipts of accounts whose keys were destroyed, or print one."""
    arm = connect(running_settings())
    folder = f"{arm.subscription}/providers/Stockade.Keys/receipts"
    if receipt:
        _json(arm.call("GET", f"{folder}/{receipt.rsplit('/', 1)[-1]}"))
        return
    found = arm.call("GET", folder)["value"]
    if form == "json":
        _json(found)
        return
    if not found:
        out.print("No account has been purged.")
        return
    rows = ((one["name"], one["properties"]["destroyedAt"], one["properties"]["accountId"]) for one in found)
    print_columns(("Receipt", "Destroyed at", "Account"), rows)


def verify_receipt(
    file: Annotated[Path, typer.Argument(help="A receipt, as `stockade keys receipts ID` prints it.", dir_okay=False)],
    key: Annotated[
        str,
        typer.Option(
            "--key", help="The platform's public key for receipts, base64url. Without it a running platform is asked."
        ),
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Check a receipt. With --key it needs nothing but the file."""
    try:
        text = file.read_bytes()[: MAX_FILE + 1]
        content = json.loads(text) if len(text) <= MAX_FILE else None
    except (OSError, ValueError) as failure:
        raise Fault(FaultKind.INVALID, f"{file} cannot be read as a receipt.") from failure
    if not isinstance(content, Mapping):
        raise Fault(FaultKind.INVALID, f"{file} is no receipt.")
    public = signed.from_text(key or _public_key(connect(running_settings())))
    if len(public) != signed.KEY_BYTES:
        raise Fault(FaultKind.INVALID, f"A public key for receipts has {signed.KEY_BYTES} bytes.")
    stated = signed.verify(content, public)
    kept = stated["content"]
    out.print(f"Valid. Signed with the key {signed.to_text(public)}.")
    out.print(
        f"{stated['dataKeyCount']} data keys were destroyed at {stated['destroyedAt']}, and with them {kept['items']} items ({kept['bytes']} bytes)."
    )
    out.print(f"Account (SHA-256 of its lower-case id): {stated['accountSha256']}")


def key_uri(settings: Settings, key: str) -> str:
    """Return a key's address: as it is, or of VAULT/KEY in a vault of this platform."""
    if key.lower().startswith("https://"):
        return key
    vault, separator, name = key.partition("/")
    if not separator or not vault or not name:
        raise typer.BadParameter("A key is named by its address, or as VAULT/KEY.")
    return f"{settings.vault_uri(vault)}/keys/{name}"


def key_properties(uri: str) -> dict[str, str]:
    """Return `keyVaultProperties` for a key's address."""
    vault, separator, rest = uri.partition("/keys/")
    name, _, version = rest.strip("/").partition("/")
    if not separator or not name:
        raise typer.BadParameter("A key's address is https://VAULT/keys/KEY, with or without a version.")
    found = {"keyVaultUri": vault + "/", "keyName": name}
    return {**found, "keyVersion": version} if version else found


def _public_key(arm: Arm) -> str:
    return str(arm.call("GET", "/providers/Stockade.Keys/receiptKey")["publicKey"])


def _print_problems(problems: list[Mapping[str, Any]]) -> None:
    for one in problems:
        out.print(f"[bold]{one['code']}[/]: ", end="")
        out.print(one["message"], markup=False)
        out.print(f"  {one['help']}", markup=False)
        if one.get("command"):
            out.print(f"  {one['command']}", markup=False)


def _json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
