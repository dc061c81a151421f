"""Vaults as wholes: their names, and deletion in two steps.

A name is one vault's on the whole platform, also while that vault is soft-deleted; it is held by a document of its own, so that uniqueness is a
property of the database's key. What is below a deleted vault goes with it and comes back with it, except what had been deleted before. Keys of
purged vaults are destroyed afterwards: what is to be destroyed is written down in the same transaction (`destruction.py`).
Source: contracts, control-plane section 6.5; Azure's soft-delete overview for key vaults.
"""

from __future__ import annotations

import re
from typing import Final

from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, State
from stockade.vault import destruction
from stockade.vault.documents import KEYS, SECRETS, VAULTS, is_expired, retention_s

NAME: Final = re.compile(r"[a-zA-Z](?:[a-zA-Z0-9]|-(?=[a-zA-Z0-9])){1,22}[a-zA-Z0-9]")
"""3 to 24 letters, digits and hyphens; a letter first, a letter or digit last, no two hyphens in a row."""
NAMES: Final = "stockade.addresses/vaults"
_PREFIX: Final = "/providers/stockade.addresses/vaults/"


def holder(reader: Reader, name: str) -> Document | None:
    """Return the vault that has a name, live or soft-deleted; None when it is free."""
    reservation = reader.get(_PREFIX + name)
    if reservation is None:
        return None
    return reader.get(str(reservation.body["vault"]), State.LIVE, State.SOFT_DELETED)


def reserve(writer: Writer, vault: Document) -> None:
    """Give a vault its name; nothing changes when it has it."""
    held = writer.get(_PREFIX + vault.name)
    if held is None or held.body["vault"] != vault.id:
        writer.put(_PREFIX + vault.name, NAMES, {"vault": vault.id})


def soft_delete(writer: Writer, vault: Document, now: float) -> None:
    """Take a vault and all that is in it out of force, recoverable until its time is up."""
    purge_at = now + retention_s(vault)
    for below in writer.below(vault.id):
        writer.move(below, State.SOFT_DELETED, purge_at=purge_at)
    writer.move(vault, State.SOFT_DELETED, purge_at=purge_at)


def recover_contents(writer: Writer, vault_id: str) -> None:
    """Put back in force what went with a deleted vault; what had been deleted before stays deleted."""
    gone = writer.below(vault_id, State.SOFT_DELETED)
    apart = tuple(item.id for item in gone if "deletedAt" in item.private)
    for below in gone:
        if not any(below.id == item or below.id.startswith(item + "/") for item in apart):
            writer.move(below, State.LIVE)


def purge(writer: Writer, vault: Document) -> None:
    """Remove a soft-deleted vault for good, and free its name."""
    clear_remains(writer, vault)
    reservation = writer.get(_PREFIX + vault.name)
    if reservation is not None and reservation.body["vault"] == vault.id:
        writer.remove(reservation)
    writer.remove(vault)


def clear_remains(writer: Writer, vault: Document) -> None:
    """Remove all that a vault leaves behind but its own document and name."""
    for below in (*writer.below(vault.id, State.SOFT_DELETED), *writer.below(vault.id)):
        destruction.note(writer, below)
        writer.remove(below)


def purge_item(writer: Writer, item: Document) -> None:
    """Remove a key or secret with its versions for good."""
    for below in (*writer.below(item.id, State.SOFT_DELETED), *writer.below(item.id)):
        destruction.note(writer, below)
        writer.remove(below)
    writer.remove(item)


def expired(reader: Reader, now: float) -> list[Document]:
    """Return the vaults, keys and secrets whose time is up, so that a sweep opens a write transaction only when there is something to do."""
    found = (document for kind in (VAULTS, KEYS, SECRETS) for document in reader.list(kind, state=State.SOFT_DELETED))
    return [document for document in found if is_expired(document, now)]


def purge_expired(writer: Writer, now: float) -> int:
    """Purge what is due; return how much."""
    due = expired(writer, now)
    for document in due:
        current = writer.get(document.id, State.SOFT_DELETED)  # gone already when its vault was
        if current is not None and document.type == VAULTS.lower():
            purge(writer, current)
        elif current is not None:
            purge_item(writer, current)
    return len(due)
