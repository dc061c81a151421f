"""Reading a request's head: headers and query, each looked at once, credentials set apart from everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from stockade.gateway.credential import KEY_HEADERS, Presented
from stockade.gateway.exchange import Exchange
from stockade.gateway.receipts import HEADER as RECEIPT
from stockade.gateway.receipts import Draft
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation

MAX_QUERY = 8 * 1024
HTTP_KEYS = frozenset({"subscription-key"})
WEBSOCKET_KEYS = frozenset({"subscription-key", "api-key"})
"""Parameters that hold a key. A browser cannot set the headers of a WebSocket, and Azure OpenAI takes `api-key` in the query there."""
_CACHE = 1024


def read_head(exchange: Exchange, scope: Any) -> tuple[str, str, Presented]:  # noqa: C901 - one branch a header
    """Note in the exchange what the head says; return host, `X-Forwarded-For` and the credentials presented."""
    presented = Presented()
    host, forwarded_for, coded = scope.authority or "", "", False
    for name, value in scope.headers.items():
        if name in KEY_HEADERS:
            presented.add_key(value)
        elif name == "authorization":
            presented.add_authorization(value)
        elif name == "content-type":
            exchange.content_type = value
        elif name == "content-length":
            exchange.content_length = value
        elif name == "transfer-encoding":
            coded = True
        elif name == "host":
            host = host or value
        elif name == "user-agent":
            exchange.agent = value[:120]
        elif name == "x-ms-client-request-id":
            exchange.client_request_id = value
        elif name == "content-encoding":
            exchange.content_encoding = value
        elif name == RECEIPT:
            if value != "1":
                raise Fault(FaultKind.INVALID, f"The header '{RECEIPT}' is 1, or is not sent.", target=RECEIPT)
            exchange.receipt = Draft()
        elif name == "x-forwarded-for":
            forwarded_for = f"{forwarded_for},{value}" if forwarded_for else value
    if coded:
        # Then it says nothing (RFC 9112 section 6.3), and the body is counted as it arrives.
        exchange.content_length = ""
    return host, forwarded_for, presented


def declared_headers(operation: Operation, headers: Any) -> dict[str, str]:
    """Return those of a request's headers that the operation reads; Fault(INVALID) for one that is given twice."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        if name in operation.headers and found.setdefault(name, value) != value:
            raise Fault(FaultKind.INVALID, f"The header '{name}' is given twice.", target=name)
    return found


class Queries:
    """Parses query strings, and remembers short ones without a key in them: most callers send the same few."""

    def __init__(self, keys: frozenset[str] = HTTP_KEYS) -> None:
        self._keys = keys
        self._known: dict[str, Mapping[str, str]] = {}

    def read(self, text: str, presented: Presented) -> Mapping[str, str]:
        """Parse the query. A key in it is moved out before anything can log it; a doubled parameter is refused."""
        known = self._known.get(text)
        if known is not None:
            return known
        if len(text) > MAX_QUERY:
            raise Fault(FaultKind.TOO_LARGE, "The query string is too long.")
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=64, errors="strict")
        except ValueError as failure:
            raise Fault(FaultKind.INVALID, "The query string cannot be read.") from failure
        values: dict[str, str] = {}
        for name, value in pairs:
            lowered = name.lower()
            if lowered in self._keys:
                presented.add_key(value)
                presented.in_query = True
            elif values.setdefault(lowered, value) != value:
                raise Fault(
                    FaultKind.INVALID, f"The query parameter '{lowered[:60]}' is given twice.", target=lowered[:60]
                )
        if not presented.in_query and len(text) < 256:
            if len(self._known) >= _CACHE:
                self._known.clear()
            self._known[text] = values
        return values
