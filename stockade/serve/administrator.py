"""The administrator's credential on this machine: `<data dir>/admin.json`.

It is there so that `stockade env` and every other command work without asking for anything. Whoever can read the file is the administrator, as
whoever can read the root key beside it is anyone: the data directory is the trust boundary (SECURITY.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.serve.files import write_private
from stockade.settings import Settings


@dataclass(frozen=True, slots=True)
class Administrator:
    """Who administers this installation, and where its resources lie."""

    tenant_id: str
    subscription_id: str
    resource_group: str
    client_id: str
    object_id: str
    client_secret: Secret

    @classmethod
    def open(cls, settings: Settings) -> Administrator:
        """Read the file; Fault(UNAVAILABLE) when the first start has not written it, or others can read it."""
        path = file_of(settings)
        try:
            if path.stat().st_mode & 0o077:
                raise Fault(FaultKind.UNAVAILABLE, f"{path} can be read by others; run chmod 600 on it.")
            values = json.loads(path.read_bytes())
            return cls(
                values["tenantId"],
                values["subscriptionId"],
                values["resourceGroup"],
                values["clientId"],
                values["objectId"],
                Secret(values["clientSecret"]),
            )
        except FileNotFoundError as missing:
            raise Fault(
                FaultKind.UNAVAILABLE, f"{settings.data_dir} has not been set up: run `stockade up` first."
            ) from missing
        except (ValueError, KeyError, TypeError) as damage:
            raise Fault(FaultKind.UNAVAILABLE, f"{path} is damaged.") from damage

    def save(self, settings: Settings) -> None:
        """Write the file whole or not at all."""
        values = {
            "tenantId": self.tenant_id,
            "subscriptionId": self.subscription_id,
            "resourceGroup": self.resource_group,
            "clientId": self.client_id,
            "objectId": self.object_id,
            "clientSecret": self.client_secret.reveal_text(),
        }
        write_private(file_of(settings), json.dumps(values, indent=1).encode() + b"\n")


def file_of(settings: Settings) -> Path:
    """Return where the credential lies."""
    return settings.data_dir / "admin.json"
