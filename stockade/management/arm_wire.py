"""Azure Resource Manager's wire: how requests are read, and how replies and refusals look.

Source: contracts, control-plane sections 0 and 1.6; Azure's documents name the codes in "common deployment errors".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote_to_bytes

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import is_guid
from stockade.management.resource_type import Reply
from stockade.storage.documents import Json

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_QUERY_BYTES = 8192
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-[A-Za-z]+(\.\d+)?)?")

STATUS: Mapping[FaultKind, tuple[int, str]] = {
    FaultKind.INVALID: (400, "BadRequest"),
    FaultKind.CONFLICTING_CREDENTIALS: (400, "BadRequest"),
    FaultKind.UNAUTHENTICATED: (401, "AuthenticationFailed"),
    FaultKind.KEY_REJECTED: (401, "AuthenticationFailed"),
    FaultKind.LOCAL_AUTH_DISABLED: (403, "AuthenticationTypeDisabled"),
    FaultKind.SUBDOMAIN_REQUIRED: (400, "BadRequest"),
    FaultKind.OUTBOUND_DENIED: (400, "BadRequest"),
    FaultKind.PERMISSION_DENIED: (403, "AuthorizationFailed"),
    FaultKind.AUTHORIZATION_FAILED: (403, "AuthorizationFailed"),
    FaultKind.NETWORK_DENIED: (403, "Forbidden"),
    FaultKind.PUBLIC_ACCESS_DISABLED: (403, "Forbidden"),
    FaultKind.CUSTOMER_KEY_UNAVAILABLE: (403, "CustomerManagedKeyUnavailable"),
    FaultKind.LOCKBOX_DENIED: (403, "LockboxDenied"),
    FaultKind.NOT_FOUND: (404, "ResourceNotFound"),
    FaultKind.DEPLOYMENT_NOT_FOUND: (404, "DeploymentNotFound"),
    FaultKind.METHOD_NOT_ALLOWED: (405, "MethodNotAllowed"),
    FaultKind.UPGRADE_REQUIRED: (426, "UpgradeRequired"),
    FaultKind.CONFLICT: (409, "Conflict"),
    FaultKind.PRECONDITION_FAILED: (412, "PreconditionFailed"),
    FaultKind.TOO_LARGE: (413, "RequestEntityTooLarge"),
    FaultKind.UNSUPPORTED_MEDIA_TYPE: (415, "UnsupportedMediaType"),
    FaultKind.TIMEOUT: (408, "RequestTimeout"),
    FaultKind.LIMIT: (429, "TooManyRequests"),
    FaultKind.UPSTREAM_FAILED: (502, "BadGateway"),
    FaultKind.UPSTREAM_TIMEOUT: (504, "GatewayTimeout"),
    FaultKind.UNAVAILABLE: (503, "ServiceUnavailable"),
    FaultKind.UNSUPPORTED: (400, "NotSupported"),
    FaultKind.INTERNAL: (500, "InternalServerError"),
}
"""Total: a test asserts it. 400 and not 501 for what we do not do, because SDKs repeat requests that fail with 5xx."""


def path_segments(raw_path: bytes) -> tuple[str, ...]:
    """Split a path as it came over the wire and decode each segment once; Fault(INVALID) for slashes, dots or bytes in disguise.

    Leading slashes count as one, because SDKs build `/{scope}/providers/...` with scopes that start with a slash; so does a trailing one.
    """
    segments = []
    for raw in raw_path.split(b"?", 1)[0].strip(b"/").split(b"/"):
        try:
            segment = unquote_to_bytes(raw).decode("utf-8", "strict")
        except UnicodeDecodeError as failure:
            raise Fault(FaultKind.INVALID, "The path is not UTF-8.", code="InvalidRequestUri") from failure
        if (
            segment in {".", ".."}
            or any(mark in segment for mark in "/\\%?#\x00")
            or (segment == "" and raw_path.strip(b"/"))
        ):
            raise Fault(
                FaultKind.INVALID, "The path contains an empty, relative or encoded segment.", code="InvalidRequestUri"
            )
        segments.append(segment)
    return tuple(segments) if segments != [""] else ()


def query_parameters(raw_query: bytes) -> dict[str, str]:
    """Return decoded parameters by lower-case name, the first of several; JavaScript clients send `api%2Dversion`."""
    if len(raw_query) > MAX_QUERY_BYTES:
        raise Fault(FaultKind.TOO_LARGE, f"The query is longer than {MAX_QUERY_BYTES} bytes.")
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(raw_query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=64)
    except ValueError as failure:
        raise Fault(FaultKind.INVALID, "The query string is malformed.", code="InvalidRequestUri") from failure
    for name, value in pairs:
        if name.lower() == "api-version" and found.get("api-version", value) != value:
            raise Fault(FaultKind.INVALID, "Two different api-versions were sent.", code="InvalidApiVersionParameter")
        found.setdefault(name.lower(), value)
    return found


def api_version(query: Mapping[str, str], implied: str | None = None) -> str:
    """Return the api-version; any well-formed one is taken (choices.md), a missing or malformed one refused.

    implied: what a request means that names none, where Azure's own specification forgets to ask for one.
    """
    value = query.get("api-version", "")
    if not value and implied is not None:
        return implied
    if not value:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise Fault(FaultKind.INVALID, message, code="MissingApiVersionParameter")
    if not _API_VERSION.fullmatch(value):
        message = f"The api-version '{value[:40]}' is invalid. It is a date such as 2025-09-01, with or without a suffix such as -preview."
        raise Fault(FaultKind.INVALID, message, code="InvalidApiVersionParameter", target="api-version")
    return value


def read_json(content: bytes, content_type: str) -> Json:
    """Parse a request body that must be one JSON object ({} when empty).

    Refused: other media types, duplicate member names (also those that differ in case alone), more than 64 levels, non-finite numbers,
    and text that cannot be stored (NUL, lone surrogates).
    """
    if not content.strip():
        return {}
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise Fault(
            FaultKind.UNSUPPORTED_MEDIA_TYPE,
            f"The content type '{media_type[:80]}' is not supported; send application/json.",
        )
    try:
        value = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError) as failure:
        raise _content("The request content is not valid JSON.") from failure
    if not isinstance(value, dict):
        raise _content("The request content must be a JSON object.")
    _check(value)
    return value


def _members(pairs: list[tuple[str, Any]]) -> Json:
    names = {name.lower() for name, _ in pairs}
    if len(names) != len(pairs):
        raise _content("The request content names a member twice.")
    return dict(pairs)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)


def _check(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.keys())
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str) and ("\x00" in item or not _encodable(item)):
                raise _content("The request content has text that cannot be stored.")
            elif isinstance(item, float) and not math.isfinite(item):
                raise _content("The request content has a number that is too large.")
        if not below:
            return
        level = below
    raise _content(f"The request content is nested deeper than {MAX_DEPTH} levels.")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _content(message: str) -> Fault:
    return Fault(FaultKind.INVALID, message, code="InvalidRequestContent")


def error_reply(fault: Fault) -> Reply:
    """Return a refusal in ARM's envelope."""
    status, code = STATUS[fault.kind]
    error: Json = {"code": fault.code or code, "message": fault.message}
    if fault.target is not None:
        error["target"] = fault.target
    if fault.details.get("details"):
        error["details"] = fault.details["details"]
    information = fault.details.get("additionalInfo")
    if information is not None:
        error["additionalInfo"] = [{"type": "Stockade", "info": information}]
    headers: dict[str, str] = {}
    challenge = fault.details.get("wwwAuthenticate")
    if isinstance(challenge, str):
        headers["www-authenticate"] = challenge
    if fault.retry_after_s is not None and fault.kind in (FaultKind.LIMIT, FaultKind.UNAVAILABLE):
        headers["retry-after"] = str(max(1, math.ceil(fault.retry_after_s)))
        headers["retry-after-ms"] = str(max(1, int(fault.retry_after_s * 1000)))
    return Reply(status, {"error": error}, headers)


def standard_headers(decision_id: str, request_headers: Mapping[str, str], *, refused: bool) -> dict[str, str]:
    """Return the headers of every reply: request ids, and what keeps browsers and caches away."""
    correlation = request_headers.get("x-ms-correlation-request-id", "")
    headers = {
        "x-ms-request-id": decision_id,
        "x-ms-correlation-request-id": correlation if is_guid(correlation) else decision_id,
        "strict-transport-security": "max-age=31536000; includeSubDomains",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "pragma": "no-cache",
    }
    client = request_headers.get("x-ms-client-request-id", "")
    if client and len(client) <= 128 and client.isascii() and client.isprintable():
        headers["x-ms-client-request-id"] = client
    if refused:
        headers["x-stockade-decision"] = decision_id
    return headers


def header_map(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return ASGI headers by lower-case name; Fault(INVALID) when one that decides something came twice."""
    found: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name = raw_name.decode("latin-1").lower()
        if name in found and name in {"authorization", "content-type", "if-match", "if-none-match"}:
            raise Fault(FaultKind.INVALID, f"The header '{name}' was sent more than once.")
        found.setdefault(name, raw_value.decode("latin-1").strip())
    return found
