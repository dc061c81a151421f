"""What hangs on a customer's key: accounts and encryption scopes, live ones and deleted ones that can still be restored, with what they keep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select

from stockade.kernel.clock import iso
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.stored import data_keys_of
from stockade.management import authorization
from stockade.management.cognitive_services.encryption import CUSTOMER
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.resource_type import Call, display_id
from stockade.policy.customer_key import version_in
from stockade.policy.snapshot import Snapshot
from stockade.storage.database import Reader
from stockade.storage.documents import Document, Json, State
from stockade.storage.tables import content_usage

SCOPES: Final = f"{ACCOUNTS}/encryptionScopes"
_KEY_URI = re.compile(r"(https://[a-z0-9.:-]{1,260})/keys/([0-9a-z-]{1,127})(?:/([0-9a-f]{1,64}))?/?")


@dataclass(frozen=True, slots=True)
class KeyName:
    """A key, or one version of it. place: the id of a vault of this platform, or the address of another; all lower case."""

    place: str
    key: str
    version: str = ""


def named(snapshot: Snapshot, uri: str) -> KeyName:
    """Read a key's address; Fault(INVALID) for anything else."""
    found = _KEY_URI.fullmatch(uri.strip().lower())
    if found is None:
        message = "A key is named by its address, such as https://myvault.vault.example/keys/mykey, with or without a version."
        raise Fault(FaultKind.INVALID, message, target="key")
    return KeyName(_place(snapshot, found[1]), found[2], found[3] or "")


def dependents(call: Call, reader: Reader, key: KeyName) -> Json:
    """Return what depends on a key. Accounts that the caller may not read are counted, not named."""
    found, others = [], 0
    for document in _holders(reader):
        described = _described(call, reader, document, key)
        if described is None:
            continue
        account_id = document.id.partition("/encryptionscopes/")[0]
        if authorization.granted(call.snapshot, call.credential, f"{ACCOUNTS}/read", account_id, now=call.now):
            found.append(described)
        else:
            others += 1
    return {"value": found, "notShown": others}


def _holders(reader: Reader) -> Iterator[Document]:
    for kind in (ACCOUNTS, SCOPES):
        for state in (State.LIVE, State.SOFT_DELETED):
            yield from reader.list(kind, state=state)


def _described(call: Call, reader: Reader, document: Document, key: KeyName) -> Json | None:
    wrapped_by = {one.customer.lower() for one in data_keys_of(document.private) if one.customer}
    using = sorted(version_in(one) for one in wrapped_by if _names(call.snapshot, one, key))
    encryption = _encryption(document)
    pinned, bound = "", False
    if encryption is not None:
        pinned = str(encryption.get("keyVersion") or "").lower()
        uri = f"{str(encryption['keyVaultUri']).lower().rstrip('/')}/keys/{str(encryption['keyName']).lower()}"
        bound = _names(call.snapshot, f"{uri}/{pinned}".rstrip("/"), key)
    if not using and not bound:
        return None
    described: Json = {
        "id": display_id(document),
        "type": document.body["type"],
        "state": "Live" if document.state is State.LIVE else "SoftDeleted",
        "keyVersions": using,
        "followsNewestVersion": not pinned,
        "keeps": _keeps(reader, document.id),
    }
    if document.purge_at is not None:
        described["scheduledPurgeDate"] = iso(document.purge_at)
    return described


def _encryption(document: Document) -> dict[str, Any] | None:
    properties = document.body["properties"]
    held = properties if document.type == SCOPES.lower() else properties.get("encryption") or {}
    return held["keyVaultProperties"] if held.get("keySource") == CUSTOMER else None


def _names(snapshot: Snapshot, uri: str, key: KeyName) -> bool:
    """Say whether an address, lower case, is that of the key; where a version is asked for, of that one or of none."""
    place, _, rest = uri.partition("/keys/")
    name, _, version = rest.partition("/")
    same = _place(snapshot, place) == key.place and name == key.key
    return same and (not key.version or version in ("", key.version))


def _place(snapshot: Snapshot, uri: str) -> str:
    return str(snapshot.only("vault-at", uri) or uri)


def _keeps(reader: Reader, account_id: str) -> Json:
    columns = content_usage.c
    query = select(columns.kept_items, columns.kept_bytes).where(columns.account == account_id)
    row = reader.connection.execute(query).first()
    return {"items": int(row[0]), "bytes": int(row[1])} if row is not None else {"items": 0, "bytes": 0}
