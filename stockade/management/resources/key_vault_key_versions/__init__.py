"""`Microsoft.KeyVault/vaults/keys/versions`: the versions of a key, to be looked at."""

from __future__ import annotations

from collections.abc import Iterable

from stockade.management.key_vault import key_shown, versions_of
from stockade.management.resource_type import Call, Planned, ResourceType
from stockade.policy.snapshot import Entry
from stockade.storage.database import Reader
from stockade.storage.documents import Document
from stockade.vault.compile import compile_key_version
from stockade.vault.documents import KEY_VERSIONS, KEYS, item_id_of


class VaultKeyVersions(ResourceType):
    """Versions of keys of vaults."""

    type = name = KEY_VERSIONS
    methods = frozenset({"GET"})
    has_etag = has_system_data = False

    @property
    def permissions_prefix(self) -> str:
        return KEYS

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        raise NotImplementedError  # nothing is written

    def get(self, call: Call, reader: Reader) -> Document | None:
        found, item = reader.get(call.id.key), reader.get(item_id_of(call.id.key))
        return key_shown(call, reader, item, found) if found is not None and item is not None else None

    def list(self, call: Call, reader: Reader) -> Iterable[Document]:
        return versions_of(call, reader, call.id)

    def compile(self, document: Document) -> Iterable[Entry]:
        return compile_key_version(document)


PLUGIN = VaultKeyVersions()
