"""The local certificate authority, the server's certificate, and the one file the listeners read.

The authority is name-constrained: whoever steals its key can impersonate this platform's names on machines that trust it, and nothing else.
Listeners never read the operator's files themselves: a pair is checked first and then put into place with one rename, certificates and key in
one file, so that a worker that starts in the middle of an exchange cannot see half of it, and a broken new pair changes nothing.
Source: RFC 5280 (profile, name constraints); Mozilla's "intermediate" TLS profile 5.7 (P-256, at most 366 days); CA/B baseline serials.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stockade.serve.files import private_folder, write_private
from stockade.settings import Settings

AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(minutes=10)
"""How far behind a client's clock may be for a certificate made this moment."""
DEFAULT_DOMAIN = "stockade.localhost"
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
BUNDLE_HEADER = b"# This system's certificate authorities, and Stockade's local one at the end.\n"

log = logging.getLogger(__name__)


class UnusablePair(ValueError):
    """A certificate and key that cannot be served. The message says why, and holds no key material."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A checked certificate chain and its key, as one PEM text. `leaf` is the first certificate in DER form."""

    pem: bytes
    leaf: bytes
    not_after: datetime
    names: frozenset[str]


def active_file(settings: Settings) -> Path:
    """Return the file that the listeners read: chain and key together."""
    return settings.run_dir / "tls.pem"


def prepare(settings: Settings, now: datetime | None = None) -> Pair:
    """Make or renew what is missing or near its end, put the pair in force into place, and return it. Idempotent.

    Raises UnusablePair when the operator's own certificate cannot be served.
    """
    moment = now or datetime.now(UTC)
    private_folder(settings.run_dir)
    _ensure_authority(settings, moment)
    if not settings.tls.certificate:
        _ensure_server(settings, moment)
    pair = read_pair(settings.certificate_file, settings.certificate_key_file, moment)
    activate(settings, pair)
    return pair


def activate(settings: Settings, pair: Pair) -> None:
    """Put a checked pair into place for every worker that starts from now on."""
    write_private(active_file(settings), pair.pem)


def read_pair(certificate: Path, key: Path, now: datetime) -> Pair:
    """Read and check a PEM chain and its unencrypted key; UnusablePair says what is wrong."""
    try:
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        private = load_pem_private_key(key.read_bytes(), password=None)
    except OSError as failure:
        raise UnusablePair(f"{failure.filename} cannot be read: {failure.strerror}") from failure
    except TypeError as failure:
        raise UnusablePair(
            f"{key} is encrypted; give a key without a passphrase, readable by this user alone"
        ) from failure
    except ValueError as failure:
        raise UnusablePair(f"{certificate} and {key} are not a PEM certificate chain and a PEM key") from failure
    leaf = chain[0]
    if _public(leaf.public_key()) != _public(private.public_key()):
        raise UnusablePair(f"{key} is not the key of the first certificate in {certificate}")
    if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
        raise UnusablePair(
            f"{certificate} is valid from {leaf.not_valid_before_utc:%F} to {leaf.not_valid_after_utc:%F} only"
        )
    if not _strong(private):
        raise UnusablePair(f"{key} must be RSA of at least 2048 bits, P-256, P-384 or Ed25519")
    names = _names(leaf)
    if not names:
        raise UnusablePair(f"{certificate} names no host (subjectAltName); no client would accept it")
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain) + _private_pem(private)
    return Pair(pem, leaf.public_bytes(Encoding.DER), leaf.not_valid_after_utc, names)


def server_names(settings: Settings) -> tuple[str, ...]:
    """Return every name and address the local certificate is for, in a fixed order.

    A wildcard stands below two labels at least: clients refuse `*.localhost`.
    """
    names = ["localhost", *_names_below(DEFAULT_DOMAIN)]
    if settings.names.domain:
        names += _names_below(settings.names.domain, regional=True)
    names += ["127.0.0.1", "::1"]
    address = _address(settings.listen.host)
    if address is not None and not address.is_loopback and not address.is_unspecified:
        names.append(str(address))
    return tuple(dict.fromkeys(names))


