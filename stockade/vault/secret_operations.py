"""What a vault can be asked about secrets. Source: contracts, control-plane sections 6.1 and 6.2."""

from __future__ import annotations

from typing import Any, Final

from stockade.storage.documents import State
from stockade.vault import lifecycle
from stockade.vault.asked import RESTORE_LIMIT, Asked, Operation, Shop, page_body, page_of
from stockade.vault.documents import secret_version_of
from stockade.vault.key_operations import SentValue
from stockade.vault.lifecycle import Record
from stockade.vault.secrets import SetSecret, UpdateSecret
from stockade.vault.wire import bad_parameter, decoded, encoded, read_body


def described(found: Record, base: str, *, version: bool) -> dict[str, Any]:
    """Return a secret as clients see it, without its value. version: its id names the version."""
    kept = secret_version_of(found.version)
    shown: dict[str, Any] = {
        "id": f"{base}/secrets/{found.name}" + (f"/{found.version.name}" if version else ""),
        "attributes": lifecycle.shown_attributes(kept.attributes, found.vault),
    }
    shown |= {} if kept.content_type is None else {"contentType": kept.content_type}
    return {**shown, "tags": kept.tags} if kept.tags else shown


def _set(shop: Shop, asked: Asked) -> dict[str, Any]:
    sent = read_body(asked.content, SetSecret)
    found = shop.secrets.set(asked.vault.id, asked.name, sent)
    return {"value": sent.value, **described(found, asked.base, version=True)}


def _get(shop: Shop, asked: Asked) -> dict[str, Any]:
    with shop.database.read() as reader:
        found = lifecycle.record(reader, asked.vault.id, "secrets", asked.name, asked.version)
    value = shop.secrets.value(found, asked.evidence, asked.asked_by)
    return {"value": value.reveal_text(), **described(found, asked.base, version=True)}


def _update(shop: Shop, asked: Asked) -> dict[str, Any]:
    sent = read_body(asked.content, UpdateSecret)
    found = shop.secrets.update(asked.vault.id, asked.name, asked.version, sent)
    return described(found, asked.base, version=True)


def _versions(shop: Shop, asked: Asked) -> dict[str, Any]:
    after, size = page_of(asked)
    with shop.database.read() as reader:
        found, rest = lifecycle.versions_page(reader, asked.vault.id, "secrets", asked.name, after, size)
    values = [described(one, asked.base, version=True) for one in found]
    return page_body(asked, values, rest, f"secrets/{asked.name}/versions")


def _list(shop: Shop, asked: Asked) -> dict[str, Any]:
    after, size = page_of(asked)
    with shop.database.read() as reader:
        found, rest = lifecycle.items_page(reader, asked.vault.id, "secrets", after, size, State.LIVE, asked.now)
    return page_body(asked, [described(one, asked.base, version=False) for one in found], rest, "secrets")


def _back_up(shop: Shop, asked: Asked) -> dict[str, Any]:
    return {"value": encoded(shop.secrets.back_up(asked.vault.id, asked.name, asked.evidence, asked.asked_by))}


def _restore(shop: Shop, asked: Asked) -> dict[str, Any]:
    text = read_body(asked.content, SentValue).value
    if text is None:
        raise bad_parameter("Property value is required.", "value")
    blob = decoded(text, "value")
    found = shop.secrets.restore(asked.vault.id, blob, asked.evidence, asked.asked_by)
    return described(found, asked.base, version=True)


def _delete(shop: Shop, asked: Asked) -> dict[str, Any]:
    with shop.database.write() as writer:
        found = lifecycle.record(writer, asked.vault.id, "secrets", asked.name)
        return _deleted(lifecycle.delete(writer, found, asked.now), asked.base)


def _get_deleted(shop: Shop, asked: Asked) -> dict[str, Any]:
    with shop.database.read() as reader:
        found = lifecycle.deleted_record(reader, asked.vault.id, "secrets", asked.name, asked.now)
    return _deleted(found, asked.base)


def _list_deleted(shop: Shop, asked: Asked) -> dict[str, Any]:
    after, size = page_of(asked)
    state = State.SOFT_DELETED
    with shop.database.read() as reader:
        found, rest = lifecycle.items_page(reader, asked.vault.id, "secrets", after, size, state, asked.now)
    return page_body(asked, [_deleted(one, asked.base, version=False) for one in found], rest, "deletedsecrets")


def _recover(shop: Shop, asked: Asked) -> dict[str, Any]:
    with shop.database.write() as writer:
        found = lifecycle.deleted_record(writer, asked.vault.id, "secrets", asked.name, asked.now)
        return described(lifecycle.recover(writer, found), asked.base, version=True)


def _purge(shop: Shop, asked: Asked) -> None:
    with shop.database.write() as writer:
        found = lifecycle.deleted_record(writer, asked.vault.id, "secrets", asked.name, asked.now)
        lifecycle.purge(writer, found, asked.now)


def _deleted(found: Record, base: str, *, version: bool = True) -> dict[str, Any]:
    return {**described(found, base, version=version), **lifecycle.shown_deletion(found.item, base, "secrets")}


_ONE, _VERSION, _GONE = ("secrets", "{name}"), ("secrets", "{name}", "{version}"), ("deletedsecrets", "{name}")

OPERATIONS: Final = (
    Operation("SecretSet", "PUT", _ONE, "secrets/set", _set, changes=True),
    Operation("SecretRestore", "POST", ("secrets", "restore"), "secrets/restore", _restore, True, RESTORE_LIMIT),
    Operation("SecretBackup", "POST", (*_ONE, "backup"), "secrets/backup", _back_up, changes=True),
    Operation("SecretListVersions", "GET", (*_ONE, "versions"), "secrets/list", _versions),
    Operation("SecretGet", "GET", _VERSION, "secrets/get", _get),
    Operation("SecretGet", "GET", _ONE, "secrets/get", _get),
    Operation("SecretUpdate", "PATCH", _VERSION, "secrets/update", _update, changes=True),
    Operation("SecretUpdate", "PATCH", _ONE, "secrets/update", _update, changes=True),
    Operation("SecretDelete", "DELETE", _ONE, "secrets/delete", _delete, changes=True),
    Operation("SecretList", "GET", ("secrets",), "secrets/list", _list),
    Operation("SecretListDeleted", "GET", ("deletedsecrets",), "secrets/list", _list_deleted),
    Operation("SecretGetDeleted", "GET", _GONE, "secrets/get", _get_deleted),
    Operation("SecretRecover", "POST", (*_GONE, "recover"), "secrets/recover", _recover, changes=True),
    Operation("SecretPurge", "DELETE", _GONE, "secrets/purge", _purge, changes=True),
)
"""Paths with more literal segments stand before those that would capture them."""
