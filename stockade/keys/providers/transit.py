"""Keys in the transit engine of HashiCorp Vault or OpenBao: made there, never leaving it.

The handle names the key; there is one for each version of ours, and of it version 1 alone is used, whoever rotates it. Of AES it has GCM
with 128 and 256 bits, of RSA encryption OAEP with SHA-256: what an older server would silently do in another way is not asked of it.
Source: Vault's and OpenBao's HTTP API of the transit engine (keys, encrypt, decrypt, sign, verify, random, import, wrapping_key).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_public_key

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import algorithms
from stockade.keys.algorithms import GCM_IV_BYTES, GCM_TAG_BYTES
from stockade.keys.material import Jwk, KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers._held import Handles, Held, spki
from stockade.keys.providers._place import Workers, credential, library, unavailable
from stockade.keys.providers.provider import MAX_RANDOM_BYTES, KeyProvider, ProviderKey
from stockade.settings import Provider

T = TypeVar("T")

PREFIX: Final = "vault:v1:"
"""What stands before ciphertexts and signatures of a key's version 1."""
NO_UPSERT: Final = "ecdsa-p256"
"""Said as the type of an encryption's key: a key that is not there would be made otherwise, and of this type it cannot be."""
_TYPES: Final = {
    ("RSA", 2048): "rsa-2048",
    ("RSA", 3072): "rsa-3072",
    ("RSA", 4096): "rsa-4096",
    ("EC", "P-256"): "ecdsa-p256",
    ("EC", "P-384"): "ecdsa-p384",
    ("EC", "P-521"): "ecdsa-p521",
    ("oct", 128): "aes128-gcm96",
    ("oct", 256): "aes256-gcm96",
}
_HASHES: Final = {
    **{f"{kind}{bits}": f"sha2-{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)},
    "RSNULL": "none",
}
_ENCRYPTION: Final = frozenset({"RSA-OAEP-256", "A128GCM", "A256GCM"})


class TransitProvider:
    """Keys at the server at `url`, in the engine mounted at `place` (`transit` where the settings say none)."""

    type: ClassVar[str] = "transit"

    def __init__(self, place: Provider, seal_key: Secret) -> None:
        hvac = library("hvac", "vault")
        self._errors = library("hvac.exceptions", "vault")
        self._failures: tuple[type[Exception], ...] = (library("requests", "vault").RequestException,)
        self._place = place
        self._mount = place.place.strip("/") or "transit"
        self._handles = Handles(seal_key, place.name)
        self._workers = Workers(place.name, place.timeout_s)
        if not place.url.startswith("https://"):
            raise Fault(FaultKind.UNAVAILABLE, f"The key provider {place.name} needs an https address as its url.")
        token = credential(place)
        # Redirects are not followed: the token would go with them.
        self._client: Any = hvac.Client(
            url=place.url.rstrip("/"),
            token=None if token is None else token.reveal_text(),
            verify=place.ca_file or True,
            timeout=place.timeout_s,
            allow_redirects=False,
        )

    def supports(self, spec: KeySpec) -> bool:
        return algorithms.supported(spec) and _kind(spec) in _TYPES

    def create(self, spec: KeySpec, bound_to: str) -> ProviderKey:
        kind, name = self._type(spec), f"stockade-{os.urandom(16).hex()}"
        self._ask("post", f"keys/{name}", {"type": kind, "exportable": False, "allow_plaintext_backup": False})
        return self._keep(name, spec, bound_to)

    def take(self, spec: KeySpec, private: Mapping[str, bytes], bound_to: str) -> ProviderKey:
        """Take in a key, wrapped on its way for the engine alone (AES key wrap with padding, the AES key by RSA-OAEP)."""
        kind, name = self._type(spec), f"stockade-{os.urandom(16).hex()}"
        if algorithms.family(spec.type) == "oct":
            key = algorithms.symmetric_key(spec, private)
        else:
            key = algorithms.private_key(spec, private).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        found = self._ask("get", "wrapping_key")
        wrapping = self._pem(found.get("public_key"))
        if not isinstance(wrapping, rsa.RSAPublicKey):
            raise unavailable(self._place.name)
        passing = os.urandom(32)
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        wrapped = wrapping.encrypt(passing, oaep) + aes_key_wrap_with_padding(passing, key)
        body = {"type": kind, "hash_function": "SHA256", "ciphertext": _base64(wrapped), "allow_rotation": False}
        self._ask("post", f"keys/{name}/import", body)
        return self._keep(name, spec, bound_to)

    def use(self, handle: bytes, public: Jwk, request: KeyRequest, bound_to: str) -> KeyAnswer:
        held = self._handles.open(handle, bound_to)
        held.check(request)
        known = _HASHES if request.use in {"sign", "verify"} else _ENCRYPTION
        if request.algorithm not in known:
            raise self._unsupported(request.algorithm)
        match request.use:
            case "sign" | "verify":
                return self._signature(held, request)
            case "encrypt" | "wrap":
                body = {"plaintext": _base64(request.value), "key_version": 1, "type": NO_UPSERT}
                answer = _octets(
                    self._operate(held, "encrypt", self._with_aad(body, request)).get("ciphertext"), PREFIX
                )
                return _split(answer) if held.bits else KeyAnswer(value=answer)
            case _:
                whole = (request.iv or b"") + request.value + (request.tag or b"")
                body = {"ciphertext": PREFIX + _base64(whole)}
                answer = _octets(self._operate(held, "decrypt", self._with_aad(body, request)).get("plaintext"))
                return KeyAnswer(value=answer)

    def export(self, handle: bytes, bound_to: str) -> bytes:
        raise self._unsupported("backups: its keys never leave it")

    def restore(self, exported: bytes, bound_to: str) -> ProviderKey:
        raise self._unsupported("backups: its keys never leave it")

    def destroy(self, handle: bytes, bound_to: str) -> None:
        name = self._handles.open(handle, bound_to).id
        if self._exists(name):
            self._ask("post", f"keys/{name}/config", {"deletion_allowed": True})
            self._ask("delete", f"keys/{name}")

    def random(self, count: int) -> bytes:
        if not 0 < count <= MAX_RANDOM_BYTES:
            raise algorithms.invalid(f"Between 1 and {MAX_RANDOM_BYTES} bytes can be had at once.", "count")
        found = _octets(self._ask("post", f"random/{count}", {"format": "base64"}).get("random_bytes"))
        if len(found) != count:
            raise unavailable(self._place.name)
        return found

    def check(self) -> None:
        self._exists("stockade-check")

    def close(self) -> None:
        self._workers.close()
        self._client.adapter.close()

    # Keys that somebody made there and gave a name.

    def wrap_named(self, name: str, value: bytes) -> tuple[bytes, str]:
        """Wrap with the newest version of a key; what comes of it is the engine's own text, which says the version."""
        body = {"plaintext": _base64(value), "type": NO_UPSERT}
        found = self._named(name, "encrypt", body).get("ciphertext")
        if not isinstance(found, str) or not found.startswith("vault:v"):
            raise unavailable(self._place.name)
        return found.encode(), name

    def unwrap_named(self, name: str, wrapped: bytes) -> bytes:
        return _octets(self._named(name, "decrypt", {"ciphertext": wrapped.decode("latin-1")}).get("plaintext"))

    def _named(self, name: str, operation: Literal["encrypt", "decrypt"], body: dict[str, Any]) -> dict[str, Any]:
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii():
            raise algorithms.invalid(f"That is no name of a key of the key provider {self._place.name}.", "key")
        return self._operate(Held(name, "oct"), operation, body)

    # Asking.

    def _signature(self, held: Held, request: KeyRequest) -> KeyAnswer:
        key = held.key
        body: dict[str, Any] = {
            "input": _base64(request.value),
            "prehashed": True,
            "hash_algorithm": _HASHES[request.algorithm],
            "marshaling_algorithm": "asn1",
        }
        if isinstance(key, rsa.RSAPublicKey):
            body["signature_algorithm"] = "pss" if request.algorithm.startswith("PS") else "pkcs1v15"
            body |= {"salt_length": "hash"} if request.algorithm.startswith("PS") else {}
            if request.algorithm == "RSNULL" and len(request.value) > key.key_size // 8 - algorithms.PKCS1_BYTES:
                raise algorithms.invalid("The value is too long for this key.", "value")
        if request.use == "sign":
            found = self._operate(held, "sign", {**body, "key_version": 1}).get("signature")
            signature = _octets(found, PREFIX)
            if isinstance(key, ec.EllipticCurvePublicKey):
                signature = self._raw(signature, key)
            return KeyAnswer(value=signature)
        signature = request.signature or b""
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                signature = algorithms.der_signature(signature, key.curve)
            elif len(signature) != key.key_size // 8:
                return KeyAnswer(valid=False)
        except ValueError:
            return KeyAnswer(valid=False)
        found = self._operate(held, "verify", {**body, "signature": PREFIX + _base64(signature)})
        return KeyAnswer(valid=found.get("valid") is True)

    def _raw(self, signature: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
        try:
            return algorithms.raw_signature(signature, key.curve)
        except (OverflowError, ValueError) as failure:
            raise unavailable(self._place.name) from failure

    def _with_aad(self, body: dict[str, Any], request: KeyRequest) -> dict[str, Any]:
        return {**body, "associated_data": _base64(request.aad)} if request.aad else body

    def _operate(self, held: Held, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """Use a key; Fault(INVALID) for a value that it does not take, Fault(UNAVAILABLE) where there is no such key."""
        try:
            return self._ask("post", f"{operation}/{held.id}", body)
        except Fault as fault:
            if fault.kind is not FaultKind.INVALID:
                raise
            if not self._exists(held.id):
                message = f"The key is not at the key provider {self._place.name}."
                raise Fault(FaultKind.UNAVAILABLE, message) from fault
            if operation == "decrypt":
                raise algorithms.undecryptable() from None
            raise

    def _exists(self, name: str) -> bool:
        return self._call(lambda: self._sent("get", f"keys/{name}", None), missing=True) is not None

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._call(lambda: self._sent(method, path, body)) or {}

    def _call(self, call: Callable[[], T], *, missing: bool = False) -> T | None:
        """Return what a call gives, failures as faults; None for "not found" where that is an answer."""
        errors = self._errors
        try:
            return self._workers.run(call)
        except errors.InvalidPath as refusal:
            if missing:
                return None
            raise unavailable(self._place.name) from refusal
        except errors.InvalidRequest as refusal:
            raise algorithms.invalid("The key provider does not accept that value for this key.", "value") from refusal
        except errors.InternalServerError as refusal:
            # What the engine answers when an RSA padding is wrong: it tells that from its own troubles by no more than its words.
            if "RSA decrypt" in str(refusal):
                raise algorithms.invalid("The value cannot be decrypted.", "value") from None
            raise unavailable(self._place.name) from refusal
        except (errors.Unauthorized, errors.Forbidden) as refusal:
            message = f"The key provider {self._place.name} refuses its token."
            raise Fault(FaultKind.UNAVAILABLE, message) from refusal
        except (errors.VaultError, OSError, *self._failures) as failure:
            raise unavailable(self._place.name) from failure

    def _sent(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Send one request; in a worker's thread."""
        answer = self._client.adapter.request(
            method, f"/v1/{self._mount}/{path}", **({} if body is None else {"json": body})
        )
        if not isinstance(answer, dict):
            if answer.status_code == 204:
                return {}
            raise self._errors.UnexpectedError("neither JSON nor nothing")
        found = answer.get("data")
        return found if isinstance(found, dict) else {}

    def _keep(self, name: str, spec: KeySpec, bound_to: str) -> ProviderKey:
        if algorithms.family(spec.type) == "oct":
            return self._handles.keep(Held(name, spec.type, bits=spec.size or 0), bound_to)
        versions = self._ask("get", f"keys/{name}").get("keys")
        first = versions.get("1") if isinstance(versions, dict) else None
        key = self._pem(first.get("public_key") if isinstance(first, dict) else None)
        return self._handles.keep(Held(name, spec.type, spki(key)), bound_to)

    def _pem(self, text: object) -> algorithms.PublicKey:
        try:
            key = load_pem_public_key(str(text).encode())
        except ValueError as failure:
            raise unavailable(self._place.name) from failure
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise unavailable(self._place.name)
        return key

    def _type(self, spec: KeySpec) -> str:
        algorithms.check_spec(spec)
        if not self.supports(spec):
            raise self._unsupported(f"{spec.type} keys with {spec.curve or f'{spec.size} bits'}")
        return _TYPES[_kind(spec)]

    def _unsupported(self, what: str) -> Fault:
        return Fault(FaultKind.UNSUPPORTED, f"The key provider {self._place.name} (transit) does not do {what}.")


class _Type:
    type = TransitProvider.type

    def install(self, place: Provider, seal_key: Secret) -> KeyProvider:
        return TransitProvider(place, seal_key)


PLUGIN = _Type()


def _kind(spec: KeySpec) -> tuple[str, object]:
    return algorithms.family(spec.type), spec.curve or spec.size


def _split(sealed: bytes) -> KeyAnswer:
    """Return the parts of what the engine gives as one: nonce, ciphertext, tag."""
    split = len(sealed) - GCM_TAG_BYTES
    if split < GCM_IV_BYTES:
        raise Fault(FaultKind.UNAVAILABLE, "The key provider gives no answer that can be read.")
    return KeyAnswer(value=sealed[GCM_IV_BYTES:split], iv=sealed[:GCM_IV_BYTES], tag=sealed[split:])


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _octets(text: object, prefix: str = "") -> bytes:
    """Return what an answer says in base64; Fault(UNAVAILABLE) for an answer that is none."""
    if isinstance(text, str) and text.startswith(prefix):
        try:
            return base64.b64decode(text[len(prefix) :], validate=True)
        except binascii.Error:
            pass
    raise Fault(FaultKind.UNAVAILABLE, "The key provider gives no answer that can be read.")
