"""Using vault keys and secrets for a caller who shows a token: state, operations and rights are read here again, whatever the vault's wire found.

Source: contracts, control-plane sections 6.2 (outside nbf and exp what undoes still works) and 6.5.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from threading import BoundedSemaphore, Lock
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stockade.broker import key_rights
from stockade.broker.at_once import NotAtOnce
from stockade.broker.framing import joined
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.principal import TokenCredential
from stockade.kernel.secret import Secret
from stockade.keys.material import KeyAnswer, KeyRequest, KeySpec, Use
from stockade.keys.providers.provider import KeyProvider, ProviderKey
from stockade.keys.root import RootKey
from stockade.keys.stored import StoredKey, key_of
from stockade.policy.snapshot import Snapshot
from stockade.storage.database import Database
from stockade.storage.documents import State

SECRETS_PURPOSE: Final = "broker/vault-secrets/1"
BACKUP_PURPOSE: Final = "broker/key-backups/1"
MAX_RANDOM: Final = 4096
KEPT: Final = 8192
"""Key versions whose documents are remembered for as long as policy does not change."""
OPERATIONS: Final[dict[Use, tuple[str, str]]] = {
    "encrypt": ("encrypt", "keys/encrypt"),
    "decrypt": ("decrypt", "keys/decrypt"),
    "sign": ("sign", "keys/sign"),
    "verify": ("verify", "keys/verify"),
    "wrap": ("wrapKey", "keys/wrapkey"),
    "unwrap": ("unwrapKey", "keys/unwrapkey"),
}
"""Per use the `key_ops` word and the permission."""
SHORT_RSA: Final = 256
"""Bytes of an RSA key's modulus: 2048 bits sign in a third of a millisecond, 4096 in two."""
SHORT_VALUE: Final = 16 * 1024
_SHORT_CURVES: Final = ("P-256", "P-256K")
_UNDOING: Final = frozenset({"decrypt", "unwrap", "verify"})
_BACKUP: Final = "stockade key backup 1"
_VALUE_BACKUP: Final = "stockade secret backup 1"
_NONCE: Final = 12


class _Backup(msgspec.Struct, frozen=True):
    type: str
    exported: bytes


