"""One HTTP/1.1 connection to an engine, and the reply on it.

It trusts nothing the other side sends: heads are bounded, interim replies are skipped, a body that ends early is a failure and never a
short success, bytes that nobody asked for end the connection, and a connection is reused only after a reply that ended exactly where it should.
Source: RFC 9112 (message framing), RFC 9110 section 15.2 (interim responses).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools

from stockade.kernel.faults import Fault, FaultKind
from stockade.upstream.deadlines import Deadlines

MAX_HEAD_BYTES = 64 * 1024
"""Names and values of one reply, interim replies and trailers included."""
WHOLE_BODY_BYTES = 1024 * 1024
"""Replies with a declared length up to this are handed over in one piece."""
HIGH_WATER_BYTES = 256 * 1024
"""Above this much unread body the socket is not read any further."""


class UpstreamReply:
    """A reply's head, and its body as it arrives. Read it to the end or `close` it."""

    __slots__ = (
        "_buffer",
        "_connection",
        "_done",
        "_failure",
        "_limits",
        "_paused",
        "_size",
        "_waiter",
        "headers",
        "status",
    )

    def __init__(self, connection: UpstreamConnection, limits: Deadlines) -> None:
        self._limits = limits
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connection: UpstreamConnection | None = connection
        self._buffer: list[bytes] = []
        self._size = 0
        self._done = False
        self._paused = False
        self._failure: Fault | None = None
        self._waiter: asyncio.Future[None] | None = None

    def whole(self) -> bytes | None:
        """Return the body if all of it has arrived (small replies are handed over that way), None otherwise."""
        if not self._done or self._failure is not None or len(self._buffer) > 1:
            return None
        return self._buffer.pop() if self._buffer else b""

    async def read(self, limit: int, idle_timeout_s: float) -> bytes:
        """Return the whole body; Fault(UPSTREAM_FAILED) when it exceeds the limit or breaks off."""
        parts: list[bytes] = []
        total = 0
        while chunk := await self.next_chunk(idle_timeout_s):
            total += len(chunk)
            if total > limit:
                self.close()
                raise Fault(FaultKind.UPSTREAM_FAILED, "The model server's reply is larger than this platform accepts.")
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def next_chunk(self, idle_timeout_s: float) -> bytes:
        """Return everything that has arrived, waiting for at least one byte; b"" at the end.

        Raises Fault(UPSTREAM_FAILED) when the body broke off, Fault(UPSTREAM_TIMEOUT) when nothing came in time.
        """
        while True:
            if self._buffer:
                chunk = self._buffer[0] if len(self._buffer) == 1 else b"".join(self._buffer)
                self._buffer.clear()
                self._size = 0
                if self._paused and self._connection is not None:
                    self._paused = False
                    self._connection.resume()
                return chunk
            if self._failure is not None:
                raise self._failure
            if self._done:
                return b""
            limits = self._limits
            self._waiter = waiter = limits.loop.create_future()
            number = limits.after(idle_timeout_s, _expire, waiter)
            try:
                await waiter
            except TimeoutError:
                self.close()
                raise Fault(FaultKind.UPSTREAM_TIMEOUT, "The model server stopped sending its reply.") from None
            except asyncio.CancelledError:
                self.close()  # nobody will read the rest
                raise
            finally:
                limits.cancel(number)
                self._waiter = None

    def close(self) -> None:
        """Give up the rest of the reply, and the connection with it."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def receive(self, data: bytes, *, awaited_whole: bool) -> None:
        """Take body bytes. awaited_whole: nobody reads before the last one is here, so the socket must not wait for a reader."""
        self._buffer.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER_BYTES and not awaited_whole and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.pause()
        self._wake()

    def finish(self) -> None:
        self._done = True
        if self._paused and self._connection is not None:
            self._connection.resume()  # what is unread is here already; the connection's next reply is not to wait for it
        self._connection = None
        self._wake()

    def fail(self, fault: Fault) -> None:
        if not self._done:
            self._failure = fault
            self._connection = None
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class UpstreamConnection(asyncio.Protocol):
    """The socket's side. `exchange` sends one request and waits for the reply's head (or for all of a small reply)."""

    def __init__(
        self,
        released: Callable[[UpstreamConnection], None],
        lost: Callable[[UpstreamConnection], None],
        limits: Deadlines,
    ) -> None:
        self._released, self._lost, self._limits = released, lost, limits
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._reply: UpstreamReply | None = None
        self._head: asyncio.Future[UpstreamReply] | None = None
        self._head_bytes = self._header_bytes = 0
        self._until_close = False
        self._whole = False
        self._complete = False
        self._keep = False
        self._aborted = False
        self.reused = False
        self.answered = False
        """Whether any byte of a reply to the current request has arrived."""
        self.idle_since = 0.0

    def now(self) -> float:
        """Return the loop's time."""
        return self._limits.loop.time()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, head: bytes, body: bytes, timeout_s: float) -> UpstreamReply:
        """Send a request and return its reply; Fault(UPSTREAM_FAILED) or Fault(UPSTREAM_TIMEOUT) otherwise."""
        assert self._head is None
        self.answered = False
        if self._transport is None:
            raise Fault(FaultKind.UPSTREAM_FAILED, "The model server closed the connection before it was used.")
        limits = self._limits
        self._parser = httptools.HttpResponseParser(self)
        self._reply = UpstreamReply(self, limits)
        future: asyncio.Future[UpstreamReply] = limits.loop.create_future()
        self._head = future
        self._head_bytes = self._header_bytes = 0
        self._until_close = self._whole = self._complete = False
        if len(body) < 65_536:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        number = limits.after(timeout_s, _expire, future)
        try:
            return await future
        except TimeoutError:
            self.abort()
            raise Fault(FaultKind.UPSTREAM_TIMEOUT, "The model server did not answer in time.") from None
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            limits.cancel(number)
            # By now another request may already use this connection: it is released when the reply ends, before this task runs on.
            if self._head is future:
                self._head = None

    def pause(self) -> None:
        if self.is_open and self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.is_open and self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once; whoever waits for the reply hears of it."""
        if self._transport is not None:
            self._aborted = True
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.abort()  # nobody asked: an unsolicited or doubled reply
            return
        self.answered = True
        if self._reply is not None and self._reply.status == 0:
            # The parser keeps an unfinished header to itself, so a head that never ends is counted here, read by read.
            if self._head_bytes > MAX_HEAD_BYTES:
                self._broken("The model server's reply has too large a head.")
                return
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._broken("The model server tried to switch protocols.")
        except httptools.HttpParserError:
            self._broken("The model server's reply is not valid HTTP.")
        else:
            if self._complete:
                self._end()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, failure: Exception | None) -> None:
        self._transport = None
        reply = self._reply
        if reply is not None:
            if self._until_close and failure is None and not self._aborted:
                self._finish_reply(reply)
            else:
                self._fail(
                    Fault(
                        FaultKind.UPSTREAM_FAILED,
                        "The model server closed the connection before its reply was complete.",
                    )
                )
        self._parser = None
        self._lost(self)

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEAD_BYTES or self._reply is None:
            raise httptools.HttpParserError("head too large")
        if self._reply.status:
            return  # a trailer: it comes too late to say anything about the reply
        headers = self._reply.headers
        key = name.decode("latin-1").lower()
        headers[key] = f"{headers[key]}, {value.decode('latin-1')}" if key in headers else value.decode("latin-1")
        if len(headers) > 200:
            raise httptools.HttpParserError("too many headers")

    def on_headers_complete(self) -> None:
        reply, parser = self._reply, self._parser
        if reply is None or parser is None:
            return
        status = parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                raise httptools.HttpParserError("no status of HTTP, or an upgrade that was not asked for")
            reply.headers = {}
            return
        reply.status = status
        length = reply.headers.get("content-length")
        coding = reply.headers.get("transfer-encoding")
        if coding is not None and (length is not None or coding.strip().lower() != "chunked"):
            raise httptools.HttpParserError("a length beside a transfer coding, or a coding other than chunked")
        chunked = coding is not None
        self._until_close = length is None and not chunked and status not in (204, 304)
        self._whole = length is not None and length.isdigit() and int(length) <= WHOLE_BODY_BYTES
        if not self._whole:
            self._deliver(reply)

    def on_body(self, body: bytes) -> None:
        if self._reply is not None:
            self._reply.receive(body, awaited_whole=self._whole)

    def on_message_complete(self) -> None:
        if self._reply is None or self._reply.status == 0:
            return  # the end of an interim reply
        if self._complete:
            raise httptools.HttpParserError("a second reply")
        self._complete = True
        # Asked here, where the parser still knows: afterwards it has forgotten the message.
        self._keep = self._parser is not None and self._parser.should_keep_alive() and not self._until_close

    def on_message_begin(self) -> None:
        if self._complete:
            raise httptools.HttpParserError("a second reply")

    # internals

    def _end(self) -> None:
        reply = self._reply
        assert reply is not None
        self._parser = None
        self._finish_reply(reply)
        if self._keep and self.is_open:
            self._released(self)
        else:
            self.abort()

    def _finish_reply(self, reply: UpstreamReply) -> None:
        self._reply = None
        reply.finish()
        self._deliver(reply)

    def _deliver(self, reply: UpstreamReply) -> None:
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_result(reply)

    def _broken(self, message: str) -> None:
        self._fail(Fault(FaultKind.UPSTREAM_FAILED, message))
        self.abort()

    def _fail(self, fault: Fault) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.fail(fault)
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_exception(fault)


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
