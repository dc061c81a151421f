"""What goes on without a caller."""

from __future__ import annotations

from stockade.boot.data_plane import contents
from stockade.boot.foundation import Foundation
from stockade.content.job_grants import JobGrants
from stockade.jobs.job import Workplace


def workplace(base: Foundation) -> Workplace:
    """Return what the work of the jobs process may use. Used on one event loop."""
    grants = JobGrants(base.database, base.broker, base.clock)
    return Workplace(
        settings=base.settings,
        clock=base.clock,
        database=base.database,
        snapshot=base.source.current,
        broker=base.broker,
        audit=base.audit,
        open_content=contents(base).of,
        grants=grants,
    )
