"""Fetching one content on behalf of a request: by GET, from exactly where the list allows, and from nowhere that a redirect or a name server adds.

Each hop is read by the one parser, allowed by whoever asked, resolved once, its addresses judged, and connected to at the address that was judged;
a redirect is a hop like the first. Nothing of the caller goes along: no header, cookie or credential, and the URI's own fragment and
user information do not either. What comes back is bounded in head, size, time and hops, has to be framed (RFC 9112 section 6.3) and is not
decompressed, so that what is counted is what is there.

HTTP is httpcore2's single connection (h11 underneath) over a stream that `dial.py` opened: it never sees a URL or a name, and has nothing to look
up. Not its pool, nor httpx2, which resolve, connect, follow and keep by themselves; nor `upstream/connection.py`, which stands above this
package and serves engines that are believed more than strangers.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import httpcore2

from stockade.egress import dial
from stockade.egress.addresses import AddressPolicy, IPAddress, read_address
from stockade.egress.media import DECLARED, image_type
from stockade.egress.resolve import Resolver
from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.uris.parse import ParsedUri, join, parse
from stockade.settings import Egress

MAX_HEAD_BYTES: Final = 32 * 1024
READ_BYTES: Final = 16 * 1024
MAX_ATTEMPTS: Final = 3
"""Addresses of one host that are tried."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SCHEMES: Final = frozenset({"https", "http"})


@dataclass(frozen=True, slots=True)
class Content:
    """What was fetched. media_type: by its own first bytes. host: where it came from in the end."""

    data: bytes
    media_type: str
    host: str


@dataclass(slots=True)
class Trail:
    """What a record may tell of a fetch, also of one that failed. Filled as it goes; never the URI."""

    host: str = ""
    hops: int = 0
    """Redirects that were followed."""
    size: int = 0
    refused: str = ""
    """Why the platform would not go there: `address: loopback`, `scheme`, `userinfo`, `downgrade`, `redirects`."""


