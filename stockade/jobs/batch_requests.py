"""One line of a batch as the request that it is: found, decided on, counted, answered and looked at as the gateway does with a caller's.

It is decided on as the account is at that moment: its key, its list of URIs, its quota. What a caller would be refused for where it stands
(network, credential, role) was asked when the batch was made.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Final

from stockade.egress.fetch import Fetcher
from stockade.egress.resolve import resolver_for
from stockade.gateway.content import InlineContent
from stockade.gateway.counters import RateCounters
from stockade.gateway.output.reply import review
from stockade.gateway.quota import Quota
from stockade.jobs.job import Workplace
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.operation import Operation
from stockade.kernel.record import AuditRecord, FetchedContent
from stockade.kernel.verdict import Deny
from stockade.policy.customer_key import unavailable
from stockade.policy.decide import decide
from stockade.policy.facts import Facts
from stockade.policy.rules.quota import NAME as QUOTA
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.services.dialect import status_of
from stockade.services.openai import bodies
from stockade.services.openai.batches import KIND, endpoint_operation, plain
from stockade.services.openai.service import OpenAIService
from stockade.services.service import Call, Reply, Stream

AGAIN: Final = frozenset({FaultKind.UNAVAILABLE, FaultKind.UPSTREAM_FAILED, FaultKind.UPSTREAM_TIMEOUT})
"""Failures of an engine that may pass."""
AGAIN_STATUS: Final = frozenset({408, 429})
LONGEST_WAIT_S: Final = 60.0

log = logging.getLogger(__name__)


class AccountGoneError(Exception):
    """The account is not there any more."""


class WaitError(Exception):
    """Not now: the quota is used up, or the engine fails. Nothing was counted as an answer."""

    def __init__(self, seconds: float, fault: Fault | None = None, reply: Answer | None = None) -> None:
        super().__init__(seconds)
        self.seconds, self.fault, self.reply = min(max(seconds, 0.1), LONGEST_WAIT_S), fault, reply


@dataclass(frozen=True, slots=True)
class Answer:
    """What a line was answered."""

    status: int
    body: bytes
    request_id: str


@dataclass(slots=True)
class _Noted:
    """What becomes of one line beside its answer, for its record."""

    denied: Deny | None = None
    reported: tuple[Deny, ...] = ()
    fetched: tuple[FetchedContent, ...] = field(default=())


class LineRequests:
    """Answers lines. One per process; connections are made when they are wanted."""

    def __init__(self, place: Workplace) -> None:
        settings = place.settings
        self._place = place
        self._service = OpenAIService(settings)
        self._quota = Quota(RateCounters(settings.run_dir))
        fetcher = Fetcher(settings.egress, resolver_for(settings.egress))
        self._inline = InlineContent(fetcher, settings.egress.max_per_request)

    def operation(self, endpoint: str) -> Operation:
        """Return the operation of a batch's endpoint."""
        found = endpoint_operation(tuple(self._service.operations), endpoint)
        if found is None:
            raise Fault(FaultKind.UNSUPPORTED, f"There are no batches of '{plain(endpoint)}'.", target="endpoint")
        return found

    def account(self, account_id: str) -> tuple[Snapshot, AccountPolicy]:
        """Return policy as it is now, and the account in it; AccountGoneError, Fault(CUSTOMER_KEY_UNAVAILABLE)."""
        snapshot = self._place.snapshot()
        account: AccountPolicy | None = snapshot.only("account", account_id)
        if account is None:
            raise AccountGoneError
        if account.customer_key is not None:
            found = unavailable(snapshot, account.id, account.customer_key, self._place.clock.now())
            if found is not None:
                message = f"The customer-managed key of this resource cannot be used: {found.message}"
                raise Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, message)
        return snapshot, account

    async def answer(self, account_id: str, batch_id: str, operation: Operation, body: bytes) -> Answer:
        """Answer one line. What is wrong with it is an answer too; WaitError when it is to be tried again, and AccountGoneError.

        Fault(CUSTOMER_KEY_UNAVAILABLE) and Fault(UNAVAILABLE) when nothing of the batch can be answered now.
        """
        if not self._place.audit.healthy:
            why = self._place.audit.why
            raise Fault(FaultKind.UNAVAILABLE, f"The audit log cannot be written ({why}).", retry_after_s=5)
        snapshot, account = self.account(account_id)
        clock = self._place.clock
        call = Call(operation, account, None, snapshot, {}, {}, "application/json", body, new_guid(), clock.now())
        noted, began = _Noted(), clock.monotonic()
        try:
            reply = await self._reply(call, noted)
        except Fault as fault:
            if noted.denied is not None and noted.denied.rule == QUOTA:
                raise WaitError(fault.retry_after_s or 1.0) from fault
            status = status_of(fault)
            record = self._record(call, noted, batch_id, status, f"failed:{fault.kind.value}", began)
            if noted.denied is not None:
                await self._place.audit.durable(record)  # as a caller's: refused when it is on record
            else:
                self._place.audit.record(record)
            refused = Answer(
                status, bodies.encode(self._service.refuse(fault, status, call.request_id)), call.request_id
            )
            if fault.kind in AGAIN:
                raise WaitError(fault.retry_after_s or 1.0, fault=fault, reply=refused) from fault
            return refused
        outcome = "success" if reply.status < 400 else "failed:engine"
        self._place.audit.record(self._record(call, noted, batch_id, reply.status, outcome, began))
        answer = Answer(reply.status, reply.body, call.request_id)
        if reply.status in AGAIN_STATUS:
            wait = next((float(value) for name, value in reply.headers if name == "retry-after"), 1.0)
            raise WaitError(wait, reply=answer)
        return answer

    async def close(self) -> None:
        await self._service.close()

    async def _reply(self, call: Call, noted: _Noted) -> Reply:
        service, account = self._service, call.account
        service.read(call)
        if bodies.boolean(bodies.read_members(call.body), "stream"):
            raise Fault(FaultKind.INVALID, "Requests of a batch cannot stream their replies.", target="stream")
        facts = Facts(call.now, "", account, False, None, call.operation, call.operation.path, call.operation.method)
        if account.outbound is not None:
            facts.uris = service.uris(call, deep=account.outbound.deep_scan)
        self._quota.tell(facts, call)
        verdict = decide(call.snapshot, facts, "body")
        noted.reported = verdict.reported
        if isinstance(verdict, Deny):
            noted.denied = verdict
            raise verdict.fault
        self._quota.count(call)
        if facts.uris and account.outbound is not None and account.outbound.inline:
            await self._inline.hand_over(noted, facts, call, service, call.operation.max_body_bytes)
        reply = await service.answer(call)
        if isinstance(reply, Stream):  # the engine's own idea
            reply.close()
            raise Fault(FaultKind.UPSTREAM_FAILED, "The model server streamed a reply that was to be whole.")
        looking = review(account)
        if looking is not None:
            try:
                reply.body = looking.body(reply.body, reply.content_type)
            finally:
                noted.reported = (*noted.reported, *looking.found)
        return reply

    def _record(self, call: Call, noted: _Noted, batch_id: str, status: int, outcome: str, began: float) -> AuditRecord:
        denied = noted.denied
        because = {name: str(value) for name, value in denied.because.items()} if denied is not None else None
        return AuditRecord(
            time=call.now,
            id=call.request_id,
            category="RequestResponse",
            phase="decision",
            operation=call.operation.name,
            resource=call.account.arm_id,
            credential=f"job:{KIND}/{batch_id}",
            decision="deny" if denied is not None else "allow",
            rule=denied.rule if denied is not None else "",
            reason=denied.fault.kind.value if denied is not None else "",
            status=status,
            outcome=outcome,
            duration_ms=round((self._place.clock.monotonic() - began) * 1000, 3),
            because=because,
            fetched=list(noted.fetched) or None,
            reported=[_told(one) for one in noted.reported] or None,
        )


def _told(denied: Deny) -> dict[str, Any]:
    because = {name: str(value) for name, value in denied.because.items()}
    return {**because, "rule": denied.rule, "reason": denied.fault.kind.value}
