"""Keys that sign Lockbox statements and approvals: in a file, or in a key vault, here or elsewhere. The private half never goes to the server.

file:approver.pem          PEM (PKCS#8, with a passphrase where it has one) or a private JWK
https://v.vault.../keys/k  a key vault's; it signs there, with the approver's own token. VAULT/KEY is one of this platform's
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from stockade.cli.arm import Arm
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.lockbox import signature, strict
from stockade.lockbox.public_keys import (
    MIN_RSA_BITS,
    Algorithm,
    PublicKey,
    algorithms_of,
    import_jwk,
    public_jwk,
)
from stockade.lockbox.signature import Signature
from stockade.serve.files import write_private

PASSPHRASE_VARIABLE: Final = "STOCKADE_LOCKBOX_PASSPHRASE"  # noqa: S105 - the name of one
MAX_FILE: Final = 64 * 1024
_FILE: Final = "file:"


@dataclass(frozen=True, slots=True)
class Key:
    """A key to sign with. jwk: its public half, as statements have it. sign: payload and approver's id in; None where only that half is there."""

    name: str
    jwk: Mapping[str, str]
    sign: Callable[[bytes, str], Signature] | None = None

    @property
    def thumbprint(self) -> str:
        """RFC 7638, what a key is recognised by."""
        return thumbprint(self.jwk)


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return a public key's thumbprint (RFC 7638, SHA-256)."""
    found: str = import_jwk(jwk).thumbprint()
    return found


def key_of(source: str, arm: Arm) -> Key:
    """Return the key that a source names; typer.BadParameter for what is none, Fault for what a vault refuses."""
    if source.startswith(_FILE):
        return _from_file(Path(source.removeprefix(_FILE)).expanduser(), source)
    if source.lower().startswith("https://"):
        return _in_vault(source, arm)
    vault, separator, name = source.partition("/")
    if separator and vault and name:
        return _in_vault(f"https://{vault.lower()}.{arm.place.vaults}/keys/{name}", arm)
    raise typer.BadParameter(
        "A key is file:approver.pem, https://VAULT/keys/KEY, or VAULT/KEY for a vault of this platform."
    )


def new_key(path: Path, passphrase: Secret | None) -> Key:
    """Make a P-256 key and keep it in a new file that its owner alone can read; typer.BadParameter where there is one already."""
    if path.exists():
        raise typer.BadParameter(f"{path} is there already, and nothing is written over it.")
    made = ec.generate_private_key(ec.SECP256R1())
    kept: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase.reveal()) if passphrase is not None else NoEncryption()
    )
    write_private(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, kept))
    public = made.public_key()
    return Key(
        str(path), _public(_imported(public, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)))
    )


def asked_passphrase(prompt: str, *, twice: bool = False) -> Secret:
    """Return a passphrase from the environment or, where somebody sits there, from the keyboard; typer.BadParameter where nobody does."""
    given = os.environ.get(PASSPHRASE_VARIABLE, "")
    if given:
        return Secret(given)
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"The key has a passphrase: set {PASSPHRASE_VARIABLE}, or run this at a terminal.")
    return Secret(typer.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))


# Files


def _from_file(path: Path, name: str) -> Key:
    try:
        content = path.read_bytes()[: MAX_FILE + 1]
    except OSError as failure:
        raise typer.BadParameter(f"{path} cannot be read: {failure.strerror}.") from failure
    try:
        key = _jwk(content) if content.lstrip()[:1] == b"{" else _pem(content, path)
        jwk = _public(key)
    except (ValueError, TypeError, JoseError) as failure:
        raise typer.BadParameter(f"{path} holds no key that can be used: {_first_line(failure)}.") from failure
    if not key.is_private:
        return Key(name, jwk)
    return Key(name, jwk, lambda payload, key_id: signature.sign(payload, key_id, key))


def _jwk(content: bytes) -> PublicKey:
    members = json.loads(content)
    if not isinstance(members, dict):
        raise ValueError("no JWK")  # noqa: TRY004 - one kind of failure for what stands in a file
    kinds: dict[str, type[PublicKey]] = {"EC": ECKey, "RSA": RSAKey, "OKP": OKPKey}
    if members.get("kty") not in kinds:
        raise ValueError("no JWK")
    return kinds[members["kty"]].import_key(members)


