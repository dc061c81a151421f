"""An operator of a running platform who means ill: with its folder, database, settings, backups, lent keys and the broker's socket, as its own user.

Not with the root key, which is not on the disk, nor with other processes' memory: that is who the platform's own user is not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from stockade.content.format import body_bound_to
from stockade.identity import tokens
from stockade.identity.directory import Directory
from stockade.identity.principals import Principal
from stockade.identity.signing_keys import KeyRing
from stockade.kernel.clock import clock_of
from stockade.kernel.evidence import ArmToken, CallerToken, Evidence
from stockade.kernel.secret import Secret
from stockade.keys.broker import ObjectRef
from stockade.keys.broker_client import BrokerClient
from stockade.keys.root import LentKeys
from stockade.management.first_start import assign_role
from stockade.policy.builtin_roles import roles
from stockade.storage.database import Database
from stockade.storage.documents import Document
from stockade.storage.generation import GENERATION_FILE, GenerationCell
from tests.factories.sealed import open_whole
from tests.live import Live

READ = "OpenAI/files/read"


class Insider:
    """live: a server that runs. account_id: the lower-case id of the account that is after."""

    def __init__(self, live: Live, account_id: str) -> None:
        self.live, self.account_id, self.folder = live, account_id, live.data_dir
        self.clock = clock_of(self.folder)
        self.broker = BrokerClient(self.folder / "run" / "keys" / "broker.sock")
        self.keys = LentKeys(self.broker.purpose_key)
        publish = GenerationCell(self.folder / "run" / GENERATION_FILE).publish
        self.database = Database(f"sqlite:///{self.folder / 'stockade.db'}", clock=self.clock, published=publish)
        self.directory = Directory(self.keys, self.clock)
        self.principal, _ = self.application("insider")

    def close(self) -> None:
        self.broker.close()
        self.database.close()

    # Reading: what every attempt comes to.

    def opens(self, item: str, evidence: Evidence, data_action: str = READ, account_id: str = "") -> bytes:
        """Return what a file holds, with keys that the broker gives on evidence, and the ciphertext from the disk."""
        account = account_id or self.account_id
        row = self._row(account, item)
        ref = ObjectRef(f"files/{item}", row["body_version"], row["body_data_key"])
        lent = self.broker.object_keys(account, [ref], "read", data_action, evidence, "insider")
        stored = (self.folder / "content" / row["location"]).read_bytes()
        bound = body_bound_to(account, ref.path, ref.version)
        return open_whole(stored, row["size"], key=lent.keys[0].reveal(), bound=bound)

    def ref(self, item: str) -> ObjectRef:
        row = self._row(self.account_id, item)
        return ObjectRef(f"files/{item}", row["body_version"], row["body_data_key"])

    def holds(self, wanted: bytes, *folders: Path) -> list[str]:
        """Return the files that hold some bytes, in clear."""
        return [
            str(path)
            for folder in (self.folder, *folders)
            for path in folder.rglob("*")
            if path.is_file() and not path.is_socket() and wanted in path.read_bytes()
        ]

    def _row(self, account: str, item: str) -> dict[str, Any]:
        connection = sqlite3.connect(self.folder / "stockade.db", timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            query = "select * from content_items where lower(account) = ? and id = ?"
            return dict(connection.execute(query, (account, item)).fetchone())
        finally:
            connection.close()

    # Writing into the database, past management and its log.

    def document(self, document_id: str = "") -> Document:
        with self.database.read() as reader:
            found = reader.get(document_id or self.account_id)
        assert found is not None, document_id
        return found

    def write(self, change: Callable[[dict[str, Any], dict[str, Any]], None], document_id: str = "") -> None:
        """Change a document's body and private part in place; every process follows."""
        with self.database.write() as writer:
            document = writer.get(document_id or self.account_id)
            assert document is not None, document_id
            body, private = (
                msgspec.json.decode(msgspec.json.encode(part)) for part in (document.body, document.private)
            )
            change(body, private)
            self._put(writer, document, body, private)

    def put_private(self, private: dict[str, Any]) -> None:
        """Put back a private part of the account as it once was."""
        with self.database.write() as writer:
            document = writer.get(self.account_id)
            assert document is not None
            self._put(writer, document, dict(document.body), private)

    @staticmethod
    def _put(writer: Any, document: Document, body: dict[str, Any], private: dict[str, Any]) -> None:
        place = {"subscription": document.subscription, "resource_group": document.resource_group}
        writer.put(document.id, document.type, body, private, **place)

    def assign(self, role_name: str, principal_id: str, scope: str = "") -> None:
        """Give a role, as a row of the database."""
        role = next(one.name for one in roles().values() if one.role_name == role_name)
        at = scope or f"/subscriptions/{self.live.subscription}"
        with self.database.write() as writer:
            assign_role(writer, at, role, principal_id, "ServicePrincipal", self.clock.now())

    # Making what proves something.

    def application(self, name: str) -> tuple[Principal, Secret]:
        """Make a principal, by a row of the database; return it and its secret."""
        with self.database.write() as writer:
            return self.directory.create_application(writer, name)

    def token(self, audience: str, principal: Principal | None = None, now: float | None = None) -> str:
        """Sign a token with the platform's own key, which its processes are lent what opens it."""
        with self.database.read() as reader:
            key = KeyRing(self.keys).current(reader)
        issued = tokens.issue(
            key,
            principal or self.principal,
            authority=self.live.authority,
            audience=audience,
            proof="secret",
            groups=(),
            now=now if now is not None else self.clock.now(),
        )
        return issued.token.reveal_text()

    def arm(self, principal: Principal | None = None) -> ArmToken:
        return ArmToken(Secret(self.token("https://management.azure.com", principal)))

    def caller(self) -> CallerToken:
        return CallerToken(Secret(self.token("https://cognitiveservices.azure.com")))