class Budget:
    """Bytes that the contents of one request may have together."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, size: int) -> None:
        """Use some of it; Fault(TOO_LARGE) when there is not so much left."""
        if size > self._left:
            raise Fault(FaultKind.TOO_LARGE, "The contents that the request names are larger than it may be.")
        self._left -= size


class Places:
    """How many fetches may be under way: in the process, and for one account. As many again may wait; whoever comes then is refused at once."""

    def __init__(self, total: int, each: int) -> None:
        self._total, self._each = total, each
        self._all = asyncio.Semaphore(total)
        self._of: dict[str, asyncio.Semaphore] = {}
        self._present: Counter[str] = Counter()

    @asynccontextmanager
    async def taken(self, account: str) -> AsyncIterator[None]:
        """Hold a place; Fault(LIMIT) when the account has too many waiting already, Fault(UNAVAILABLE) when the process has."""
        if self._present[account] >= 2 * self._each:
            message = "Too many contents are being fetched for this resource."
            raise Fault(FaultKind.LIMIT, message, retry_after_s=1)
        if self._present.total() >= 2 * self._total:
            raise Fault(FaultKind.UNAVAILABLE, "Too many contents are being fetched.", retry_after_s=1)
        self._present[account] += 1
        own = self._of.setdefault(account, asyncio.Semaphore(self._each))
        try:
            async with own, self._all:
                yield
        finally:
            self._present[account] -= 1
            if not self._present[account]:  # what is kept for an account lasts as long as its fetches
                del self._present[account], self._of[account]


class Fetcher:
    """Fetches images for the gateway of one process."""

    def __init__(self, settings: Egress, resolver: Resolver) -> None:
        """Take the settings; ValueError naming the one that cannot be used."""
        self._settings, self._resolver = settings, resolver
        try:
            self._addresses = AddressPolicy(settings.allowed_networks)
        except ValueError as failure:
            raise ValueError(f"egress.allowed_networks: {failure}") from failure
        self._places = Places(settings.max_concurrent, settings.max_concurrent_per_account)
        try:
            self._tls: ssl.SSLContext = dial.tls_context(settings.ca_file)
        except OSError as failure:
            raise ValueError(f"egress.ca_file: {settings.ca_file} is no file of certificates") from failure

    async def fetch(
        self,
        uri: str,
        *,
        allow: Callable[[str], None],
        http: Callable[[str], bool],
        account: str,
        budget: Budget,
        trail: Trail,
    ) -> Content:
        """Return what the URI leads to.

        allow: raises the Fault of whoever refuses a URI; asked for every hop, the first one too. http: whether the account's list names the
        scheme http for a URI. Raises Fault: OUTBOUND_DENIED for a place this platform does not go to (`trail.refused` says why), INVALID for
        what is no image or not there, TOO_LARGE, LIMIT and UNAVAILABLE above the bounds, UPSTREAM_FAILED and UPSTREAM_TIMEOUT of the far side.
        """
        try:
            async with asyncio.timeout(self._settings.fetch_timeout_s), self._places.taken(account):
                return await self._follow(uri, allow, http, budget, trail)
        except TimeoutError:
            if not trail.host:
                raise Fault(FaultKind.UNAVAILABLE, "Too many contents are being fetched.", retry_after_s=1) from None
            message = f"The content at the host '{trail.host}' did not arrive in time."
            raise Fault(FaultKind.UPSTREAM_TIMEOUT, message) from None

    async def _follow(
        self, uri: str, allow: Callable[[str], None], http: Callable[[str], bool], budget: Budget, trail: Trail
    ) -> Content:
        source, secure = _fetchable(parse(uri), trail), False
        while True:
            allow(source.href)
            trail.host = source.host
            if source.scheme == "http":
                if secure:
                    raise _refuse(
                        trail, "downgrade", f"The content at the host '{source.host}' is redirected to from https."
                    )
                if not self._settings.allow_http and not http(source.href):
                    raise _refuse(trail, "scheme", f"Content at the host '{source.host}' is fetched over https only.")
            secure = source.scheme == "https"
            result = await self._get(source, budget, trail)
            if isinstance(result, Content):
                return result
            if trail.hops >= self._settings.max_redirects:
                raise _refuse(trail, "redirects", f"The host '{source.host}' redirects too often.")
            trail.hops += 1
            source = _fetchable(join(source.href, result), trail)

    async def _get(self, source: ParsedUri, budget: Budget, trail: Trail) -> Content | str:
        """Make one request; return its content, or where a redirect leads to as it was written."""
        stream = await self._connect(source, trail)
        # For httpcore2's own book-keeping: the connection is there, and nothing is looked up or opened by these.
        url = httpcore2.URL(
            scheme=source.scheme.encode(),
            host=source.host.encode(),
            port=_port(source),
            target=source.target.encode(),
        )
        connection = _Connection(url.origin, stream)
        try:
            request = httpcore2.Request(
                b"GET",
                url,
                headers=[
                    (b"host", source.authority.encode()),
                    (b"accept", b"image/*"),
                    (b"accept-encoding", b"identity"),
                    (b"user-agent", b"stockade"),
                    (b"connection", b"close"),
                ],
            )
            response = await connection.handle_async_request(request)
            return await self._receive(response, source, budget, trail)
        except (OSError, httpcore2.ProtocolError, httpcore2.NetworkError) as failure:
            message = f"The host '{source.host}' did not answer as HTTP asks for."
            raise Fault(FaultKind.UPSTREAM_FAILED, message) from failure
        finally:
            stream.abort()

    async def _connect(self, source: ParsedUri, trail: Trail) -> _Stream:
        literal = read_address(source.host)
        addresses = (literal,) if literal is not None else await self._resolver.resolve(source.host)
        reason = self._addresses.refused_of(addresses)
        if reason is not None:
            verb = "is" if literal is not None else "resolves to"
            message = f"The host '{source.host}' {verb} an address this platform does not connect to."
            raise _refuse(trail, f"address: {reason}", message)
        failed: Exception | None = None
        for address in addresses[:MAX_ATTEMPTS]:
            try:
                async with asyncio.timeout(self._settings.connect_timeout_s):
                    return await self._dialled(source, address)
            except OSError as failure:  # also TimeoutError and ssl.SSLError
                failed = failure
        kind = FaultKind.UPSTREAM_TIMEOUT if isinstance(failed, TimeoutError) else FaultKind.UPSTREAM_FAILED
        what = "does not prove who it is" if isinstance(failed, ssl.SSLError) else "cannot be reached"
        raise Fault(kind, f"The host '{source.host}' {what}.") from failed

    async def _dialled(self, source: ParsedUri, address: IPAddress) -> _Stream:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES, loop=loop)
        transport, protocol = await dial.checked(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
            address,
            _port(source),
            tls=self._tls if source.scheme == "https" else None,
            name=source.host,
        )
        # uvloop's transports are no subclasses of asyncio's.
        return _Stream(reader, asyncio.StreamWriter(cast("asyncio.Transport", transport), protocol, reader, loop))

    async def _receive(
        self, response: httpcore2.Response, source: ParsedUri, budget: Budget, trail: Trail
    ) -> Content | str:
        headers: dict[str, list[str]] = {}
        for name, value in response.headers:
            headers.setdefault(name.decode("ascii").lower(), []).append(value.decode("latin-1").strip())
        if response.status in _REDIRECTS:
            return _location(headers, source)
        if response.status != 200:
            raise _unusable(source, f"the host answered with status {response.status}")
        limit = self._settings.max_bytes
        _check_framing(headers, source, limit)
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_stream():
            size += len(part)
            if size > limit:
                raise _too_large(source, limit)
            budget.take(len(part))
            trail.size += len(part)
            parts.append(part)
        data = b"".join(parts)
        media_type = image_type(data)
        if media_type is None:
            raise _unusable(source, "it is not an image of a kind that is passed on")
        return Content(data, media_type, source.host)


def _fetchable(read: ParsedUri | None, trail: Trail) -> ParsedUri:
    """Return a URI that can be fetched; Fault for what cannot be read or is never fetched."""
    if read is None or (read.scheme in _SCHEMES and not read.host):
        raise Fault(FaultKind.INVALID, "The place that content is to be fetched from cannot be read as a URI.")
    if read.scheme not in _SCHEMES:
        raise _refuse(trail, "scheme", f"Content is fetched over https only, not by '{read.scheme[:20]}:'.")
    if read.has_credentials:
        message = f"The URI for the host '{read.host}' carries a user name or password, which are not passed on."
        raise _refuse(trail, "userinfo", message)
    return read


def _port(source: ParsedUri) -> int:
    assert source.port is not None  # http and https have one by themselves
    return source.port


def _location(headers: dict[str, list[str]], source: ParsedUri) -> str:
    found = headers.get("location", [])
    if len(found) != 1 or not found[0].isascii() or not found[0]:
        raise _unusable(source, "the host redirects without saying where to")
    return found[0]


def _check_framing(headers: dict[str, list[str]], source: ParsedUri, limit: int) -> None:
    lengths, codings = headers.get("content-length", []), headers.get("transfer-encoding", [])
    if (not lengths and not codings) or (lengths and codings):
        # Without a length nobody can tell a whole content from one that broke off; with two there are two contents.
        raise Fault(FaultKind.UPSTREAM_FAILED, f"The host '{source.host}' does not say how long its content is.")
    if lengths and int(lengths[0]) > limit:
        raise _too_large(source, limit)
    if any(value.lower() != "identity" for value in headers.get("content-encoding", [])):
        raise _unusable(source, "the host sends it compressed, although it was asked not to")
    media = (headers.get("content-type") or [""])[0].partition(";")[0].strip().lower()
    if media and not media.startswith(DECLARED):
        raise _unusable(source, "the host does not call it an image")


def _refuse(trail: Trail, reason: str, message: str) -> Fault:
    trail.refused = reason
    return Fault(FaultKind.OUTBOUND_DENIED, f"Outbound network access is restricted. {message}")


def _unusable(source: ParsedUri, why: str) -> Fault:
    return Fault(FaultKind.INVALID, f"The content at the host '{source.host}' cannot be used: {why}.")


def _too_large(source: ParsedUri, limit: int) -> Fault:
    return Fault(
        FaultKind.TOO_LARGE, f"The content at the host '{source.host}' is larger than the limit of {limit} bytes."
    )


class _Connection(httpcore2.AsyncHTTP11Connection):
    READ_NUM_BYTES = READ_BYTES
    MAX_INCOMPLETE_EVENT_SIZE = MAX_HEAD_BYTES


class _Stream(httpcore2.AsyncNetworkStream):
    """An open connection as httpcore2 wants it. Time is limited around all of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._writer.write(buffer)
        await self._writer.drain()

    async def aclose(self) -> None:
        self.abort()

    def abort(self) -> None:
        """Close without waiting for the other side to agree."""
        with suppress(RuntimeError):
            self._writer.transport.abort()

    def get_extra_info(self, info: str) -> Any:
        return None