def _pem(content: bytes, path: Path) -> PublicKey:
    if b"PRIVATE KEY" not in content:
        return _imported(load_pem_public_key(content), content)
    passphrase = asked_passphrase(f"Passphrase of {path}") if b"ENCRYPTED" in content else None
    try:
        opened = load_pem_private_key(content, passphrase.reveal() if passphrase is not None else None)
    except ValueError as failure:
        raise ValueError("its passphrase is another one, or it is damaged") from failure
    return _imported(opened, opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _imported(loaded: object, pem: bytes) -> PublicKey:
    if isinstance(loaded, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return ECKey.import_key(pem)
    if isinstance(loaded, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        if loaded.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key has at least {MIN_RSA_BITS} bits")
        return RSAKey.import_key(pem)
    return OKPKey.import_key(pem)


def _public(key: PublicKey) -> dict[str, str]:
    return public_jwk(key.as_dict(private=False))


def _first_line(failure: Exception) -> str:
    return (str(failure).splitlines() or ["not readable"])[0].rstrip(".")


# Vaults


def _in_vault(uri: str, arm: Arm) -> Key:
    head, separator, rest = uri.rstrip("/").partition("/keys/")
    if not separator or not rest:
        raise typer.BadParameter("A key's address is https://VAULT/keys/KEY, with or without a version.")
    if not arm.has_vault(uri):
        return _elsewhere(head, *_name_and_version(rest))
    shown = arm.vault("GET", f"{head}/keys/{rest}")["key"]
    jwk = _usable(shown, uri)

    def sign(payload: bytes, key_id: str) -> Signature:
        algorithm = _algorithm(jwk)

        def digest(value: bytes) -> bytes:
            asked = {"alg": algorithm, "value": strict.base64url(value)}
            return strict.from_base64url(str(arm.vault("POST", f"{shown['kid']}/sign", asked)["value"]))

        return signature.sign_elsewhere(payload, key_id, algorithm, digest)

    return Key(uri, jwk, sign)


def _elsewhere(vault: str, name: str, version: str | None) -> Key:
    """Return a key of a vault that is not this platform's, by Azure's own client: it finds the approver's credential as Azure's tools do."""
    try:
        from azure.core.exceptions import AzureError
        from azure.identity import DefaultAzureCredential
        from azure.keyvault.keys import KeyClient
        from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm
    except ImportError as missing:
        raise typer.BadParameter(
            "For keys in a vault elsewhere install the extra: pip install 'stockade[azure]'."
        ) from missing
    credential = DefaultAzureCredential()
    try:
        with KeyClient(vault, credential) as client:
            found = client.get_key(name, version)
    except (AzureError, ValueError) as failure:
        raise Fault(FaultKind.UNAVAILABLE, f"The vault does not give the key: {_first_line(failure)}.") from failure
    members = {member: _text(value) for member, value in vars(found.key).items() if value is not None}
    jwk = _usable(members, f"{vault}/keys/{name}")

    def sign(payload: bytes, key_id: str) -> Signature:
        algorithm = _algorithm(jwk)

        def digest(value: bytes) -> bytes:
            try:
                with CryptographyClient(found, credential) as client:
                    return bytes(client.sign(SignatureAlgorithm(algorithm), value).signature)
            except AzureError as failure:
                message = f"The vault does not sign: {_first_line(failure)}."
                raise Fault(FaultKind.UNAVAILABLE, message) from failure

        return signature.sign_elsewhere(payload, key_id, algorithm, digest)

    return Key(f"{vault}/keys/{name}", jwk, sign)


def _usable(members: Mapping[str, Any], uri: str) -> dict[str, str]:
    try:
        return public_jwk(members)
    except ValueError as failure:
        raise typer.BadParameter(f"{uri} cannot approve: {failure}.") from failure


def _algorithm(jwk: Mapping[str, str]) -> Algorithm:
    return algorithms_of(jwk)[0]


def _name_and_version(rest: str) -> tuple[str, str | None]:
    name, _, version = rest.partition("/")
    return name, version or None


def _text(value: Any) -> str:
    return strict.base64url(value) if isinstance(value, bytes) else str(getattr(value, "value", value))
