"""The one way out, over loopback: names that a test answers for, a far side that it speaks, and an authority that is believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from stockade.egress.addresses import IPAddress
from stockade.egress.fetch import Budget, Content, Fetcher, Trail
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Egress

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
IMAGE_TYPE = b"content-type: image/png"
PATIENCE_S = 30.0


@dataclass
class Names:
    """A resolver that answers from a table, and remembers what it was asked."""

    table: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def resolve(self, host: str) -> tuple[IPAddress, ...]:
        self.asked.append(host)
        if host not in self.table:
            raise Fault(FaultKind.INVALID, f"The host '{host}' does not exist.")
        return tuple(ip_address(text) for text in self.table[host])


def egress_settings(authority: Path | None = None, **changes: Any) -> Egress:
    """Return settings that admit loopback, with time-outs for a slow machine."""
    patient = {"fetch_timeout_s": PATIENCE_S, "connect_timeout_s": PATIENCE_S, "resolve_timeout_s": PATIENCE_S}
    values: dict[str, Any] = {
        "allowed_networks": ("127.0.0.0/8",),
        "ca_file": str(authority or ""),
        **patient,
        **changes,
    }
    return Egress(**values)


def anything(_: str) -> None:
    """Allow every URI."""


async def fetch(
    fetcher: Fetcher,
    uri: str,
    *,
    allow: Callable[[str], None] = anything,
    http: bool = False,
    account: str = "a1",
    room: int = 100_000_000,
    trail: Trail | None = None,
) -> Content:
    return await fetcher.fetch(
        uri, allow=allow, http=lambda _: http, account=account, budget=Budget(room), trail=trail or Trail()
    )
