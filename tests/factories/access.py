"""Requests for E0 on a control plane: who asks, who decides, and what is asked for."""

from __future__ import annotations

from typing import Any

from stockade.identity.principals import Principal
from stockade.policy.builtin_roles import ACCESS_APPROVER
from stockade.storage.documents import Document
from tests.factories.control_plane import CONTRIBUTOR, RG, ControlPlane, S

REQUESTS = f"{S}/providers/Stockade.Access/skuRequests"
ACCOUNTS = f"{RG}/providers/Microsoft.CognitiveServices/accounts"
OUTBOX = "stockade.access/notices"


def asked(**properties: Any) -> Any:
    """Return the body of a request."""
    base = {"kind": "Face", "location": "local", "reason": "to keep faces under our key", "contact": "ops@example.com"}
    return {"properties": {**base, **properties}}


class Office:
    """A control plane where `asker` (Contributor) asks and `decider` (Stockade Access Approver) decides."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.asker = plane.principal("asker", (CONTRIBUTOR, S))
        self.decider = plane.principal("decider", (ACCESS_APPROVER, S))

    def ask(self, name: str, **properties: Any) -> Any:
        return self.plane.ok("PUT", f"{REQUESTS}/{name}", asked(**properties), by=self.asker)["properties"]

    def act(self, name: str, action: str, comment: str = "", by: Principal | None = None) -> Any:
        body = {"comment": comment} if comment else {}
        return self.plane.ok("POST", f"{REQUESTS}/{name}/{action}", body, by=by or self.decider)["properties"]

    def approve(self, name: str, **properties: Any) -> Any:
        """Ask and have it approved."""
        self.ask(name, **properties)
        return self.act(name, "approve")

    def show(self, name: str) -> Any:
        return self.plane.ok("GET", f"{REQUESTS}/{name}")["properties"]

    def places(self, *names: str) -> list[Any]:
        """Return each request's state, or its place in the queue."""
        return [found.get("queuePosition", found["state"]) for found in map(self.show, names)]

    def account(self, name: str, kind: str = "Face", sku: str = "E0", **options: Any) -> Any:
        body = {"kind": kind, "location": "local", "sku": {"name": sku}, "properties": {}}
        return self.plane.send("PUT", f"{ACCOUNTS}/{name}", body, by=self.asker, **options)

    def purge(self, name: str) -> None:
        self.plane.ok("DELETE", f"{ACCOUNTS}/{name}")
        location = f"{S}/providers/Microsoft.CognitiveServices/locations/local"
        self.plane.ok("DELETE", f"{location}/resourceGroups/Group1/deletedAccounts/{name}")

    def outbox(self) -> list[Document]:
        """Return the notices in the order they were made."""
        with self.plane.database.read() as reader:
            return sorted(reader.list(OUTBOX), key=lambda one: one.ordinal)

    def told(self) -> list[tuple[str, str]]:
        """Return what was told and where to."""
        return [(one.body["kind"].removeprefix("skuRequest."), one.body["to"]) for one in self.outbox()]
