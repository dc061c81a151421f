"""For one of the two servers that `benchmarks.audit_cost` compares: records are dropped where they would be made. No setting does that."""

from stockade.audit.spool import Spool


async def _nothing_later(*_: object) -> None: ...


def _nothing(*_: object) -> None: ...


Spool.record = Spool.commit = Spool.start = _nothing
Spool.durable = _nothing_later
