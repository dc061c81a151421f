"""Keys in another Azure Key Vault, or in one that speaks its protocol: made there, never leaving it.

The handle is the key's id with its version. The maker's client is used for keys' lives and for authentication; cryptographic operations are
sent as they are, because its own would do those of the public key here, and so would not notice a key that was disabled or taken away.
Source: contracts, control-plane sections 6.1-6.6; azure-keyvault-keys 4.11 (`send_request`).
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import algorithms
from stockade.keys.material import Jwk, KeyAnswer, KeyRequest, KeySpec, Use
from stockade.keys.providers._held import Handles, Held, spki
from stockade.keys.providers._place import Workers, credential, library, unavailable
from stockade.keys.providers.provider import MAX_RANDOM_BYTES, KeyProvider, ProviderKey
from stockade.settings import Provider

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.exceptions import HttpResponseError
    from azure.keyvault.keys import KeyClient, KeyVaultKey

T = TypeVar("T")

API_VERSION: Final = "7.5"
WRAP_ALGORITHM: Final = "RSA-OAEP-256"
MAX_VERSIONS: Final = 500
"""Versions of one key that are looked through for the newest that serves."""
_VERBS: Final[dict[Use, str]] = {
    "encrypt": "encrypt",
    "decrypt": "decrypt",
    "sign": "sign",
    "verify": "verify",
    "wrap": "wrapkey",
    "unwrap": "unwrapkey",
}
_KEY_PATH: Final = re.compile(r"([0-9a-zA-Z-]{1,127})(?:/([0-9a-fA-F]{32}))?")


class _Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The JSON that the credential is. authority: of a login endpoint other than Microsoft's, `https://localhost:8444`."""

    tenant_id: str
    client_id: str
    client_secret: str
    authority: str = ""


