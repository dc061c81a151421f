"""What keys and secrets have in common: finding them, pages, attributes, soft deletion, recovery and purge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, State
from stockade.vault import vaults
from stockade.vault.documents import (
    DAY_S,
    ITEM_TYPES,
    MAX_RETENTION_DAYS,
    VERSION_TYPES,
    Attributes,
    Collection,
    is_expired,
    item_of,
    purge_protected,
    retention_s,
)
from stockade.vault.wire import bad_parameter, forbidden

MAX_PAGE: Final = 25
"""Entries of one page, and how many there are when nobody says. Source: Key Vault's maxresults."""
MAX_TAGS: Final = 15
MAX_TAG: Final = 256
MAX_TIME: Final = 253_402_300_799
"""The last second of the year 9999."""
APART: Final = 0.001
"""Seconds by which a version is younger than the one before, whatever the clock does."""


class SentTimes(msgspec.Struct):
    """Attributes as they are sent; what only the server writes is ignored."""

    enabled: bool | None = None
    nbf: int | float | None = None
    exp: int | float | None = None
    exportable: bool | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One version of a key or secret, with what it lies in."""

    vault: Document
    item: Document
    version: Document

    @property
    def name(self) -> str:
        return self.item.name


def live_vault(reader: Reader, vault_id: str) -> Document:
    """Return a vault's document; Fault(NOT_FOUND) when it has been deleted meanwhile."""
    found = reader.get(vault_id)
    if found is None:
        raise Fault(FaultKind.NOT_FOUND, "The vault does not exist any more.", code="VaultNotFound")
    return found


def live_item(reader: Reader, vault_id: str, collection: Collection, name: str) -> Document:
    """Return a key or secret; Fault(NOT_FOUND)."""
    found = reader.get(f"{vault_id}/{collection}/{name}")
    if found is None:
        raise not_found(collection, name)
    return found


def record(reader: Reader, vault_id: str, collection: Collection, name: str, version: str = "") -> Record:
    """Return one version, "" the newest; Fault(NOT_FOUND)."""
    vault, item = live_vault(reader, vault_id), live_item(reader, vault_id, collection, name)
    found = reader.get(f"{item.id}/versions/{version or item_of(item).current}")
    if found is None:
        raise not_found(collection, name, version)
    return Record(vault, item, found)


def deleted_record(reader: Reader, vault_id: str, collection: Collection, name: str, now: float) -> Record:
    """Return what was deleted and can be recovered; Fault(NOT_FOUND)."""
    vault = live_vault(reader, vault_id)
    item = reader.get(f"{vault_id}/{collection}/{name}", State.SOFT_DELETED)
    if item is None or is_expired(item, now):
        what = collection[:-1]
        raise Fault(FaultKind.NOT_FOUND, f"Deleted {what.capitalize()} not found: {name}.", code=_missing(collection))
    found = reader.get(f"{item.id}/versions/{item_of(item).current}", State.SOFT_DELETED)
    assert found is not None
    return Record(vault, item, found)


def holder(reader: Reader, vault_id: str, collection: Collection, name: str, now: float) -> Document | None:
    """Return the live key or secret of a name, None when there is none; Fault(CONFLICT) while a deleted one holds it."""
    found = reader.get(f"{vault_id}/{collection}/{name}", State.LIVE, State.SOFT_DELETED)
    if found is None or found.state is State.LIVE:
        return found
    if is_expired(found, now):
        return None
    what = collection[:-1]
    message = (
        f"{what.capitalize()} {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, "
        f"the {what} can only be recovered or purged."
    )
    raise Fault(FaultKind.CONFLICT, message, details={"inner": "ObjectIsDeletedButRecoverable"})


def claim_name(writer: Writer, vault_id: str, collection: Collection, name: str, now: float) -> Document | None:
    """Do what `holder` does, and clear away what is left of a deleted one whose time is up."""
    found = holder(writer, vault_id, collection, name, now)
    left = writer.get(f"{vault_id}/{collection}/{name}", State.SOFT_DELETED) if found is None else None
    if left is not None:
        vaults.purge_item(writer, left)
    return found


def require_absent(writer: Writer, vault_id: str, collection: Collection, name: str, now: float) -> None:
    """Refuse where a name is taken by a live key or secret, or by a deleted one; Fault(CONFLICT)."""
    if claim_name(writer, vault_id, collection, name, now) is not None:
        what = collection[:-1]
        message = f"There is a {what} named {name} in the vault already."
        raise Fault(FaultKind.CONFLICT, message, details={"inner": f"{what.capitalize()}AlreadyExists"})


def delete(writer: Writer, found: Record, now: float) -> Record:
    """Take a key or secret out of force with all its versions, recoverable until its time is up."""
    purge_at = now + retention_s(found.vault)
    for version in writer.below(found.item.id):
        writer.move(version, State.SOFT_DELETED, purge_at=purge_at)
    item = _restate(writer, found.item, {**found.item.private, "deletedAt": now}, State.SOFT_DELETED, purge_at)
    return Record(found.vault, item, found.version)


def recover(writer: Writer, found: Record) -> Record:
    """Put a deleted key or secret back in force with all its versions."""
    for version in writer.below(found.item.id, State.SOFT_DELETED):
        writer.move(version, State.LIVE)
    private = {name: value for name, value in found.item.private.items() if name != "deletedAt"}
    return Record(found.vault, _restate(writer, found.item, private, State.LIVE, None), found.version)


