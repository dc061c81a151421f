"""What is recorded before it is answered: refusals. What is allowed is answered at once, and on disk within `audit.within_s`."""

from __future__ import annotations

import asyncio

from stockade.audit.log import AuditSink
from stockade.gateway.exchange import Exchange
from stockade.gateway.running import Running
from stockade.kernel.faults import Fault, FaultKind


def unrecordable(audit: AuditSink) -> Fault:
    """Return what requests are told while records cannot be taken."""
    message = f"The audit log cannot be written ({audit.why}); requests are refused until it can."
    return Fault(FaultKind.UNAVAILABLE, message, retry_after_s=5)


async def recorded_first(audit: AuditSink, running: Running[Exchange], exchange: Exchange) -> None:
    """Return when the record of a refused request is on disk; at once when it is refused because records cannot be taken, or was allowed.

    Fault(UNAVAILABLE) when it cannot be written now. From here on nothing ends the request from outside: all that is left of it is its reply.
    """
    record = exchange.record((asyncio.get_running_loop().time() - exchange.began) * 1000)
    if record.decision != "deny" or not audit.healthy:
        return
    running.leave(exchange)
    exchange.recorded = record
    await audit.durable(record)
