"""Customer Lockbox where it is enforced: statements bound to data keys, requests opened, access granted for what was signed, operators' reads.

Everything is decided on what approvers have signed, on the operator's own token, and on this process's memory: never on what a document says of a
request. What takes something away (a revocation, a newer statement, time) is remembered on disk too (`floors.py`); what gives something is in
memory alone, and ends with the process. Source: decision 0012.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

from stockade.audit.log import AuditSink
from stockade.broker.account_keys import AccountKeys, Held
from stockade.broker.content_limits import account_of, check_customer_key, check_refs
from stockade.broker.evidence import Verifier
from stockade.broker.floors import Floors
from stockade.broker.grants import covers
from stockade.broker.lockbox_callers import check_pins
from stockade.broker.lockbox_statements import Bound, bound_to, check_next, internal_id
from stockade.broker.lockbox_tokens import LockboxTokens, OperatorGranted
from stockade.broker.recording import Recording, shown_whole
from stockade.kernel.clock import Clock
from stockade.kernel.evidence import ArmToken, OperatorGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.kernel.secret import Secret
from stockade.keys import content_actions
from stockade.keys.broker import Access, ObjectKeys, ObjectRef, WrappedDataKey
from stockade.keys.lockbox import Challenge, Lent
from stockade.keys.stored import forgotten_keys
from stockade.lockbox import approval as approvals
from stockade.lockbox import strict
from stockade.lockbox.approval import BREAK_GLASS, Approval
from stockade.lockbox.services import treatment
from stockade.lockbox.sign_in import LEEWAY_S, check_sign_in
from stockade.lockbox.signature import Signed, require
from stockade.lockbox.statement import Approver, digest
from stockade.policy import rbac
from stockade.policy.snapshot import AccountPolicy, Snapshot
from stockade.settings import Settings

ASK: Final = "Stockade.Lockbox/requests/write"
"""Data action of operators who may ask."""
PROTECT: Final = "Stockade.Lockbox/policies/write"
ASSIGN: Final = "Microsoft.Authorization/roleAssignments/write"
"""What an Owner has and a Contributor has not."""
MAX_DATA_KEYS: Final = 256
MAX_OPEN: Final = 10_000
"""Requests that are open, or were granted, at one time."""
MAX_REVOKED: Final = 50_000
MAX_READ: Final = 100
"""Objects of one read: each is told in the record."""
HOUR_S: Final = 3600.0


@dataclass(slots=True)
class _Opened:
    """What this process knows of a request. until: after which nothing of it counts."""

    account: str
    until: float
    nonce: str = ""
    statement: str = ""
    """The statement that the nonce is for: under another one the request gets another."""
    approval: str = ""
    """The digest of what was signed for it, once it has been granted: there is one."""
    ends_at: float = 0.0
    ends_at_monotonic: float = 0.0
    over: bool = False
    """Somebody has seen that its time was over: whoever sets any clock back then has nothing of it."""


class Lockbox:
    """Implements `LockboxKeys`, and operators' reads. An instance lives for as long as the platform is unsealed."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        snapshot: Callable[[], Snapshot],
        audit: AuditSink,
        floors: Floors,
        verifier: Verifier,
        accounts: AccountKeys,
    ) -> None:
        self._rules, self._lease_s = settings.lockbox, settings.keys.lease_s
        self._clock, self._snapshot, self._audit = clock, snapshot, audit
        self._floors, self._verifier, self._accounts = floors, verifier, accounts
        self._tokens = LockboxTokens()
        self._opened: OrderedDict[str, _Opened] = OrderedDict()
        self._lock = Lock()

    # Statements.

    def bind_statement(self, account_id: str, signed: Signed, evidence: ArmToken) -> tuple[WrappedDataKey, ...]:
        place = account_id.lower()
        record = self._recording("statements/bind", place, evidence)
        try:
            snapshot, now = self._snapshot(), self._now()
            account = account_of(snapshot, place)
            record.resource = account.arm_id
            caller = record.proven = self._verifier.prove_to_arm(snapshot, evidence, now)
            to = bound_to(signed.payload)
            record.because |= {"statement": to.digest, "sequence": str(to.statement.sequence)}
            record.because["protected"] = str(to.statement.protected).lower()
            document, keys, current = self._accounts.to_bind(place)
            if to.statement.account != account.id or to.statement.account_guid != internal_id(document):
                message = "The statement is another account's, or that of an account that had this name before."
                raise Fault(FaultKind.INVALID, message, code="InvalidStatement", target="account")
            if {one.statement for one in keys} == {to.digest}:
                self._check_may_protect(snapshot, account, caller, now)
                found = keys  # bound to it already, and maybe the document had lost it
            else:
                check_next(keys, current, to, self._floors)
                self._check_signed(snapshot, account, signed, current, to, caller, now)
                check_pins(snapshot, to.statement, forgotten_keys(document.private))
                if len(keys) >= MAX_DATA_KEYS:
                    message = f"The account has {len(keys)} data keys, one for each statement, and takes no more."
                    raise Fault(FaultKind.LIMIT, message)
                check_customer_key(snapshot, account, now)
                found = self._accounts.bind(snapshot, account, keys, to)
        except Fault as fault:
            record.refused(fault)
            raise
        record.placed()
        return found

    def _check_signed(
        self,
        snapshot: Snapshot,
        account: AccountPolicy,
        signed: Signed,
        current: Bound | None,
        to: Bound,
        caller: TokenCredential,
        now: float,
    ) -> None:
        """Let the approvers of the statement before say what comes next; where none protects, an approver whom the Owner has made one."""
        if current is not None and current.statement.protected:
            require(signed, current.statement.approvers, current.statement.threshold)
            return
        self._check_may_protect(snapshot, account, caller, now)
        signers = require(signed, to.statement.approvers, 1)
        who = rbac.identities(snapshot, caller.object_id, caller.groups)
        if not any(one.principal in who for one in signers):
            message = f"A first statement is brought by one of its approvers, who has signed it; `{caller.object_id}` has not."
            raise Fault(FaultKind.PERMISSION_DENIED, message, code="NotSigned")

    def _check_may_protect(
        self, snapshot: Snapshot, account: AccountPolicy, caller: TokenCredential, now: float
    ) -> None:
        def may(action: str, *, data: bool) -> bool:
            found = rbac.check(snapshot, caller.object_id, caller.groups, action, account.id, now=now, data=data)
            return isinstance(found, rbac.Granted)

        if not may(PROTECT, data=True) and not (may(PROTECT, data=False) and may(ASSIGN, data=False)):
            message = f"The principal `{caller.object_id}` may not write the account's Lockbox statement: that takes an Owner."
            raise Fault(FaultKind.PERMISSION_DENIED, message)

    # Requests.

    def open_request(self, account_id: str, request_id: str, evidence: ArmToken) -> Challenge:
        place = account_id.lower()
        record = self._recording("requests/open", place, evidence)
        record.because["request"] = request_id[:64]
        try:
            snapshot, now = self._snapshot(), self._now()
            account = account_of(snapshot, place)
            record.resource = account.arm_id
            caller = record.proven = self._verifier.prove_to_arm(snapshot, evidence, now)
            bound = self._protected(snapshot, account)
            if not strict.is_guid(request_id):
                raise Fault(FaultKind.INVALID, "A request has a GUID in lower case.", target="request")
            if caller.object_id not in {one.principal for one in bound.statement.approvers}:
                self._check_operator(snapshot, account, caller, now)
            self._check_not_over(request_id)
            until = now + self._rules.request_days * 86_400
            nonce = self._note_open(request_id, account.id, bound.digest, until, now)
        except Fault as fault:
            record.refused(fault)
            raise
        record.allowed()
        return Challenge(nonce, bound.digest, until)

    def grant_access(self, request_id: str, signed: Signed, evidence: ArmToken) -> Lent:
        record = self._recording("access/grant", "", evidence)
        record.because["request"] = request_id[:64]
        try:
            said = approvals.read(signed.payload)
            record.resource = said.account
            if said.type == BREAK_GLASS:
                record.operation = "Stockade.Lockbox/access/breakGlass"
            record.because |= {
                "scope": ", ".join(said.scope),
                "purpose": said.purpose[:500],
                "approval": digest(signed.payload),
            }
            snapshot, now = self._snapshot(), self._now()
            account = account_of(snapshot, said.account)
            record.resource = account.arm_id
            caller = record.proven = self._verifier.prove_to_arm(snapshot, evidence, now)
            bound = self._protected(snapshot, account)
            self._check_approval(snapshot, account, bound, said, request_id, caller, now)
            signers = self._check_signers(bound, signed, said)
            record.because["signers"] = ", ".join(one.id for one in signers)
            ends_at = self._begin(said, digest(signed.payload), now)
            record.because["endsAt"] = f"{ends_at:.0f}"
        except Fault as fault:
            record.refused(fault)
            raise
        record.placed()
        grant = OperatorGranted(
            said.request,
            said.account,
            bound.digest,
            digest(signed.payload),
            said.scope,
            caller.object_id,
            caller.tenant_id,
            said.type == BREAK_GLASS,
        )
        return Lent(self._tokens.grant(grant), ends_at)

    def revoke_access(self, request_id: str) -> None:
        if not strict.is_guid(request_id):
            raise Fault(FaultKind.INVALID, "A request has a GUID in lower case.", target="request")
        with self._lock:
            known = self._opened.get(request_id)
        # What this process has not opened, nothing counts for that was ever signed; that it is remembered all the same is for people's sake.
        if known is None and self._floors.revocations >= MAX_REVOKED:
            return
        if not self._floors.is_revoked(request_id):
            try:
                self._floors.revoke(request_id, self._now() + approvals.LATEST_S)
            except OSError as failure:
                raise Fault(
                    FaultKind.UNAVAILABLE, "The revocation cannot be written down.", retry_after_s=5
                ) from failure
        record = self._recording("access/revoke", known.account if known is not None else "", None)
        record.because["request"] = request_id
        record.allowed()

    def _check_approval(
        self,
        snapshot: Snapshot,
        account: AccountPolicy,
        bound: Bound,
        said: Approval,
        request_id: str,
        caller: TokenCredential,
        now: float,
    ) -> None:
        if said.request != request_id:
            raise _refused("what was signed is for another request")
        if said.statement != bound.digest:
            raise _refused("it was signed under another statement than the account has now")
        created = self._tokens.created_at(said.nonce, said.request, said.account, said.statement)
        if created + self._rules.request_days * 86_400 + approvals.LONGEST_S <= now:
            raise _refused("the request has lapsed")
        self._check_not_over(request_id)
        if (caller.object_id, caller.tenant_id) != (said.operator.object_id, said.operator.tenant):
            raise _refused("it lets another operator read")
        self._check_operator(snapshot, account, caller, now)
        check_sign_in(caller, now, self._rules)
        if not said.not_before - LEEWAY_S <= now < said.not_after:
            raise _refused("it is not valid yet" if now < said.not_before else "its time is over")
        if said.duration_s > self._rules.max_hours * HOUR_S:
            raise _refused(f"nobody reads for longer than {self._rules.max_hours:g} hours here")
        for pattern in said.scope:
            if pattern.partition("/")[0] not in content_actions.KINDS:
                raise _refused(f"nothing of the kind `{pattern.partition('/')[0]}` is kept")

    def _check_signers(self, bound: Bound, signed: Signed, said: Approval) -> tuple[Approver, ...]:
        statement = bound.statement
        if said.type != BREAK_GLASS:
            return require(signed, statement.approvers, statement.threshold, without=(said.operator.object_id,))
        glass = statement.break_glass
        if glass is None:
            raise _refused("the account's statement has no clause for breaking the glass")
        if not self._rules.break_glass:
            raise _refused("nobody breaks the glass on this platform (`lockbox.break_glass` is off)")
        if said.duration_s > glass.hours * HOUR_S:
            raise _refused(f"the statement's clause is for {glass.hours} hours")
        return require(signed, glass.operators, max(2, glass.threshold))

    def _begin(self, said: Approval, approval: str, now: float) -> float:
        """Return when the access ends, counted from the first time that it was granted."""
        with self._lock:
            opened = self._opened.get(said.request)
            if opened is None:  # its challenge holds, so it was open once: many others have been since
                raise _refused("the request has lapsed")
            if opened.approval not in ("", approval):
                raise _refused("something else was signed for the request before, and has been used")
            if not opened.approval:
                opened.approval = approval
                opened.ends_at = min(said.not_after, now + said.duration_s)
                opened.ends_at_monotonic = self._clock.monotonic() + (opened.ends_at - now)
                opened.until = max(opened.until, opened.ends_at)
            self._left_s(opened, now)
            return opened.ends_at

    def _left_s(self, opened: _Opened | None, now: float) -> float:
        """Return how long an access lasts yet, by both clocks; Fault(PERMISSION_DENIED) when it is over, which it stays."""
        if opened is None:
            raise _refused("its time is over")
        left_s = min(opened.ends_at - now, opened.ends_at_monotonic - self._clock.monotonic())
        opened.over = opened.over or left_s <= 0
        if opened.over:
            raise _refused("its time is over")
        return left_s

    def _note_open(self, request_id: str, account_id: str, statement: str, until: float, now: float) -> str:
        """Return the request's challenge: one for as long as this process and the statement are the same, so that several sign the same."""
        with self._lock:
            known = self._opened.get(request_id)
            if known is not None and known.account != account_id:
                raise Fault(FaultKind.CONFLICT, "The request is another account's.", code="ChallengeOver")
            if known is None:
                self._make_room(now)
                self._opened[request_id] = known = _Opened(account_id, until)
            known.until = max(known.until, until)
            if known.statement != statement:
                known.nonce = self._tokens.challenge(request_id, account_id, statement, now)
                known.statement = statement
            return known.nonce

    def _make_room(self, now: float) -> None:
        if len(self._opened) >= MAX_OPEN:
            for name in [name for name, one in self._opened.items() if one.until <= now]:
                del self._opened[name]
        if len(self._opened) >= MAX_OPEN:
            raise Fault(FaultKind.LIMIT, "Too many requests are open.", retry_after_s=60)

    # Reads.

    def object_keys(
        self, account_id: str, objects: Sequence[ObjectRef], access: Access, evidence: OperatorGrant, asked_by: str
    ) -> ObjectKeys:
        """Return keys of what a grant's scope takes in, for reading. Each read has its place in the account's log before this returns."""
        place = account_id.lower()
        record = self._recording("content/read", place, evidence, asked_by)
        try:
            refs = tuple(objects)
            record.because["paths"] = shown_whole([ref.path for ref in refs[:MAX_READ]])
            check_refs(refs)
            if len(refs) > MAX_READ:
                raise Fault(FaultKind.INVALID, f"An operator reads at most {MAX_READ} objects at once.")
            snapshot, now = self._snapshot(), self._now()
            account = account_of(snapshot, place)
            record.resource = account.arm_id
            grant = self._tokens.read(evidence.grant)
            record.because |= {"request": grant.request, "approval": grant.approval}
            caller = record.proven = self._verifier.prove_to_arm(snapshot, ArmToken(evidence.token), now)
            held = self._held(snapshot, account)
            left_s = self._check_read(snapshot, account, held, grant, caller, now)
            if access != "read":
                raise _refused("operators write nothing")
            for ref in refs:
                kind = ref.path.partition("/")[0]
                if kind not in content_actions.KINDS or not any(covers(one, ref.path) for one in grant.scope):
                    raise _refused(f"`{ref.path}` is not in its scope")
            check_customer_key(snapshot, account, now)
            keys, newest = self._accounts.object_keys(snapshot, account, held, refs)
        except Fault as fault:
            record.refused(fault)
            raise
        record.placed()
        return ObjectKeys(tuple(Secret(key) for key in keys), newest, min(self._lease_s, left_s))

    def _check_read(
        self,
        snapshot: Snapshot,
        account: AccountPolicy,
        held: Held,
        grant: OperatorGranted,
        caller: TokenCredential,
        now: float,
    ) -> float:
        """Return how many seconds a grant has left; Fault(PERMISSION_DENIED) when it gives nothing any more, or not to this caller here."""
        if grant.account != account.id:
            raise _refused("the grant is for another account")
        if (caller.object_id, caller.tenant_id) != (grant.operator, grant.tenant):
            raise _refused("the grant is another operator's")
        if held.protected is None or held.protected.digest != grant.statement:
            raise _refused("the account has another statement now")
        if grant.break_glass and not self._rules.break_glass:
            raise _refused("nobody breaks the glass on this platform")
        self._check_not_over(grant.request)
        self._check_operator(snapshot, account, caller, now)
        return self._left_s(self._opened.get(grant.request), now)

    # What every step asks.

    def _now(self) -> float:
        try:
            return self._floors.now()
        except OSError as failure:
            raise Fault(FaultKind.UNAVAILABLE, "The time cannot be written down.", retry_after_s=5) from failure

    def _protected(self, snapshot: Snapshot, account: AccountPolicy) -> Bound:
        bound = self._held(snapshot, account).protected
        if bound is None:
            message = (
                "The account has no Lockbox statement, so nobody could approve, and no operator reads what it keeps."
            )
            raise Fault(FaultKind.PERMISSION_DENIED, message, code="LockboxNotProtected")
        return bound

    def _held(self, snapshot: Snapshot, account: AccountPolicy) -> Held:
        """Return what an account's document holds, where operators may ask at all."""
        if snapshot.only("lockbox", "tenant") is not True:
            message = "The tenant has not turned Customer Lockbox on, so no operator reads what customers keep."
            raise Fault(FaultKind.PERMISSION_DENIED, message, code="LockboxNotEnabled")
        match treatment(account.kind, account.sku):
            case "never":
                message = f"What a {account.kind} account of SKU {account.sku} keeps is not accessible to operators, request or not."
                raise Fault(FaultKind.PERMISSION_DENIED, message, code="LockboxAccountClosed")
            case "own-storage":
                message = "What a Speech account keeps is in the customer's own storage; there is nothing here to read."
                raise Fault(FaultKind.PERMISSION_DENIED, message, code="LockboxOwnStorage")
        return self._accounts.held(snapshot, account)

    def _check_operator(self, snapshot: Snapshot, account: AccountPolicy, caller: TokenCredential, now: float) -> None:
        found = rbac.check(snapshot, caller.object_id, caller.groups, ASK, account.id, now=now, data=True)
        if not isinstance(found, rbac.Granted):
            raise _refused(f"the principal `{caller.object_id}` lacks the data action `{ASK}`")

    def _check_not_over(self, request_id: str) -> None:
        if self._floors.is_revoked(request_id):
            raise Fault(FaultKind.PERMISSION_DENIED, "The request is over, or was revoked.", code="LockboxRevoked")

    def _recording(
        self, what: str, resource: str, evidence: ArmToken | OperatorGrant | None, asked_by: str = ""
    ) -> Recording:
        return Recording(self._audit, self._clock, f"Stockade.Lockbox/{what}", resource, asked_by, evidence)


def _refused(why: str) -> Fault:
    return Fault(FaultKind.PERMISSION_DENIED, f"Nothing is opened for that: {why}.", code="LockboxRefused")