def purge(writer: Writer, found: Record, now: float) -> None:
    """Remove a deleted key or secret for good; Fault(PERMISSION_DENIED) under purge protection."""
    if purge_protected(found.vault):
        message = (
            'Operation "purge" is not allowed because purge protection is enabled for this vault. It will be purged by itself '
            f"at {iso(found.item.purge_at or now)}."
        )
        raise forbidden(message, "ForbiddenByPolicy")
    vaults.purge_item(writer, found.item)


def newest_of(reader: Reader, item: Document) -> Document:
    """Return a live item's newest version."""
    found = reader.get(f"{item.id}/versions/{item_of(item).current}")
    assert found is not None
    return found


def items_page(
    reader: Reader, vault_id: str, collection: Collection, after: str, size: int, state: State, now: float
) -> tuple[list[Record], str]:
    """Return one page of keys or secrets by name, each with its newest version, and what the next page begins after ("" at the end)."""
    vault = live_vault(reader, vault_id)
    place = f"{vault_id}/{collection}/"
    found = reader.list(ITEM_TYPES[collection], under=place, state=state, after=place + after, limit=size + 1)
    records = []
    for item in found[:size]:
        version = reader.get(f"{item.id}/versions/{item_of(item).current}", state)
        if version is not None and not is_expired(item, now):
            records.append(Record(vault, item, version))
    return records, found[size - 1].id.rsplit("/", 1)[-1] if len(found) > size else ""


def versions_page(
    reader: Reader, vault_id: str, collection: Collection, name: str, after: str, size: int
) -> tuple[list[Record], str]:
    """Return one page of an item's versions, and what the next page begins after."""
    vault, item = live_vault(reader, vault_id), live_item(reader, vault_id, collection, name)
    place = f"{item.id}/versions/"
    found = reader.list(VERSION_TYPES[collection], under=place, after=place + after, limit=size + 1)
    records = [Record(vault, item, version) for version in found[:size]]
    return records, found[size - 1].id.rsplit("/", 1)[-1] if len(found) > size else ""


def new_attributes(sent: SentTimes | None, now: float, newest: Attributes | None) -> Attributes:
    """Return the attributes of a version that is made now. newest: of the one before it."""
    created = now if newest is None else max(now, newest.created + APART)
    return changed_attributes(sent, Attributes(created, created), created)


def changed_attributes(sent: SentTimes | None, before: Attributes, now: float) -> Attributes:
    """Return attributes as an update leaves them: what it does not name stays. Fault(INVALID) for a validity that ends before it begins."""
    times = sent or SentTimes()
    if times.exportable:
        raise bad_parameter("Exportable keys need a release policy, and keys are never released here.", "exportable")
    nbf, exp = _instant(times.nbf, "nbf", before.nbf), _instant(times.exp, "exp", before.exp)
    if nbf is not None and exp is not None and exp <= nbf:
        raise bad_parameter("The expiry (exp) has to be later than the time before which it is not valid (nbf).", "exp")
    enabled = before.enabled if times.enabled is None else times.enabled
    return Attributes(before.created, now, enabled, nbf, exp)


def checked_tags(tags: Mapping[str, Any] | None) -> dict[str, str]:
    """Return tags as they are stored; Fault(INVALID). Source: contracts, control-plane section 6.2 (15 tags of 256 and 256 characters)."""
    found = dict(tags or {})
    if len(found) > MAX_TAGS or any(len(part) > MAX_TAG for pair in found.items() for part in pair):
        raise bad_parameter(
            f"There are at most {MAX_TAGS} tags, with names and values of {MAX_TAG} characters.", "tags"
        )
    return found


def shown_attributes(attributes: Attributes, vault: Document) -> dict[str, Any]:
    """Return attributes as clients see them, with what the vault says of recovery."""
    days = round(retention_s(vault) / DAY_S)
    level = ("" if days == MAX_RETENTION_DAYS else "Customized") + "Recoverable"
    found: dict[str, Any] = {"enabled": attributes.enabled}
    found |= {} if attributes.nbf is None else {"nbf": attributes.nbf}
    found |= {} if attributes.exp is None else {"exp": attributes.exp}
    return {
        **found,
        "created": int(attributes.created),
        "updated": int(attributes.updated),
        "recoveryLevel": level if purge_protected(vault) else f"{level}+Purgeable",
        "recoverableDays": days,
    }


def shown_deletion(item: Document, base: str, collection: Collection) -> dict[str, Any]:
    """Return what a deleted item shows beside itself."""
    return {
        "recoveryId": f"{base}/deleted{collection}/{item.name}",
        "deletedDate": int(item.private["deletedAt"]),
        "scheduledPurgeDate": int(item.purge_at or 0),
    }


def not_found(collection: Collection, name: str, version: str = "") -> Fault:
    """Return the 404 of a key or secret, or of one version of it."""
    what = f"{name}/{version}" if version else name
    message = f"A {collection[:-1]} with (name/id) {what} was not found in this key vault."
    return Fault(FaultKind.NOT_FOUND, message, code=_missing(collection))


def _missing(collection: Collection) -> str:
    return "KeyNotFound" if collection == "keys" else "SecretNotFound"


def _instant(value: float | None, name: str, before: int | None) -> int | None:
    if value is None:
        return before
    if not 0 <= value <= MAX_TIME:
        raise bad_parameter(f"Property {name} is no time in seconds since 1970.", name)
    return int(value)


def _restate(
    writer: Writer, item: Document, private: Mapping[str, Any], state: State, purge_at: float | None
) -> Document:
    return writer.put(
        item.id,
        item.type,
        item.body,
        private,
        subscription=item.subscription,
        resource_group=item.resource_group,
        state=state,
        purge_at=purge_at,
    )
