"""Secrets: values that the key broker seals, each version bound to its own id. What they share with keys is in `lifecycle.py`."""

from __future__ import annotations

import base64
from typing import Final

import msgspec

from stockade.kernel.clock import Clock
from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.broker import Broker
from stockade.keys.stored import SEALED
from stockade.settings import Settings
from stockade.storage.database import Database, Writer
from stockade.storage.documents import Document
from stockade.vault import backup, lifecycle
from stockade.vault.documents import (
    SECRET_VERSIONS,
    SECRETS,
    Attributes,
    Item,
    SecretVersion,
    new_version,
    secret_version_of,
    store,
)
from stockade.vault.lifecycle import Record, SentTimes
from stockade.vault.wire import bad_parameter, forbidden

MAX_VALUE: Final = 25 * 1024
"""Bytes. Source: Key Vault's limit."""
MAX_CONTENT_TYPE: Final = 255


class SetSecret(msgspec.Struct, rename="camel"):
    """The body of a PUT."""

    value: str | None = None
    content_type: str | None = None
    attributes: SentTimes | None = None
    tags: dict[str, str] | None = None

    def __repr__(self) -> str:
        return "SetSecret(***)"


class UpdateSecret(msgspec.Struct, rename="camel"):
    """The body of a PATCH."""

    content_type: str | None = None
    attributes: SentTimes | None = None
    tags: dict[str, str] | None = None


class Secrets:
    """The secrets of all vaults. vault_id: a lower-case id; name: as the caller spells it. Everything raises Fault as Key Vault does."""

    def __init__(self, settings: Settings, database: Database, broker: Broker, clock: Clock) -> None:
        self._settings, self._database, self._broker, self._clock = settings, database, broker, clock

    def set(self, vault_id: str, name: str, sent: SetSecret) -> Record:
        """Keep a value, as the first or next version."""
        value = checked_value(sent)
        with self._database.read() as reader:
            lifecycle.live_vault(reader, vault_id)
            lifecycle.holder(reader, vault_id, "secrets", name, self._clock.now())
        version = new_version()
        sealed = self._broker.seal_secret(value, f"{vault_id}/secrets/{name}/versions/{version}".lower())
        with self._database.write() as writer:
            return add_version(writer, vault_id, name, version, sent, sealed, self._clock.now())

    def value(self, found: Record, evidence: Evidence, asked_by: str) -> Secret:
        """Return a version's value; Fault(PERMISSION_DENIED) for one that is disabled."""
        if not secret_version_of(found.version).attributes.enabled:
            raise forbidden("Operation get is not allowed on a disabled secret.", "SecretDisabled")
        return self._broker.open_secret(_sealed(found.version), found.version.id, evidence, asked_by)

    def update(self, vault_id: str, name: str, version: str, sent: UpdateSecret) -> Record:
        """Change what is not the value itself; what is not named stays."""
        with self._database.write() as writer:
            found = lifecycle.record(writer, vault_id, "secrets", name, version)
            return update_version(writer, found, sent, self._clock.now())

    def back_up(self, vault_id: str, name: str, evidence: Evidence, asked_by: str) -> bytes:
        """Return a secret with all its versions, sealed."""
        with self._database.read() as reader:
            found = lifecycle.record(reader, vault_id, "secrets", name)
            versions = reader.list(SECRET_VERSIONS, under=found.item.id, limit=backup.MAX_VERSIONS + 1)
        if len(versions) > backup.MAX_VERSIONS:
            raise bad_parameter(f"Items of more than {backup.MAX_VERSIONS} versions cannot be backed up.")
        kept = tuple(
            backup.SecretVersionBackup(
                version.id.rsplit("/", 1)[-1],
                secret_version_of(version),
                self._broker.back_up_secret(_sealed(version), version.id, evidence, asked_by),
            )
            for version in versions
        )
        current = str(found.item.body["properties"]["current"])
        whole = backup.Backup(found.vault.subscription, "secrets", found.name, current, secrets=kept)
        return backup.sealed(self._broker, whole)

    def restore(self, vault_id: str, blob: bytes, evidence: Evidence, asked_by: str) -> Record:
        """Put a backed-up secret back, with the versions it had; Fault(CONFLICT) while its name is taken."""
        with self._database.read() as reader:
            vault = lifecycle.live_vault(reader, vault_id)
        whole = backup.opened(self._broker, blob, "secrets", vault.subscription)
        arm_id = f"{vault.body['id']}/secrets/{whole.name}"
        sealed = [
            self._broker.restore_secret(kept.material, f"{arm_id}/versions/{kept.version}".lower(), evidence, asked_by)
            for kept in whole.secrets
        ]
        with self._database.write() as writer:
            lifecycle.require_absent(writer, vault_id, "secrets", whole.name, self._clock.now())
            for kept, blob_of_version in zip(whole.secrets, sealed, strict=True):
                private = {SEALED: base64.b64encode(blob_of_version).decode()}
                store(writer, f"{arm_id}/versions/{kept.version}", SECRET_VERSIONS, kept.described, private)
            store(writer, arm_id, SECRETS, Item(whole.current), {})
            return lifecycle.record(writer, vault_id, "secrets", whole.name)


