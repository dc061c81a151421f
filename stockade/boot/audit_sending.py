"""What leaves the audit process: records for sinks, as the settings and diagnostic settings say, and tree heads for witnesses."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from stockade.audit.checkpoint import HeadKey, SignedHead
from stockade.audit.delivery import Surroundings
from stockade.audit.heads import Heads
from stockade.audit.ledger import LogReader
from stockade.audit.sending import Sending
from stockade.audit.store import Logs
from stockade.audit.witnesses import Witnessing, WitnessSurroundings
from stockade.boot.foundation import Foundation
from stockade.kernel.faults import Fault
from stockade.policy.diagnostics import SnapshotRoutes

log = logging.getLogger(__name__)


def sending(base: Foundation, logs: Logs) -> Sending:
    """Build it. Goes on beside what keeps the logs, which wakes it."""
    configured, folder = base.settings, base.settings.delivery_dir

    def readers() -> Mapping[str, LogReader]:
        return {name: logs.reader(name) for name in logs.names()}

    def heads() -> Mapping[str, SignedHead]:
        found = {}
        for name in logs.names():
            try:
                newest = Heads(logs.folder / name).newest()
            except Fault as fault:
                log.error("the tree heads of a log cannot be read: %s", fault.message)  # noqa: TRY400 - it says why
                continue
            if newest is not None:
                found[name] = newest
        return found

    around = Surroundings(
        folder, readers, lambda: SnapshotRoutes(base.source.current()), base.clock, configured.names.location
    )
    pinning = WitnessSurroundings(
        folder, readers, heads, lambda: HeadKey(base.broker.tree_head_key()), base.audit.commit, base.clock
    )
    return Sending(configured.audit.sinks, around, Witnessing(configured.audit.witnesses, pinning))
