"""Keys: creation, import, rotation, change, backup and restore. What they share with secrets is in `lifecycle.py`.

Material is made by the key broker, outside any transaction, bound to the id of the version it is for; the version is stored afterwards, and where
that fails the material is written down to be destroyed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import msgspec

from stockade.kernel.clock import Clock
from stockade.kernel.evidence import Evidence
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.broker import Broker
from stockade.keys.material import CURVES, RSA_SIZES, Curve, KeySpec, KeyType
from stockade.keys.providers.provider import ProviderKey
from stockade.keys.stored import KEY, StoredKey, key_of
from stockade.policy.key_rotation import RotationPolicy
from stockade.settings import Settings
from stockade.storage.database import Database, Writer
from stockade.storage.documents import Document
from stockade.vault import backup, destruction, lifecycle, rotation_policy
from stockade.vault.documents import (
    KEY_VERSIONS,
    KEYS,
    Item,
    KeyVersion,
    item_of,
    key_version_of,
    new_version,
    store,
)
from stockade.vault.lifecycle import Record, SentTimes
from stockade.vault.wire import bad_parameter, decoded

RSA_OPERATIONS: Final = ("encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey")
EC_OPERATIONS: Final = ("sign", "verify")
PRIVATE_MEMBERS: Final = ("n", "e", "d", "dp", "dq", "qi", "p", "q", "x", "y")


class CreateKey(msgspec.Struct):
    """The body of `create`."""

    kty: str | None = None
    key_size: int | None = None
    public_exponent: int | None = None
    key_ops: list[str] | None = None
    attributes: SentTimes | None = None
    tags: dict[str, str] | None = None
    crv: str | None = None
    release_policy: object = None


class SentJwk(msgspec.Struct):
    """A private JWK as it is sent; members base64url."""

    kty: str | None = None
    key_ops: list[str] | None = None
    crv: str | None = None
    n: str | None = None
    e: str | None = None
    d: str | None = None
    dp: str | None = None
    dq: str | None = None
    qi: str | None = None
    p: str | None = None
    q: str | None = None
    x: str | None = None
    y: str | None = None
    k: str | None = None
    key_hsm: str | None = None

    def __repr__(self) -> str:
        return "SentJwk(***)"


class ImportKey(msgspec.Struct):
    """The body of an import."""

    key: SentJwk | None = None
    Hsm: bool | None = None
    attributes: SentTimes | None = None
    tags: dict[str, str] | None = None
    release_policy: object = None


class UpdateKey(msgspec.Struct):
    """The body of a PATCH."""

    key_ops: list[str] | None = None
    attributes: SentTimes | None = None
    tags: dict[str, str] | None = None
    release_policy: object = None


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version of a key that is about to be stored. version: 32 hex digits."""

    version: str
    spec: KeySpec
    operations: tuple[str, ...]
    tags: Mapping[str, str]
    times: SentTimes | None


