"""All settings together, and what follows from them: paths, sockets and addresses."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from stockade.settings.sections import (
    Access,
    Audit,
    Content,
    Decisions,
    Egress,
    Issuer,
    Jobs,
    Keys,
    Limits,
    Listen,
    Lockbox,
    Metadata,
    Model,
    Names,
    Notices,
    Service,
    Tls,
    Vault,
)

MAX_SOCKET_DIR_BYTES = 60
"""Leaves room for a file name below the 100 bytes that every system takes."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. `data_dir` is filled in by `load`."""

    data_dir: Path = Path()
    database_url: str = ""
    """Empty: SQLite in the data directory."""
    strict_parity: bool = False
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose `X-Forwarded-For` is believed."""
    listen: Listen = Listen()
    tls: Tls = Tls()
    names: Names = Names()
    limits: Limits = Limits()
    egress: Egress = Egress()
    audit: Audit = Audit()
    decisions: Decisions = Decisions()
    keys: Keys = Keys()
    vault: Vault = Vault()
    content: Content = Content()
    jobs: Jobs = Jobs()
    access: Access = Access()
    lockbox: Lockbox = Lockbox()
    notices: Notices = Notices()
    metadata: Metadata = Metadata()
    issuers: tuple[Issuer, ...] = ()
    models: tuple[Model, ...] = ()
    """Added to the built-in models; an entry of the same name and version replaces one."""
    services: tuple[Service, ...] = ()

    @property
    def run_dir(self) -> Path:
        """Sockets and the generation cell."""
        return self.data_dir / "run"

    @property
    def socket_dir(self) -> Path:
        """Where UNIX sockets lie: the run folder, unless its path is too long for a socket's address (108 bytes).

        Then a private folder of this user and data directory among the temporary files; `serve/files.py` makes it and checks its owner.
        """
        if len(os.fsencode(self.run_dir)) <= MAX_SOCKET_DIR_BYTES:
            return self.run_dir
        name = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"stockade-{os.geteuid()}-{name}"

    @property
    def supervisor_socket(self) -> Path:
        """Where a worker asks for a built-in engine to be started."""
        return self.socket_dir / "supervisor.sock"

    @property
    def audit_socket(self) -> Path:
        """Where the audit process says which place a record has in its log."""
        return self.socket_dir / "audit.sock"

    @property
    def broker_socket(self) -> Path:
        """Where the key broker listens."""
        return Path(self.keys.broker_socket) if self.keys.broker_socket else self.socket_dir / "keys" / "broker.sock"

    def vault_uri(self, name: str) -> str:
        """Return a key vault's address as things are configured, lower case and without a trailing slash."""
        domain = self.names.domain or "stockade.localhost"
        return f"https://{name.lower()}.vault.{domain}{_port(self.listen.control_port)}"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'stockade.db'}"

    @property
    def root_key_file(self) -> Path:
        return self.data_dir / "root.key"

    @property
    def ca_file(self) -> Path:
        """The local CA's certificate alone."""
        return self.data_dir / "tls" / "ca.pem"

    @property
    def ca_bundle_file(self) -> Path:
        """The system's CAs and ours."""
        return self.data_dir / "tls" / "bundle.pem"

    @property
    def certificate_file(self) -> Path:
        return Path(self.tls.certificate) if self.tls.certificate else self.data_dir / "tls" / "server.pem"

    @property
    def certificate_key_file(self) -> Path:
        return Path(self.tls.key) if self.tls.key else self.data_dir / "tls" / "server.key"

    @property
    def audit_dir(self) -> Path:
        return self.data_dir / "audit"

    @property
    def delivery_dir(self) -> Path:
        """How far sinks and witnesses of the audit log have got."""
        return self.audit_dir / "delivery"

    @property
    def mirror_dir(self) -> Path:
        """Where the copy of the audit logs lies."""
        return Path(self.audit.mirror) if self.audit.mirror else self.audit_dir

    @property
    def arm_endpoint(self) -> str:
        """ARM's address as clients on this machine reach it, without a trailing slash."""
        if self.names.domain:
            return f"https://management.{self.names.domain}{_port(self.listen.control_port)}"
        return f"https://localhost:{self.listen.control_port}"

    @property
    def authority(self) -> str:
        """The identity service's address, without tenant or trailing slash."""
        if self.names.domain:
            return f"https://login.{self.names.domain}{_port(self.listen.control_port)}"
        return self.arm_endpoint

    @property
    def console_endpoint(self) -> str:
        """The console's address as browsers write its origin, without a trailing slash."""
        if self.names.domain:
            return f"https://console.{self.names.domain.lower()}{_port(self.listen.control_port)}"
        return self.arm_endpoint

    def account_endpoint(self, subdomain: str | None) -> str:
        """Return the address an account answers at as things are configured, with a trailing slash."""
        if self.names.domain:
            host = f"{subdomain}.ai" if subdomain else f"{self.names.location}.api"
            return f"https://{host}.{self.names.domain}{_port(self.listen.data_port)}/"
        base = f"https://localhost:{self.listen.data_port}/"
        return f"{base}{subdomain}/" if subdomain else base

    def websocket_endpoint(self, account_endpoint: str) -> str:
        """Return where an account takes WebSockets, with a trailing slash; "" where the settings turn them off."""
        if not self.listen.websocket_port:
            return ""
        parts = urlsplit(account_endpoint)
        return f"wss://{parts.hostname}{_port(self.listen.websocket_port)}{parts.path}"

    @property
    def metadata_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.listen.metadata_port}"


def _port(port: int) -> str:
    return "" if port == 443 else f":{port}"
