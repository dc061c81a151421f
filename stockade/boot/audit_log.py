"""The audit process: what keeps the logs, and what may run beside it."""

from __future__ import annotations

from dataclasses import dataclass

from stockade.audit.heads import Heads, sign_newest
from stockade.audit.keeper import Keeper
from stockade.boot.audit_sending import sending
from stockade.boot.foundation import Foundation
from stockade.kernel.faults import Fault
from stockade.management.resources import subscriptions
from stockade.policy.audit_retention import keep_days


@dataclass(frozen=True, slots=True)
class AuditOffice:
    """The keeper of the logs, and what it was made of."""

    base: Foundation
    keeper: Keeper


def audit_office(base: Foundation, *, alone: bool = False) -> AuditOffice:
    """Build what the audit process does. `keeper.open` makes it the one that does it.

    alone: in a key broker with a data directory of its own, whose logs are its own too: the platform's have the same names, and heads of one
    log of a name are signed.
    """
    asked: set[str] = set()
    """Logs of which the broker has been asked since the start."""

    def sign(name: str) -> None:
        log, heads = keeper.logs.reader(name), Heads(keeper.logs.folder / name)
        sign_newest(log, heads, base.broker.sign_tree_head, base.clock.now(), ask=name not in asked)
        asked.add(name)

    def days(name: str) -> int:
        return keep_days(base.source.current(), name, base.settings.audit.keep_days, base.clock.now())

    known = _Subscriptions(base)
    signed = None if alone else sign
    keeper = Keeper(base.settings, base.clock, base.audit, known=known, sign=signed, keep_days=days)
    keeper.beside.append(sending(base, keeper.logs))
    return AuditOffice(base, keeper)


class _Subscriptions:
    """Says whether there is a subscription. Asks the documents when they have changed, not for every record that names one that is not there."""

    def __init__(self, base: Foundation) -> None:
        self._database, self._cell = base.database, base.cell
        self._names: frozenset[str] = frozenset()
        self._seen = -1

    def __call__(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            published = self._cell.value
            if published == self._seen:
                return False
            with self._database.read() as reader:
                found = reader.list(subscriptions.TYPE)
        except Fault:
            return False  # what is new while the documents cannot be read is nobody's yet
        self._names, self._seen = frozenset(document.id.rsplit("/", 1)[-1] for document in found), published
        return name in self._names
