"""What a vault can be asked about keys. Source: contracts, control-plane sections 6.1, 6.2 and 6.4."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.material import KeyAnswer, KeyRequest, Use
from stockade.keys.stored import StoredKey, key_of
from stockade.policy.snapshot import VaultVersionPolicy
from stockade.storage.documents import State
from stockade.vault import lifecycle, rotation_policy
from stockade.vault.asked import RESTORE_LIMIT, Asked, Operation, Shop, page_body, page_of
from stockade.vault.destruction import SOFTWARE
from stockade.vault.documents import item_of, key_version_of
from stockade.vault.keys import CreateKey, ImportKey, UpdateKey
from stockade.vault.lifecycle import Record
from stockade.vault.wire import bad_parameter, decoded, encoded, forbidden, read_body

MAX_RANDOM: Final = 128
"""Bytes of one `rng`. Source: Key Vault's limit."""
_WORDS: Final[dict[Use, str]] = {
    "encrypt": "encrypt",
    "decrypt": "decrypt",
    "sign": "sign",
    "verify": "verify",
    "wrap": "wrapKey",
    "unwrap": "unwrapKey",
}
"""The `key_ops` word of each use."""
_UNDOING: Final = frozenset({"decrypt", "unwrap", "verify"})
"""What still works outside nbf and exp."""


class SentUse(msgspec.Struct):
    """The body of encrypt, decrypt, wrapkey, unwrapkey, sign and verify; values base64url."""

    alg: str | None = None
    value: str | None = None
    digest: str | None = None
    iv: str | None = None
    aad: str | None = None
    tag: str | None = None

    def __repr__(self) -> str:
        return "SentUse(***)"


class SentValue(msgspec.Struct):
    """The body of `restore`."""

    value: str | None = None


class SentCount(msgspec.Struct):
    """The body of `rng`."""

    count: int | None = None


def bundle(found: Record, base: str) -> dict[str, Any]:
    """Return a key as clients see it."""
    version, held = key_version_of(found.version), _public(found)
    jwk: dict[str, Any] = {
        "kid": f"{base}/keys/{found.name}/{found.version.name}",
        "kty": version.type,
        "key_ops": list(version.operations),
    }
    if version.curve is not None:
        jwk |= {"crv": version.curve}
    for member in ("n", "e", "x", "y"):
        value = getattr(held.public, member)
        if value is not None:
            jwk[member] = encoded(value)
    shown = {"key": jwk, "attributes": _attributes(found, held)}
    return {**shown, "tags": version.tags} if version.tags else shown


def entry(found: Record, base: str, *, version: bool = False) -> dict[str, Any]:
    """Return a key as lists show it. version: one version of it."""
    described = key_version_of(found.version)
    kid = f"{base}/keys/{found.name}" + (f"/{found.version.name}" if version else "")
    shown = {"kid": kid, "attributes": _attributes(found, _public(found))}
    return {**shown, "tags": described.tags} if described.tags else shown


def _attributes(found: Record, held: StoredKey) -> dict[str, Any]:
    shown = lifecycle.shown_attributes(key_version_of(found.version).attributes, found.vault)
    return {**shown, "exportable": False, "hsmPlatform": "0" if held.provider == SOFTWARE else "2"}


def _public(found: Record) -> StoredKey:
    held = key_of(found.version.private)
    if held is None:
        raise Fault(FaultKind.UNAVAILABLE, "The key's material is not there.")
    return held


# Keeping keys.


def _create(shop: Shop, asked: Asked) -> dict[str, Any]:
    sent = read_body(asked.content, CreateKey)
    return bundle(shop.keys.create(asked.vault.id, asked.name, sent, asked.evidence, asked.asked_by), asked.base)


def _import(shop: Shop, asked: Asked) -> dict[str, Any]:
    sent = read_body(asked.content, ImportKey)
    return bundle(shop.keys.take(asked.vault.id, asked.name, sent, asked.evidence, asked.asked_by), asked.base)


