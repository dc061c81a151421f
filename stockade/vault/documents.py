"""Vaults, keys, secrets and their versions as documents: ids, bodies, private parts.

A key is two sorts of documents: `.../vaults/v/keys/k`, which knows its newest version and its rotation policy, and one
`.../keys/k/versions/{32 hex}` per version with attributes, tags and, in its private part, the material (`keys/stored.py`). Secrets likewise. What is
soft-deleted has that state with all its versions; what was deleted by itself, and not only with its vault, has `deletedAt` in its private part.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from stockade.kernel.resource_id import ResourceId
from stockade.keys.material import Curve, KeyType
from stockade.policy.key_rotation import RotationPolicy
from stockade.storage.database import Writer
from stockade.storage.documents import Document, Json, State

VAULTS: Final = "Microsoft.KeyVault/vaults"
KEYS: Final = f"{VAULTS}/keys"
KEY_VERSIONS: Final = f"{KEYS}/versions"
SECRETS: Final = f"{VAULTS}/secrets"
SECRET_VERSIONS: Final = f"{SECRETS}/versions"

Collection: TypeAlias = Literal["keys", "secrets"]
ITEM_TYPES: Final[Mapping[Collection, str]] = {"keys": KEYS, "secrets": SECRETS}
VERSION_TYPES: Final[Mapping[Collection, str]] = {"keys": KEY_VERSIONS, "secrets": SECRET_VERSIONS}

MAX_RETENTION_DAYS: Final = 90
DAY_S: Final = 86_400

S = TypeVar("S", bound=msgspec.Struct)


class Attributes(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a version may be used. Epoch seconds; created and updated with fractions, so that versions of one second keep their order."""

    created: float
    updated: float
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key or a secret. current: its newest version, 32 hex digits. notified: the version whose expiry has been told of."""

    current: str
    rotation: RotationPolicy | None = None
    notified: str = ""


class KeyVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a key, without its material."""

    attributes: Attributes
    type: KeyType
    size: int
    operations: tuple[str, ...]
    curve: Curve | None = None
    tags: dict[str, str] = {}


class SecretVersion(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a secret, without its value."""

    attributes: Attributes
    content_type: str | None = None
    tags: dict[str, str] = {}


def new_version() -> str:
    """Return a version's name: 32 hex digits."""
    return secrets.token_hex(16)


def vault_id_of(document_id: str) -> str:
    """Return the id of the vault that an item or version lies in."""
    return "/".join(document_id.split("/")[:9])


def item_id_of(version_id: str) -> str:
    """Return the id of the key or secret that a version is of."""
    return version_id.rpartition("/versions/")[0]


def item_of(document: Document) -> Item:
    """Read a key's or secret's document."""
    return msgspec.convert(document.body["properties"], Item)


def key_version_of(document: Document) -> KeyVersion:
    """Read a key version's document."""
    return msgspec.convert(document.body["properties"], KeyVersion)


def secret_version_of(document: Document) -> SecretVersion:
    """Read a secret version's document."""
    return msgspec.convert(document.body["properties"], SecretVersion)


def body_of(arm_id: str, kind: str, properties: msgspec.Struct, more: Mapping[str, Any] | None = None) -> Json:
    """Return a document's body. arm_id: in the spelling it is to be shown with. more: further members of `properties`."""
    described = {**(more or {}), **msgspec.to_builtins(properties)}
    return {"id": arm_id, "name": arm_id.rsplit("/", 1)[-1], "type": kind, "properties": described}


def store(
    writer: Writer,
    arm_id: str,
    kind: str,
    properties: msgspec.Struct,
    private: Mapping[str, Any] | None = None,
    *,
    state: State = State.LIVE,
    purge_at: float | None = None,
) -> Document:
    """Write a key, a secret or a version. private None: as it is."""
    place = ResourceId.parse(arm_id)
    return writer.put(
        arm_id,
        kind,
        body_of(arm_id, kind, properties),
        private,
        subscription=place.subscription or "",
        resource_group=place.resource_group or "",
        state=state,
        purge_at=purge_at,
    )


def retention_s(vault: Document) -> float:
    """Return for how long what is deleted in a vault, and the vault itself, can be recovered."""
    days = vault.body["properties"].get("softDeleteRetentionInDays", MAX_RETENTION_DAYS)
    return float(days) * DAY_S


def purge_protected(vault: Document) -> bool:
    """Say whether nothing of a vault can be purged before its time."""
    return vault.body["properties"].get("enablePurgeProtection") is True


def is_expired(document: Document, now: float) -> bool:
    """Say whether something soft-deleted can no longer be recovered, whenever the sweep comes by."""
    return document.state is State.SOFT_DELETED and document.purge_at is not None and document.purge_at <= now