class AzureKeyVaultProvider:
    """Keys in the vault at the `url` that the settings name."""

    type: ClassVar[str] = "azure-key-vault"

    def __init__(self, place: Provider, seal_key: Secret) -> None:
        self.url = place.url.rstrip("/")
        if urlsplit(self.url).scheme != "https":
            raise Fault(
                FaultKind.UNAVAILABLE, f"The key provider {place.name} needs the vault's https address as its url."
            )
        self._place = place
        self._handles = Handles(seal_key, place.name)
        self._workers = Workers(place.name, place.timeout_s)
        self._client, self._login = _connect(place, self.url)
        self._rest = library("azure.core.rest", "azure")
        self._errors = library("azure.core.exceptions", "azure")

    # What every provider does.

    def supports(self, spec: KeySpec) -> bool:
        return algorithms.supported(spec) and algorithms.family(spec.type) != "oct"

    def create(self, spec: KeySpec, bound_to: str) -> ProviderKey:
        self._check_spec(spec)
        name, hardware = f"stockade-{os.urandom(16).hex()}", spec.type.endswith("-HSM")
        client = self._client
        if spec.curve is not None:
            made = self._made(lambda: client.create_ec_key(name, curve=spec.curve, hardware_protected=hardware))
        else:
            made = self._made(lambda: client.create_rsa_key(name, size=spec.size, hardware_protected=hardware))
        return self._keep(spec, made, bound_to)

    def take(self, spec: KeySpec, private: Mapping[str, bytes], bound_to: str) -> ProviderKey:
        self._check_spec(spec)
        keys = library("azure.keyvault.keys", "azure")
        # Checked here, so that nothing is sent that is no key, and whole, whatever was left out.
        members = algorithms.private_members(algorithms.private_key(spec, private))
        jwk = keys.JsonWebKey(kty=spec.type, crv=spec.curve, **members)
        name, hardware = f"stockade-{os.urandom(16).hex()}", spec.type.endswith("-HSM")
        made = self._made(lambda: self._client.import_key(name, jwk, hardware_protected=hardware))
        return self._keep(spec, made, bound_to)

    def use(self, handle: bytes, public: Jwk, request: KeyRequest, bound_to: str) -> KeyAnswer:
        held = self._handles.open(handle, bound_to)
        held.check(request)
        if request.use == "verify":
            body = {"alg": request.algorithm, "digest": _base64(request.value)}
            # A client's signature may be empty, Key Vault's member may not.
            body["value"] = _base64(request.signature or b"\0")
            return KeyAnswer(valid=self._ask(lambda: self._operate(held.id, "verify", body)) is True)
        body = {"alg": request.algorithm, "value": _base64(request.value)}
        try:
            return KeyAnswer(value=self._ask(lambda: _octets(self._operate(held.id, _VERBS[request.use], body))))
        except Fault as fault:
            if fault.kind is FaultKind.INVALID and request.use in {"decrypt", "unwrap"}:
                raise algorithms.undecryptable() from None
            raise

    def export(self, handle: bytes, bound_to: str) -> bytes:
        raise self._unsupported("backups: its keys never leave it")

    def restore(self, exported: bytes, bound_to: str) -> ProviderKey:
        raise self._unsupported("backups: its keys never leave it")

    def destroy(self, handle: bytes, bound_to: str) -> None:
        """Delete the key, and purge it where that is allowed and done at once; else it goes for good when its retention ends."""
        name = self._path_of(self._handles.open(handle, bound_to).id)[0]

        def delete() -> None:
            with contextlib.suppress(self._errors.ResourceNotFoundError, self._errors.ResourceExistsError):
                self._client.begin_delete_key(name)
            with contextlib.suppress(self._errors.HttpResponseError):
                self._client.purge_deleted_key(name)

        self._ask(delete)

    def random(self, count: int) -> bytes:
        """Return bytes from this system: a vault's `rng` is Managed HSM's alone."""
        if not 0 < count <= MAX_RANDOM_BYTES:
            raise algorithms.invalid(f"Between 1 and {MAX_RANDOM_BYTES} bytes can be had at once.", "count")
        return os.urandom(count)

    def check(self) -> None:
        def look() -> None:
            with contextlib.suppress(self._errors.ResourceNotFoundError):
                self._client.get_key("stockade-check")

        self._ask(look)

    def close(self) -> None:
        self._workers.close()
        self._client.close()
        close = getattr(self._login, "close", None)
        if close is not None:
            close()

    # A customer's keys.

    def serving(self, name: str, version: str) -> str:
        found = self._customer(lambda: self._serving(name, version))
        key_id: str = found.id
        return key_id

    def wrap_named(self, name: str, value: bytes) -> tuple[bytes, str]:
        """Wrap with an RSA key of this vault, by its id or name, without a version with the newest that serves."""
        key, version = self._path_of(name)
        body = {"alg": WRAP_ALGORITHM, "value": _base64(value)}

        def wrap() -> tuple[bytes, str]:
            key_id = f"{self.url}/keys/{key}/{version}" if version else self._serving(key, "").id
            return _octets(self._operate(key_id, "wrapkey", body)), key_id

        return self._customer(wrap)

    def unwrap_named(self, name: str, wrapped: bytes) -> bytes:
        key, version = self._path_of(name)
        body = {"alg": WRAP_ALGORITHM, "value": _base64(wrapped)}
        if not version:
            raise algorithms.invalid("A key that unwraps is named with its version.", "key")
        path = f"{self.url}/keys/{key}/{version}"
        return self._customer(lambda: _octets(self._operate(path, "unwrapkey", body)))

    def _serving(self, name: str, version: str) -> KeyVaultKey:
        """Return a key version that can wrap now: the pinned one, or the newest. Fault(CUSTOMER_KEY_UNAVAILABLE) says why there is none."""
        try:
            found = self._client.get_key(name, version or None)
            problem = _problem(found)
            if problem is None:
                return found
        except self._errors.HttpResponseError as refusal:
            if version or _code(refusal) != "KeyDisabled":
                raise
            problem = _customer_fault("KeyDisabled", "The key is disabled.")
        if version:
            raise problem
        # The newest does not serve: perhaps one before it does. To look needs a right that serving keys does not.
        with contextlib.suppress(self._errors.HttpResponseError):
            older = []
            for properties in self._client.list_properties_of_key_versions(name):
                older.append(properties)
                if len(older) >= MAX_VERSIONS:
                    break
            older.sort(
                key=lambda one: (one.created_on.timestamp() if one.created_on else 0.0, one.version), reverse=True
            )
            for properties in older:
                if properties.enabled and _time_problem(properties) is None:
                    found = self._client.get_key(name, properties.version)
                    if _problem(found) is None:
                        return found
        raise problem

    def _path_of(self, name: str) -> tuple[str, str]:
        """Return name and version of a key of this vault; Fault(INVALID) for an id of anywhere else, which is never asked."""
        prefix = f"{self.url}/keys/"
        path = name[len(prefix) :] if name.lower().startswith(prefix.lower()) else name
        found = _KEY_PATH.fullmatch(path)
        if found is None:
            raise algorithms.invalid(f"That is no key of the key provider {self._place.name}.", "key")
        return found[1], found[2] or ""

    # Asking.

    def _ask(self, call: Callable[[], T]) -> T:
        """Return what a call gives; its failures as faults."""
        try:
            return self._workers.run(call)
        except self._errors.HttpResponseError as refusal:
            raise self._fault(refusal) from refusal
        except (self._errors.AzureError, OSError, ValueError) as failure:
            raise unavailable(self._place.name) from failure

    def _made(self, call: Callable[[], T]) -> T:
        try:
            return self._ask(call)
        except Fault as fault:
            if fault.kind is not FaultKind.INVALID:
                raise
            # All that can be wrong with it was looked at before: -HSM keys want a vault of the tier premium.
            raise self._unsupported("such keys") from fault

    def _customer(self, call: Callable[[], T]) -> T:
        """Return what a call gives; failures as what they say of a customer's key."""
        try:
            return self._workers.run(call)
        except self._errors.HttpResponseError as refusal:
            raise _customer_refusal(refusal) from refusal
        except (self._errors.AzureError, OSError, ValueError) as failure:
            raise _customer_fault("VaultUnreachable", "The key vault does not answer.") from failure
        except Fault as fault:
            if fault.kind is FaultKind.UNAVAILABLE:
                raise _customer_fault("VaultUnreachable", "The key vault does not answer in time.") from fault
            raise

    def _operate(self, key_id: str, verb: str, body: dict[str, str]) -> object:
        """Send one operation and return what came of it; in a worker's thread."""
        request = self._rest.HttpRequest("POST", f"{key_id}/{verb}", params={"api-version": API_VERSION}, json=body)
        response = self._client.send_request(request)
        response.raise_for_status()
        found = response.json()
        return found.get("value") if isinstance(found, dict) else None

    def _fault(self, refusal: HttpResponseError) -> Fault:
        match refusal.status_code:
            case 400:
                return algorithms.invalid("The key vault does not accept that request for this key.")
            case 404:
                return Fault(
                    FaultKind.UNAVAILABLE, f"The key is not in the vault of the key provider {self._place.name}."
                )
            case 401 | 403:
                message = f"The vault of the key provider {self._place.name} refuses its credential ({_code(refusal)})."
                return Fault(FaultKind.UNAVAILABLE, message)
            case _:
                return unavailable(self._place.name)

    def _check_spec(self, spec: KeySpec) -> None:
        algorithms.check_spec(spec)
        if not self.supports(spec):
            raise self._unsupported(
                f"{spec.type} keys" if spec.curve or algorithms.family(spec.type) == "oct" else "such an exponent"
            )

    def _unsupported(self, what: str) -> Fault:
        return Fault(FaultKind.UNSUPPORTED, f"The vault of the key provider {self._place.name} does not do {what}.")

    def _keep(self, spec: KeySpec, made: KeyVaultKey, bound_to: str) -> ProviderKey:
        jwk = made.key
        found = Jwk(kty=spec.type, n=jwk.n, e=jwk.e, crv=jwk.crv, x=jwk.x, y=jwk.y)  # type: ignore[attr-defined]
        self._path_of(made.id)
        return self._handles.keep(Held(made.id, spec.type, spki(algorithms.public_key(found))), bound_to)