def checked_value(sent: SetSecret) -> Secret:
    """Return the value that is to be kept, all that goes with it being in order; Fault(INVALID)."""
    if sent.value is None:
        raise bad_parameter("Property value is required.", "value")
    try:
        content = sent.value.encode()
    except UnicodeEncodeError as failure:
        raise bad_parameter("Property value is not well-formed text.", "value") from failure
    if len(content) > MAX_VALUE:
        raise bad_parameter(f"Property value is longer than {MAX_VALUE} bytes.", "value")
    _described(sent, 0.0, None)
    return Secret(content)


def add_version(
    writer: Writer, vault_id: str, name: str, version: str, sent: SetSecret, sealed: bytes, now: float
) -> Record:
    """Store a version whose value has been sealed, as the newest of its secret; Fault(CONFLICT) while a deleted one has the name."""
    vault = lifecycle.live_vault(writer, vault_id)
    item = lifecycle.claim_name(writer, vault_id, "secrets", name, now)
    arm_id = str(item.body["id"]) if item is not None else f"{vault.body['id']}/secrets/{name}"
    before = secret_version_of(lifecycle.newest_of(writer, item)).attributes if item is not None else None
    private = {SEALED: base64.b64encode(sealed).decode()}
    described = _described(sent, now, before)
    stored = store(writer, f"{arm_id}/versions/{version}", SECRET_VERSIONS, described, private)
    return Record(vault, store(writer, arm_id, SECRETS, Item(version)), stored)


def update_version(writer: Writer, found: Record, sent: UpdateSecret, now: float) -> Record:
    """Change what is not the value of a version; what is not named stays."""
    before = secret_version_of(found.version)
    after = SecretVersion(
        lifecycle.changed_attributes(sent.attributes, before.attributes, now),
        _content_type(sent.content_type) if sent.content_type is not None else before.content_type,
        lifecycle.checked_tags(sent.tags) if sent.tags is not None else before.tags,
    )
    return Record(found.vault, found.item, store(writer, str(found.version.body["id"]), SECRET_VERSIONS, after))


def _described(sent: SetSecret, now: float, before: Attributes | None) -> SecretVersion:
    attributes = lifecycle.new_attributes(sent.attributes, now, before)
    return SecretVersion(attributes, _content_type(sent.content_type), lifecycle.checked_tags(sent.tags))


def _content_type(text: str | None) -> str | None:
    if text is not None and len(text) > MAX_CONTENT_TYPE:
        raise bad_parameter(f"Property contentType is longer than {MAX_CONTENT_TYPE} characters.", "contentType")
    return text


def _sealed(version: Document) -> bytes:
    held = version.private.get(SEALED)
    if held is None:
        raise Fault(FaultKind.UNAVAILABLE, "The secret's value is not there.")
    return base64.b64decode(held)
