"""The key broker's audit records: of each call with evidence, written before it is answered, and of what is done without a caller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from stockade.audit.log import AuditSink, commit_refusal
from stockade.broker.evidence import Named, Proven, named
from stockade.kernel.clock import Clock
from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord
from stockade.keys.broker import Binding

PLATFORM: Final = "/providers/stockade.platform/installations/default"
_SHOWN_PATHS: Final = 20


class Recording:
    """The audit record of one call, written before it is answered. Nothing is decided while records cannot be taken."""

    def __init__(
        self, audit: AuditSink, clock: Clock, operation: str, resource: str, asked_by: str, evidence: Evidence | None
    ) -> None:
        self._audit, self._clock, self.operation, self.resource = audit, clock, operation, resource
        self._asked_by, self._evidence = asked_by[:120], evidence
        self.because: dict[str, str] = {}
        self.proven: Proven | None = None
        if not audit.healthy:
            message = f"The audit log cannot be written ({audit.why}), so no key is given."
            raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5)

    def allowed(self, *, privileged: bool = True) -> None:
        """Write that it was done. privileged: on disk before this returns, which the use of keys and content is not."""
        record = self._made("allow", "", "")
        if privileged:
            self._audit.commit(record)
        else:
            self._audit.record(record)

    def placed(self) -> None:
        """Do the same, with its place in the log's tree before this returns; Fault(UNAVAILABLE), after which nothing may be given."""
        self._audit.place(self._made("allow", "", ""))

    def refused(self, fault: Fault) -> None:
        """Write that it was refused, on disk before this returns; Fault(UNAVAILABLE) otherwise, which is then the answer."""
        commit_refusal(self._audit, self._made("deny", fault.kind.value, fault.message))

    def _made(self, decision: str, reason: str, message: str) -> AuditRecord:
        who: Named = named(self._evidence, self.proven)
        because = {**self.because, "evidence": who.kind}
        if message:
            because["message"] = message[:500]
        return AuditRecord(
            time=self._clock.now(),
            id=new_guid(),
            category="Audit",
            phase="decision",
            operation=self.operation,
            resource=self.resource,
            client=self._asked_by,
            credential=who.credential,
            principal=who.principal,
            application=who.application,
            decision="allow" if decision == "allow" else "deny",
            reason=reason,
            outcome="success" if decision == "allow" else f"failed:{reason}",
            because=because,
        )


class Notes:
    """Records of what the platform, or somebody with the right to the broker's socket, does without a caller's evidence."""

    def __init__(self, audit: AuditSink, clock: Clock) -> None:
        self._audit, self._clock = audit, clock

    @contextmanager
    def doing(self, what: str, resource: str, because: dict[str, str]) -> Iterator[None]:
        """Record how something ended; without an audit log it is not begun."""
        if not self._audit.healthy:
            message = f"The audit log cannot be written ({self._audit.why}), so no key is opened or destroyed."
            raise Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5)
        try:
            yield
        except Fault as fault:
            self.note(what, resource, fault, because)
            raise
        self.note(what, resource, None, because)

    def note(
        self, what: str, resource: str = PLATFORM, fault: Fault | None = None, because: dict[str, str] | None = None
    ) -> None:
        """Record one thing that was done, or could not be."""
        record = AuditRecord(
            time=self._clock.now(),
            id=new_guid(),
            category="Audit",
            phase="outcome",
            operation=f"Stockade.Keys/{what}",
            resource=resource,
            decision="allow" if fault is None else "deny",
            reason=fault.kind.value if fault is not None else "",
            outcome="success" if fault is None else f"failed:{fault.kind.value}",
            because=because,
        )
        with suppress(Fault):  # it is done, and its record is written when that can be
            self._audit.commit(record)


def binding_shown(before: Binding | None, after: Binding | None) -> dict[str, str]:
    """Return for a record what wraps a data key before and after."""
    return {"before": _named_key(before), "after": _named_key(after)}


def _named_key(binding: Binding | None) -> str:
    return f"{binding.vault_uri}/keys/{binding.key_name}" if binding is not None else "platform"


def shown(paths: Sequence[str]) -> str:
    """Return paths for a record: ids, never names, and not more than a screenful."""
    told = ", ".join(path[:240] for path in paths[:_SHOWN_PATHS])
    return told if len(paths) <= _SHOWN_PATHS else f"{told} and {len(paths) - _SHOWN_PATHS} more"


def shown_whole(paths: Sequence[str]) -> str:
    """Return all of the paths for a record."""
    return ", ".join(path[:240] for path in paths)
