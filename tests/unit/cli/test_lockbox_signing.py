"""Keys that sign: in files of every kind, in a vault of this platform; what is none says so and nothing of the key."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import typer
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc.jwk import ECKey

from stockade.cli import lockbox_signing
from stockade.cli.arm import Arm
from stockade.cli.lockbox_signing import Key, key_of, new_key, thumbprint
from stockade.kernel.secret import Secret
from stockade.lockbox.signature import Signed, require
from stockade.lockbox.statement import Approver

PAYLOAD = b'{"type":"x"}'
WHO = "11111111-1111-4111-8111-111111111111"
PRIVATE: dict[str, Any] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "RSA": rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


class NoArm:
    """A platform that is asked for nothing."""

    class place:  # noqa: N801 - as the attribute is called
        vaults = "vault.stockade.localhost:8444"

    def has_vault(self, uri: str) -> bool:
        return False


def holds(key: Key) -> None:
    """Say whether what a key signs verifies for the statement that its public half stands in."""
    assert key.sign is not None
    approver = Approver(id="alice", principal=WHO, jwk=dict(key.jwk))
    require(Signed(PAYLOAD, (key.sign(PAYLOAD, "alice"),)), (approver,), 1)


def arm(value: Any = None) -> Arm:
    return value or NoArm()


@pytest.mark.parametrize("kind", PRIVATE)
@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_a_pem_file_signs(kind: str, passphrase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    file = tmp_path / "approver.pem"
    file.write_bytes(PRIVATE[kind].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, kept))
    if passphrase:
        monkeypatch.setenv("STOCKADE_LOCKBOX_PASSPHRASE", passphrase)
    holds(key_of(f"file:{file}", arm()))


def test_a_jwk_signs_and_its_public_half_has_nothing_of_the_private_one(tmp_path: Path) -> None:
    file = tmp_path / "approver.json"
    made = ECKey.generate_key("P-256")
    file.write_text(json.dumps(made.as_dict(private=True)))
    key = key_of(f"file:{file}", arm())
    holds(key)
    assert set(key.jwk) == {"kty", "crv", "x", "y"}


@pytest.mark.parametrize("kind", PRIVATE)
def test_the_public_half_alone_is_known_and_signs_nothing(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "public.pem"
    public = PRIVATE[kind].public_key()
    file.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    key = key_of(f"file:{file}", arm())
    assert key.sign is None and len(key.thumbprint) == 43


def test_a_new_key_is_its_owners_alone_and_written_over_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "approver.pem"
    made = new_key(file, Secret("correct horse"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.setenv("STOCKADE_LOCKBOX_PASSPHRASE", "correct horse")
    again = key_of(f"file:{file}", arm())
    holds(again)
    assert again.thumbprint == made.thumbprint
    with pytest.raises(typer.BadParameter, match="nothing is written over it"):
        new_key(file, None)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no key that can be used"),
        (b"{}", "no key that can be used"),
        (b"[1]", "no key that can be used"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no key that can be used"),
        (
            ec.generate_private_key(ec.SECP521R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "no key that can be used",
        ),
        (
            rsa.generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "no key that can be used",
        ),
    ],
    ids=("empty", "empty jwk", "list", "damaged", "P-521", "short RSA"),
)
def test_what_is_no_key_says_so(content: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "k"
    file.write_bytes(content)
    with pytest.raises(typer.BadParameter, match=told):
        key_of(f"file:{file}", arm())


def test_a_missing_file_and_a_strange_source_are_named(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="cannot be read"):
        key_of(f"file:{tmp_path / 'none'}", arm())
    with pytest.raises(typer.BadParameter, match="VAULT/KEY"):
        key_of("approver.pem", arm())


def test_a_wrong_passphrase_opens_nothing_and_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "approver.pem"
    new_key(file, Secret("correct horse"))
    monkeypatch.setenv("STOCKADE_LOCKBOX_PASSPHRASE", "battery staple")
    with pytest.raises(typer.BadParameter) as refused:
        key_of(f"file:{file}", arm())
    assert "passphrase is another one" in str(refused.value) and "staple" not in str(refused.value)
    monkeypatch.delenv("STOCKADE_LOCKBOX_PASSPHRASE")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(typer.BadParameter, match="run this at a terminal"):
        key_of(f"file:{file}", arm())


class Vault(NoArm):
    """A platform with one vault, which signs digests as Key Vault does."""

    def __init__(self, kind: str) -> None:
        self.private, self.kind = PRIVATE[kind], kind
        self.asked: list[tuple[str, str, Any]] = []

    def has_vault(self, uri: str) -> bool:
        return uri.startswith("https://v1.vault.stockade.localhost:8444/")

    def vault(self, method: str, uri: str, body: Any = None) -> Any:
        self.asked.append((method, uri, body))
        if method == "GET":
            numbers = self.private.public_key().public_numbers()
            size = (self.private.curve.key_size + 7) // 8
            members = {name: text(getattr(numbers, name).to_bytes(size, "big")) for name in ("x", "y")}
            return {"key": {"kid": f"{uri}/4f", "kty": "EC-HSM", "crv": self.kind, "key_ops": ["sign"], **members}}
        value = base64.urlsafe_b64decode(body["value"] + "==")
        hashed = hashes.SHA384() if self.kind == "P-384" else hashes.SHA256()
        r, s = utils.decode_dss_signature(self.private.sign(value, ec.ECDSA(utils.Prehashed(hashed))))
        size = (self.private.curve.key_size + 7) // 8
        return {"kid": uri, "value": text(r.to_bytes(size, "big") + s.to_bytes(size, "big"))}


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("kind", ["P-256", "P-384"])
@pytest.mark.parametrize("source", ["v1/approver", "https://v1.vault.stockade.localhost:8444/keys/approver"])
def test_a_vault_of_the_platform_signs_digests(kind: str, source: str) -> None:
    vault = Vault(kind)
    holds(key_of(source, arm(vault)))
    (method, uri, body) = vault.asked[-1]
    assert (method, uri) == ("POST", "https://v1.vault.stockade.localhost:8444/keys/approver/4f/sign")
    assert body["alg"] == {"P-256": "ES256", "P-384": "ES384"}[kind]


def test_thumbprints_are_rfc_7638s() -> None:
    """The example of RFC 7638, section 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn6"
        "4tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n9"
        "1CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    assert thumbprint({"kty": "RSA", "n": modulus, "e": "AQAB"}) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
