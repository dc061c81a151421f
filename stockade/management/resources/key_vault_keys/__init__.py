"""`Microsoft.KeyVault/vaults/keys`: keys made and looked at through ARM. Used and changed they are at the vault itself.

A PUT makes a key that is not there; of one that is there it changes nothing, as in Azure.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.material import KeySpec
from stockade.keys.stored import StoredKey
from stockade.management.key_vault import key_shown, sent_times
from stockade.management.resource_type import Call, Planned, ResourceType
from stockade.management.shape import respelled, typed
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json, State
from stockade.vault import keys, lifecycle, rotation_policy, vaults
from stockade.vault.address import NAME
from stockade.vault.documents import KEYS, Item, item_of, new_version, store, vault_id_of


class Properties(Struct, rename="camel"):
    """What a key is to be."""

    attributes: dict[str, object] | None = None
    kty: str | None = None
    key_ops: list[str] | None = None
    key_size: int | None = None
    curve_name: str | None = None
    rotation_policy: rotation_policy.SentPolicy | None = None
    release_policy: dict[str, object] | None = None


class Key(Struct, rename="camel"):
    """The whole body."""

    tags: dict[str, str] | None = None
    properties: Properties | None = None


class VaultKeys(ResourceType):
    """Keys of vaults."""

    type = name = KEYS
    name_pattern = NAME
    methods = frozenset({"GET", "PUT"})
    soft_deletes = True
    has_etag = has_system_data = False
    created_status = 200

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body, sent = _read(call)
        if current is not None and current.state is State.LIVE:
            stored = reader.get(current.id)
            assert stored is not None
            return Planned({"properties": dict(stored.body["properties"])})
        lifecycle.holder(reader, vault_id_of(call.id.key), "keys", call.id.name, call.now)
        if sent.release_policy is not None:
            message = "Keys are never released here, so a releasePolicy could not be in force."
            raise Fault(FaultKind.INVALID, message, code="NotSupported", target="properties.releasePolicy")
        spec = _spec(sent)
        keys.planned_operations(sent.key_ops, spec)
        lifecycle.checked_tags(body.get("tags"))
        attributes = lifecycle.new_attributes(sent_times(sent.attributes or {}), call.now, None)
        vault = lifecycle.live_vault(reader, vault_id_of(call.id.key))
        keys.provider_for(call.platform.settings, vault, spec)
        if sent.rotation_policy is not None:
            rotation_policy.planned(sent.rotation_policy, None, attributes, call.now)
        return Planned({"properties": {"current": new_version()}}, {})

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        if previous is not None and previous.state is State.LIVE:
            return key_shown(call, writer, document)
        body, sent = _read(call)
        version, vault_id = item_of(document).current, vault_id_of(document.id)
        vaults.purge_item(writer, document)  # with what an expired one has left; the name is claimed below
        spec = _spec(sent)
        vault = lifecycle.live_vault(writer, vault_id)
        provider = keys.provider_for(call.platform.settings, vault, spec)
        version_id = f"{document.id}/versions/{version}"
        made = call.platform.broker.make_key(provider, spec, version_id, call.evidence, "management keys")
        planned = keys.NewVersion(
            version,
            spec,
            keys.planned_operations(sent.key_ops, spec),
            lifecycle.checked_tags(body.get("tags")),
            sent_times(sent.attributes or {}),
        )
        held = StoredKey(provider=provider, handle=made.handle, public=made.public)
        stored = keys.add_version(writer, vault_id, call.id.name, planned, held, call.now)
        if sent.rotation_policy is not None:
            attributes = lifecycle.new_attributes(planned.times, call.now, None)
            policy = rotation_policy.planned(sent.rotation_policy, None, attributes, call.now)
            store(writer, str(stored.item.body["id"]), KEYS, Item(version, policy))
        item = writer.get(document.id)
        assert item is not None
        return key_shown(call, writer, item)

    def get(self, call: Call, reader: Reader) -> Document | None:
        found = reader.get(call.id.key)
        return key_shown(call, reader, found) if found is not None else None

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        return [key_shown(call, reader, found) for found in reader.list(KEYS, under=call.id.key)]

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()  # what is in force of a key is its versions


def _read(call: Call) -> tuple[Json, Properties]:
    body = respelled(call.body, Key)
    return body, typed(body, Key).properties or Properties()


def _spec(sent: Properties) -> KeySpec:
    return keys.planned_spec(sent.kty or "RSA", sent.key_size, sent.curve_name, None)


PLUGIN = VaultKeys()
