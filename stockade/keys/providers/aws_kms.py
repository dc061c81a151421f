"""Keys in AWS KMS: made there, never leaving it.

KMS lets a key either sign or encrypt. RSA keys are made to encrypt, since that is what customers' keys are for, and EC keys sign. What its
symmetric keys give is a blob in KMS's own form and none of Key Vault's algorithms: those keys wrap by name alone (the root key).
Source: AWS KMS API reference (CreateKey, Encrypt, Decrypt, Sign, Verify, ScheduleKeyDeletion).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import algorithms
from stockade.keys.material import Jwk, KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers._held import Handles, Held, spki
from stockade.keys.providers._place import WORKERS, Workers, credential, library, unavailable
from stockade.keys.providers.provider import MAX_RANDOM_BYTES, KeyProvider, ProviderKey
from stockade.settings import Provider

T = TypeVar("T")

DELETION_DAYS: Final = 7
"""The shortest that KMS waits before a key is gone for good; it cannot be used from the first moment on."""
RANDOM_BYTES: Final = 1024
"""What KMS gives at once."""
CONTEXT: Final = {"stockade": "named-key/1"}
"""Bound into what symmetric keys wrap, so that nothing else they have wrapped is taken for it."""
_SPECS: Final = {
    ("RSA", 2048): "RSA_2048",
    ("RSA", 3072): "RSA_3072",
    ("RSA", 4096): "RSA_4096",
    ("EC", "P-256"): "ECC_NIST_P256",
    ("EC", "P-384"): "ECC_NIST_P384",
    ("EC", "P-521"): "ECC_NIST_P521",
    ("EC", "P-256K"): "ECC_SECG_P256K1",
}
_ALGORITHMS: Final = {
    "RSA-OAEP": "RSAES_OAEP_SHA_1",
    "RSA-OAEP-256": "RSAES_OAEP_SHA_256",
    "ES256": "ECDSA_SHA_256",
    "ES384": "ECDSA_SHA_384",
    "ES512": "ECDSA_SHA_512",
    "ES256K": "ECDSA_SHA_256",
}
_UNDECRYPTABLE: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException", "ValidationException"})
_GONE: Final = frozenset({"NotFoundException", "DisabledException", "KMSInvalidStateException"})


class _Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The JSON that the credential is."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


class AwsKmsProvider:
    """Keys of one account in the region that the settings call `place`; at `url` instead of AWS's own endpoint, where they say so."""

    type: ClassVar[str] = "aws-kms"

    def __init__(self, place: Provider, seal_key: Secret) -> None:
        self._place = place
        self._handles = Handles(seal_key, place.name)
        self._workers = Workers(place.name, place.timeout_s)
        self._errors = library("botocore.exceptions", "aws")
        self._client = _connect(place)

    def supports(self, spec: KeySpec) -> bool:
        return algorithms.supported(spec) and _kind(spec) in _SPECS

    def create(self, spec: KeySpec, bound_to: str) -> ProviderKey:
        algorithms.check_spec(spec)
        if not self.supports(spec):
            raise self._unsupported(f"{spec.type} keys of that kind")
        usage = "SIGN_VERIFY" if spec.curve else "ENCRYPT_DECRYPT"

        def make() -> tuple[str, bytes]:
            made = self._client.create_key(KeySpec=_SPECS[_kind(spec)], KeyUsage=usage, Description="Made by Stockade")
            arn = made["KeyMetadata"]["Arn"]
            return arn, self._client.get_public_key(KeyId=arn)["PublicKey"]

        arn, encoded = self._ask(make)
        try:
            key = load_der_public_key(encoded)
        except ValueError as failure:
            raise unavailable(self._place.name) from failure
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise unavailable(self._place.name)
        return self._handles.keep(Held(arn, spec.type, spki(key)), bound_to)

    def take(self, spec: KeySpec, private: Mapping[str, bytes], bound_to: str) -> ProviderKey:
        raise self._unsupported("keys from outside")

    def use(self, handle: bytes, public: Jwk, request: KeyRequest, bound_to: str) -> KeyAnswer:
        held = self._handles.open(handle, bound_to)
        held.check(request)
        key, algorithm = held.key, _ALGORITHMS.get(request.algorithm)
        if algorithm is None:
            raise self._unsupported(request.algorithm)
        if isinstance(key, ec.EllipticCurvePublicKey):
            return self._signature(held, key, algorithm, request)
        if request.use in {"encrypt", "wrap"}:
            if not 0 < len(request.value) <= _room(key, request.algorithm):
                raise algorithms.invalid("The value is empty, or too long for this key and algorithm.", "value")
            how = {"KeyId": held.id, "Plaintext": request.value, "EncryptionAlgorithm": algorithm}
            return KeyAnswer(value=self._ask(lambda: self._client.encrypt(**how)["CiphertextBlob"]))
        if len(request.value) != key.key_size // 8:
            raise algorithms.undecryptable()
        how = {"KeyId": held.id, "CiphertextBlob": request.value, "EncryptionAlgorithm": algorithm}
        return KeyAnswer(value=self._ask(lambda: self._client.decrypt(**how)["Plaintext"], opens=True))

    def export(self, handle: bytes, bound_to: str) -> bytes:
        raise self._unsupported("backups: its keys never leave it")

    def restore(self, exported: bytes, bound_to: str) -> ProviderKey:
        raise self._unsupported("backups: its keys never leave it")

    def destroy(self, handle: bytes, bound_to: str) -> None:
        held = self._handles.open(handle, bound_to)

        def delete() -> None:
            try:
                key_id = held.id.rpartition("/")[2]
                self._client.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=DELETION_DAYS)
            except self._errors.ClientError as refusal:
                if _code(refusal) not in _GONE:
                    raise

        self._ask(delete)

    def random(self, count: int) -> bytes:
        if not 0 < count <= MAX_RANDOM_BYTES:
            raise algorithms.invalid(f"Between 1 and {MAX_RANDOM_BYTES} bytes can be had at once.", "count")

        def draw() -> bytes:
            found = b""
            while len(found) < count:
                wanted = min(count - len(found), RANDOM_BYTES)
                drawn: bytes = self._client.generate_random(NumberOfBytes=wanted)["Plaintext"]
                if len(drawn) != wanted:
                    raise ValueError("not as many bytes as were asked for")
                found += drawn
            return found

        return self._ask(draw)

    def check(self) -> None:
        self._ask(lambda: self._client.generate_random(NumberOfBytes=1))

    def close(self) -> None:
        self._workers.close()
        self._client.close()

    # Symmetric keys that somebody made there.

    def wrap_named(self, name: str, value: bytes) -> tuple[bytes, str]:
        """Wrap with a symmetric key by its id, ARN or alias; the name to unwrap with is its ARN."""
        how = {"KeyId": name, "Plaintext": value, "EncryptionContext": CONTEXT}

        def wrap() -> tuple[bytes, str]:
            found = self._client.encrypt(**how)
            return found["CiphertextBlob"], found["KeyId"]

        return self._ask(wrap)

    def unwrap_named(self, name: str, wrapped: bytes) -> bytes:
        how = {"KeyId": name, "CiphertextBlob": wrapped, "EncryptionContext": CONTEXT}
        value: bytes = self._ask(lambda: self._client.decrypt(**how)["Plaintext"], opens=True)
        return value

    def _signature(self, held: Held, key: ec.EllipticCurvePublicKey, algorithm: str, request: KeyRequest) -> KeyAnswer:
        how: dict[str, Any] = {"KeyId": held.id, "Message": request.value, "MessageType": "DIGEST"}
        how["SigningAlgorithm"] = algorithm
        if request.use == "sign":

            def sign() -> bytes:
                return algorithms.raw_signature(self._client.sign(**how)["Signature"], key.curve)

            return KeyAnswer(value=self._ask(sign))
        try:
            how["Signature"] = algorithms.der_signature(request.signature or b"", key.curve)
        except ValueError:
            return KeyAnswer(valid=False)

        def verify() -> bool:
            try:
                return self._client.verify(**how)["SignatureValid"] is True
            except self._errors.ClientError as refusal:
                if _code(refusal) == "KMSInvalidSignatureException":
                    return False
                raise

        return KeyAnswer(valid=self._ask(verify))

    def _ask(self, call: Callable[[], T], *, opens: bool = False) -> T:
        """Return what a call gives; its failures as faults. opens: it decrypts, so that what fails because of the value fails alike."""
        try:
            return self._workers.run(call)
        except self._errors.ClientError as refusal:
            code = _code(refusal)
            if opens and code in _UNDECRYPTABLE:
                raise algorithms.undecryptable() from None
            if code in _GONE:
                message = f"The key is not to be had at the key provider {self._place.name}, or is disabled there."
                raise Fault(FaultKind.UNAVAILABLE, message) from refusal
            raise unavailable(self._place.name) from refusal
        except (self._errors.BotoCoreError, KeyError, OSError, OverflowError, ValueError) as failure:
            raise unavailable(self._place.name) from failure

    def _unsupported(self, what: str) -> Fault:
        return Fault(FaultKind.UNSUPPORTED, f"The key provider {self._place.name} (AWS KMS) does not do {what}.")


