"""Server-sent events, however they are cut into chunks.

Source: HTML, section 9.2 (lines end with CR LF, LF or CR; an empty line ends an event; lines of `data` are joined with LF).
"""

from __future__ import annotations

import codecs
import re
from typing import Final

import msgspec

from stockade.gateway.output.events import EventFilter
from stockade.gateway.output.findings import Findings
from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.uris.allowed import AllowedHosts

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
DONE: Final = b"[DONE]"
_SHORT: Final = 64
"""Longer than any `[DONE]`, shorter than most events."""

_END = rb"(?:\r\n|\n|\r(?!\n))"
_EMPTY_LINE = re.compile(_END + _END)
_LINE = re.compile(_END)
_type = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class SseFilter:
    """Filters one stream, chunk by chunk."""

    def __init__(self, allowed: AllowedHosts, findings: Findings) -> None:
        self._events = EventFilter(allowed, findings)
        self._pending = bytearray()
        """What has come of the event that is not whole yet."""
        self._looked = 0
        self._named = False
        """Events of this stream have an `event` line."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be sent of the stream by now; the chunk itself when it passes as it came. Fault(UPSTREAM_FAILED) as `EventFilter.event`."""
        if not self._pending and chunk[-2:] == b"\n\n" and b"\r" not in chunk:
            if chunk.find(b"\n\n") == len(chunk) - 2:
                done = self._event(chunk[:-2], b"\n")
                return chunk if done is None else done
            events = chunk.split(b"\n\n")
            events.pop()
            out: list[bytes] | None = None
            for number, event in enumerate(events):
                done = self._event(event, b"\n")
                if done is not None and out is None:
                    out = [one + b"\n\n" for one in events[:number]]
                if out is not None:
                    out.append(event + b"\n\n" if done is None else done)
            return chunk if out is None else b"".join(out)
        return self._cut(chunk)

    def end(self) -> bytes:
        """Return what is left when the stream has ended. A last event without its empty line is looked at like any other: some clients take it."""
        # A CR at the very end ends its line: nothing follows that could make it half of one.
        rest = self._cut(b"", final=True)
        last = bytes(self._pending)
        self._pending.clear()
        if last.strip():
            passed = self._event(last, b"\n")
            rest += last if passed is None else passed
        return rest + self._left(self._events.end())

    def _cut(self, chunk: bytes, *, final: bool = False) -> bytes:
        pending = self._pending
        pending += chunk
        out: list[bytes] = []
        begin, look = 0, max(0, self._looked - 3)
        while (match := _EMPTY_LINE.search(pending, look)) is not None:
            if match.end() == len(pending) and pending[-1:] == b"\r" and not final:
                break  # it may be half of a CR LF
            event, ended = bytes(pending[begin : match.start()]), bytes(match[0])
            done = self._event(event, b"\r\n" if ended[:2] == b"\r\n" else ended[:1])
            out.append(event + ended if done is None else done)
            begin = look = match.end()
        del pending[:begin]
        self._looked = len(pending)
        if self._looked > MAX_EVENT_BYTES:
            raise Fault(
                FaultKind.UPSTREAM_FAILED, "The model server's reply could not be checked: an event is too large."
            )
        return b"".join(out)

    def _event(self, event: bytes, line_end: bytes) -> bytes | None:
        """Return what is sent for an event, its empty line included; None: the event as it is."""
        if event[:6] == b"data: " and line_end == b"\n" and b"\n" not in event:
            data: bytes | None = event[6:]
            others: list[bytes] = []
        else:
            data, others = self._lines(event)
        if data is None:
            return None  # comments, which no client reads
        if len(data) < _SHORT:
            bare = data.strip()
            if bare == DONE:
                left = self._left(self._events.end())
                return left + event + line_end * 2 if left else None
            if not bare:
                return None
        passed = self._events.event(data)
        if passed is None:
            return None
        if not passed:
            return b""
        own = b"".join([line + b"\n" for line in others]) + b"data: " + passed[-1] + b"\n\n"
        return self._left(passed[:-1]) + own

    def _lines(self, event: bytes) -> tuple[bytes | None, list[bytes]]:
        """Return an event's data, None when it has none, and its other lines."""
        data: list[bytes] = []
        others: list[bytes] = []
        for line in _LINE.split(event.removeprefix(codecs.BOM_UTF8)):
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value[1:] if value[:1] == b" " else value)
            elif line:
                others.append(line)
                self._named = self._named or name == b"event"
        return (b"\n".join(data) if data else None), others

    def _left(self, events: list[bytes]) -> bytes:
        out: list[bytes] = []
        for data in events:
            kind = _type(data).get("type") if self._named else None
            if kind is not None:
                out.append(b"event: " + bytes(kind)[1:-1] + b"\n")
            out.append(b"data: " + data + b"\n\n")
        return b"".join(out)
