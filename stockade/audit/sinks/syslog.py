"""Syslog over TLS: one RFC 5424 message a record, framed by its length (RFC 5425), the record's JSON as its text.

The protocol has no acknowledgement. A batch counts as taken when the receiver's system has acknowledged every byte (where ours tells, Linux) and the
connection is still there. If it breaks soon after, what was sent last is sent again; if the receiver stops reading, all that its system may still
have had. What is lost after that only the receiver can know.

The JSON is ASCII, other characters escaped, so that it needs no byte order mark (RFC 5424 section 6.4). The structured data says where the record
stands in the log; its number is the one that RFC 5612 sets aside, because we have none of our own.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import platform
import struct
import termios
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, cast
from urllib.parse import urlsplit

import msgspec

from stockade.audit.outgoing import shown_address
from stockade.audit.sinks.sink import ResourceLog, Undelivered
from stockade.egress import dial
from stockade.settings import Sink

DEFAULT_PORT: Final = 6514
FACILITY: Final = 13
"""`log audit`."""
_SEVERITY: Final = {"Informational": 6, "Warning": 4, "Error": 3}
DATA_ID: Final = "stockade@32473"
LOOK_S: Final = 0.01
RECENT_S: Final = 5.0
"""A connection that breaks so soon after a batch may have taken it along."""
WINDOW_BYTES: Final = 8 * 1024 * 1024
"""What is kept of a connection's newest batches: about what a receiver's system takes for a receiver that reads nothing."""


class SyslogSink:
    """One receiver."""

    def __init__(self, configured: Sink) -> None:
        parts = urlsplit(configured.url)
        self._host, self._port = parts.hostname or "", parts.port or DEFAULT_PORT
        self._shown = shown_address(configured.url)
        self._ca_file, self._timeout_s = configured.ca_file, configured.timeout_s
        self._connection: _Connection | None = None
        self._window: deque[tuple[float, bytes]] = deque()
        """The newest batches of the connection: when each was taken, and its frames."""
        self._hung = False

    async def deliver(self, batch: Sequence[ResourceLog]) -> None:
        frames = b"".join(frame(message(record)) for record in batch)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(frames)
        except TimeoutError as failure:
            self._hung = self._hung or self._connection is not None
            self._abort()
            raise Undelivered(f"{self._shown} did not take records in time") from failure
        except OSError as failure:  # TLS's errors are among them
            self._abort()
            raise Undelivered(f"{self._shown} cannot be reached, does not prove who it is, or broke off") from failure

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _send(self, frames: bytes) -> None:
        loop = asyncio.get_running_loop()
        connection = self._connection
        if connection is not None and connection.lost_at is not None:
            if not self._hung:
                recent = connection.lost_at - RECENT_S
                self._window = deque(one for one in self._window if one[0] > recent)
            connection = self._connection = None
        if connection is None:
            try:
                tls = dial.tls_context(self._ca_file)
            except OSError as failure:
                raise Undelivered(f"the ca_file {self._ca_file} cannot be used") from failure
            tls.set_alpn_protocols([])  # it is no HTTP
            _, connection = await dial.named(_Connection, self._host, self._port, tls=tls)
            self._connection = connection
            if self._window:
                await connection.send(b"".join(sent for _, sent in self._window))
            self._hung = False
        await connection.send(frames)
        self._window.append((loop.time(), frames))
        while len(self._window) > 1 and sum(len(sent) for _, sent in self._window) > WINDOW_BYTES:
            self._window.popleft()

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


class _Connection(asyncio.Protocol):
    """The socket's side. Nothing that the other side says means anything here; if it says much, it is cut off."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.lost_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.abort()

    def connection_lost(self, failure: Exception | None) -> None:
        self.lost_at = self._loop.time()

    async def send(self, data: bytes) -> None:
        """Return when the other side's system has all of it."""
        transport = self._transport
        assert transport is not None
        self._require_open()
        transport.write(data)
        while transport.get_write_buffer_size() or self._unacknowledged():
            await asyncio.sleep(LOOK_S)
            self._require_open()
        await asyncio.sleep(0)  # what the loop knows already of an end is heard now
        self._require_open()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _require_open(self) -> None:
        if self.lost_at is not None or self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the receiver closed the connection")

    def _unacknowledged(self) -> int:
        """Return how many bytes the kernel still has; 0 where it does not tell."""
        found = self._transport.get_extra_info("socket") if self._transport is not None else None
        if found is None or found.fileno() < 0:
            return 0
        try:
            (count,) = struct.unpack("i", fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
        except OSError:
            return 0
        return int(count)


def message(record: ResourceLog) -> bytes:
    """Return a record as an RFC 5424 message."""
    when = datetime.fromtimestamp(record.time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    host = "".join(sign for sign in platform.node() if "!" <= sign <= "~")[:255] or "-"
    named = {
        "log": record.log,
        "index": str(record.index),
        "decision": record.decision,
        "resource": record.resource,
    }
    data = " ".join(f'{name}="{_escaped(value)}"' for name, value in named.items() if value)
    priority = FACILITY * 8 + _SEVERITY.get(record.level, 6)
    text = json.dumps(msgspec.json.decode(record.body), separators=(",", ":"), ensure_ascii=True)
    return f"<{priority}>1 {when} {host} stockade - {record.category} [{DATA_ID} {data}] {text}".encode()


def frame(text: bytes) -> bytes:
    """Return a message with its length before it."""
    return b"%d " % len(text) + text


def _escaped(value: str) -> str:
    kept = "".join(sign if sign.isprintable() else "?" for sign in value)
    return kept.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


class SyslogSinks:
    """Type `syslog`."""

    name = "syslog"

    def open(self, configured: Sink) -> SyslogSink:
        return SyslogSink(configured)


PLUGIN = SyslogSinks()
