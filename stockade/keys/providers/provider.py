"""What holds keys, as the key broker sees it.

A provider makes a key and gives a handle to it: bytes that are stored with the key's version and mean nothing to anybody else. For the
software provider the handle is the sealed key itself; for all others it names a key that never leaves its device or service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, Protocol, runtime_checkable

import msgspec

from stockade.kernel.secret import Secret
from stockade.keys.material import Jwk, KeyAnswer, KeyRequest, KeySpec
from stockade.settings import Provider

MAX_RANDOM_BYTES: Final = 4096
"""At once. Key Vault itself gives 128."""


class ProviderKey(msgspec.Struct, frozen=True):
    """A key that a provider has made or taken in."""

    handle: bytes
    public: Jwk


@runtime_checkable
class KeyProvider(Protocol):
    """Holds keys. Synchronous and safe to call from several threads; every call is bounded in time by the provider's own settings.

    Raises Fault(INVALID) for what the caller asked wrongly (unknown algorithm, undecryptable value: one message for all padding errors),
    Fault(UNSUPPORTED) for what this provider does not do, Fault(UNAVAILABLE) when it cannot be reached, and nothing else.

    bound_to: what a handle belongs to (the key version's id). A handle shown with another one does not open.
    """

    type: ClassVar[str]
    """`software`, `pkcs11`, `azure-key-vault`, `transit`, `aws-kms`: as the settings name it."""

    def supports(self, spec: KeySpec) -> bool:
        """Say whether a key of that kind can be made here."""
        ...

    def create(self, spec: KeySpec, bound_to: str) -> ProviderKey: ...

    def take(self, spec: KeySpec, private: Mapping[str, bytes], bound_to: str) -> ProviderKey:
        """Take in a key from outside. private: the members of its private JWK, as bytes. Fault(UNSUPPORTED) where keys cannot come in."""
        ...

    def use(self, handle: bytes, public: Jwk, request: KeyRequest, bound_to: str) -> KeyAnswer: ...

    def export(self, handle: bytes, bound_to: str) -> bytes:
        """Return what `restore` makes the key of again, for a vault's backup, which the broker seals; Fault(UNSUPPORTED) where it cannot leave."""
        ...

    def restore(self, exported: bytes, bound_to: str) -> ProviderKey: ...

    def destroy(self, handle: bytes, bound_to: str) -> None:
        """Make the key unusable for good. Done twice is done once."""
        ...

    def random(self, count: int) -> bytes:
        """Return so many random bytes from its own generator, or from the system's."""
        ...

    def check(self) -> None:
        """Raise Fault(UNAVAILABLE) unless keys can be used now."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class NamedKeys(Protocol):
    """What all providers but the software one can do beside: use a key that somebody made there and gave a name.

    For the root key (auto-unseal) and for a customer's key in another vault. What the name is: the key's id, with or without version
    (Azure); the key's name (transit); its id, ARN or alias (AWS); the label of an AES or RSA key (PKCS#11).
    """

    def wrap_named(self, name: str, value: bytes) -> tuple[bytes, str]:
        """Wrap up to 64 bytes. Return what came of it and the name to unwrap with, which has a version where names have them."""
        ...

    def unwrap_named(self, name: str, wrapped: bytes) -> bytes: ...


@runtime_checkable
class RemoteVault(NamedKeys, Protocol):
    """A key vault that is not this platform's, with customers' keys in it (`azure-key-vault`).

    Of a key that does not serve it raises Fault(CUSTOMER_KEY_UNAVAILABLE) with details `problem`, a code of `policy/customer_key.py`:
    KeyNotFound, KeyDisabled, KeyNotYetValid, KeyExpired, KeyOperationNotPermitted, AccessDenied, VaultNetworkDenied, VaultUnreachable.
    """

    url: str
    """Without a trailing slash."""

    def serving(self, name: str, version: str) -> str:
        """Return the id of the version that data keys are wrapped with: the pinned one, or with "" the newest; having asked the vault now."""
        ...


@runtime_checkable
class ProviderType(Protocol):
    """What each file of this shelf exports as `PLUGIN`."""

    type: str
    """As in the settings."""

    def install(self, place: Provider, seal_key: Secret) -> KeyProvider:
        """Return a provider for what the settings describe; it connects when it is first used.

        seal_key: 32 bytes, which handles are sealed under. Fault(UNAVAILABLE) when the maker's client is not installed or has no credential.
        """
        ...