class _Type:
    type = AzureKeyVaultProvider.type

    def install(self, place: Provider, seal_key: Secret) -> KeyProvider:
        return AzureKeyVaultProvider(place, seal_key)


PLUGIN = _Type()


def _connect(place: Provider, url: str) -> tuple[KeyClient, TokenCredential]:
    """Return the maker's client and its credential; nothing is sent yet."""
    keys, identity = library("azure.keyvault.keys", "azure"), library("azure.identity", "azure")
    shared: dict[str, Any] = {
        # One try: who asks has other things to do, and asks again.
        "retry_total": 0,
        "connection_timeout": place.timeout_s,
        "read_timeout": place.timeout_s,
        **({"connection_verify": place.ca_file} if place.ca_file else {}),
    }
    secret = credential(place)
    login: TokenCredential
    if secret is None:
        login = identity.DefaultAzureCredential(**shared)
    else:
        try:
            said = msgspec.json.decode(secret.reveal(), type=_Login)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = f"The credential of the key provider {place.name} has to be JSON with tenantId, clientId and clientSecret."
            raise Fault(FaultKind.UNAVAILABLE, message) from None
        if said.authority:
            # Of an authority that is not Microsoft's, Microsoft has nothing to say.
            shared_login = {**shared, "authority": said.authority, "disable_instance_discovery": True}
        else:
            shared_login = shared
        login = identity.ClientSecretCredential(said.tenant_id, said.client_id, said.client_secret, **shared_login)
    try:
        return keys.KeyClient(url, login, verify_challenge_resource=_has_parent_domain(url), **shared), login
    except ValueError as failure:
        raise unavailable(place.name) from failure


