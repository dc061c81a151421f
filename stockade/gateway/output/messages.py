"""The messages of a WebSocket session that come from an engine, looked at under the policy in force.

A session outlives changes of policy: another list or mode holds from the next message.
"""

from __future__ import annotations

from stockade.gateway.output.events import EventFilter
from stockade.gateway.output.findings import MAX_FINDINGS
from stockade.gateway.output.reply import OutputReview, review
from stockade.kernel.faults import Fault
from stockade.kernel.verdict import Deny
from stockade.policy.snapshot import AccountPolicy


class MessageReview:
    """Looks at one direction of one session."""

    def __init__(self) -> None:
        self._account: AccountPolicy | None = None
        self._looking: OutputReview | None = None
        self._events: EventFilter | None = None
        self._found: tuple[Deny, ...] = ()

    @property
    def found(self) -> tuple[Deny, ...]:
        """What was found, for the record; bounded, however often the policy has changed."""
        now = self._looking.found if self._looking is not None else ()
        return (*self._found, *now)[: MAX_FINDINGS + 1]

    def passed(self, account: AccountPolicy, text: str) -> list[str]:
        """Return what is sent in place of a message, in order. Fault(UPSTREAM_FAILED) where it must not go on unread."""
        if account is self._account:
            before: list[str] = []
        else:
            before = self.rest()
            self._found = self.found
            self._account, self._looking = account, review(account)
            self._events = self._looking.messages() if self._looking is not None else None
        if self._looking is None or self._events is None:
            return [*before, text]
        try:
            passed = self._events.event(text.encode())
        except Fault:
            if self._looking.enforced:
                raise
            self._looking.unchecked()
            self._events = None
            return [*before, text]
        if passed is None or not self._looking.enforced:
            return [*before, text]
        return [*before, *(one.decode() for one in passed)]

    def rest(self) -> list[str]:
        """Return the messages with what is held back of texts that have not ended; for the session's end."""
        if self._looking is None or self._events is None:
            return []
        left = [one.decode() for one in self._events.end()]
        return left if self._looking.enforced else []