class Keys:
    """The keys of all vaults. vault_id: a lower-case id; name: as the caller spells it. Everything raises Fault as Key Vault does."""

    def __init__(self, settings: Settings, database: Database, broker: Broker, clock: Clock) -> None:
        self._settings, self._database, self._broker, self._clock = settings, database, broker, clock

    def create(self, vault_id: str, name: str, sent: CreateKey, evidence: Evidence, asked_by: str) -> Record:
        """Make a key, or the next version of one."""
        _no_release(sent.release_policy)
        spec = planned_spec(sent.kty, sent.key_size, sent.crv, sent.public_exponent)
        operations = planned_operations(sent.key_ops, spec)
        tags = lifecycle.checked_tags(sent.tags)
        lifecycle.new_attributes(sent.attributes, self._clock.now(), None)
        provider = self._provider(vault_id, name, spec)
        planned = NewVersion(new_version(), spec, operations, tags, sent.attributes)
        version_id = version_id_of(vault_id, name, planned)
        made = self._broker.make_key(provider, spec, version_id, evidence, asked_by)
        return self._add(vault_id, name, planned, provider, made)

    def take(self, vault_id: str, name: str, sent: ImportKey, evidence: Evidence, asked_by: str) -> Record:
        """Take in a key from outside, as the first or next version."""
        _no_release(sent.release_policy)
        jwk = sent.key
        if jwk is None:
            raise bad_parameter("Property key is required.", "key")
        if jwk.key_hsm is not None:
            message = "Keys wrapped for an HSM (key_hsm) cannot be imported here; send the private JWK."
            raise Fault(FaultKind.UNSUPPORTED, message, target="key.key_hsm")
        members = {
            member: decoded(text, f"key.{member}")
            for member in PRIVATE_MEMBERS
            if (text := getattr(jwk, member)) is not None
        }
        kind = jwk.kty
        if sent.Hsm and kind in ("RSA", "EC"):
            kind += "-HSM"
        size = len(members.get("n", b"").lstrip(b"\0")) * 8
        spec = planned_spec(kind, size if (kind or "").startswith("RSA") else None, jwk.crv, None)
        operations = planned_operations(jwk.key_ops, spec)
        tags = lifecycle.checked_tags(sent.tags)
        lifecycle.new_attributes(sent.attributes, self._clock.now(), None)
        provider = self._provider(vault_id, name, spec)
        private = {member: Secret(value) for member, value in members.items()}
        planned = NewVersion(new_version(), spec, operations, tags, sent.attributes)
        version_id = version_id_of(vault_id, name, planned)
        made = self._broker.take_key(provider, spec, private, version_id, evidence, asked_by)
        return self._add(vault_id, name, planned, provider, made)

    def rotate(
        self, vault_id: str, name: str, evidence: Evidence | None, asked_by: str, *, only_after: str = ""
    ) -> Record:
        """Make the next version of a key like its newest. evidence None: its rotation policy wants it.

        only_after: do nothing unless that version is still the newest.
        """
        with self._database.read() as reader:
            found = lifecycle.record(reader, vault_id, "keys", name)
            item = item_of(found.item)
        if only_after and item.current != only_after:
            return found
        newest = key_version_of(found.version)
        exp = rotation_policy.expiry_of_next(item.rotation, self._clock.now())
        spec = _spec_of(newest)
        provider = self._provider(vault_id, name, spec)
        planned = NewVersion(new_version(), spec, newest.operations, dict(newest.tags), SentTimes(exp=exp))
        version_id = version_id_of(vault_id, name, planned)
        made = self._broker.make_key(provider, spec, version_id, evidence, asked_by)
        return self._add(vault_id, name, planned, provider, made, only_after=only_after)

    def update(self, vault_id: str, name: str, version: str, sent: UpdateKey) -> Record:
        """Change what is not the key itself; what is not named stays."""
        _no_release(sent.release_policy)
        with self._database.write() as writer:
            found = lifecycle.record(writer, vault_id, "keys", name, version)
            before = key_version_of(found.version)
            now = self._clock.now()
            after = KeyVersion(
                attributes=lifecycle.changed_attributes(sent.attributes, before.attributes, now),
                type=before.type,
                size=before.size,
                operations=planned_operations(sent.key_ops, _spec_of(before))
                if sent.key_ops is not None
                else before.operations,
                curve=before.curve,
                tags=lifecycle.checked_tags(sent.tags) if sent.tags is not None else before.tags,
            )
            return Record(found.vault, found.item, store(writer, str(found.version.body["id"]), KEY_VERSIONS, after))

    def set_rotation(self, vault_id: str, name: str, sent: rotation_policy.SentPolicy) -> RotationPolicy:
        """Give a key its rotation policy."""
        with self._database.write() as writer:
            found = lifecycle.record(writer, vault_id, "keys", name)
            item = item_of(found.item)
            newest = key_version_of(found.version).attributes
            policy = rotation_policy.planned(sent, item.rotation, newest, self._clock.now())
            store(writer, str(found.item.body["id"]), KEYS, Item(item.current, policy, item.notified))
            return policy

    def back_up(self, vault_id: str, name: str, evidence: Evidence, asked_by: str) -> bytes:
        """Return a key with all its versions, sealed."""
        with self._database.read() as reader:
            found = lifecycle.record(reader, vault_id, "keys", name)
            versions = reader.list(KEY_VERSIONS, under=found.item.id, limit=backup.MAX_VERSIONS + 1)
        if len(versions) > backup.MAX_VERSIONS:
            raise bad_parameter(f"Items of more than {backup.MAX_VERSIONS} versions cannot be backed up.")
        item = item_of(found.item)
        kept = []
        for version in versions:
            held = _held(version)
            material = self._broker.back_up_key(version.id, evidence, asked_by)
            kept.append(
                backup.KeyVersionBackup(
                    version.id.rsplit("/", 1)[-1], key_version_of(version), held.provider, held.public, material
                )
            )
        whole = backup.Backup(
            found.vault.subscription, "keys", found.name, item.current, keys=tuple(kept), rotation=item.rotation
        )
        return backup.sealed(self._broker, whole)

    def restore(self, vault_id: str, blob: bytes, evidence: Evidence, asked_by: str) -> Record:
        """Put a backed-up key back, with the versions it had; Fault(CONFLICT) while its name is taken."""
        with self._database.read() as reader:
            vault = lifecycle.live_vault(reader, vault_id)
        whole = backup.opened(self._broker, blob, "keys", vault.subscription)
        arm_id = f"{vault.body['id']}/keys/{whole.name}"
        with self._database.write() as writer:
            lifecycle.require_absent(writer, vault_id, "keys", whole.name, self._clock.now())
        for kept in whole.keys:
            _require_tier(vault, kept.described.type)
        restored: list[tuple[backup.KeyVersionBackup, StoredKey]] = []
        try:
            for kept in whole.keys:
                version_id = f"{arm_id}/versions/{kept.version}".lower()
                made = self._broker.restore_key(kept.provider, kept.material, version_id, evidence, asked_by)
                restored.append((kept, StoredKey(provider=kept.provider, handle=made.handle, public=made.public)))
            with self._database.write() as writer:
                lifecycle.require_absent(writer, vault_id, "keys", whole.name, self._clock.now())
                for kept, held in restored:
                    store(
                        writer,
                        f"{arm_id}/versions/{kept.version}",
                        KEY_VERSIONS,
                        kept.described,
                        {KEY: held.to_private()},
                    )
                store(writer, arm_id, KEYS, Item(whole.current, whole.rotation), {})
                return lifecycle.record(writer, vault_id, "keys", whole.name)
        except Fault:
            self._discard([(held, f"{arm_id}/versions/{kept.version}".lower()) for kept, held in restored])
            raise

    def _provider(self, vault_id: str, name: str, spec: KeySpec) -> str:
        """Return who is to hold a new key; Fault for a vault that cannot have such a key, or whose name is held by a deleted one."""
        with self._database.read() as reader:
            vault = lifecycle.live_vault(reader, vault_id)
            lifecycle.holder(reader, vault_id, "keys", name, self._clock.now())
        return provider_for(self._settings, vault, spec)

    def _add(
        self, vault_id: str, name: str, planned: NewVersion, provider: str, made: ProviderKey, *, only_after: str = ""
    ) -> Record:
        held = StoredKey(provider=provider, handle=made.handle, public=made.public)
        try:
            with self._database.write() as writer:
                if only_after:
                    newest = item_of(lifecycle.live_item(writer, vault_id, "keys", name)).current
                    if newest != only_after:
                        raise Fault(FaultKind.CONFLICT, "The key has got another version meanwhile.")
                return add_version(writer, vault_id, name, planned, held, self._clock.now())
        except Fault:
            self._discard([(held, version_id_of(vault_id, name, planned))])
            raise

    def _discard(self, made: Sequence[tuple[StoredKey, str]]) -> None:
        """Have keys destroyed that were made for versions which then could not be stored."""
        if any(held.provider != destruction.SOFTWARE for held, _ in made):
            with self._database.write() as writer:
                for held, version_id in made:
                    destruction.note_key(writer, held, version_id)


