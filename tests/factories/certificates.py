"""Throw-away certificates: an authority, and a server certificate for localhost under it."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    """PEM files. `server` holds the server's certificate and then its key."""

    authority: Path
    server: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority)


def certificates(
    folder: Path,
    names: Sequence[str] = ("localhost",),
    addresses: Sequence[str] = ("127.0.0.1",),
    *,
    expired: bool = False,
) -> Certificates:
    """Write an authority and a server certificate into the folder. expired: the server's has been over for an hour."""
    folder.mkdir(parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)

    def build(
        subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, *, ca: bool, ended: bool = False
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=2))
            .not_valid_after(now + (dt.timedelta(hours=-1) if ended else dt.timedelta(days=1)))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )

    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = build("Test authority", "Test authority", authority_key, ca=True)
    authority = authority.add_extension(
        x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
    server = build("localhost", "Test authority", server_key, ca=False, ended=expired)
    proven = [
        *(x509.DNSName(name) for name in names),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
    ]
    server = server.add_extension(x509.SubjectAlternativeName(proven), critical=False).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
    )
    made = Certificates(folder / "authority.pem", folder / "server.pem")
    pem = serialization.Encoding.PEM
    made.authority.write_bytes(authority.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    made.server.touch(mode=0o600)
    made.server.write_bytes(
        server.sign(authority_key, hashes.SHA256()).public_bytes(pem)
        + server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made