def _rotate(shop: Shop, asked: Asked) -> dict[str, Any]:
    return bundle(shop.keys.rotate(asked.vault.id, asked.name, asked.evidence, asked.asked_by), asked.base)


def _update(shop: Shop, asked: Asked) -> dict[str, Any]:
    sent = read_body(asked.content, UpdateKey)
    return bundle(shop.keys.update(asked.vault.id, asked.name, asked.version, sent), asked.base)


def _get(shop: Shop, asked: Asked) -> dict[str, Any]:
    with shop.database.read() as reader:
        return bundle(lifecycle.record(reader, asked.vault.id, "keys", asked.name, asked.version), asked.base)


def _versions(shop: Shop, asked: Asked) -> dict[str, Any]:
    after, size = page_of(asked)
    with shop.database.read() as reader:
        found, rest = lifecycle.versions_page(reader, asked.vault.id, "keys", asked.name, after, size)
    values = [entry(one, asked.base, version=True) for one in found]
    return page_body(asked, values, rest, f"keys/{asked.name}/versions")


def _list(shop: Shop, asked: Asked) -> dict[str, Any]:
    after, size = page_of(asked)
    with shop.database.read() as reader:
        found, rest = lifecycle.items_page(reader, asked.vault.id, "keys", after, size, State.LIVE, asked.now)
    return page_body(asked, [entry(one, asked.base) for one in found], rest, "keys")


def _back_up(shop: Shop, asked: Asked) -> dict[str, Any]:
    return {"value": encoded(shop.keys.back_up(asked.vault.id, asked.name, asked.evidence, asked.asked_by))}


def _restore(shop: Shop, asked: Asked) -> dict[str, Any]:
    sent = read_body(asked.content, SentValue)
    blob = decoded(_required(sent.value, "value"), "value")
    return bundle(shop.keys.restore(asked.vault.id, blob, asked.evidence, asked.asked_by), asked.base)


def _delete(shop: Shop, asked: Asked) -> dict[str, Any]:
    with shop.database.write() as writer:
        found = lifecycle.record(writer, asked.vault.id, "keys", asked.name)
        return _deleted(lifecycle.delete(writer, found, asked.now), asked.base)


def _get_deleted(shop: Shop, asked: Asked) -> dict[str, Any]:
    with shop.database.read() as reader:
        return _deleted(lifecycle.deleted_record(reader, asked.vault.id, "keys", asked.name, asked.now), asked.base)


def _list_deleted(shop: Shop, asked: Asked) -> dict[str, Any]:
    after, size = page_of(asked)
    with shop.database.read() as reader:
        found, rest = lifecycle.items_page(reader, asked.vault.id, "keys", after, size, State.SOFT_DELETED, asked.now)
    values = [{**entry(one, asked.base), **lifecycle.shown_deletion(one.item, asked.base, "keys")} for one in found]
    return page_body(asked, values, rest, "deletedkeys")


def _recover(shop: Shop, asked: Asked) -> dict[str, Any]:
    with shop.database.write() as writer:
        found = lifecycle.deleted_record(writer, asked.vault.id, "keys", asked.name, asked.now)
        return bundle(lifecycle.recover(writer, found), asked.base)


def _purge(shop: Shop, asked: Asked) -> None:
    with shop.database.write() as writer:
        found = lifecycle.deleted_record(writer, asked.vault.id, "keys", asked.name, asked.now)
        lifecycle.purge(writer, found, asked.now)


def _deleted(found: Record, base: str) -> dict[str, Any]:
    return {**bundle(found, base), **lifecycle.shown_deletion(found.item, base, "keys")}


def _get_rotation(shop: Shop, asked: Asked) -> dict[str, Any]:
    with shop.database.read() as reader:
        item = item_of(lifecycle.live_item(reader, asked.vault.id, "keys", asked.name))
    return rotation_policy.shown(item.rotation, f"{asked.base}/keys/{asked.name}/rotationpolicy")


