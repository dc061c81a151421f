"""What the key broker found of customers' keys in vaults elsewhere, as a document, so that every process decides by it.

Id: `/providers/stockade.keys/remotekeystates/` and 32 hex digits of the owner's digest, an account or an encryption scope.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from stockade.policy.compile import Compile
from stockade.policy.snapshot import Entry, RemoteKeyState
from stockade.storage.documents import Document

TYPE: Final = "stockade.keys/remotekeystates"


def state_id(owner_id: str) -> str:
    """Return the id of the document about an owner's key."""
    return f"/providers/stockade.keys/remotekeystates/{hashlib.sha256(owner_id.encode()).hexdigest()[:32]}"


def state_body(owner_id: str, state: RemoteKeyState) -> dict[str, Any]:
    """Return what the document says."""
    return {
        "ownerId": owner_id,
        "vaultUri": state.vault_uri,
        "keyName": state.key_name,
        "failure": state.failure,
        "message": state.message,
        "since": state.since,
        "version": state.version,
    }


def compile_state(document: Document) -> Iterator[Entry]:
    """Yield the one entry of index "remote-key"."""
    body = document.body
    state = RemoteKeyState(
        body["vaultUri"],
        body["keyName"],
        body["failure"],
        body["message"],
        float(body["since"]),
        body.get("version", ""),  # not there in documents from before versions were followed
    )
    yield "remote-key", body["ownerId"], state


def compilers() -> dict[str, Compile]:
    """Return the compile function by document type."""
    return {TYPE: compile_state}
