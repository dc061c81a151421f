"""The local CA: what it vouches for, when certificates are made anew, and which of the operator's are refused."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from stockade import settings as configuration
from stockade.serve import tls
from stockade.settings import Settings

NOW = datetime.now(UTC)


def configured(folder: Path, **overrides: Any) -> Settings:
    return configuration.load(folder, overrides, environment={})


def certificate_in(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def connects(pair: Path, authority: Path, name: str) -> bool:
    """Do a handshake in memory: does a client that trusts the authority accept the pair for this name?"""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(pair)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(authority)).wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return client.version() is not None


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    found = configured(tmp_path)
    first = tls.prepare(found, NOW)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert tls.prepare(found, NOW) == first
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_server_certificate_keeps_the_lifespan_that_clients_accept(tmp_path: Path) -> None:
    found = configured(tmp_path)
    tls.prepare(found, NOW)
    leaf = certificate_in(found.certificate_file)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=366)


def test_certificate_is_renewed_before_its_end_and_the_authority_stays(tmp_path: Path) -> None:
    found = configured(tmp_path)
    first = tls.prepare(found, NOW)
    authority = found.ca_file.read_bytes()
    almost = first.not_after - tls.RENEW_BEFORE
    assert tls.prepare(found, almost - timedelta(minutes=1)) == first
    renewed = tls.prepare(found, almost)
    assert renewed.leaf != first.leaf
    assert renewed.not_after > first.not_after
    assert found.ca_file.read_bytes() == authority


def test_listeners_get_chain_and_key_in_one_private_file(tmp_path: Path) -> None:
    found = configured(tmp_path)
    tls.prepare(found, NOW)
    file = tls.active_file(found)
    assert file.stat().st_mode & 0o777 == 0o600
    assert connects(file, found.ca_file, "localhost")


def test_domain_gets_its_names_and_the_old_authority_goes_on_being_trusted(tmp_path: Path) -> None:
    plain = configured(tmp_path)
    tls.prepare(plain, NOW)
    before = tmp_path / "before.pem"
    before.write_bytes(plain.ca_file.read_bytes())
    named = configured(tmp_path, names={"domain": "ai.example.com"})
    tls.prepare(named, NOW)
    file = tls.active_file(named)
    for name in ("acme.ai.ai.example.com", "local.api.ai.example.com", "management.ai.example.com", "localhost"):
        assert connects(file, named.ca_file, name)
    # Same key and name, so chains still build; but the old certificate vouches for no name outside its constraints.
    assert certificate_in(before).public_key() == certificate_in(named.ca_file).public_key()
    assert not connects(file, before, "management.ai.example.com")


def test_stolen_authority_key_is_worth_nothing_for_other_names(tmp_path: Path) -> None:
    found = configured(tmp_path)
    tls.prepare(found, NOW)
    authority_key = load_pem_private_key((tmp_path / "tls" / "ca.key").read_bytes(), None)
    for name, accepted in (("localhost", True), ("example.com", False), ("10.0.0.1", False)):
        made = make_pair(tmp_path, names=[name], issuer=certificate_in(found.ca_file), issuer_key=authority_key)
        both = tmp_path / "both.pem"
        both.write_bytes(made[0].read_bytes() + made[1].read_bytes())
        assert connects(both, found.ca_file, name) is accepted


def test_bundle_holds_the_systems_authorities_and_ours_and_never_itself(tmp_path: Path) -> None:
    system = tmp_path / "system.pem"
    found, other = configured(tmp_path / "one"), configured(tmp_path / "two")
    tls.prepare(other, NOW)
    system.write_bytes(other.ca_file.read_bytes())
    tls.prepare(found, NOW)
    tls.write_bundle(found, {"SSL_CERT_FILE": str(system)})
    bundle = found.ca_bundle_file.read_bytes()
    assert bundle.count(b"BEGIN CERTIFICATE") == 2
    assert found.ca_file.read_bytes() in bundle
    # `stockade env` made this very bundle the shell's: it must not grow by itself.
    assert tls.system_bundle({"SSL_CERT_FILE": str(found.ca_bundle_file)}) != found.ca_bundle_file


def test_interrupted_issue_is_made_good(tmp_path: Path) -> None:
    found = configured(tmp_path)
    first = tls.prepare(found, NOW)
    found.certificate_key_file.write_bytes(
        make_pair(tmp_path)[1].read_bytes()
    )  # the key was written, the certificate not yet
    assert tls.prepare(found, NOW).leaf != first.leaf
    found.ca_file.unlink()
    tls.prepare(found, NOW)
    assert connects(tls.active_file(found), found.ca_file, "localhost")


def make_pair(
    folder: Path,
    *,
    key: PrivateKeyTypes | None = None,
    names: list[str] | None = None,
    start: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=30),
    encryption: KeySerializationEncryption | None = None,
    issuer: x509.Certificate | None = None,
    issuer_key: Any = None,
) -> tuple[Path, Path]:
    private: Any = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "operator")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer is not None else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    hosts = ["localhost"] if names is None else names
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([tls._general_name(host) for host in hosts]), critical=False
        )
    certificate = builder.sign(issuer_key or private, SHA256())
    paths = folder / "pair.pem", folder / "pair.key"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return paths


def test_a_good_pair_of_the_operators_is_read(tmp_path: Path) -> None:
    pair = tls.read_pair(*make_pair(tmp_path, names=["a.example.com", "127.0.0.1"]), NOW)
    assert pair.names == {"a.example.com", "127.0.0.1"}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"start": NOW - timedelta(days=3), "end": NOW - timedelta(days=1)}, "valid from"),
        ({"start": NOW + timedelta(days=1)}, "valid from"),
        ({"names": []}, "names no host"),
        ({"key": ec.generate_private_key(ec.SECP521R1())}, "must be RSA"),
        ({"key": rsa.generate_private_key(65537, 1024)}, "must be RSA"),
        ({"encryption": BestAvailableEncryption(b"passphrase")}, "is encrypted"),
    ],
)
def test_unusable_pairs_are_refused_with_the_reason(tmp_path: Path, how: dict[str, Any], why: str) -> None:
    with pytest.raises(tls.UnusablePair, match=why):
        tls.read_pair(*make_pair(tmp_path, **how), NOW)


def test_missing_foreign_and_senseless_files_are_refused(tmp_path: Path) -> None:
    certificate, key = make_pair(tmp_path)
    with pytest.raises(tls.UnusablePair, match="cannot be read"):
        tls.read_pair(certificate, tmp_path / "absent", NOW)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(tls.UnusablePair, match="is not the key of"):
        tls.read_pair(certificate, make_pair(other)[1], NOW)
    key.write_text("no key")
    with pytest.raises(tls.UnusablePair, match="not a PEM"):
        tls.read_pair(certificate, key, NOW)
