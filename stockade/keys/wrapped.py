"""How an account's document holds its data keys: `private["dataKeys"]`, a list in the order they were made; new things are kept under the last.

    {"version": "4f6a09c2d1e8", "createdAt": 1764144000.0, "wrapped": "<base64>", "platform": "3f...", "customer": "https://v.../keys/k/4f..."}

`customer` is left out where no customer's key is bound. The document of an encryption scope holds its own in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.broker import WrappedDataKey

MEMBER: Final = "dataKeys"
"""The member of a document's private part."""


class _Stored(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    version: str
    created_at: float
    wrapped: bytes
    platform: str
    customer: str = ""


def to_json(key: WrappedDataKey) -> dict[str, Any]:
    """Return one data key as it is stored."""
    stored = _Stored(key.version, key.created_at, key.wrapped, key.platform, key.customer)
    found: dict[str, Any] = msgspec.to_builtins(stored)
    return found


def from_json(value: object) -> WrappedDataKey:
    """Read one data key back; Fault(UNAVAILABLE) for anything that `to_json` did not write."""
    try:
        stored = msgspec.convert(value, _Stored)
    except msgspec.ValidationError as failure:
        raise Fault(FaultKind.UNAVAILABLE, "A stored data key is damaged.") from failure
    return WrappedDataKey(stored.version, stored.created_at, stored.wrapped, stored.platform, stored.customer)


def data_keys(private: Mapping[str, Any]) -> tuple[WrappedDataKey, ...]:
    """Return the data keys of a document's private part, the newest last; none for one made before there were any."""
    return tuple(from_json(value) for value in private.get(MEMBER, ()))


def with_data_keys(private: Mapping[str, Any], keys: Iterable[WrappedDataKey]) -> dict[str, Any]:
    """Return the private part with these data keys in place of those it had."""
    return {**private, MEMBER: [to_json(key) for key in keys]}
