"""An HTTP collector: POST of a JSON array of records. 2xx means that it has them all."""

from __future__ import annotations

from collections.abc import Sequence

from stockade.audit.outgoing import Outgoing
from stockade.audit.sinks.sink import ResourceLog
from stockade.settings import Sink


class HttpSink:
    """One collector."""

    def __init__(self, configured: Sink) -> None:
        self._outgoing = Outgoing(
            configured.url,
            credential_env=configured.credential_env,
            credential_file=configured.credential_file,
            ca_file=configured.ca_file,
            timeout_s=configured.timeout_s,
        )

    async def deliver(self, batch: Sequence[ResourceLog]) -> None:
        await self._outgoing.post(b"[" + b",".join(record.body for record in batch) + b"]", "application/json")

    async def close(self) -> None:
        self._outgoing.close()


class HttpSinks:
    """Type `http`."""

    name = "http"

    def open(self, configured: Sink) -> HttpSink:
        return HttpSink(configured)


PLUGIN = HttpSinks()
