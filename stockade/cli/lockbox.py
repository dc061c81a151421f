"""`stockade lockbox`: the customer's part, the statement, and the operators' part, in one group."""

from __future__ import annotations

from typing import Final

import typer

from stockade.cli import lockbox_customer as customer
from stockade.cli import lockbox_operator as operator
from stockade.cli import lockbox_policy as statement

app = typer.Typer(
    help="Customer Lockbox: operators read what accounts keep only with a signature of the customer's.",
    no_args_is_help=True,
)

CUSTOMER: Final = "The customer"
OPERATORS: Final = "Operators"

app.command("enable", rich_help_panel=CUSTOMER)(customer.enable)
app.command("disable", rich_help_panel=CUSTOMER)(customer.disable)
app.command("status", rich_help_panel=CUSTOMER)(customer.status)
app.command("new-key", rich_help_panel=CUSTOMER)(customer.make_key)
app.command("protect", rich_help_panel=CUSTOMER)(statement.protect)
app.command("unprotect", rich_help_panel=CUSTOMER)(statement.unprotect)
app.add_typer(statement.policy, name="policy", rich_help_panel=CUSTOMER)
app.add_typer(customer.requests, name="requests", rich_help_panel=CUSTOMER)
app.command("approve", rich_help_panel=CUSTOMER)(customer.approve)
app.command("deny", rich_help_panel=CUSTOMER)(customer.deny)
app.command("revoke", rich_help_panel=CUSTOMER)(customer.revoke)
app.command("objects", rich_help_panel=OPERATORS)(operator.objects)
app.command("request", rich_help_panel=OPERATORS)(operator.request)
app.command("filed", rich_help_panel=OPERATORS)(operator.requests)
app.command("review", rich_help_panel=OPERATORS)(operator.review)
app.command("wait", rich_help_panel=OPERATORS)(operator.wait)
app.command("read", rich_help_panel=OPERATORS)(operator.read)
app.command("cancel", rich_help_panel=OPERATORS)(operator.cancel)
app.command("done", rich_help_panel=OPERATORS)(operator.done)
app.command("break-glass", rich_help_panel=OPERATORS)(operator.break_glass)
