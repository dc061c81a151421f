"""The command line's ARM, answered by a control plane in this process, and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from stockade.cli.arm import Account, Arm, _fault
from stockade.identity.principals import Principal
from stockade.kernel.faults import Fault, FaultKind
from tests.factories.control_plane import SUB, ControlPlane


class PlaneArm(Arm):
    """ARM as one principal."""

    def __init__(self, plane: ControlPlane, by: Principal | None = None) -> None:
        who = by or plane.owner
        self.plane, self.settings, self.by = plane, plane.settings, who
        self.administrator: Any = SimpleNamespace(client_id=who.app_id, subscription_id=SUB, tenant_id=plane.tenant_id)
        self.place: Any = SimpleNamespace(vaults="vault.stockade.localhost:8444", address=("127.0.0.1", 1))
        self.downloads: Mapping[str, bytes] = {}

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, api_version: str = "2025-09-01"
    ) -> Any:
        reply = self.plane.send(method, path, body, version=api_version, by=self.by)
        if reply.status_code >= 400:
            raise _fault(reply.status_code, reply.json())
        return reply.json() if reply.content else None

    def account(self, reference: str) -> Account:
        return Account(reference, reference.rsplit("/", 1)[-1], "OpenAI", "local", "https://x", {}, local_auth=True)

    def now(self) -> float:
        return self.plane.clock.now()

    def download(self, path: str) -> Iterator[bytes]:
        if path not in self.downloads:
            raise Fault(FaultKind.CONFLICT, "The request is Pending.")
        yield self.downloads[path]
        if self.downloads[path].endswith(b"..."):
            raise Fault(FaultKind.UNAVAILABLE, "The answer broke off.")