def _has_parent_domain(url: str) -> bool:
    """Say whether the vault's challenge can name a parent domain, as the client wants it: `localhost` and addresses have none."""
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return False
    return "." in host


def _problem(key: KeyVaultKey) -> Fault | None:
    """Return why a key cannot wrap now."""
    properties = key.properties
    if properties.enabled is False:
        return _customer_fault("KeyDisabled", "The key is disabled.")
    if (late := _time_problem(properties)) is not None:
        return late
    operations = {str(getattr(one, "value", one)) for one in key.key_operations or ()}
    if (
        not operations >= {"wrapKey", "unwrapKey"}
        or algorithms.family(str(getattr(key.key_type, "value", key.key_type))) != "RSA"
    ):
        return _customer_fault("KeyOperationNotPermitted", "The key does not permit wrapKey and unwrapKey.")
    return None


def _time_problem(properties: Any) -> Fault | None:
    now = time.time()
    if properties.not_before is not None and properties.not_before.timestamp() > now:
        return _customer_fault("KeyNotYetValid", "The key is not valid yet.")
    if properties.expires_on is not None and properties.expires_on.timestamp() <= now:
        return _customer_fault("KeyExpired", "The key has expired.")
    return None


def _customer_fault(problem: str, message: str) -> Fault:
    return Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, message, details={"problem": problem})


def _customer_refusal(refusal: HttpResponseError) -> Fault:
    code = _code(refusal)
    match refusal.status_code:
        case 404:
            return _customer_fault("KeyNotFound", "The key is not in the vault, or is deleted.")
        case 401 | 403 if code in _REFUSALS:
            problem, message = _REFUSALS[code]
            return _customer_fault(problem, message)
        case 401 | 403:
            return _customer_fault("AccessDenied", "The credential lacks a permission on the key.")
        case 400:
            return algorithms.undecryptable()
        case _:
            return _customer_fault("VaultUnreachable", f"The key vault answers with status {refusal.status_code}.")


_REFUSALS: Final = {
    "KeyDisabled": ("KeyDisabled", "The key is disabled."),
    "KeyNotYetValid": ("KeyNotYetValid", "The key is not valid yet."),
    "KeyExpired": ("KeyExpired", "The key has expired."),
    "KeyOperationForbidden": ("KeyOperationNotPermitted", "The key does not permit wrapKey and unwrapKey."),
    "ForbiddenByFirewall": ("VaultNetworkDenied", "The vault's network rules do not admit this platform."),
}


def _code(refusal: HttpResponseError) -> str:
    """Return the innermost code of a refusal, as far as it is one; in the message it stands in no fixed form."""
    error: Any = getattr(refusal, "error", None)
    found, inner = getattr(error, "code", None), getattr(error, "innererror", None)
    while isinstance(inner, Mapping):
        found, inner = inner.get("code") or found, inner.get("innererror")
    return found if isinstance(found, str) and re.fullmatch(r"[A-Za-z]{1,64}", found) else str(refusal.status_code)


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _octets(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("not base64url")  # noqa: TRY004 (the answer's fault)
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
