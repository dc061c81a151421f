"""Crypto-shredding: with a purged account its wrapped data keys go, and with them all that it kept; a signed receipt stays.

One transaction: keys, content's rows and receipt go or come together. Bodies that still lie in the object store are noise from then on, and are
swept. The receipt is a document of the subscription, `Stockade.Keys/receipts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stockade.content.rows import remove_account
from stockade.kernel.clock import iso
from stockade.kernel.ids import new_guid
from stockade.keys import receipts
from stockade.keys.stored import data_keys_of
from stockade.management.resource_type import Platform, display_id
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

RECEIPTS: Final = "Stockade.Keys/receipts"


def destroy(platform: Platform, writer: Writer, account: Document, below: Sequence[Document]) -> Document | None:
    """Take what an account kept, and sign that its keys are destroyed; the caller removes the documents that hold them, in this transaction.

    below: what is removed with it; encryption scopes have data keys too. None for an account that had no data key and kept nothing.
    """
    now = platform.clock.now()
    purged = remove_account(writer.connection, account.id, now)
    keys = [(document.id, key) for document in (account, *below) for key in data_keys_of(document.private)]
    if not keys:
        return None
    name = new_guid()
    internal = str(account.body.get("properties", {}).get("internalId", ""))
    text = receipts.statement(name, account.id, internal, iso(now), keys, purged.items, purged.size)
    properties: Json = {
        "accountId": display_id(account),
        "destroyedAt": iso(now),
        "statement": text,
        "signature": receipts.to_text(platform.broker.sign(text.encode())),
        "algorithm": receipts.ALGORITHM,
        "publicKey": receipts.to_text(platform.broker.receipt_key()),
    }
    receipt_id = f"{_folder(account.subscription)}/{name}"
    body = {"id": receipt_id, "name": name, "type": RECEIPTS, "properties": properties}
    return writer.put(receipt_id, RECEIPTS, body, subscription=account.subscription)


def receipts_of(reader: Reader, subscription: str) -> list[Document]:
    """Return the receipts of a subscription, the newest first."""
    found = reader.list(RECEIPTS, subscription=subscription)
    return sorted(found, key=lambda receipt: (-receipt.created_at, receipt.id))


def receipt_of(reader: Reader, subscription: str, name: str) -> Document | None:
    """Return one receipt."""
    found = reader.get(f"{_folder(subscription)}/{name}")
    return found if found is not None and found.type == RECEIPTS.lower() else None


def _folder(subscription: str) -> str:
    return f"/subscriptions/{subscription}/providers/{RECEIPTS}"
