"""How keys stand in the documents: an account's wrapped data keys, and a vault key version's handle. The broker reads what management writes.

An account's document:          private["keys"]     = per slot a subscription key's digests, and the key sealed where a copy is kept of it
                                private["dataKeys"] = [WrappedDataKey, ...], the newest last
                                private["lockbox"]  = the statement as it was signed (`Signed`), where it has one; it stays when protection ends
A key version's document:       private["key"]      = StoredKey      (id `.../vaults/v/keys/k/versions/4f...`)
A secret version's document:    private["sealed"]   = base64 of what `Broker.seal_secret` gave
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from stockade.keys.broker import WrappedDataKey
from stockade.keys.material import Jwk
from stockade.lockbox.signature import Signed

DATA_KEYS: Final = "dataKeys"
KEY: Final = "key"
SEALED: Final = "sealed"
LOCKBOX: Final = "lockbox"


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a key version's document keeps of the key. provider: a name of the settings, or `software`."""

    provider: str
    handle: bytes
    public: Jwk

    def to_private(self) -> dict[str, Any]:
        """Return what stands under `key` of the document's private part."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def key_of(private: Mapping[str, Any]) -> StoredKey | None:
    """Return the key of a version's document; None where it has been destroyed."""
    held = private.get(KEY)
    return msgspec.convert(held, StoredKey) if held else None


def data_keys_of(private: Mapping[str, Any]) -> tuple[WrappedDataKey, ...]:
    """Return an account's data keys, oldest first."""
    return msgspec.convert(private.get(DATA_KEYS, []), tuple[WrappedDataKey, ...])


def data_keys_form(held: Iterable[WrappedDataKey]) -> list[dict[str, Any]]:
    """Return what stands under `dataKeys` of the account's private part."""
    return [msgspec.to_builtins(one) for one in held]


def statement_of(private: Mapping[str, Any]) -> Signed | None:
    """Return an account's Lockbox statement, the last one that its data keys were bound to; None where there never was one."""
    held = private.get(LOCKBOX)
    return msgspec.convert(held, Signed) if held else None


def statement_form(signed: Signed) -> dict[str, Any]:
    """Return what stands under `lockbox` of the account's private part."""
    found: dict[str, Any] = msgspec.to_builtins(signed)
    return found


def without_copies(private: Mapping[str, Any]) -> dict[str, Any]:
    """Return an account's private part without the sealed copies of its subscription keys. The keys stay in force."""
    slots = private.get("keys", {})
    bare = {name: {part: value for part, value in slot.items() if part != "sealed"} for name, slot in slots.items()}
    return {**private, "keys": bare}


def forgotten_keys(private: Mapping[str, Any]) -> frozenset[str]:
    """Return the SHA-256, in hex, of the subscription keys in force that nobody but their holders has: no copy was kept of them."""
    slots = private.get("keys", {}).values()
    return frozenset(str(slot["sha256"]) for slot in slots if "sha256" in slot and "sealed" not in slot)
