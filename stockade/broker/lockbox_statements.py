"""An account's Lockbox statement as the broker finds it in the account's document, and what may not have happened to it there.

The data keys open beside the statement that they were bound to and beside no other, which the wrapping itself holds to. What is checked here on
top are the floors: a statement, or data keys from before it, that somebody has put back from a backup.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from stockade.broker.floors import Floors, StatementFloor
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.broker import WrappedDataKey
from stockade.keys.stored import statement_of
from stockade.lockbox import statement as statements
from stockade.lockbox.statement import Statement, digest
from stockade.storage.documents import Document

MISMATCH: Final = "LockboxStatementMismatch"
MAX_WAITING: Final = 1000

_read = lru_cache(1024)(statements.read)
"""Reading imports keys; the same bytes say the same."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A statement and its digest."""

    digest: str
    statement: Statement

    def floor(self, keys: Sequence[WrappedDataKey]) -> StatementFloor:
        """Return what is remembered of it."""
        versions = tuple(one.version for one in keys)
        return StatementFloor(self.statement.sequence, self.digest, self.statement.protected, versions)


def bound_to(payload: bytes) -> Bound:
    """Return a statement by its bytes; Fault(INVALID) for what is none."""
    return Bound(digest(payload), _read(payload))


def internal_id(document: Document) -> str:
    """Return what tells an account from another one of its name."""
    return str(document.body.get("properties", {}).get("internalId", ""))


def statement_in(document: Document) -> Bound | None:
    """Return the statement that an account's document has; Fault(LOCKBOX_DENIED) for another account's, and for what is none."""
    signed = statement_of(document.private)
    if signed is None:
        return None
    try:
        found = bound_to(signed.payload)
    except Fault as fault:
        raise mismatch("it cannot be read") from fault
    if found.statement.account != document.id or found.statement.account_guid != internal_id(document):
        raise mismatch("it is another account's")
    return found


def check_bound(keys: Sequence[WrappedDataKey], bound: Bound | None, account_guid: str, floors: Floors) -> None:
    """Raise Fault(LOCKBOX_DENIED) unless all data keys are bound to the statement that is there, and no later one has been seen.

    An account that had a statement and has neither that nor data keys any more is given no new ones, which would be bound to nothing.
    """
    if any(one.statement != (bound.digest if bound is not None else "") for one in keys):
        raise mismatch("its data keys are not bound to the statement that the account has")
    seen = [floor for one in keys if (floor := floors.of_data_key(one.version)) is not None]
    own = floors.statement(account_guid)
    for floor in (*seen, *((own,) if own is not None else ())):
        if bound is None:
            raise mismatch("its data keys are bound to a statement, and the account has none any more")
        if bound.statement.sequence < floor.sequence:
            raise mismatch(
                f"statement {bound.statement.sequence} is there, and the key broker has seen {floor.sequence}"
            )
        if bound.statement.sequence == floor.sequence and bound.digest != floor.digest:
            raise mismatch(f"another statement {floor.sequence} is there than the key broker has seen")


def check_next(keys: Sequence[WrappedDataKey], current: Bound | None, to: Bound, floors: Floors) -> None:
    """Raise a Fault unless a statement is the next one of an account: CONFLICT where it does not continue, LOCKBOX_DENIED where it cannot.

    A document that was put back from a backup is behind the floors. From there only the same statements lead on that led on before.
    """
    bound = {one.statement for one in keys} or {""}
    if bound != {current.digest if current is not None else ""}:
        raise mismatch("its data keys are not bound to the statement that the account has")
    sequence, previous = (current.statement.sequence, current.digest) if current is not None else (0, "")
    if (to.statement.sequence, to.statement.previous) != (sequence + 1, previous):
        after = f"statement {sequence} with the digest {previous}" if previous else "no statement"
        message = f"The account has {after}, and this statement does not say that it is the next one."
        raise Fault(FaultKind.CONFLICT, message, code="StatementOutOfSequence")
    known = floors.statement(to.statement.account_guid)
    for floor in (known, *(floors.of_data_key(one.version) for one in keys)):
        if floor is None:
            continue
        if sequence >= floor.sequence:
            check_bound(keys, current, to.statement.account_guid, floors)
        elif to.statement.sequence == floor.sequence and to.digest != floor.digest:
            raise mismatch(f"the key broker has seen another statement {floor.sequence}")


def mismatch(why: str) -> Fault:
    """Return the refusal of an account whose statement is not what it was, with what its approvers can do."""
    message = (
        f"The account's Lockbox statement does not hold: {why}. Nothing that the account keeps is opened. "
        "Whoever has its newest statement, as it was signed, can put it there again."
    )
    return Fault(FaultKind.LOCKBOX_DENIED, message, code=MISMATCH)


class Made:
    """Statements that data keys were bound to in this process, until they are seen in their documents: from then on there is no way back."""

    def __init__(self, floors: Floors) -> None:
        self._floors = floors
        self._waiting: OrderedDict[str, tuple[str, StatementFloor]] = OrderedDict()

    def note(self, account_id: str, account_guid: str, floor: StatementFloor) -> None:
        self._waiting[account_id] = (account_guid, floor)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popitem(last=False)

    def waiting(self) -> list[str]:
        return list(self._waiting)

    def seen(self, account_id: str, bound: Bound) -> None:
        """Take note that a document has a statement."""
        found = self._waiting.get(account_id)
        if found is not None and found[1].digest == bound.digest:
            self._floors.set_statement(*found)
            self._waiting.pop(account_id, None)
