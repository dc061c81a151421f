"""A directory with a tenant and a signing key, in a database of its own, and the snapshot compiled from it."""

from __future__ import annotations

from pathlib import Path

from stockade.identity import compilation, tokens
from stockade.identity.directory import Directory, Principal
from stockade.identity.signing_keys import KeyRing
from stockade.identity.tenant import create_tenant, local_issuer
from stockade.kernel.clock import ManualClock
from stockade.kernel.record import AuditRecord
from stockade.keys.root import RootKey
from stockade.policy.compile import Compiler
from stockade.policy.snapshot import Snapshot
from stockade.settings import Settings
from stockade.storage.database import Database

AI = "https://cognitiveservices.azure.com"


class RecordingAudit:
    """Keeps the records it is given."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.healthy = True

    def record(self, record: AuditRecord) -> None:
        self.records.append(record)

    def commit(self, record: AuditRecord) -> None:
        self.records.append(record)


class World:
    """Everything identity works on. `snapshot()` follows the database as the control plane's does."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.clock = ManualClock()
        self.settings = settings or Settings(data_dir=folder)
        self.root_key = RootKey.create(folder / "root.key")
        self.database = Database(f"sqlite:///{folder / 'stockade.db'}", clock=self.clock)
        self.database.migrate()
        self.audit = RecordingAudit()
        self.directory = Directory(self.root_key, self.clock)
        self.keys = KeyRing(self.root_key)
        self.compiler = Compiler(compilation.compilers(self.settings))
        self._snapshot = Snapshot()
        with self.database.write() as writer:
            self.tenant_id = create_tenant(writer, "Test")
            self.keys.ensure(writer, self.clock.now())

    @property
    def issuer(self) -> str:
        return local_issuer(self.settings.authority, self.tenant_id)

    def snapshot(self) -> Snapshot:
        with self.database.read() as reader:
            if reader.generation() != self._snapshot.generation:
                changed = list(reader.changed_since(self._snapshot.generation))
                self._snapshot = self.compiler.apply(self._snapshot, reader.generation(), changed)
        return self._snapshot

    def application(self, name: str = "app") -> tuple[Principal, str]:
        with self.database.write() as writer:
            principal, secret = self.directory.create_application(writer, name)
        return principal, secret.reveal_text()

    def token(self, principal: Principal, audience: str = AI, **changes: object) -> str:
        with self.database.read() as reader:
            key = self.keys.current(reader)
        issued = tokens.issue(
            key,
            principal,
            authority=self.settings.authority,
            audience=audience,
            proof="secret",
            groups=(),
            now=self.clock.now(),
            **changes,  # type: ignore[arg-type]
        )
        return issued.token.reveal_text()
