"""What an AI service can be asked, declared once and read by routing, roles, loss prevention, audit, metrics, docs and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB


@dataclass(frozen=True, slots=True)
class UriField:
    """A field of a request that carries a URI.

    at:     where: a JSON path (`messages[*].content[*].image_url.url`; `**` stands for any depth: `**.sourceUri`), `query:NAME`,
            `header:NAME`, `form:NAME` (a field of a form), `form:NAME#PATH` (a JSON path within a field that holds JSON),
            `xml:ELEMENT@ATTRIBUTE` (in an XML or SSML body, at any depth and in any namespace; `*` stands for any element), `ssml:PATH` (an
            SSML document in a JSON string: its linking attributes), or `lines:PATH` (a JSON path within each line of an uploaded JSON-lines file).
    use:    what an engine does with it: `fetch` from there, `send` data there, or only `name` something by it.
    inline: what is fetched from there may stand in its place as a `data:` URI.
    """

    at: str
    use: Literal["fetch", "send", "name"] = "fetch"
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of a service's table.

    name:           stable name used in audit records, metrics and rate-limit messages.
    method, path:   HTTP method and template below the account's address; `{name}` stands for one segment.
    data_action:    what follows `Microsoft.CognitiveServices/accounts/` in the RBAC data action; None needs no credential at all
                    (only for public metadata such as a list of languages).
    body:           whether and as what a body is read: `form` is multipart or urlencoded, `xml` includes SSML, `media` is JSON, a
                    multipart form or a file (image, audio, document), as its content type says; `text` and `binary` are not looked into;
                    a `stream` is not read before the decision at the body: the service takes it from `Call.upload`, piece by piece. What
                    is uploaded so is not looked into for URIs: on accounts that restrict them it is judged when it is used.
    headers:        request headers, in lower case, that the operation reads; no others reach an upstream.
    max_body_bytes: bodies above it are refused with 413 before they are read to the end; of a WebSocket, messages (close code 1009).
    streams:        whether the reply may be a stream of server-sent events.
    stores:         whether the operation reads or writes customer content that this platform keeps. Without the account's key it is refused;
                    `on-request`: it keeps content only where the request asks for it, and only that needs the key.
    uris:           the request fields that carry URIs, for loss prevention.
    versioned:      whether a well-formed `api-version` query parameter is required.
    bearer_key:     whether a bearer value that is no JWT is tried as a subscription key (OpenAI's own client on `/openai/v1`).
    websocket:      it is a session of messages over a WebSocket. `uris` are then paths within each message.
    """

    name: str
    method: str
    path: str
    data_action: str | None
    body: Literal["none", "json", "form", "xml", "media", "text", "binary", "stream"] = "none"
    headers: tuple[str, ...] = ()
    max_body_bytes: int = 4 * MiB
    streams: bool = False
    stores: Literal["nothing", "on-request", "customer-content"] = "nothing"
    uris: tuple[UriField, ...] = ()
    bearer_key: bool = False
    versioned: bool = True
    websocket: bool = False