def _set_rotation(shop: Shop, asked: Asked) -> dict[str, Any]:
    sent = read_body(asked.content, rotation_policy.SentPolicy)
    policy = shop.keys.set_rotation(asked.vault.id, asked.name, sent)
    return rotation_policy.shown(policy, f"{asked.base}/keys/{asked.name}/rotationpolicy")


# Using keys.


async def used(shop: Shop, asked: Asked, use: Use) -> dict[str, Any]:
    """Use a key, on the event loop."""
    version = _usable(asked, use)
    request = _request(read_body(asked.content, SentUse), use)
    answer = await shop.async_broker.use_key(version.id, request, asked.evidence, asked.asked_by)
    return _shown_answer(asked, version, use, answer)


def _use(shop: Shop, asked: Asked) -> dict[str, Any]:
    use = asked.operation.use
    assert use is not None
    version = _usable(asked, use)
    request = _request(read_body(asked.content, SentUse), use)
    answer = shop.broker.use_key(version.id, request, asked.evidence, asked.asked_by)
    return _shown_answer(asked, version, use, answer)


def _shown_answer(asked: Asked, version: VaultVersionPolicy, use: Use, answer: KeyAnswer) -> dict[str, Any]:
    if use == "verify":
        return {"value": answer.valid is True}
    kid = f"{asked.base}/keys/{asked.name}/{version.version}"
    found: dict[str, Any] = {"kid": kid, "value": encoded(answer.value)}
    found |= {} if answer.iv is None else {"iv": encoded(answer.iv)}
    found |= {} if answer.tag is None else {"tag": encoded(answer.tag)}
    return found


def _usable(asked: Asked, use: Use) -> VaultVersionPolicy:
    """Return the version that is to be used; Fault(NOT_FOUND), Fault(PERMISSION_DENIED) for one that may not be used so now."""
    item_id = f"{asked.vault.id}/keys/{asked.name.lower()}"
    version: VaultVersionPolicy | None
    if asked.version:
        version = asked.snapshot.only("vault-version", f"{item_id}/versions/{asked.version}")
    else:
        versions: tuple[VaultVersionPolicy, ...] = asked.snapshot.all("vault-versions-of", item_id)
        version = max(versions, key=lambda one: (one.created, one.version), default=None)
    if version is None:
        raise lifecycle.not_found("keys", asked.name, asked.version)
    word = _WORDS[use]
    if not version.enabled:
        raise forbidden(f"Operation {word} is not allowed on a disabled key.", "KeyDisabled")
    if word not in version.operations:
        raise forbidden(f"Operation {word} is not permitted on this key.", "KeyOperationForbidden")
    if use not in _UNDOING:
        if version.not_before is not None and version.not_before > asked.now:
            raise forbidden(f"Operation {word} is not allowed on a key that is not yet valid.", "KeyNotYetValid")
        if version.expires is not None and version.expires <= asked.now:
            raise forbidden(f"Operation {word} is not allowed on an expired key.", "KeyExpired")
    return version


def _request(sent: SentUse, use: Use) -> KeyRequest:
    algorithm = _required(sent.alg, "alg")
    value = decoded(_required(sent.value, "value"), "value")
    signature: bytes | None = None
    if use == "verify":
        value, signature = decoded(_required(sent.digest, "digest"), "digest"), value
    iv, aad, tag = (
        decoded(text, name) if text is not None else None
        for name, text in (("iv", sent.iv), ("aad", sent.aad), ("tag", sent.tag))
    )
    return KeyRequest(use=use, algorithm=algorithm, value=value, signature=signature, iv=iv, aad=aad, tag=tag)


def _required(text: str | None, name: str) -> str:
    if text is None:
        raise bad_parameter(f"Property {name} is required.", name)
    return text


def _release(shop: Shop, asked: Asked) -> dict[str, Any]:
    message = "Keys are never released here: this platform verifies no attestations, so no release policy could be met."
    raise forbidden(message, "KeyReleaseNotPermitted")


