"""An AI service that the operator's own server answers for: a container of Azure's, Azure itself behind the gate, anything with that API.

What passes is what the table names: the method, the path (written anew from the template), the query (without credentials), the declared
headers, the content type and the body as it was read. The caller's credentials and all other headers stay here; the upstream gets the
operator's credential. Addresses of the upstream in its replies become this platform's, so that clients follow them here and nowhere else.

Bodies and replies are held whole in memory, up to the operation's limit and MAX_REPLY_BYTES.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation
from stockade.policy.uris.found import FoundUri
from stockade.services.dialect import gateway_body
from stockade.services.service import Call, Reply, Stream
from stockade.services.uris import Content, find_uris, read_content, search
from stockade.services.uris.content import NOTHING
from stockade.settings import Settings, Upstream
from stockade.upstream.connection import UpstreamReply
from stockade.upstream.pool import Target, UpstreamPool, read_credential

MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_RETRY_AFTER_S = 60
PASSED_ERRORS = frozenset({400, 404, 405, 408, 409, 412, 413, 415, 422, 429})
"""Statuses an upstream may tell the caller. Its 401 and 403 are about our credential, its 5xx about itself, its 3xx would lead elsewhere."""
PASSED_HEADERS = ("etag", "last-modified", "x-requestid", "x-mt-system", "x-metered-usage", "csp-billing-usage")
LOCATIONS = ("operation-location", "location", "azure-asyncoperation")
CREDENTIALS_IN_QUERY = frozenset({"subscription-key", "subscription-region"})
_VALUE = re.compile(r"\{(\w+)\}")


class UpstreamService:
    """Base of every such service; a service is its name, its account kinds, its table, and its own words for a refusal."""

    name: ClassVar[str]
    title: ClassVar[str]
    """As people know it: "Face"."""
    kinds: ClassVar[frozenset[str]]
    operations: ClassVar[Sequence[Operation]]

    def __init__(self, settings: Settings) -> None:
        self._limits, self._endpoint = settings.limits, settings.account_endpoint
        named = [service.upstream for service in settings.services if service.name.lower() == self.name]
        if len(named) > 1:
            raise ValueError(f"the service {self.name!r} is named twice in the settings")
        self._upstream: Upstream | None = named[0] if named else None
        self._pool: UpstreamPool | None = None

    def read(self, call: Call) -> None:
        """Read the body, whoever sends it: what could be read in two ways is refused on every account."""
        if call.operation.body != "none":
            call.parsed = read_content(call.operation, call.content_type, call.body)

    def uris(self, call: Call, *, deep: bool) -> tuple[FoundUri, ...]:
        """Return what stands in the declared fields; deep: and in any other string.

        A name of something on this account is no destination, and left out.
        """
        if call.parsed is None:
            self.read(call)
        content: Content | None = call.parsed
        own = self._endpoint(call.account.subdomain)
        found = find_uris(call.operation.uris, content, call.query, call.headers)
        declared, known = [], set()
        for field, uri in found:
            known.add(uri.uri)
            if not (field.use == "name" and uri.uri.startswith(own)):
                declared.append(uri)
        if not deep:
            return tuple(declared)
        query = {name: value for name, value in call.query.items() if name not in CREDENTIALS_IN_QUERY}
        return (*declared, *(uri for uri in search(content, query, call.headers) if uri.uri not in known))

    def inline(self, call: Call, contents: Mapping[str, str]) -> None:
        """Nothing: these services read an address or a file, and no `data:` URI where an address belongs."""

    async def answer(self, call: Call) -> Reply | Stream:
        """Send the request on, and the reply back."""
        pool = self._connections()
        content: Content | None = call.parsed
        body, content_type = (content.body, content.content_type) if content is not None else (b"", "")
        if content is not None and content.document is not NOTHING:
            body = self._named_there(call, content)
        reply = await pool.request(
            call.operation.method,
            _path(call.operation.path, call.values) + _query(call),
            body,
            content_type=content_type,
            headers=tuple(call.headers.items()),
        )
        return await self._relay(call, reply, pool)

    def refuse(self, fault: Fault, status: int, request_id: str = "") -> Mapping[str, Any]:
        """Wrap a fault as most services do: `{"error": {"code", "message"}}`."""
        return gateway_body(fault, request_id)

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.close()

    # internals

    def _connections(self) -> UpstreamPool:
        upstream = self._upstream
        if upstream is None:
            raise Fault(
                FaultKind.UNAVAILABLE,
                f"Nothing answers for {self.title} on this platform: its operator has to name an upstream in the settings, "
                f'[[services]] name = "{self.name}".',
            )
        if self._pool is None:
            credential = read_credential(upstream.credential_header, upstream.credential_env, upstream.credential_file)
            try:
                target = Target.from_url(upstream.url, ca_file=upstream.ca_file, credential=credential)
            except (ValueError, OSError) as failure:
                raise Fault(
                    FaultKind.UNAVAILABLE,
                    f"The address or CA file of the upstream for {self.title} in the settings is not usable.",
                ) from failure
            self._pool = UpstreamPool(
                target,
                connect_timeout_s=self._limits.upstream_connect_timeout_s,
                reply_timeout_s=upstream.timeout_s,
            )
        return self._pool

    def _named_there(self, call: Call, content: Content) -> bytes:
        """Return the body with this account's own addresses, in fields that name something, as the upstream writes them."""
        ours, theirs = self._endpoint(call.account.subdomain), f"{self._base()}/"
        named = [field for field in call.operation.uris if field.use == "name"]
        if not any(found.uri.startswith(ours) for _, found in find_uris(named, content, {}, {})):
            return content.body
        paths = {found.path for _, found in find_uris(named, content, {}, {}) if found.uri.startswith(ours)}
        renamed = _renamed(content.document, "", paths, lambda uri: theirs + uri[len(ours) :])
        return json.dumps(renamed, ensure_ascii=False, separators=(",", ":")).encode()

    async def _relay(self, call: Call, reply: UpstreamReply, pool: UpstreamPool) -> Reply:
        status = reply.status
        if not (200 <= status < 300 or status in PASSED_ERRORS):
            reply.close()
            if status in (401, 403):
                raise Fault(
                    FaultKind.UPSTREAM_FAILED,
                    f"The upstream for {self.title} refused this platform's own credential; its operator must mend that.",
                )
            if status == 503:
                raise Fault(FaultKind.UNAVAILABLE, f"The upstream for {self.title} is not available.", retry_after_s=2)
            raise Fault(FaultKind.UPSTREAM_FAILED, f"The upstream for {self.title} failed with status {status}.")
        body = reply.whole()
        if body is None:
            assert self._upstream is not None
            body = await reply.read(MAX_REPLY_BYTES, self._upstream.timeout_s)
        content_type = reply.headers.get("content-type", "")
        if not _sendable(content_type):
            content_type = "application/octet-stream" if body else "application/json"
        if "json" in content_type:
            body = self._here(call, body)
        return Reply(status, body, content_type, self._headers(call, status, reply.headers))

    def _headers(self, call: Call, status: int, theirs: Mapping[str, str]) -> list[tuple[str, str]]:
        headers = [(name, theirs[name]) for name in PASSED_HEADERS if _sendable(theirs.get(name, ""))]
        headers += [(name, self._location(call, theirs[name])) for name in LOCATIONS if _sendable(theirs.get(name, ""))]
        wait = theirs.get("retry-after", "")
        if wait.isascii() and wait.isdigit() and len(wait) < 10 and status in (200, 202, 429):
            headers.append(("retry-after", str(min(MAX_RETRY_AFTER_S, int(wait)))))
        return headers

    def _location(self, call: Call, theirs: str) -> str:
        """Return an address of the upstream's as one of ours: only its path and query count, since clients go on through this platform."""
        try:
            parts = urlsplit(theirs)
        except ValueError:
            return self._endpoint(call.account.subdomain)
        path = parts.path.removeprefix(urlsplit(self._base()).path) if parts.netloc else parts.path
        query = f"?{parts.query}" if parts.query else ""
        return self._endpoint(call.account.subdomain) + path.lstrip("/") + query

    def _here(self, call: Call, body: bytes) -> bytes:
        """Return a JSON reply in which texts that begin with the upstream's address (`self`, `nextLink`, `links.files`) begin with ours."""
        theirs = self._base().encode()
        if b'"' + theirs not in body:
            return body
        ours = self._endpoint(call.account.subdomain).rstrip("/").encode()
        return re.sub(b'"' + re.escape(theirs) + b'(?=[/?"])', b'"' + ours, body)

    def _base(self) -> str:
        return self._upstream.url.rstrip("/") if self._upstream is not None else ""


def _path(template: str, values: Mapping[str, str]) -> str:
    return _VALUE.sub(lambda match: quote(values[match[1]], safe=":"), template)


def _query(call: Call) -> str:
    """Return the query as it was read, names as the caller spelled them."""
    if not call.query:
        return ""
    spelled = {name.lower(): name for name, _ in parse_qsl(call.query_string, keep_blank_values=True)}
    pairs = [(spelled.get(name, name), value) for name, value in call.query.items() if name not in CREDENTIALS_IN_QUERY]
    return f"?{urlencode(pairs)}" if pairs else ""


def _renamed(value: Any, at: str, places: set[str], change: Any) -> Any:
    if isinstance(value, str):
        return change(value) if at in places else value
    if isinstance(value, list):
        return [_renamed(item, f"{at}[{index}]", places, change) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: _renamed(item, f"{at}.{name}" if at else name, places, change) for name, item in value.items()}
    return value


def _sendable(text: str) -> bool:
    return 0 < len(text) <= 4096 and text.isascii() and text.isprintable()
