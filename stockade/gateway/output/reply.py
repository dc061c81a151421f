"""What becomes of one reply on an account that looks at what its models answer: redacted, or only recorded.

Redacting, what cannot be looked at is not given out: an event that is no JSON ends the stream. Recording, nothing is held up or altered: each
chunk is sent before it is looked at, and what cannot be read is recorded as such.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator
from typing import Protocol

from stockade.gateway.output.candidates import Judge
from stockade.gateway.output.events import EventFilter
from stockade.gateway.output.findings import Findings
from stockade.gateway.output.sse import SseFilter
from stockade.gateway.output.text import TextFilter
from stockade.kernel.control import Control
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.snapshot import AccountPolicy
from stockade.policy.uris.allowed import AllowedHosts

_TEXTUAL = (
    "text/",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/xml",
    "application/xhtml",
    "application/yaml",
    "application/x-yaml",
    "application/javascript",
)


class _ByteFilter(Protocol):
    def feed(self, chunk: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class TextBytes:
    """Filters a reply that is one text in UTF-8, JSON lines included: what is put in place of a URI is valid inside a JSON string."""

    def __init__(self, allowed: AllowedHosts, findings: Findings) -> None:
        self._text = TextFilter(Judge(allowed), lambda host: findings.note(host, "body"))
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def feed(self, chunk: bytes) -> bytes:
        return self._text.feed(self._decoded(chunk, final=False)).encode()

    def end(self) -> bytes:
        return (self._text.feed(self._decoded(b"", final=True)) + self._text.end()).encode()

    def _decoded(self, chunk: bytes, *, final: bool) -> str:
        try:
            return self._decode(chunk, final)
        except UnicodeDecodeError as failure:
            raise Fault(
                FaultKind.UPSTREAM_FAILED, "The model server's reply could not be checked: it is not UTF-8."
            ) from failure


class OutputReview:
    """Looks at one reply, or at the messages of one connection."""

    def __init__(self, allowed: AllowedHosts, *, enforced: bool) -> None:
        self._allowed, self.enforced = allowed, enforced
        self._findings = Findings(enforced=enforced)

    @property
    def found(self) -> tuple[Deny, ...]:
        """What was found so far, for the record."""
        return self._findings.told()

    async def stream(self, chunks: AsyncIterator[bytes], content_type: str) -> AsyncIterator[bytes]:
        """Pass a streamed reply on. Fault(UPSTREAM_FAILED) where it must not go on unread."""
        looking: _ByteFilter | None = self._filter(content_type)
        async for chunk in chunks:
            if looking is None:
                yield chunk
            elif self.enforced:
                passed = looking.feed(chunk)
                if passed:
                    yield passed
            else:
                yield chunk
                try:
                    looking.feed(chunk)
                except Fault:
                    self._findings.unchecked()
                    looking = None
        if looking is not None:
            try:
                rest = looking.end()
            except Fault:
                if self.enforced:
                    raise
                self._findings.unchecked()
                return
            if self.enforced and rest:
                yield rest

    def alters(self, content_type: str) -> bool:
        """Say whether a stream of this type may come out otherwise than it went in."""
        return self.enforced and self._filter(content_type) is not None

    def body(self, body: bytes, content_type: str) -> bytes:
        """Return a whole reply as it may be given out. Fault(UPSTREAM_FAILED) where it must not be, unread."""
        try:
            if _is_json(content_type):
                passed = EventFilter(self._allowed, self._findings).whole(body) if body else None
            elif (looking := self._filter(content_type)) is not None:
                passed = looking.feed(body) + looking.end()
            else:
                return body
        except Fault:
            if self.enforced:
                raise
            self._findings.unchecked()
            return body
        return passed if self.enforced and passed is not None else body

    def messages(self) -> EventFilter:
        """Return a filter for messages that are events by themselves. Its findings are this review's."""
        return EventFilter(self._allowed, self._findings)

    def unchecked(self) -> None:
        """Note that something could not be looked at."""
        self._findings.unchecked()

    def _filter(self, content_type: str) -> _ByteFilter | None:
        """Return what looks at a body of this type; None for sound, pictures and what else is no text."""
        kind = content_type.partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            return SseFilter(self._allowed, self._findings)
        if kind.startswith(_TEXTUAL) or _is_json(content_type):
            return TextBytes(self._allowed, self._findings)
        return None


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("application/json", "text/json") or (kind.endswith("+json") and "lines" not in kind)


def review(account: AccountPolicy) -> OutputReview | None:
    """Return what looks at an account's replies; None where nobody does."""
    if account.output is None:
        return None
    return OutputReview(account.output, enforced=account.mode(Control.OUTPUT) == "enforce")