class _Type:
    type = AwsKmsProvider.type

    def install(self, place: Provider, seal_key: Secret) -> KeyProvider:
        return AwsKmsProvider(place, seal_key)


PLUGIN = _Type()


def _connect(place: Provider) -> Any:
    """Return the maker's client; nothing is sent yet."""
    boto3, configuration = library("boto3", "aws"), library("botocore.config", "aws")
    # It logs the bodies of answers, plaintexts and all, for whoever has set the log to everything.
    logging.getLogger("botocore").setLevel(logging.INFO)
    address = urlsplit(place.url)
    if place.url and address.scheme != "https" and address.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise Fault(FaultKind.UNAVAILABLE, f"The key provider {place.name} needs an https address as its url.")
    secret, login = credential(place), {}
    if secret is not None:
        try:
            said = msgspec.json.decode(secret.reveal(), type=_Login)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = (
                f"The credential of the key provider {place.name} has to be JSON with accessKeyId and secretAccessKey."
            )
            raise Fault(FaultKind.UNAVAILABLE, message) from None
        login = {
            "aws_access_key_id": said.access_key_id,
            "aws_secret_access_key": said.secret_access_key,
            "aws_session_token": said.session_token,
        }
    # One try: who asks has other things to do, and asks again.
    bounds = configuration.Config(
        connect_timeout=place.timeout_s,
        read_timeout=place.timeout_s,
        retries={"total_max_attempts": 1},
        max_pool_connections=WORKERS,
    )
    where = {"region_name": place.place or None, "endpoint_url": place.url or None, "verify": place.ca_file or None}
    try:
        return boto3.client("kms", config=bounds, **where, **login)
    except (library("botocore.exceptions", "aws").BotoCoreError, ValueError) as failure:
        # No region, say.
        message = f"The key provider {place.name} cannot be used as its settings are: {type(failure).__name__}."
        raise Fault(FaultKind.UNAVAILABLE, message) from failure


def _kind(spec: KeySpec) -> tuple[str, object]:
    return algorithms.family(spec.type), spec.curve or spec.size


def _room(key: rsa.RSAPublicKey, algorithm: str) -> int:
    """Return how much OAEP takes. Source: RFC 8017 section 7.1.1."""
    return key.key_size // 8 - 2 * (20 if algorithm == "RSA-OAEP" else 32) - 2


def _code(refusal: Any) -> str:
    return str(refusal.response.get("Error", {}).get("Code", ""))
