"""One request while it runs: what is known of it, and the record that is left of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stockade.gateway.receipts import Draft
from stockade.gateway.running import EndedBy
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.principal import Credential, KeyCredential, RejectedCredential, TokenCredential
from stockade.kernel.record import AuditRecord, FetchedContent
from stockade.kernel.verdict import Deny, Verdict
from stockade.policy import rbac
from stockade.policy.facts import Facts, Point
from stockade.policy.rules.network import admitted_by
from stockade.policy.rules.role import DATA_ACTION_PREFIX
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.policy.uris.found import FoundUri
from stockade.services.routing import Route

if TYPE_CHECKING:
    from stockade.gateway.admission import Admitted


class Exchange:
    """What is known of a request while it runs, for the reply's head, the audit record and those who may have to end it.

    Defaults stand in the class: an instance sets only what differs, which is most of the cost of making one.
    """

    address: str = ""
    address_derivation: str = ""
    """How the address was worked out: one of the texts of `gateway/address.py`."""
    agent: str = ""
    client_request_id: str = ""
    content_type: str = ""
    content_length: str = ""
    content_encoding: str = ""
    account: AccountPolicy | None = None
    credential: Credential | None = None
    route: Route | None = None
    snapshot: Snapshot | None = None
    facts: Facts | None = None
    point: Point = "head"
    """How far the rules were asked."""
    private_endpoint: str | None = None
    admitted: Admitted | None = None
    denied: Deny | None = None
    reported: tuple[Deny, ...] = ()
    uris: tuple[FoundUri, ...] = ()
    fetched: tuple[FetchedContent, ...] = ()
    status: int = 0
    outcome: str = "success"
    receipt: Draft | None = None
    client_due: float | None = None
    ended_by: EndedBy = ""
    watch: asyncio.Task[None] | None = None
    longest_s: float | None = None
    recorded: AuditRecord | None = None
    """Its record, where that was written before the reply."""

    def __init__(self, proto: Any, scope: Any, now: float, loop: asyncio.AbstractEventLoop) -> None:
        self.id = new_guid()
        self.proto, self.scope, self.method, self.peer, self.now = proto, scope, scope.method, scope.client, now
        self.task = asyncio.current_task(loop)
        self.began = loop.time()

    @property
    def clocked(self) -> bool:
        """A customer's key may expire while a request is under way."""
        return self.admitted is not None and self.admitted.account.customer_key is not None

    def take(self, verdict: Verdict) -> None:
        """Note what a verdict says of the request; raises the fault of whoever refuses."""
        if verdict.reported:
            self.reported = (*self.reported, *verdict.reported)
        match verdict:
            case Deny() as denied:
                self.denied = denied
                raise denied.fault

    def ending(self) -> Fault | None:
        """Return what a request that was ended from outside is told; None when nobody is there to be told."""
        match self.ended_by:
            case "slow-client":
                return Fault(FaultKind.TIMEOUT, "The request body did not arrive in time.")
            case "deadline":
                return Fault(FaultKind.UPSTREAM_TIMEOUT, "The model server did not finish in time.")
            case "policy" if self.denied is not None:
                return self.denied.fault
        return None

    def record(self, lasted_ms: float) -> AuditRecord:
        """Return the audit record: who, from where, what, on which resource, the decision and its outcome."""
        denied, credential = self.denied, self.credential
        allowed = denied is None and self.route is not None and self.account is not None
        token = credential if isinstance(credential, TokenCredential) else None
        return AuditRecord(
            time=self.now,
            id=self.id,
            category="RequestResponse",
            phase="decision",
            operation=self.route.operation.name if self.route is not None else "",
            resource=self.account.arm_id if self.account is not None else "",
            caller_address=self.address,
            client=self.agent,
            credential=_credential_name(credential),
            principal=token.object_id if token is not None else "",
            application=(token.app_id or "") if token is not None else "",
            decision="allow" if allowed else "deny",
            rule=denied.rule if denied is not None else self._role(token) if token is not None and allowed else "",
            reason=denied.fault.kind.value if denied is not None else "",
            status=self.status,
            outcome=self.outcome,
            duration_ms=round(lasted_ms, 3),
            network=self._network() if allowed else "",
            because={name: str(value) for name, value in denied.because.items()} if denied is not None else None,
            fetched=list(self.fetched) or None,
            reported=[_told(one) for one in self.reported] if self.reported else None,
            policy=self.snapshot.generation if self.snapshot is not None else 0,
            receipt=self.receipt.sealed if self.receipt is not None else "",
        )

    def _network(self) -> str:
        account, snapshot = self.account, self.snapshot
        if account is None or snapshot is None:
            return ""
        return admitted_by(snapshot, account, self.address, self.credential, self.private_endpoint)

    def _role(self, token: TokenCredential) -> str:
        """Return what admitted a token: its role and where that is assigned. The snapshot remembers the answer."""
        route, account, snapshot = self.route, self.account, self.snapshot
        if route is None or account is None or snapshot is None or route.operation.data_action is None:
            return ""
        action = DATA_ACTION_PREFIX + route.operation.data_action
        access = rbac.check(snapshot, token.object_id, token.groups, action, account.id, now=self.now, data=True)
        return f"{access.role_name} at {access.assignment.scope}" if isinstance(access, rbac.Granted) else ""


def _told(denied: Deny) -> dict[str, str]:
    because = {name: str(value) for name, value in denied.because.items()}
    return {**because, "rule": denied.rule, "reason": denied.fault.kind.value}


def _credential_name(credential: Credential | None) -> str:
    match credential:
        case KeyCredential(slot=slot, via_token=via_token):
            return f"sts:{slot}" if via_token else slot
        case TokenCredential():
            return "token"
        case RejectedCredential(reason=reason):
            return f"rejected:{reason}"
    return "none"