class VaultKeys:
    """Keys and secrets of vaults. at_once: calls that one provider other than the software may have under way; further ones are refused."""

    def __init__(
        self, database: Database, providers: Mapping[str, KeyProvider], keys: RootKey, at_once: int = 8
    ) -> None:
        self._database, self._providers = database, providers
        self._secrets = AESGCM(keys.derive(SECRETS_PURPOSE).reveal())
        self._backups = AESGCM(keys.derive(BACKUP_PURPOSE).reveal())
        self._turns = {name: BoundedSemaphore(at_once) for name in providers if name != "software"}
        self._known: OrderedDict[str, tuple[int, StoredKey]] = OrderedDict()
        self._lock = Lock()

    def provider(self, name: str) -> KeyProvider:
        """Return a provider by name; Fault(UNSUPPORTED) when the settings have none."""
        found = self._providers.get(name)
        if found is None:
            raise Fault(FaultKind.UNSUPPORTED, f"There is no key provider {name!r} in the settings.")
        return found

    def use(
        self,
        snapshot: Snapshot,
        version_id: str,
        request: KeyRequest,
        caller: TokenCredential,
        now: float,
        *,
        at_once: bool = False,
    ) -> KeyAnswer:
        """Use a key version for a caller who has been proven. at_once: NotAtOnce for what has to be waited for, once the caller may use it."""
        version = key_rights.version_of(snapshot, version_id, "keys")
        operation, permission = OPERATIONS[request.use]
        key_rights.check_version(snapshot, version, caller, permission, now)
        if not version.enabled:
            raise Fault(
                FaultKind.PERMISSION_DENIED,
                f"Operation {operation} is not allowed on a disabled key.",
                code="KeyDisabled",
            )
        if operation not in version.operations:
            raise Fault(
                FaultKind.PERMISSION_DENIED,
                f"Operation {operation} is not permitted on this key.",
                code="KeyOperationForbidden",
            )
        begun = version.not_before is None or version.not_before <= now
        ended = version.expires is not None and version.expires <= now
        if (ended or not begun) and request.use not in _UNDOING:
            told = "an expired key" if ended else "a key that is not yet valid"
            code = "KeyExpired" if ended else "KeyNotYetValid"
            raise Fault(FaultKind.PERMISSION_DENIED, f"Operation {operation} is not allowed on {told}.", code=code)
        if at_once:
            with self._lock:
                known = self._known.get(version_id)
            if known is None or known[0] != snapshot.generation or not _short(known[1], request):
                raise NotAtOnce
        return self.use_stored(snapshot, version_id, request)

    def use_stored(self, snapshot: Snapshot, version_id: str, request: KeyRequest) -> KeyAnswer:
        """Use a key version, the right to which has been checked."""
        stored = self.stored(snapshot, version_id)
        provider = self.provider(stored.provider)
        turn = self._turns.get(stored.provider)
        if turn is None:
            return provider.use(stored.handle, stored.public, request, version_id)
        if not turn.acquire(blocking=False):
            raise Fault(FaultKind.UNAVAILABLE, f"The key provider {stored.provider} is busy.", retry_after_s=1)
        try:
            return provider.use(stored.handle, stored.public, request, version_id)
        finally:
            turn.release()

    def stored(self, snapshot: Snapshot, version_id: str) -> StoredKey:
        """Return what the key version's document says of the key; Fault(NOT_FOUND) when there is none."""
        with self._lock:
            known = self._known.get(version_id)
            if known is not None and known[0] == snapshot.generation:
                self._known.move_to_end(version_id)
                return known[1]
        with self._database.read() as reader:
            document = reader.get(version_id)
        stored = key_of(document.private) if document is not None else None
        if stored is None:
            raise Fault(FaultKind.NOT_FOUND, "There is no such key version.")
        with self._lock:
            self._known[version_id] = (snapshot.generation, stored)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return stored

    def make(self, provider: str, spec: KeySpec, version_id: str) -> ProviderKey:
        """Make a key, the right to which has been checked."""
        return self.provider(provider).create(spec, version_id)

    def check_rotation(self, snapshot: Snapshot, version_id: str, spec: KeySpec, now: float) -> None:
        """Raise Fault(PERMISSION_DENIED) unless the policy that is stored with a key wants this version of it."""
        with self._database.read() as reader:
            key = reader.get(version_id.rpartition("/versions/")[0])
        properties = key.body.get("properties") if key is not None else None
        key_rights.check_rotation(snapshot, properties, version_id, spec, now)

    def take(
        self,
        snapshot: Snapshot,
        version_id: str,
        caller: TokenCredential,
        now: float,
        provider: str,
        spec: KeySpec,
        private: Mapping[str, Secret],
    ) -> ProviderKey:
        """Take in a key for a caller who has been proven."""
        key_rights.check_item(snapshot, version_id, caller, "keys/import", now)
        members = {name: value.reveal() for name, value in private.items()}
        return self.provider(provider).take(spec, members, version_id)

    def destroy(self, provider: str, handle: bytes, version_id: str) -> None:
        """Destroy a key; Fault(CONFLICT) for one that a document holds, live or to be recovered."""
        with self._database.read() as reader:
            document = reader.get(version_id, State.LIVE, State.SOFT_DELETED)
        stored = key_of(document.private) if document is not None else None
        # Restored from a backup, a version has its old id and another key: the one from before it was purged still has to go.
        if stored is not None and (stored.provider, stored.handle) == (provider, handle):
            raise Fault(FaultKind.CONFLICT, "The key is in use, or can be recovered, and is not destroyed.")
        self.provider(provider).destroy(handle, version_id)
        with self._lock:
            self._known.pop(version_id, None)

    def back_up(self, snapshot: Snapshot, version_id: str, caller: TokenCredential, now: float) -> bytes:
        """Seal a key's version for a backup, for a caller who has been proven. It may be disabled."""
        version = key_rights.version_of(snapshot, version_id, "keys")
        key_rights.check_version(snapshot, version, caller, "keys/backup", now)
        stored = self.stored(snapshot, version_id)
        held = self.provider(stored.provider)
        content = msgspec.msgpack.encode(_Backup(held.type, held.export(stored.handle, version_id)))
        nonce = os.urandom(_NONCE)
        return b"\x01" + nonce + self._backups.encrypt(nonce, content, joined(_BACKUP))

    def restore(
        self, snapshot: Snapshot, version_id: str, caller: TokenCredential, now: float, provider: str, backup: bytes
    ) -> ProviderKey:
        """Make the key of a backup again, for a caller who has been proven.

        Fault(INVALID) for what is no backup of this platform's, or of another type of provider.
        """
        key_rights.check_vault(snapshot, version_id, caller, "keys/restore", now)
        held = self.provider(provider)
        try:
            if backup[:1] != b"\x01":
                raise InvalidTag
            content = self._backups.decrypt(backup[1 : 1 + _NONCE], backup[1 + _NONCE :], joined(_BACKUP))
            found = msgspec.msgpack.decode(content, type=_Backup)
        except (InvalidTag, ValueError, msgspec.MsgspecError) as failure:
            raise Fault(FaultKind.INVALID, "The backup is damaged, or of another platform.") from failure
        if found.type != held.type:
            raise Fault(
                FaultKind.INVALID, f"The backup is of a key that {found.type} held, and {provider} is {held.type}."
            )
        return held.restore(found.exported, version_id)

    def seal_secret(self, value: Secret, version_id: str) -> bytes:
        nonce = os.urandom(_NONCE)
        return b"\x01" + nonce + self._secrets.encrypt(nonce, value.reveal(), joined("secret", version_id))

    def open_secret(
        self, snapshot: Snapshot, version_id: str, caller: TokenCredential, now: float, sealed: bytes
    ) -> Secret:
        """Open a secret's version for a caller who has been proven."""
        version = key_rights.version_of(snapshot, version_id, "secrets")
        key_rights.check_version(snapshot, version, caller, "secrets/get", now)
        if not version.enabled:
            raise Fault(
                FaultKind.PERMISSION_DENIED,
                "Operation get is not allowed on a disabled secret.",
                code="SecretDisabled",
            )
        return Secret(self._opened(sealed, version_id))

    def back_up_secret(
        self, snapshot: Snapshot, version_id: str, caller: TokenCredential, now: float, sealed: bytes
    ) -> bytes:
        """Seal a secret's version for a backup, for a caller who has been proven. It may be disabled."""
        version = key_rights.version_of(snapshot, version_id, "secrets")
        key_rights.check_version(snapshot, version, caller, "secrets/backup", now)
        nonce = os.urandom(_NONCE)
        value = self._opened(sealed, version_id)
        return b"\x01" + nonce + self._backups.encrypt(nonce, value, joined(_VALUE_BACKUP))

    def restore_secret(
        self, snapshot: Snapshot, version_id: str, caller: TokenCredential, now: float, backup: bytes
    ) -> bytes:
        """Seal a backed-up secret for a version that is about to be stored; Fault(INVALID) for what is no backup of a secret."""
        key_rights.check_vault(snapshot, version_id, caller, "secrets/restore", now)
        try:
            if backup[:1] != b"\x01":
                raise InvalidTag
            nonce, sealed = backup[1 : 1 + _NONCE], backup[1 + _NONCE :]
            value = self._backups.decrypt(nonce, sealed, joined(_VALUE_BACKUP))
        except (InvalidTag, ValueError) as failure:
            raise Fault(FaultKind.INVALID, "The backup is damaged, or of another platform.") from failure
        return self.seal_secret(Secret(value), version_id)

    def _opened(self, sealed: bytes, version_id: str) -> bytes:
        try:
            if sealed[:1] != b"\x01":
                raise InvalidTag
            associated = joined("secret", version_id)
            return self._secrets.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], associated)
        except (InvalidTag, ValueError) as failure:
            raise Fault(FaultKind.UNAVAILABLE, "The secret could not be opened.") from failure

    def random(self, provider: str, count: int) -> bytes:
        if not 0 < count <= MAX_RANDOM:
            raise Fault(FaultKind.INVALID, f"Between 1 and {MAX_RANDOM} random bytes can be asked for.")
        return self.provider(provider).random(count)


def _short(stored: StoredKey, request: KeyRequest) -> bool:
    """Say whether a use takes less than a millisecond, of a key that is here."""
    if stored.provider != "software" or len(request.value) > SHORT_VALUE:
        return False
    public = stored.public
    if public.n is not None:
        return len(public.n) <= SHORT_RSA
    return public.crv in _SHORT_CURVES or public.kty.startswith("oct")
