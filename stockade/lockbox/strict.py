"""Reading what was signed so strictly that no two readers can disagree about what it says.

UTF-8 JSON without repeated names, NaN or infinities; base64url without padding and without bits that do not count. The bytes are kept as they
were signed, so nothing here writes them anew. Source: RFC 8725 section 2.4 and RFC 7515 section 10.12 for why; RFC 4648 section 5.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from stockade.kernel.faults import Fault, FaultKind

T = TypeVar("T")

GUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")
_ACCOUNT: Final = re.compile(
    rf"/subscriptions/{GUID}/resourcegroups/[^/\x00-\x20\x7f]{{1,90}}/providers/[a-z.]{{1,64}}/[a-z]{{1,64}}/[a-z0-9._-]{{1,64}}"
)
_GUID: Final = re.compile(GUID)


def read(payload: bytes, wanted: type[T], limit: int, what: str) -> T:
    """Return what the bytes say; Fault(INVALID) names what is wrong with them. what: for messages, `statement`."""
    if len(payload) > limit:
        raise wrong(what, f"it is longer than {limit} bytes")
    try:
        value = json.loads(payload.decode("utf-8"), object_pairs_hook=_unrepeated, parse_constant=_no_constant)
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as failure:
        raise wrong(what, str(failure)) from failure
    except (ValueError, RecursionError) as failure:
        raise wrong(what, "it is no JSON object, or repeats a name") from failure


def wrong(what: str, why: str, target: str | None = None) -> Fault:
    """Return the refusal of something that cannot be signed for."""
    return Fault(FaultKind.INVALID, f"That is no Lockbox {what}: {why}.", code=f"Invalid{what.title()}", target=target)


def is_account(text: str) -> bool:
    """Say whether a text is an account's ARM id in the one spelling that is signed: lower case."""
    return text == text.lower() and _ACCOUNT.fullmatch(text) is not None


def is_guid(text: str) -> bool:
    """Say whether a text is a GUID in lower case."""
    return _GUID.fullmatch(text) is not None


def is_instant(value: float) -> bool:
    """Say whether a number is a sensible time in epoch seconds."""
    return math.isfinite(value) and 0 < value < 253_402_300_800


def base64url(data: bytes) -> str:
    """Return bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Return the bytes; ValueError for any other spelling of them than `base64url` gives."""
    if _BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        raise ValueError("no base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64url(data) != text:
        raise ValueError("no canonical base64url")
    return data


def members(data: bytes) -> dict[str, Any]:
    """Return a JSON object's members; ValueError for anything else, and for a repeated name."""
    value = json.loads(data.decode("utf-8"), object_pairs_hook=_unrepeated, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004 - whoever reads it asks for one kind of failure
    return value


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("repeated name")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