def _attestation(shop: Shop, asked: Asked) -> dict[str, Any]:
    message = "There is no attestation of keys here: whoever holds them does not give one."
    raise Fault(FaultKind.UNSUPPORTED, message)


def _random(shop: Shop, asked: Asked) -> dict[str, Any]:
    count = read_body(asked.content, SentCount).count
    if count is None or not 1 <= count <= MAX_RANDOM:
        raise bad_parameter(f"Property count is a number from 1 to {MAX_RANDOM}.", "count")
    return {"value": encoded(shop.broker.random(shop.settings.vault.hsm_provider, count))}


_ONE, _VERSION, _GONE = ("keys", "{name}"), ("keys", "{name}", "{version}"), ("deletedkeys", "{name}")

OPERATIONS: Final = (
    Operation("KeyCreate", "POST", (*_ONE, "create"), "keys/create", _create, changes=True),
    Operation("KeyImport", "PUT", _ONE, "keys/import", _import, changes=True),
    Operation("KeyRotate", "POST", (*_ONE, "rotate"), "keys/rotate", _rotate, changes=True),
    Operation("KeyRestore", "POST", ("keys", "restore"), "keys/restore", _restore, True, RESTORE_LIMIT),
    Operation("KeyBackup", "POST", (*_ONE, "backup"), "keys/backup", _back_up, changes=True),
    Operation("KeyListVersions", "GET", (*_ONE, "versions"), "keys/list", _versions),
    Operation("KeyRotationPolicyGet", "GET", (*_ONE, "rotationpolicy"), "keys/getrotationpolicy", _get_rotation),
    Operation(
        "KeyRotationPolicySet", "PUT", (*_ONE, "rotationpolicy"), "keys/setrotationpolicy", _set_rotation, changes=True
    ),
    Operation("KeyGetAttestation", "GET", (*_VERSION, "attestation"), "keys/get", _attestation),
    Operation("KeyEncrypt", "POST", (*_VERSION, "encrypt"), "keys/encrypt", _use, use="encrypt"),
    Operation("KeyDecrypt", "POST", (*_VERSION, "decrypt"), "keys/decrypt", _use, use="decrypt"),
    Operation("KeySign", "POST", (*_VERSION, "sign"), "keys/sign", _use, use="sign"),
    Operation("KeyVerify", "POST", (*_VERSION, "verify"), "keys/verify", _use, use="verify"),
    Operation("KeyWrap", "POST", (*_VERSION, "wrapkey"), "keys/wrapkey", _use, use="wrap"),
    Operation("KeyUnwrap", "POST", (*_VERSION, "unwrapkey"), "keys/unwrapkey", _use, use="unwrap"),
    Operation("KeyRelease", "POST", (*_VERSION, "release"), "keys/release", _release),
    Operation("KeyGet", "GET", _VERSION, "keys/get", _get),
    Operation("KeyGet", "GET", _ONE, "keys/get", _get),
    Operation("KeyUpdate", "PATCH", _VERSION, "keys/update", _update, changes=True),
    Operation("KeyUpdate", "PATCH", _ONE, "keys/update", _update, changes=True),
    Operation("KeyDelete", "DELETE", _ONE, "keys/delete", _delete, changes=True),
    Operation("KeyList", "GET", ("keys",), "keys/list", _list),
    Operation("KeyListDeleted", "GET", ("deletedkeys",), "keys/list", _list_deleted),
    Operation("KeyGetDeleted", "GET", _GONE, "keys/get", _get_deleted),
    Operation("KeyRecover", "POST", (*_GONE, "recover"), "keys/recover", _recover, changes=True),
    Operation("KeyPurge", "DELETE", _GONE, "keys/purge", _purge, changes=True),
    Operation("GetRandomBytes", "POST", ("rng",), "rng", _random),
)
"""Paths with more literal segments stand before those that would capture them."""
