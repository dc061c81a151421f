"""Runs the rotation policies of vault keys: makes the next version when one is due, and tells operators of versions that will expire.

Each version of a key is rotated away from once and told of once: the piece of work is named by it. A key without a policy of its own has Key
Vault's default one, a notice 30 days before expiry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from stockade.jobs.job import Run, Workplace
from stockade.kernel.clock import iso
from stockade.kernel.ids import new_guid
from stockade.kernel.record import AuditRecord
from stockade.management import outbox
from stockade.policy.key_rotation import RotationPolicy, due_at
from stockade.policy.snapshot import VaultVersionPolicy
from stockade.storage.documents import Document
from stockade.vault import rotation_policy
from stockade.vault.documents import KEYS, Item, item_of, store, vault_id_of
from stockade.vault.keys import Keys

DEFAULT = RotationPolicy(0.0, 0.0, (rotation_policy.DEFAULT_NOTICE,))


@dataclass(frozen=True, slots=True)
class _Due:
    """Something that a key's policy wants now. expires: of its newest version."""

    kind: Literal["Rotate", "Notify"]
    key: Document
    version: str
    expires: float | None

    @property
    def piece(self) -> str:
        return f"{self.kind.lower()}.{self.version}"


class VaultRotation:
    """Rotation policies."""

    name: ClassVar[str] = "vault-rotation"
    every_s: ClassVar[float] = 60.0
    on_change: ClassVar[bool] = False

    def due(self, place: Workplace) -> Iterable[str]:
        return [found.piece for found in _due(place)]

    async def do(self, place: Workplace, run: Run) -> None:
        found = await asyncio.to_thread(_find, place, run.piece)
        if found is None:
            return  # done by an earlier run of this piece, or not wanted any more
        work = _rotate if found.kind == "Rotate" else _notify
        await asyncio.to_thread(work, place, found)


def _find(place: Workplace, piece: str) -> _Due | None:
    return next((found for found in _due(place) if found.piece == piece), None)


def _due(place: Workplace) -> Iterator[_Due]:
    now, snapshot = place.clock.now(), place.snapshot()
    with place.database.read() as reader:
        keys = reader.list(KEYS)
    for key in keys:
        item = item_of(key)
        newest: VaultVersionPolicy | None = snapshot.only("vault-version", f"{key.id}/versions/{item.current}")
        if newest is None:
            continue
        policy = item.rotation if item.rotation is not None and item.rotation.actions else DEFAULT
        rotate = due_at(policy, newest.created, newest.expires, "Rotate")
        if rotate is not None and rotate <= now:
            yield _Due("Rotate", key, item.current, newest.expires)
            continue
        notify = due_at(policy, newest.created, newest.expires, "Notify")
        if notify is not None and notify <= now and item.notified != item.current:
            yield _Due("Notify", key, item.current, newest.expires)


def _rotate(place: Workplace, found: _Due) -> None:
    decision_id = new_guid()
    place.audit.commit(_record(place, found, "KeyRotate", "intent", decision_id))
    keys = Keys(place.settings, place.database, place.broker, place.clock)
    keys.rotate(vault_id_of(found.key.id), found.key.name, None, f"jobs {VaultRotation.name}", only_after=found.version)
    place.audit.commit(_record(place, found, "KeyRotate", "outcome", decision_id))


def _notify(place: Workplace, found: _Due) -> None:
    vault = vault_id_of(found.key.id).rsplit("/", 1)[-1]
    expires = iso(found.expires or 0.0)
    notice = outbox.Notice(
        kind="vaultKey.nearExpiry",
        subject=str(found.key.body["id"]),
        title=f"The key {found.key.name} in the vault {vault} expires at {expires[:19]}Z",
        text="Rotate it, or give it another expiry, before what depends on it can no longer use it.",
        data={"vault": vault, "key": found.key.name, "version": found.version, "expires": expires},
        operators=True,
        subscription=found.key.subscription,
    )
    with place.database.write() as writer:
        current = writer.get(found.key.id)
        item = item_of(current) if current is not None else None
        if current is None or item is None or item.current != found.version:
            return
        store(writer, str(current.body["id"]), KEYS, Item(item.current, item.rotation, notified=item.current))
        outbox.post(writer, place.settings, notice, place.clock.now())
    place.audit.commit(_record(place, found, "KeyNearExpiry", "outcome", new_guid()))


def _record(
    place: Workplace, found: _Due, operation: str, phase: Literal["intent", "outcome"], decision_id: str
) -> AuditRecord:
    return AuditRecord(
        time=place.clock.now(),
        id=decision_id,
        category="Audit",
        phase=phase,
        operation=operation,
        resource=str(found.key.body["id"]),
        client=VaultRotation.name,
        decision="allow",
        rule="rotation policy",
        outcome="success" if phase == "outcome" else "",
        because={"version": found.version},
    )


PLUGIN = VaultRotation()
