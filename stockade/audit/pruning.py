"""What retention removes is itself in the log: the record that is there before records go, and that verifying looks for when some are gone."""

from __future__ import annotations

from typing import Final

import msgspec

from stockade.audit.ledger import PLATFORM_LOG
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord

OPERATION: Final = "Stockade.Audit/logs/prune/action"
_MARK: Final = f'"{OPERATION}"'.encode()


class _Because(msgspec.Struct):
    before: str = ""


class _Pruned(msgspec.Struct):
    operation: str
    decision: str = ""
    because: _Because = msgspec.field(default_factory=_Because)


def resource_of(log: str) -> str:
    """Return the resource that records about a log are of; they stand in that log."""
    scope = "" if log == PLATFORM_LOG else f"/subscriptions/{log}"
    return f"{scope}/providers/Stockade.Audit/logs/default"


def record_of_pruning(log: str, before: int, time: float, reason: str) -> AuditRecord:
    """Return the record that the records below an index are about to be removed. reason: the rule, `keep_days 400`."""
    return AuditRecord(
        time=time,
        id=new_guid(),
        category="Audit",
        phase="intent",
        operation=OPERATION,
        resource=resource_of(log),
        decision="allow",
        rule="retention",
        because={"before": str(before), "why": reason},
    )


def pruned_below(line: bytes) -> int:
    """Return below which index a record says that records are removed; 0 when it is about something else."""
    if _MARK not in line:  # nearly all are, and a million of them are asked
        return 0
    try:
        found = msgspec.json.decode(line, type=_Pruned)
    except msgspec.MsgspecError:
        return 0
    before = found.because.before
    return int(before) if found.operation == OPERATION and before.isdecimal() and len(before) < 19 else 0