def test_a_vault_elsewhere_signs_by_azures_client(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure's own classes carry the key; only what would go over the network is answered here."""
    keys = pytest.importorskip("azure.keyvault.keys")
    crypto = pytest.importorskip("azure.keyvault.keys.crypto")
    private, asked = PRIVATE[kind], []

    class KeyClient:
        def __init__(self, vault: str, _: object) -> None:
            asked.append(vault)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def get_key(self, name: str, version: str | None) -> Any:
            asked.append((name, version))
            numbers = private.public_key().public_numbers()
            if kind == "RSA":
                members = {"n": numbers.n.to_bytes(256, "big"), "e": numbers.e.to_bytes(3, "big")}
                return keys.KeyVaultKey("https://v/keys/k/1", kty=keys.KeyType.rsa_hsm, key_ops=["sign"], **members)
            size = (private.curve.key_size + 7) // 8
            members = {each: getattr(numbers, each).to_bytes(size, "big") for each in ("x", "y")}
            curve = keys.KeyCurveName.p_256 if kind == "P-256" else keys.KeyCurveName.p_384
            return keys.KeyVaultKey("https://v/keys/k/1", kty=keys.KeyType.ec, crv=curve, key_ops=["sign"], **members)

    class CryptographyClient(KeyClient):
        def __init__(self, key: Any, _: object) -> None:
            asked.append(key.id)

        def sign(self, algorithm: Any, digest: bytes) -> Any:
            asked.append(algorithm.value)
            if kind == "RSA":
                scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
                return SimpleNamespace(signature=private.sign(digest, scheme, utils.Prehashed(hashes.SHA256())))
            answer = Vault(kind).vault("POST", "", {"value": text(digest)})
            return SimpleNamespace(signature=base64.urlsafe_b64decode(answer["value"] + "=="))

    monkeypatch.setattr(keys, "KeyClient", KeyClient)
    monkeypatch.setattr(crypto, "CryptographyClient", CryptographyClient)
    holds(key_of("https://theirs.vault.azure.net/keys/approver/4f", arm()))
    algorithm = {"P-256": "ES256", "P-384": "ES384", "RSA": "PS256"}[kind]
    assert asked == ["https://theirs.vault.azure.net", ("approver", "4f"), "https://v/keys/k/1", algorithm]


def test_a_vault_elsewhere_needs_azures_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "azure.keyvault.keys", None)
    with pytest.raises(typer.BadParameter, match=r"stockade\[azure\]"):
        key_of("https://theirs.vault.azure.net/keys/approver", arm())
    assert lockbox_signing.PASSPHRASE_VARIABLE == "STOCKADE_LOCKBOX_PASSPHRASE"
