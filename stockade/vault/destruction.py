"""Keys that are to be destroyed where they are held, after the documents that named them are gone.

A provider may be away for a while, and a crash may come at any time: so what is to be destroyed is written down in the transaction that removes the
key, and crossed out once the provider has done it. For keys of the software provider there is nothing left to do: their handle was the sealed key.
"""

from __future__ import annotations

import logging
from typing import Final

from stockade.kernel.faults import Fault
from stockade.kernel.ids import new_guid
from stockade.keys.broker import Broker
from stockade.keys.stored import KEY, StoredKey, key_of
from stockade.storage.database import Database, Reader, Writer
from stockade.storage.documents import Document
from stockade.vault.documents import KEY_VERSIONS

TYPE: Final = "stockade.vault/destructions"
SOFTWARE: Final = "software"
AT_A_TIME: Final = 50

log = logging.getLogger(__name__)


def note(writer: Writer, document: Document) -> None:
    """Write down that the key of a version that is being removed has to be destroyed; nothing for other documents."""
    held = key_of(document.private) if document.type == KEY_VERSIONS.lower() else None
    if held is not None:
        note_key(writer, held, document.id)


def note_key(writer: Writer, held: StoredKey, version_id: str) -> None:
    """Write down that a key has to be destroyed."""
    if held.provider != SOFTWARE:
        place = f"/providers/stockade.vault/destructions/{new_guid()}"
        writer.put(place, TYPE, {"versionId": version_id}, {KEY: held.to_private()})


def due(reader: Reader) -> list[Document]:
    """Return some of what is still to be destroyed."""
    return reader.list(TYPE, limit=AT_A_TIME)


def destroy_due(database: Database, broker: Broker) -> int:
    """Destroy what is written down; return how many were. What a provider cannot do now stays written down."""
    with database.read() as reader:
        wanted = due(reader)
    done = []
    for document in wanted:
        held = key_of(document.private)
        assert held is not None
        try:
            broker.destroy_key(held.provider, held.handle, str(document.body["versionId"]))
        except Fault as fault:
            log.warning("a key is not destroyed yet: %s", fault.message, extra={"version": document.body["versionId"]})
        else:
            done.append(document)
    if done:
        with database.write() as writer:
            for document in done:
                writer.remove(document)
    return len(done)
