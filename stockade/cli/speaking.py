"""In whose name a command speaks: the administrator's, or that of whoever the environment names.

    STOCKADE_APPROVER_ID, STOCKADE_APPROVER_SECRET     who decides, for the customer
    STOCKADE_OPERATOR_ID, STOCKADE_OPERATOR_SECRET     who asks
    STOCKADE_REVIEWER_ID, STOCKADE_REVIEWER_SECRET     the second operator, who looks at what is asked for

On the server's own machine no more is needed. Elsewhere, as an approver's machine should be, the addresses that `stockade env` prints are taken:
STOCKADE_ARM, STOCKADE_AUTHORITY, STOCKADE_TENANT, STOCKADE_SUBSCRIPTION, STOCKADE_VAULT and the CA's certificate, STOCKADE_CA.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import typer

from stockade.cli.arm import Arm, connect, elsewhere
from stockade.cli.context import read_settings, running_settings
from stockade.kernel.secret import Secret
from stockade.serve import running
from stockade.serve.administrator import Administrator

Part: TypeAlias = Literal["APPROVER", "OPERATOR", "REVIEWER"]
"""What somebody is in this; the middle of the variables' names."""

_NEEDED: Final = ("STOCKADE_ARM", "STOCKADE_TENANT", "STOCKADE_SUBSCRIPTION")


def speaking(part: Part, variables: Mapping[str, str] | None = None) -> Arm:
    """Return ARM as who the environment names for a part, and without as the administrator; NotRunning, typer.BadParameter."""
    found = os.environ if variables is None else variables
    id_name, secret_name = f"STOCKADE_{part}_ID", f"STOCKADE_{part}_SECRET"
    client_id, secret = found.get(id_name, ""), found.get(secret_name, "")
    if bool(client_id) != bool(secret):
        raise typer.BadParameter(f"Set {id_name} and {secret_name}, both or neither.")
    if running.status(read_settings()) is None and found.get("STOCKADE_ARM"):
        return _elsewhere(found, client_id, secret)
    arm = connect(running_settings())
    return arm.speaking_for(client_id, Secret(secret)) if client_id else arm


def _elsewhere(variables: Mapping[str, str], client_id: str, secret: str) -> Arm:
    missing = [name for name in _NEEDED if not variables.get(name)]
    if missing:
        raise typer.BadParameter(f"No server runs on this data directory, and {', '.join(missing)} is not set.")
    who = Administrator(
        tenant_id=variables["STOCKADE_TENANT"],
        subscription_id=variables["STOCKADE_SUBSCRIPTION"],
        resource_group=variables.get("STOCKADE_RESOURCE_GROUP", ""),
        client_id=client_id or variables.get("STOCKADE_CLIENT_ID", ""),
        object_id="",
        client_secret=Secret(secret or variables.get("STOCKADE_CLIENT_SECRET", "")),
    )
    return elsewhere(read_settings(), who, variables)
