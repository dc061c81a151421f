"""moto's server as AWS KMS, on loopback, and right in three things where moto is not: what KMS does with digests, RSA encryption and deleted keys.

moto signs every message as if it were no digest, encrypts with RSA keys by AES, and goes on using keys that wait for their deletion.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key
from moto.core.exceptions import JsonRESTError
from moto.kms.responses import KmsResponse
from moto.server import ThreadedMotoServer

CREDENTIAL = json.dumps({"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "kms-secret-8812"})
SHA = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512(), "1": hashes.SHA1()}


class Refusal(JsonRESTError):
    code = 400


def usable(response: KmsResponse) -> Any:
    """Return the key that a request names; as KMS does, only if it is enabled."""
    key = response.kms_backend.describe_key(response._get_param("KeyId"))
    if key.key_state != "Enabled":
        raise Refusal("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    return key


def octets(response: KmsResponse, name: str) -> bytes:
    value = response._get_param(name)
    return value if isinstance(value, bytes) else base64.b64decode(value)


def scheme(algorithm: str) -> ec.ECDSA:
    return ec.ECDSA(Prehashed(SHA[algorithm.rpartition("_")[2]]))


def sign(self: KmsResponse) -> str:
    key, algorithm = usable(self), self._get_param("SigningAlgorithm")
    assert self._get_param("MessageType") == "DIGEST"
    if algorithm not in (key.signing_algorithms or ()):
        raise Refusal("ValidationException", "Member must satisfy enum value set")
    signature = key.private_key.private_key.sign(octets(self, "Message"), scheme(algorithm))
    return json.dumps(
        {"KeyId": key.arn, "Signature": base64.b64encode(signature).decode(), "SigningAlgorithm": algorithm}
    )


def verify(self: KmsResponse) -> str:
    key, algorithm = usable(self), self._get_param("SigningAlgorithm")
    public = load_der_public_key(key.private_key.public_key())
    try:
        public.verify(octets(self, "Signature"), octets(self, "Message"), scheme(algorithm))
    except InvalidSignature:
        raise Refusal("KMSInvalidSignatureException", "") from None
    return json.dumps({"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": algorithm})


def oaep(algorithm: str) -> padding.OAEP:
    sha = SHA[algorithm.rpartition("_")[2]]
    return padding.OAEP(padding.MGF1(sha), sha, None)


@contextmanager
def kms() -> Iterator[str]:
    """Run the server and return its address."""
    theirs = {name: getattr(KmsResponse, name) for name in ("encrypt", "decrypt")}

    def encrypt(self: KmsResponse) -> str:
        key = usable(self)
        if not key.key_spec.startswith("RSA"):
            return theirs["encrypt"](self)
        algorithm = self._get_param("EncryptionAlgorithm")
        public = load_der_public_key(key.private_key.public_key())
        sealed = public.encrypt(octets(self, "Plaintext"), oaep(algorithm))
        return json.dumps(
            {"KeyId": key.arn, "CiphertextBlob": base64.b64encode(sealed).decode(), "EncryptionAlgorithm": algorithm}
        )

    def decrypt(self: KmsResponse) -> str:
        key = usable(self)
        if not key.key_spec.startswith("RSA"):
            return theirs["decrypt"](self)
        algorithm = self._get_param("EncryptionAlgorithm")
        try:
            value = key.private_key.private_key.decrypt(octets(self, "CiphertextBlob"), oaep(algorithm))
        except ValueError:
            raise Refusal("InvalidCiphertextException", "") from None
        return json.dumps(
            {"KeyId": key.arn, "Plaintext": base64.b64encode(value).decode(), "EncryptionAlgorithm": algorithm}
        )

    with pytest.MonkeyPatch.context() as patch:
        for name, call in {"encrypt": encrypt, "decrypt": decrypt, "sign": sign, "verify": verify}.items():
            patch.setattr(KmsResponse, name, call)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()
