"""`stockade env` and `stockade run`: credentials in the environment, not in code and not on disk."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from stockade.cli import outcome
from stockade.cli.arm import Account, Arm, connect
from stockade.cli.context import DataDir, err, running_settings
from stockade.cli.variables import (
    CREDENTIALS,
    Format,
    account_variables,
    key_names,
    platform_variables,
    websocket_variables,
    write,
)
from stockade.kernel.faults import Fault, FaultKind
from stockade.serve.administrator import Administrator

AccountName = Annotated[
    str, typer.Option("--account", "-a", help="An AI account: its name or ARM id.", show_default=False)
]


def env(
    account: AccountName = "",
    form: Annotated[Format, typer.Option("--format", "-f", help="How the variables are written.")] = Format.SHELL,
    data_dir: DataDir = None,
) -> None:
    """Print what a client needs as environment variables.

    In a shell: eval "$(stockade env --account demo-openai)". The output holds secrets.
    """
    settings = running_settings()
    variables = platform_variables(settings, Administrator.open(settings))
    if account:
        arm = connect(settings)
        found = arm.account(account)
        variables |= account_variables(found, arm.shown_key(found))
        variables |= websocket_variables(settings, found)
        if not found.local_auth:
            err.print(f"{found.name} takes no keys (disableLocalAuth); only its address is printed.")
    sys.stdout.write(write(variables, form))


def run(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(help="The command and its arguments, after --.", show_default=False)],
    account: AccountName = "",
    identity: Annotated[
        bool, typer.Option("--identity", help="Give it the account's managed identity instead of any key or secret.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Run a command with the variables of `stockade env` in its environment, and nothing on disk.

    With --identity the command gets no key and no secret at all: its Azure SDK asks for tokens as the account's system-assigned identity.
    """
    settings = running_settings()
    administrator = Administrator.open(settings)
    variables = platform_variables(settings, administrator)
    environment = dict(os.environ)
    if identity and not account:
        raise typer.BadParameter("--identity needs --account: whose identity?")
    if account:
        arm = connect(settings)
        found = arm.account(account)
        variables |= websocket_variables(settings, found)
        if identity:
            hidden = key_names() | frozenset(CREDENTIALS)
            environment = {name: value for name, value in environment.items() if name not in hidden}
            variables = {name: value for name, value in variables.items() if name not in hidden}
            variables |= account_variables(found, None) | _identity_variables(arm, found)
        else:
            variables |= account_variables(found, arm.shown_key(found))
    program = command[1:] if command[0] == "--" else command
    if not program:
        raise typer.BadParameter("which command?")
    try:
        os.execvpe(program[0], program, environment | variables)
    except OSError as failure:
        err.print(f"{program[0]}: {failure.strerror}")
        raise typer.Exit(outcome.NOT_FOUND if isinstance(failure, FileNotFoundError) else outcome.FAILED) from failure


def _identity_variables(arm: Arm, account: Account) -> dict[str, str]:
    if "SystemAssigned" not in str(account.identity.get("type", "")):
        raise Fault(
            FaultKind.NOT_FOUND,
            f"The account '{account.name}' has no system-assigned identity. Give it one: "
            f"az cognitiveservices account identity assign --name {account.name} --resource-group {arm.administrator.resource_group}",
        )
    principal = account.identity["principalId"]
    answer = arm.call(
        "POST", f"{arm.subscription}/providers/Stockade.Directory/principals/{principal}/identityEndpoint"
    )
    return {"IDENTITY_ENDPOINT": answer["endpoint"], "IDENTITY_HEADER": answer["header"]}