def version_id_of(vault_id: str, name: str, planned: NewVersion) -> str:
    """Return the id that a version will be stored under, which its material is bound to."""
    return f"{vault_id}/keys/{name}/versions/{planned.version}".lower()


def provider_for(settings: Settings, vault: Document, spec: KeySpec) -> str:
    """Return who is to hold a new key of a vault; Fault(INVALID) where the vault cannot have such a key."""
    _require_tier(vault, spec.type)
    return settings.vault.hsm_provider if spec.type.endswith("-HSM") else settings.vault.provider


def add_version(writer: Writer, vault_id: str, name: str, planned: NewVersion, held: StoredKey, now: float) -> Record:
    """Store a version whose material has been made, as the newest of its key; Fault(CONFLICT) while a deleted key has the name."""
    vault = lifecycle.live_vault(writer, vault_id)
    item = lifecycle.claim_name(writer, vault_id, "keys", name, now)
    before = key_version_of(lifecycle.newest_of(writer, item)).attributes if item is not None else None
    arm_id = str(item.body["id"]) if item is not None else f"{vault.body['id']}/keys/{name}"
    spec = planned.spec
    described = KeyVersion(
        attributes=lifecycle.new_attributes(planned.times, now, before),
        type=spec.type,
        size=_bits(spec),
        operations=planned.operations,
        curve=spec.curve,
        tags=dict(planned.tags),
    )
    private = {KEY: held.to_private()}
    stored = store(writer, f"{arm_id}/versions/{planned.version}", KEY_VERSIONS, described, private)
    rotation = item_of(item).rotation if item is not None else None
    return Record(vault, store(writer, arm_id, KEYS, Item(planned.version, rotation)), stored)


