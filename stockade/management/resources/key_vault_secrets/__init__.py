"""`Microsoft.KeyVault/vaults/secrets`: secrets set and looked at through ARM, which never shows a value.

A PUT or PATCH with a value makes the secret's next version; one without changes the newest.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from stockade.management.key_vault import secret_shown, sent_times
from stockade.management.resource_type import Call, Planned, ResourceType
from stockade.management.shape import respelled, typed
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, State
from stockade.vault import lifecycle, secrets, vaults
from stockade.vault.address import NAME
from stockade.vault.documents import SECRETS, item_of, new_version, vault_id_of
from stockade.vault.secrets import SetSecret, UpdateSecret


class Properties(Struct, rename="camel"):
    """What a secret is to be."""

    value: str | None = None
    content_type: str | None = None
    attributes: dict[str, object] | None = None

    def __repr__(self) -> str:
        return "Properties(***)"


class Secret(Struct, rename="camel"):
    """The whole body."""

    tags: dict[str, str] | None = None
    properties: Properties | None = None


class VaultSecrets(ResourceType):
    """Secrets of vaults."""

    type = name = SECRETS
    name_pattern = NAME
    methods = frozenset({"GET", "PUT", "PATCH"})
    soft_deletes = True
    has_etag = has_system_data = False

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        sent = _read(call)
        live = current if current is not None and current.state is State.LIVE else None
        lifecycle.holder(reader, vault_id_of(call.id.key), "secrets", call.id.name, call.now)
        if sent.value is not None or live is None:
            secrets.checked_value(sent)
        if live is None:
            return Planned({"properties": {"current": new_version()}}, {})
        stored = reader.get(live.id)
        assert stored is not None
        return Planned({"properties": dict(stored.body["properties"])})

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        sent, vault_id = _read(call), vault_id_of(document.id)
        live = previous is not None and previous.state is State.LIVE
        if sent.value is None:
            found = lifecycle.record(writer, vault_id, "secrets", document.name)
            secrets.update_version(writer, found, UpdateSecret(sent.content_type, sent.attributes, sent.tags), call.now)
            return secret_shown(call, writer, document)
        version = new_version() if live else item_of(document).current
        if not live:
            vaults.purge_item(writer, document)  # with what an expired one has left; the name is claimed below
        value = secrets.checked_value(sent)
        sealed = call.platform.broker.seal_secret(value, f"{document.id}/versions/{version}")
        stored = secrets.add_version(writer, vault_id, call.id.name, version, sent, sealed, call.now)
        return secret_shown(call, writer, stored.item)

    def get(self, call: Call, reader: Reader) -> Document | None:
        found = reader.get(call.id.key)
        return secret_shown(call, reader, found) if found is not None else None

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        return [secret_shown(call, reader, found) for found in reader.list(SECRETS, under=call.id.key)]

    def compile(self, document: Document) -> Iterable[Entry]:
        return ()  # what is in force of a secret is its versions


def _read(call: Call) -> SetSecret:
    body = typed(respelled(call.body, Secret), Secret)
    sent = body.properties or Properties()
    times = sent_times(sent.attributes) if sent.attributes is not None else None
    return SetSecret(sent.value, sent.content_type, times, body.tags)


PLUGIN = VaultSecrets()
