"""A stand-in for the transit engine of HashiCorp Vault and OpenBao, over TLS, written from their public API and what their servers answer.

No binary of either can be had where these tests run. What a client could notice is as there: statuses (an RSA value that does not decrypt is a
500), the text of errors, PEM keys by version, `vault:v1:` before ciphertexts and signatures, an encryption that makes the key it lacks,
keys that cannot be deleted until that is allowed, imports under a wrapping key, OAEP with SHA-256 alone.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from tests.factories.certificates import certificates

TOKEN = "s.standin-token-2741"
HASHES = {"sha2-256": hashes.SHA256(), "sha2-384": hashes.SHA384(), "sha2-512": hashes.SHA512()}
CURVES = {"ecdsa-p256": ec.SECP256R1(), "ecdsa-p384": ec.SECP384R1(), "ecdsa-p521": ec.SECP521R1()}
AES = {"aes128-gcm96": 16, "aes256-gcm96": 32}
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


class Refusal(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status)
        self.status, self.errors = status, errors


def make(kind: str) -> Any:
    if kind in AES:
        return os.urandom(AES[kind])
    if kind in CURVES:
        return ec.generate_private_key(CURVES[kind])
    if kind in {"rsa-2048", "rsa-3072", "rsa-4096"}:
        return rsa.generate_private_key(65537, int(kind[4:]))
    raise Refusal(400, f"unknown key type {kind}")


@cache
def wrapping_key() -> rsa.RSAPrivateKey:
    """Make the key that imports are wrapped for; once for all stand-ins of a test process, since that takes a second or two."""
    return rsa.generate_private_key(65537, 4096)


@dataclass
class Key:
    kind: str
    versions: dict[int, Any]
    deletion_allowed: bool = False
    imported: bool = False

    @property
    def latest(self) -> int:
        return max(self.versions)


@dataclass
class Engine:
    """What the server knows and was asked. delay: what each answer waits for."""

    url: str = ""
    ca_file: str = ""
    keys: dict[str, Key] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    delay: threading.Event | None = None
    fails_with: int = 0
    says: dict[str, Any] | None = None
    """What it answers instead, whatever it is asked."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        match method, path.split("/"):
            case "GET", ["wrapping_key"]:
                return {"public_key": pem(wrapping_key())}
            case "POST" | "PUT", ["keys", name]:
                if name not in self.keys:
                    self.keys[name] = Key(body.get("type", "aes256-gcm96"), {1: make(body.get("type", "aes256-gcm96"))})
                return self.described(name)
            case "GET", ["keys", name]:
                if name not in self.keys:
                    raise Refusal(404)
                return self.described(name)
            case "POST" | "PUT", ["keys", name, "import"]:
                return self.imported(name, body)
            case "POST" | "PUT", ["keys", name, "config"]:
                return self.configured(name, body)
            case "POST" | "PUT", ["keys", name, "rotate"]:
                key = self.keys[name]
                key.versions[key.latest + 1] = make(key.kind)
                return None
            case "DELETE", ["keys", name]:
                return self.deleted(name)
            case "POST" | "PUT", ["random", count]:
                return {"random_bytes": base64.b64encode(os.urandom(int(count))).decode()}
            case "POST" | "PUT", ["encrypt" | "decrypt" | "sign" | "verify" as operation, name]:
                return getattr(self, operation)(name, body)
        raise Refusal(404)

    def configured(self, name: str, body: dict[str, Any]) -> None:
        if name not in self.keys:
            raise Refusal(400, f"no existing key named {name} could be found")
        self.keys[name].deletion_allowed = body.get("deletion_allowed", self.keys[name].deletion_allowed)

    def deleted(self, name: str) -> None:
        if name not in self.keys:
            raise Refusal(400, f"could not delete key; not found: {name}")
        if not self.keys[name].deletion_allowed:
            raise Refusal(400, f"error deleting policy {name}: deletion is not allowed for this key")
        del self.keys[name]

    def described(self, name: str) -> dict[str, Any]:
        key = self.keys[name]
        versions: dict[str, Any] = {
            str(number): 1764144000 if key.kind in AES else {"name": key.kind, "public_key": pem(made), "creation_time": "2026-11-26T08:00:00Z"}
            for number, made in key.versions.items()
        }  # fmt: skip
        return {
            "name": name,
            "type": key.kind,
            "keys": versions,
            "latest_version": key.latest,
            "min_available_version": 0,
            "min_decryption_version": 1,
            "min_encryption_version": 0,
            "deletion_allowed": key.deletion_allowed,
            "derived": False,
            "exportable": False,
            "allow_plaintext_backup": False,
            "supports_encryption": key.kind not in CURVES,
            "supports_signing": key.kind not in AES,
            "imported_key": key.imported,
        }

    def imported(self, name: str, body: dict[str, Any]) -> None:
        if name in self.keys:
            raise Refusal(
                500,
                "the import path cannot be used with an existing key; use import-version to rotate an existing imported key",
            )
        sealed = base64.b64decode(body["ciphertext"])
        if len(sealed) <= 512 or body.get("hash_function", "SHA256") != "SHA256":
            raise Refusal(500, "provided ciphertext is too short")
        passing = wrapping_key().decrypt(sealed[:512], OAEP)
        content = aes_key_unwrap_with_padding(passing, sealed[512:])
        kind = body.get("type", "aes256-gcm96")
        if kind in AES and len(content) != AES[kind]:
            raise Refusal(500, f"invalid key size {len(content)} bytes for key type {kind}")
        self.keys[name] = Key(kind, {1: content if kind in AES else load_der_private_key(content, None)}, imported=True)

    def version(self, key: Key, wanted: int) -> Any:
        number = wanted or key.latest
        if number not in key.versions:
            raise Refusal(400, "requested version for encryption is higher than the latest key version")
        return number, key.versions[number]

    def encrypt(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name not in self.keys:
            kind = body.get("type", "aes256-gcm96")
            if kind not in AES:
                raise Refusal(400, f"key type {kind} not supported for this operation")
            self.keys[name] = Key(kind, {1: make(kind)})
        key = self.keys[name]
        number, made = self.version(key, body.get("key_version", 0))
        value = base64.b64decode(body["plaintext"], validate=True)
        if key.kind in CURVES:
            raise Refusal(400, f"message encryption not supported for key type {key.kind}")
        if key.kind in AES:
            nonce = os.urandom(12)
            sealed = nonce + AESGCM(made).encrypt(
                nonce, value, base64.b64decode(body.get("associated_data", "")) or None
            )
        else:
            if body.get("associated_data"):
                raise Refusal(400, f"'[0].associated_data' provided for non-AEAD cipher suite {key.kind}")
            try:
                sealed = made.public_key().encrypt(value, OAEP)
            except ValueError:
                raise Refusal(
                    400, "failed to RSA encrypt the plaintext: crypto/rsa: message too long for RSA key size"
                ) from None
        return {"ciphertext": f"vault:v{number}:{base64.b64encode(sealed).decode()}", "key_version": number}

    def opened(self, key: Key, text: str) -> tuple[Any, bytes]:
        parts = text.split(":")
        if len(parts) != 3 or parts[0] != "vault" or not parts[1][1:].isdigit():
            raise Refusal(400, "invalid ciphertext: no prefix")
        if int(parts[1][1:]) not in key.versions:
            raise Refusal(400, "invalid ciphertext: version is too new")
        try:
            return key.versions[int(parts[1][1:])], base64.b64decode(parts[2], validate=True)
        except ValueError:
            raise Refusal(400, "invalid ciphertext: could not decode base64") from None

    def decrypt(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name not in self.keys:
            raise Refusal(400, "encryption key not found")
        key = self.keys[name]
        made, sealed = self.opened(key, body["ciphertext"])
        if key.kind in AES:
            if len(sealed) < 12:
                raise Refusal(400, "invalid ciphertext length")
            try:
                aad = base64.b64decode(body.get("associated_data", "")) or None
                value = AESGCM(made).decrypt(sealed[:12], sealed[12:], aad)
            except InvalidTag:
                raise Refusal(400, "invalid ciphertext: unable to decrypt") from None
        else:
            try:
                value = made.decrypt(sealed, OAEP)
            except ValueError:
                raise Refusal(500, "failed to RSA decrypt the ciphertext: crypto/rsa: decryption error") from None
        return {"plaintext": base64.b64encode(value).decode()}

    def scheme(self, key: Key, body: dict[str, Any]) -> tuple[Any, ...]:
        if key.kind in AES:
            raise Refusal(400, f"key type {key.kind} does not support signing")
        name = body.get("hash_algorithm", "sha2-256")
        raw = name == "none"
        if raw and (not body.get("prehashed") or body.get("signature_algorithm") != "pkcs1v15"):
            raise Refusal(400, "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15")
        if not raw and name not in HASHES:
            raise Refusal(400, f'invalid hash algorithm "{name}"')
        assert body.get("prehashed"), "the stand-in takes digests alone"
        if key.kind in CURVES:
            return (ec.ECDSA(Prehashed(HASHES[name])),)
        if raw:
            return padding.PKCS1v15(), NoDigestInfo()
        if body.get("signature_algorithm", "pss") == "pkcs1v15":
            return padding.PKCS1v15(), Prehashed(HASHES[name])
        salt = HASHES[name].digest_size if body.get("salt_length") == "hash" else padding.PSS.MAX_LENGTH
        return padding.PSS(padding.MGF1(HASHES[name]), salt), Prehashed(HASHES[name])

    def sign(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name not in self.keys:
            raise Refusal(400, "signing key not found")
        key = self.keys[name]
        number, made = self.version(key, body.get("key_version", 0))
        signature = made.sign(base64.b64decode(body["input"]), *self.scheme(key, body))
        return {"signature": f"vault:v{number}:{base64.b64encode(signature).decode()}", "key_version": number}

    def verify(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name not in self.keys:
            raise Refusal(400, "signature verification key not found")
        key = self.keys[name]
        made, signature = self.opened(key, body["signature"])
        try:
            made.public_key().verify(signature, base64.b64decode(body["input"]), *self.scheme(key, body))
        except InvalidSignature:
            return {"valid": False}
        return {"valid": True}


def pem(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@contextmanager
def transit(folder: Path, mount: str = "transit") -> Iterator[Engine]:
    """Run the stand-in, its certificate under an authority of its own."""
    engine, made = Engine(), certificates(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            path = self.path.removeprefix(f"/v1/{mount}/")
            engine.asked.append((self.command, path, body))
            if engine.delay is not None:
                engine.delay.wait(20)
            try:
                if self.headers.get("X-Vault-Token") != TOKEN:
                    raise Refusal(403, "permission denied")
                if self.headers.get("X-Vault-Request") != "true" or path == self.path:
                    raise Refusal(404, "no handler for route")
                if engine.fails_with:
                    raise Refusal(engine.fails_with, "internal error")
                with engine.lock:
                    found = engine.says if engine.says is not None else engine.answer(self.command, path, body)
            except Refusal as refusal:
                self.send(refusal.status, {"errors": list(refusal.errors)})
                return
            whole = {"request_id": "9a0f", "lease_id": "", "renewable": False, "lease_duration": 0, "data": found}
            self.send(*((204, None) if found is None else (200, whole)))

        def send(self, status: int, content: dict[str, Any] | None) -> None:
            data = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            if content is not None:
                self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = made.server_context().wrap_socket(server.socket, server_side=True)
    engine.url, engine.ca_file = f"https://localhost:{server.server_address[1]}", str(made.authority)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield engine
    finally:
        if engine.delay is not None:
            engine.delay.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