def planned_spec(kty: str | None, size: int | None, curve: str | None, exponent: int | None) -> KeySpec:
    """Return what key is asked for; Fault(INVALID) for one that vaults do not have."""
    if kty not in get_args(KeyType):
        raise bad_parameter("Property kty is not one of RSA, RSA-HSM, EC, EC-HSM.", "kty")
    kind: KeyType = kty  # type: ignore[assignment]
    if kind in ("oct", "oct-HSM"):
        raise bad_parameter(f"Keys of type {kind} are kept by managed HSMs, not by vaults.", "kty")
    if kind in ("EC", "EC-HSM"):
        name = curve or "P-256"
        if name not in CURVES:
            raise bad_parameter(f"Property crv is not one of {', '.join(CURVES)}.", "crv")
        found: Curve = name  # type: ignore[assignment]
        return KeySpec(type=kind, curve=found)
    bits = RSA_SIZES[0] if size is None else size
    if bits not in RSA_SIZES:
        raise bad_parameter(f"Property key_size is not one of {', '.join(map(str, RSA_SIZES))}.", "key_size")
    if exponent not in (None, 65537):
        raise bad_parameter("Property public_exponent can be 65537 only.", "public_exponent")
    return KeySpec(type=kind, size=bits)


def planned_operations(asked: Sequence[str] | None, spec: KeySpec) -> tuple[str, ...]:
    """Return what a key may be used for, all that its kind can unless said; Fault(INVALID) for what it cannot."""
    possible = EC_OPERATIONS if spec.curve is not None else RSA_OPERATIONS
    if asked is None:
        return possible
    for operation in asked:
        if operation not in possible:
            message = f"Operation {operation[:40]} is not possible with keys of type {spec.type}; these are: {', '.join(possible)}."
            raise bad_parameter(message, "key_ops")
    return tuple(dict.fromkeys(asked))


def _require_tier(vault: Document, kty: str) -> None:
    if kty.endswith("-HSM") and str(vault.body["properties"]["sku"]["name"]).lower() != "premium":
        raise bad_parameter(f"Keys of type {kty} need a vault of the tier premium.", "kty")


def _no_release(policy: object) -> None:
    if policy is not None:
        message = "Keys are never released here, so a release_policy could not be in force."
        raise Fault(FaultKind.UNSUPPORTED, message, target="release_policy")


def _spec_of(version: KeyVersion) -> KeySpec:
    return KeySpec(type=version.type, size=version.size if version.curve is None else None, curve=version.curve)


def _bits(spec: KeySpec) -> int:
    if spec.size is not None:
        return spec.size
    return {"P-256": 256, "P-384": 384, "P-521": 521, "P-256K": 256}[spec.curve or "P-256"]


def _held(version: Document) -> StoredKey:
    held = key_of(version.private)
    if held is None:
        raise Fault(FaultKind.UNAVAILABLE, "The key's material is not there.")
    return held
