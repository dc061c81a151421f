"""The outer wrapping: by a customer's key, in a vault of ours or in another that the settings have a provider for.

Of ours, rights and state are read from the snapshot, and the key is used as the vault itself would. Another vault is asked, with the credential
that the settings name; whether it serves is what `watch.py` last found.
Source: contracts, control-plane section 6.6; RFC 3394 for A256KW.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

from stockade.broker.vault_keys import VaultKeys
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.broker import Binding
from stockade.keys.material import KeyRequest, Use
from stockade.keys.providers.provider import KeyProvider, RemoteVault
from stockade.policy.customer_key import Unavailable, serving_version, unavailable
from stockade.policy.snapshot import CustomerKey, Snapshot, VaultPolicy, VaultVersionPolicy
from stockade.settings import Provider

REMOTE_TYPE: Final = "azure-key-vault"
RSA_WRAPPINGS: Final = ("RSA-OAEP-256", "RSA-OAEP")


class CustomerKeys:
    """Wraps and unwraps with customers' keys. places: the settings' providers, whose URLs say which vaults are at hand."""

    def __init__(
        self, vault_keys: VaultKeys, places: tuple[Provider, ...], providers: Mapping[str, KeyProvider]
    ) -> None:
        self._vault_keys, self._providers = vault_keys, providers
        self._places = {place.url.rstrip("/").lower(): place.name for place in places if place.type == REMOTE_TYPE}

    def is_local(self, snapshot: Snapshot, vault_uri: str) -> bool:
        return snapshot.only("vault-at", vault_uri) is not None

    def wrap(self, snapshot: Snapshot, key: CustomerKey, inner: bytes, now: float) -> tuple[bytes, str]:
        """Return the wrapped bytes and the id of the key version that did it; Fault(CUSTOMER_KEY_UNAVAILABLE) says why it cannot.

        It is unwrapped again before it is returned: what can be wrapped and not unwrapped would be lost.
        """
        if not self.is_local(snapshot, key.vault_uri):
            wrapped, used = self._wrap_remote(key, inner)
            again = self._unwrap_remote(key.vault_uri, used, wrapped)
        else:
            version = serving_version(snapshot, key, now)
            if isinstance(version, Unavailable):
                raise refusal(version)
            wrapped = self._use(snapshot, version, "wrap", inner)
            used = f"{key.vault_uri}/keys/{key.key_name}/{version.version}"
            again = self._use(snapshot, version, "unwrap", wrapped)
        if not hmac.compare_digest(again, inner):
            raise Fault(FaultKind.UNAVAILABLE, "The customer-managed key does not unwrap what it wraps.")
        return wrapped, used

    def unwrap(
        self, snapshot: Snapshot, account_id: str, key: CustomerKey, customer: str, wrapped: bytes, now: float
    ) -> bytes:
        """Return what was wrapped. key: as the account has it now; customer: the version that wrapped, maybe an older one."""
        found = unavailable(snapshot, account_id, key, now)
        if found is not None:
            raise refusal(found)
        vault_uri, name, version_name = parts_of(customer)
        if not self.is_local(snapshot, vault_uri):
            return self._unwrap_remote(vault_uri, customer, wrapped)
        vault_id = snapshot.only("vault-at", vault_uri)
        vault: VaultPolicy | None = snapshot.only("vault", vault_id)
        version_id = f"{vault_id}/keys/{name.lower()}/versions/{version_name.lower()}"
        version: VaultVersionPolicy | None = snapshot.only("vault-version", version_id)
        if vault is None or version is None:
            message = f"The version {version_name} of the key '{name}' is not in the vault, or is deleted."
            raise refusal(Unavailable("KeyNotFound", message))
        pinned = CustomerKey(vault_uri, name, version_name, key.principal_id)
        # An older version may be past its end: what it wrapped is still unwrapped, as in any vault. All else has to hold for it too.
        state = serving_version(snapshot, pinned, now)
        if isinstance(state, Unavailable) and state.problem not in {"KeyExpired", "KeyNotYetValid"}:
            raise refusal(state)
        return self._use(snapshot, version, "unwrap", wrapped)

    def vault(self, vault_uri: str) -> RemoteVault | None:
        """Return what reaches a vault elsewhere; None when the settings name nothing."""
        name = self._places.get(vault_uri)
        found: object = self._providers[name] if name is not None else None
        return found if isinstance(found, RemoteVault) else None

    def _use(self, snapshot: Snapshot, version: VaultVersionPolicy, use: Use, value: bytes) -> bytes:
        try:
            return self._use_first(snapshot, version, use, value)
        except Fault as fault:
            if fault.kind is FaultKind.NOT_FOUND:
                raise refusal(Unavailable("KeyNotFound", "The key is not in the vault, or is deleted.")) from fault
            if fault.kind is FaultKind.INVALID and use == "unwrap":
                raise Fault(FaultKind.UNAVAILABLE, "A data key could not be opened.") from fault
            raise refusal(Unavailable("VaultUnreachable", f"The key cannot be used: {fault.message}")) from fault

    def _use_first(self, snapshot: Snapshot, version: VaultVersionPolicy, use: Use, value: bytes) -> bytes:
        """Use the first wrapping that the key's provider knows: there are HSMs that know OAEP with SHA-1 alone, and services without it.

        What it does not unwrap with the first, a provider that has learned it since may have wrapped with the second.
        """
        wrappings = (f"A{version.key_size or 256}KW",) if version.key_type.startswith("oct") else RSA_WRAPPINGS
        failed: Fault | None = None
        for algorithm in wrappings:
            try:
                request = KeyRequest(use=use, algorithm=algorithm, value=value)
                return self._vault_keys.use_stored(snapshot, version.id, request).value
            except Fault as fault:
                if fault.kind is not FaultKind.UNSUPPORTED and not (
                    use == "unwrap" and fault.kind is FaultKind.INVALID
                ):
                    raise
                # That a value does not open says more than that an algorithm is not known.
                failed = fault if failed is None or failed.kind is FaultKind.UNSUPPORTED else failed
        assert failed is not None
        raise failed

    def _wrap_remote(self, key: CustomerKey, inner: bytes) -> tuple[bytes, str]:
        name = f"{key.vault_uri}/keys/{key.key_name}" + (f"/{key.key_version}" if key.key_version else "")
        try:
            wrapped, used = self._provider(key.vault_uri).wrap_named(name, inner)
        except Fault as fault:
            raise _remote_refusal(fault) from fault
        return wrapped, used

    def _unwrap_remote(self, vault_uri: str, customer: str, wrapped: bytes) -> bytes:
        try:
            return self._provider(vault_uri).unwrap_named(customer, wrapped)
        except Fault as fault:
            raise _remote_refusal(fault) from fault

    def _provider(self, vault_uri: str) -> RemoteVault:
        found = self.vault(vault_uri)
        if found is None:
            raise refusal(Unavailable("VaultNotFound", f"There is no key vault at {vault_uri}."))
        return found


def customer_key(binding: Binding) -> CustomerKey:
    """Return a binding as policy knows it."""
    vault_uri = binding.vault_uri.rstrip("/").lower()
    return CustomerKey(vault_uri, binding.key_name, binding.key_version, binding.principal_id)


def parts_of(customer: str) -> tuple[str, str, str]:
    """Return vault URI, name and version of a key's id."""
    vault_uri, found, rest = customer.partition("/keys/")
    name, separated, version = rest.partition("/")
    if not found or not separated:
        raise Fault(FaultKind.UNAVAILABLE, "A data key could not be opened.")
    return vault_uri.lower(), name, version


def refusal(found: Unavailable) -> Fault:
    """Return why a customer's key does not serve, as a fault."""
    message = f"The customer-managed key cannot be used: {found.message}"
    return Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, message, details={"problem": found.problem})


_PROBLEMS: Final = {
    FaultKind.NOT_FOUND: "KeyNotFound",
    FaultKind.PERMISSION_DENIED: "AccessDenied",
    FaultKind.UNAUTHENTICATED: "AccessDenied",
    FaultKind.INVALID: "KeyOperationNotPermitted",
}


def _remote_refusal(fault: Fault) -> Fault:
    if fault.kind is FaultKind.CUSTOMER_KEY_UNAVAILABLE:
        return fault
    problem = _PROBLEMS.get(fault.kind, "VaultUnreachable")
    return refusal(Unavailable(problem, fault.message))  # type: ignore[arg-type]
