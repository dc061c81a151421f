"""Keys and secrets of vaults as ARM shows them. Their documents are the vault's own (`vault/documents.py`), so what is shown is put together here.

Source: contracts, control-plane section 6.5; azure-mgmt-keyvault 14.1.0 (Key, Secret).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stockade.kernel.resource_id import ResourceId
from stockade.management.resource_type import Call
from stockade.management.shape import typed
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json
from stockade.vault import lifecycle, rotation_policy
from stockade.vault.documents import KEY_VERSIONS, item_of, key_version_of, secret_version_of, vault_id_of
from stockade.vault.lifecycle import SentTimes, shown_attributes


def sent_times(raw: Mapping[str, Any]) -> SentTimes:
    """Read the attributes of a body: times are numbers here too. Fault(INVALID)."""
    return typed(raw, SentTimes)


def key_shown(call: Call, reader: Reader, item: Document, version: Document | None = None) -> Document:
    """Return a key's document, or one of its versions', with the body that ARM shows."""
    vault = lifecycle.live_vault(reader, vault_id_of(item.id))
    found = version or lifecycle.newest_of(reader, item)
    described = key_version_of(found)
    uri = f"{call.platform.settings.vault_uri(vault.name)}/keys/{item.name}"
    properties: Json = {
        "attributes": {**shown_attributes(described.attributes, vault), "exportable": False},
        "kty": described.type,
        "keyOps": list(described.operations),
        "keySize": described.size,
        "keyUri": uri,
        "keyUriWithVersion": f"{uri}/{found.name}",
    }
    if described.curve is not None:
        properties["curveName"] = described.curve
    rotation = item_of(item).rotation
    if version is None and rotation is not None:
        shown = rotation_policy.shown(rotation, uri)
        properties["rotationPolicy"] = {name: shown[name] for name in ("lifetimeActions", "attributes")}
    return _with(version or item, vault, described.tags, properties)


def secret_shown(call: Call, reader: Reader, item: Document) -> Document:
    """Return a secret's document with the body that ARM shows. Never its value."""
    vault = lifecycle.live_vault(reader, vault_id_of(item.id))
    found = lifecycle.newest_of(reader, item)
    described = secret_version_of(found)
    uri = f"{call.platform.settings.vault_uri(vault.name)}/secrets/{item.name}"
    properties: Json = {
        "attributes": shown_attributes(described.attributes, vault),
        "secretUri": uri,
        "secretUriWithVersion": f"{uri}/{found.name}",
    }
    if described.content_type is not None:
        properties["contentType"] = described.content_type
    return _with(item, vault, described.tags, properties)


def versions_of(call: Call, reader: Reader, key: ResourceId) -> list[Document]:
    """Return a key's versions as ARM shows them."""
    item = reader.get(key.key)
    if item is None:
        return []
    return [key_shown(call, reader, item, version) for version in reader.list(KEY_VERSIONS, under=item.id)]


def _with(document: Document, vault: Document, tags: Mapping[str, str], properties: Json) -> Document:
    identity = {name: document.body[name] for name in ("id", "name", "type")}
    body = {**identity, "location": vault.body["location"], "tags": dict(tags), "properties": properties}
    return replace(document, body=body)
