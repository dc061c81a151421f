"""A directory with a tenant and a signing key, in a database of its own, and the snapshot compiled from it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from stockade.audit.ledger import Placed, log_of
from stockade.identity import compilation, tokens
from stockade.identity.directory import Directory
from stockade.identity.principals import Principal
from stockade.identity.services import IdentityServices
from stockade.identity.signing_keys import KeyRing
from stockade.identity.tenant import create_tenant, local_issuer
from stockade.kernel.clock import Clock, ManualClock
from stockade.kernel.faults import Fault, FaultKind
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
        self.placed: list[AuditRecord] = []
        """Those of them that were given their place at once."""
        self.waited_for: list[AuditRecord] = []
        """Those among them that were on disk before anything else was done."""
        self.healthy = True
        self.full = False
        """Nothing is given a place."""

    @property
    def why(self) -> str:
        return "" if self.healthy else "spool: No space left on device"

    def record(self, record: AuditRecord) -> None:
        self.records.append(record)

    def commit(self, record: AuditRecord) -> None:
        if not self.healthy:
            raise Fault(FaultKind.UNAVAILABLE, "The audit log cannot be written.", retry_after_s=5)
        self.records.append(record)
        self.waited_for.append(record)

    async def durable(self, record: AuditRecord) -> None:
        self.commit(record)

    def place(self, record: AuditRecord) -> Placed:
        if self.full:
            raise Fault(FaultKind.UNAVAILABLE, "The audit log cannot be written.", retry_after_s=5)
        self.records.append(record)
        self.placed.append(record)
        return Placed(log_of(record.resource), len(self.placed) - 1, b"")


class World:
    """Everything identity works on. `snapshot()` follows the database as the control plane's does."""

    def __init__(self, folder: Path, settings: Settings | None = None, clock: Clock | None = None) -> None:
        self.manual = ManualClock()
        self.clock: Clock = clock or self.manual
        self.settings = settings or Settings(data_dir=folder)
        self.root_key = RootKey.create(folder / "root.key")
        self.database = Database(f"sqlite:///{folder / 'stockade.db'}", clock=self.clock)
        self.database.migrate()
        self.audit = RecordingAudit()
        self.directory = Directory(self.root_key, self.clock)
        self.keys = KeyRing(self.root_key)
        self.compiler = Compiler(compilation.compilers(self.settings))
        self._snapshot = Snapshot()
        self._lock = threading.Lock()
        self.services = IdentityServices(
            self.settings, self.database, self.root_key, self.audit, self.clock, self.snapshot
        )
        with self.database.write() as writer:
            self.tenant_id = create_tenant(writer, "Test")
            self.keys.ensure(writer, self.clock.now())

    @property
    def issuer(self) -> str:
        return local_issuer(self.settings.authority, self.tenant_id)

    def snapshot(self) -> Snapshot:
        with self._lock, self.database.read() as reader:
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


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Clients that keep their connections would make a TLS close wait for an answer that nobody sends.
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.sleep(0)
        await super().shutdown(sockets)


def listener() -> socket.socket:
    """Return a socket bound to a free loopback port."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


@contextmanager
def serving(
    app: Callable[..., Any], bound: socket.socket, certificate: tuple[Path, Path] | None = None
) -> Iterator[None]:
    """Serve an ASGI application on a bound socket until the block ends; with a certificate, over TLS."""
    tls: dict[str, Any] = {}
    if certificate is not None:
        tls = {
            "ssl_certfile": str(certificate[0]),
            "ssl_keyfile": str(certificate[1]),
            "ssl_version": ssl.PROTOCOL_TLS_SERVER,
        }
    config = uvicorn.Config(
        app, log_level="error", lifespan="off", ws="none", loop="asyncio", timeout_graceful_shutdown=1, **tls
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        assert server.ready.wait(10)
        yield
    finally:
        server.should_exit = True
        thread.join(10)


def server_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost that is its own authority; returns the files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    return _write(folder, "server", key, name, names)


def client_certificate(folder: Path, *, elliptic: bool = False) -> tuple[Path, Path]:
    """Make a certificate an application signs its assertions with; the first file holds certificate and key, the second the key."""
    key: Any = ec.generate_private_key(ec.SECP256R1()) if elliptic else rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an application")])
    certificate, key_file = _write(folder, "ec-client" if elliptic else "client", key, name, None)
    certificate.write_bytes(certificate.read_bytes() + key_file.read_bytes())
    return certificate, key_file


def _write(
    folder: Path, stem: str, key: Any, name: x509.Name, names: x509.SubjectAlternativeName | None
) -> tuple[Path, Path]:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    certificate, key_file = folder / f"{stem}.pem", folder / f"{stem}.key"
    certificate.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key_file
