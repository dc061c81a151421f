"""Reading a request's body: bounded in size and time, refused early when its head already says too much."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from stockade.gateway.exchange import Exchange
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.operation import Operation

_LENGTH_DIGITS = 18
_JSON_TYPES = ("application/json", "application/merge-patch+json", "text/json")
_XML_TYPES = ("application/xml", "text/xml")
_READ = frozenset({"json", "xml", "text", "form", "media"})
"""Bodies that are looked into, and so have to be written in the charset in which they are read."""
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s;\"]*)", re.IGNORECASE)
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


def check_head(operation: Operation, content_type: str, content_encoding: str, content_length: str, limit: int) -> None:
    """Refuse by the head alone: a type the operation does not read, a coding we do not undo, a declared size above the limit."""
    if operation.body == "none":
        return
    if content_encoding and content_encoding.lower() != "identity":
        raise Fault(
            FaultKind.UNSUPPORTED_MEDIA_TYPE, "Compressed request bodies are not accepted.", target="Content-Encoding"
        )
    media, _, parameters = content_type.partition(";")
    media = media.strip().lower()
    wanted = ""
    if operation.body == "json" and media not in _JSON_TYPES and not media.endswith("+json"):
        wanted = "application/json"
    elif operation.body == "xml" and media not in _XML_TYPES and not media.endswith("+xml"):
        wanted = "application/ssml+xml"
    elif operation.body == "text" and not media.startswith("text/"):
        wanted = "text/plain"
    if wanted and (media or content_length != "0"):
        raise Fault(
            FaultKind.UNSUPPORTED_MEDIA_TYPE,
            f"This operation reads {wanted}; the request's content type is '{media[:60]}'.",
            target="Content-Type",
        )
    if parameters and operation.body in _READ:
        _check_charset(parameters)
    if content_length and (not content_length.isascii() or not content_length.isdigit()):
        raise Fault(FaultKind.INVALID, "The request's content length is not a number.", target="Content-Length")
    if content_length and (len(content_length) > _LENGTH_DIGITS or int(content_length) > limit):
        raise _too_large(limit)


def _check_charset(parameters: str) -> None:
    """Refuse a charset other than UTF-8: we would look at one text, and whoever believes the header would read another."""
    for charset in _CHARSET.findall(parameters):
        if charset.lower() not in _CHARSETS:
            raise Fault(
                FaultKind.UNSUPPORTED_MEDIA_TYPE,
                f"Request bodies are read as UTF-8; the charset '{charset[:40]}' is not accepted.",
                target="Content-Type",
            )


async def read(proto: Any, content_length: str, limit: int) -> bytes:
    """Return the whole body; Fault(TOO_LARGE) above the limit.

    With a declared length the server itself bounds the body; without one it is counted as it arrives. `Running` ends a read that takes too long.
    """
    if content_length == "0":
        return b""
    if content_length:
        whole: bytes = await proto()
        return whole
    parts: list[bytes] = []
    total = 0
    async for chunk in proto:
        total += len(chunk)
        if total > limit:
            raise _too_large(limit)
        parts.append(chunk)
    return b"".join(parts)


async def pieces(exchange: Exchange, limit: int, idle_s: float) -> AsyncIterator[bytes]:
    """Yield the body as it arrives; Fault(TOO_LARGE) above the limit, Fault(INVALID) when the client goes away in the middle.

    `Running` ends it when nothing arrives for `idle_s` seconds. Nothing is read ahead: a reader that is slow slows the client down.
    """
    loop = asyncio.get_running_loop()
    declared = int(exchange.content_length) if exchange.content_length else None
    source = aiter(exchange.proto)
    total = 0
    while True:
        exchange.client_due = loop.time() + idle_s
        try:
            # Not `anext(source, None)`: Python 3.11 crashes when the server's awaitable is asked that way and has to wait.
            chunk = await source.__anext__()
        except StopAsyncIteration:
            break
        finally:
            exchange.client_due = None
        total += len(chunk)
        if total > limit:
            raise _too_large(limit)
        yield chunk
    if declared is not None and total != declared:  # the server says of a client that has gone only that no more comes
        raise Fault(FaultKind.INVALID, "The request body ended before the length that its head declares.")


def _too_large(limit: int) -> Fault:
    return Fault(FaultKind.TOO_LARGE, f"The request body is larger than the limit of {limit} bytes.")
