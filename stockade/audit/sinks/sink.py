"""What a sink is: something that takes records in Azure Monitor's shape, a batch at a time, and says whether it has them.

A type is a file in this folder that exports `PLUGIN`. It keeps nothing: which records a sink has got is remembered by `audit/delivery.py`, which
gives it the same batch again until it has been taken. So records arrive at least once, and of one log in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from stockade.settings import Sink as Configured


class Undelivered(Exception):
    """A batch did not get there, or nobody knows whether it did. The message is shown to operators and holds nothing secret.

    again_s:   when the receiver wants to be asked again, if it said so.
    refused:   it understood and does not take this (HTTP 4xx): tried again all the same, but slowly, and other logs go on.
    too_large: a smaller batch may do.
    """

    def __init__(
        self, message: str, *, again_s: float | None = None, refused: bool = False, too_large: bool = False
    ) -> None:
        super().__init__(message)
        self.again_s, self.refused, self.too_large = again_s, refused, too_large


class ResourceLog(msgspec.Struct, frozen=True):
    """A record on its way out, and where it stands.

    body: UTF-8 JSON, one object in Azure Monitor's common schema (`audit/resource_log.py`).
    """

    log: str
    index: int
    time: float
    """Epoch seconds."""
    level: str
    """`Informational`, `Warning`, `Error`."""
    category: str
    decision: str
    resource: str
    body: bytes


class OpenSink(Protocol):
    """A sink in use. On one event loop; `deliver` is never called before the last call has ended."""

    async def deliver(self, batch: Sequence[ResourceLog]) -> None:
        """Return when the receiver has the batch; Undelivered otherwise. It takes no longer than the settings' `timeout_s`."""
        ...

    async def close(self) -> None:
        """Let go of connections and files."""
        ...


@runtime_checkable
class SinkType(Protocol):
    """One way out."""

    name: str
    """As the settings' `type`."""

    def open(self, configured: Configured) -> OpenSink:
        """Return the sink. Connects to nothing; Undelivered where something that it needs is not installed."""
        ...