def write_bundle(settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
    """Write the system's CAs and ours into one file, for clients that take one file only."""
    ours = settings.ca_file.read_bytes()
    system = system_bundle(environment)
    if system is None:
        log.warning("no system CA bundle found; the bundle holds the local CA alone")
    others = system.read_bytes().rstrip() + b"\n" if system is not None else b""
    wanted = BUNDLE_HEADER + others + ours
    if not settings.ca_bundle_file.exists() or settings.ca_bundle_file.read_bytes() != wanted:
        write_private(settings.ca_bundle_file, wanted)


def system_bundle(environment: Mapping[str, str]) -> Path | None:
    """Return the file of CAs that programs on this machine trust, or None; never a bundle of ours, which this shell may be using."""
    candidates = [environment.get("SSL_CERT_FILE", ""), ssl.get_default_verify_paths().openssl_cafile, *SYSTEM_BUNDLES]
    for candidate in candidates:
        path = Path(candidate)
        if candidate and path.is_file() and not path.read_bytes().startswith(BUNDLE_HEADER):
            return path
    return None


def _ensure_authority(settings: Settings, now: datetime) -> None:
    private_folder(settings.ca_file.parent)
    key_file = _authority_key_file(settings)
    if not key_file.exists():
        write_private(key_file, _private_pem(ec.generate_private_key(ec.SECP256R1())))
    key = _load_key(key_file)
    try:
        current = x509.load_pem_x509_certificate(settings.ca_file.read_bytes())
    except (FileNotFoundError, ValueError):
        current = None
    wanted = _permitted(server_names(settings))
    if current is not None and _public(current.public_key()) == _public(key.public_key()):
        constraints = current.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
        if set(wanted) <= set(constraints) and current.not_valid_after_utc - now > SERVER_LIFE:
            write_bundle(settings)
            return
        # The same key and name, so that what the old certificate vouches for stays trusted by those who still hold it.
        wanted = tuple(dict.fromkeys((*constraints, *wanted)))
        log.warning(
            "the local CA certificate was issued anew for more names or a later end; hand %s to clients again",
            settings.ca_file,
        )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Stockade local CA {identifier.digest.hex()[:8]}")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(list(wanted), None), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, SHA256())
    )
    write_private(settings.ca_file, certificate.public_bytes(Encoding.PEM))
    write_bundle(settings)


def _ensure_server(settings: Settings, now: datetime) -> None:
    authority = x509.load_pem_x509_certificate(settings.ca_file.read_bytes())
    wanted = server_names(settings)
    try:
        current = read_pair(settings.certificate_file, settings.certificate_key_file, now)
        issued = x509.load_der_x509_certificate(current.leaf)
        issued.verify_directly_issued_by(authority)
        if current.names == frozenset(wanted) and current.not_after - now > RENEW_BEFORE:
            return
    except (UnusablePair, ValueError, x509.InvalidVersion):
        pass
    except Exception:  # noqa: BLE001 - cryptography's InvalidSignature has no base of its own; whatever is wrong, a new one is right
        log.info("the server certificate is not the local CA's; issuing a new one")
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(now + SERVER_LIFE, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in wanted]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(_load_key(_authority_key_file(settings)), SHA256())
    )
    # Key first: a start that dies in between finds a pair that does not match, and makes both again.
    write_private(settings.certificate_key_file, _private_pem(key))
    write_private(settings.certificate_file, certificate.public_bytes(Encoding.PEM))


def _authority_key_file(settings: Settings) -> Path:
    return settings.ca_file.with_name("ca.key")


def _names_below(domain: str, *, regional: bool = False) -> list[str]:
    wildcards = [f"*.ai.{domain}", f"*.vault.{domain}"] + ([f"*.api.{domain}"] if regional else [])
    return [*wildcards, *(f"{host}.{domain}" for host in ("management", "login", "console"))]


def _permitted(names: Iterable[str]) -> tuple[x509.GeneralName, ...]:
    subtrees: dict[x509.GeneralName, None] = {}
    for name in names:
        address = _address(name)
        if address is not None:
            subtrees[x509.IPAddress(ipaddress.ip_network(address))] = None
        else:
            # The whole domain: everything below `localhost` for the default one, else what follows the service's own label(s).
            domain = "localhost" if name.endswith("localhost") else name.removeprefix("*.").split(".", 1)[1]
            subtrees[x509.DNSName(domain)] = None
    return tuple(subtrees)


def _general_name(name: str) -> x509.GeneralName:
    address = _address(name)
    return x509.IPAddress(address) if address is not None else x509.DNSName(name)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(address) for address in found.get_values_for_type(x509.IPAddress))
    return frozenset((*found.get_values_for_type(x509.DNSName), *addresses))


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _strong(key: PrivateKeyTypes) -> bool:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.key_size >= 2048
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    return isinstance(key, ed25519.Ed25519PrivateKey)


def _load_key(path: Path) -> CertificateIssuerPrivateKeyTypes:
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _private_pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def certificates_in(path: Path) -> str:
    """Return the certificates of a PEM file that may hold a key too."""
    certificates = x509.load_pem_x509_certificates(path.read_bytes())
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)
