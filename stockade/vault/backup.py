"""Backups of keys and secrets: sealed so that only this platform opens them, and only into a vault of the same subscription.

What is inside is the broker's, key material and secrets' values both (`Broker.back_up_key`, `back_up_secret`). Names, attributes, tags and where
it came from stand around it, and the whole is sealed with AES-256-GCM under a key that the broker derives for this purpose alone.
Source: Azure binds backups to subscription and geography; this platform has one geography.
"""

from __future__ import annotations

import os
from typing import Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.broker import Broker
from stockade.keys.material import Jwk
from stockade.policy.key_rotation import RotationPolicy
from stockade.vault.documents import KeyVersion, SecretVersion
from stockade.vault.wire import bad_parameter

PURPOSE: Final = "vault-backups"
MAX_VERSIONS: Final = 500
"""Source: Key Vault's limit."""
_HEAD: Final = b"stockade vault backup 1\n"
_NONCE: Final = 12


class KeyVersionBackup(msgspec.Struct, frozen=True):
    """One version of a key."""

    version: str
    described: KeyVersion
    provider: str
    public: Jwk
    material: bytes


class SecretVersionBackup(msgspec.Struct, frozen=True):
    """One version of a secret."""

    version: str
    described: SecretVersion
    material: bytes


class Backup(msgspec.Struct, frozen=True):
    """A key or a secret with all its versions."""

    subscription: str
    collection: Literal["keys", "secrets"]
    name: str
    current: str
    keys: tuple[KeyVersionBackup, ...] = ()
    secrets: tuple[SecretVersionBackup, ...] = ()
    rotation: RotationPolicy | None = None


def sealed(broker: Broker, backup: Backup) -> bytes:
    """Return a backup as callers keep it; Fault(INVALID) for an item of too many versions."""
    if len(backup.keys) + len(backup.secrets) > MAX_VERSIONS:
        raise bad_parameter(f"Items of more than {MAX_VERSIONS} versions cannot be backed up.")
    nonce = os.urandom(_NONCE)
    return _HEAD + nonce + _cipher(broker).encrypt(nonce, msgspec.msgpack.encode(backup), _HEAD)


def opened(broker: Broker, blob: bytes, collection: str, subscription: str) -> Backup:
    """Return what is in a backup; Fault(INVALID) for one that is not ours, or of another kind or subscription."""
    head, nonce, sealed_part = blob[: len(_HEAD)], blob[len(_HEAD) : len(_HEAD) + _NONCE], blob[len(_HEAD) + _NONCE :]
    if head != _HEAD or len(nonce) != _NONCE:
        raise _unreadable(collection)
    try:
        content = _cipher(broker).decrypt(nonce, sealed_part, _HEAD)
        backup = msgspec.msgpack.decode(content, type=Backup)
    except (InvalidTag, msgspec.DecodeError) as failure:
        raise _unreadable(collection) from failure
    if backup.collection != collection:
        raise _unreadable(collection)
    if backup.subscription != subscription:
        message = "The backup was made in another subscription, and can be restored only into a vault of that one."
        raise Fault(FaultKind.INVALID, message, target="value")
    return backup


def _cipher(broker: Broker) -> AESGCM:
    return AESGCM(broker.purpose_key(PURPOSE).reveal())


def _unreadable(collection: str) -> Fault:
    return bad_parameter(
        f"Backup blob contains invalid or corrupt data: it is no backup of {collection} of this platform.", "value"
    )
