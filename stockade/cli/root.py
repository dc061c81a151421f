"""The command's root: groups, help, completion, and what the process ends with."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from stockade import __version__
from stockade.cli import (
    access,
    account,
    approvals,
    audit,
    audit_proofs,
    audit_search,
    audit_sinks,
    clock,
    customer_keys,
    decisions,
    dlp,
    doctor,
    environment,
    identity,
    jobs,
    keys,
    lockbox,
    outcome,
    receipt,
    root_key,
    server,
)
from stockade.cli.arm import NOT_RUNNING, NotRunning
from stockade.cli.context import DataDir, err, out
from stockade.kernel.faults import Fault
from stockade.serve import child

EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 Stockade is not running, 4 not found, 5 not allowed, "
    "6 refused because of the present state (a key in use, say), 7 invalid, 8 try again later, "
    "9 an audit log was rolled back, 10 it was rewritten."
)

app = typer.Typer(
    name="stockade",
    help="The security controls of Azure AI services around AI services that you run yourself.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables would show secrets
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel="Server")(server.up)
app.command(rich_help_panel="Server")(server.serve)
app.command(rich_help_panel="Server")(server.status)
app.command(rich_help_panel="Server")(server.ca)
app.command(rich_help_panel="Server")(doctor.doctor)
app.command(rich_help_panel="Server")(root_key.seal)
app.command(rich_help_panel="Server")(root_key.unseal)
app.command(rich_help_panel="Server")(server.broker)
keys.app.add_typer(root_key.recovery, name="recovery")
keys.app.command("rotate-root")(root_key.rotate_root)
keys.app.command("rotate-platform")(root_key.rotate_platform)
app.add_typer(clock.app, name="clock", rich_help_panel="Server")
app.command("env", rich_help_panel="Clients")(environment.env)
app.command(
    "run",
    rich_help_panel="Clients",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)(environment.run)
app.command("explain", rich_help_panel="Policy")(decisions.explain)
app.command("what-if", rich_help_panel="Policy")(decisions.what_if)
app.command("report", rich_help_panel="Policy")(decisions.report)
app.add_typer(account.app, name="account", rich_help_panel="Resources")
app.add_typer(access.app, name="access", rich_help_panel="Resources")
app.add_typer(approvals.app, name="approvals", rich_help_panel="Resources")
for _name, _command in (
    ("check", customer_keys.check),
    ("encryption", customer_keys.encryption),
    ("rewrap", customer_keys.rewrap),
    ("dependents", customer_keys.dependents),
    ("receipts", customer_keys.receipts),
    ("verify-receipt", customer_keys.verify_receipt),
):
    keys.app.command(_name, rich_help_panel="Customers' own keys")(_command)
app.add_typer(keys.app, name="keys", rich_help_panel="Resources")
app.add_typer(dlp.app, name="dlp", rich_help_panel="Resources")
app.add_typer(identity.app, name="identity", rich_help_panel="Resources")
app.add_typer(lockbox.app, name="lockbox", rich_help_panel="Resources")
app.add_typer(jobs.app, name="jobs", rich_help_panel="Server")
audit.app.command("search")(audit_search.search)
audit.app.command("prove", rich_help_panel="Proofs")(audit_search.prove)
audit.app.command("export", rich_help_panel="Proofs")(audit_proofs.export)
audit.app.command("verify", rich_help_panel="Proofs")(audit_proofs.verify)
audit.app.command("keys", rich_help_panel="Proofs")(audit_proofs.keys)
audit.app.command("forget-head", rich_help_panel="Proofs")(audit_proofs.forget_head)
audit.app.command("sinks")(audit_sinks.sinks)
audit.app.command("accept-rollback")(audit_sinks.accept_rollback)
app.add_typer(audit.app, name="audit", rich_help_panel="Resources")
app.add_typer(receipt.app, name="receipt", rich_help_panel="Resources")


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"stockade {__version__}")
        raise typer.Exit


@app.callback()
def root(
    data_dir: DataDir = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, help="Print the version and end.", is_eager=True)
    ] = False,
) -> None:
    """Take what stands before the command."""


def main() -> None:
    """Run the command line and end the process with a documented exit code."""
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more
        sys.exit(status)
    child.end(status)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    command = typer.main.get_command(app)
    try:
        command.main(arguments, prog_name="stockade")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else outcome.OK if ended.code is None else outcome.FAILED
    except NotRunning:
        err.print(NOT_RUNNING)
        return outcome.NOT_RUNNING
    except Fault as fault:
        err.print("[bold red]Error:[/]", end=" ")
        err.print(fault.message, markup=False)
        return outcome.exit_code(fault)
    return outcome.OK
