"""The key broker, as everybody else sees it: the only one that unwraps data keys and uses vault keys, and it asks for evidence each time.

It is a process of its own (`stockade/broker/`); the first start and the tests have one inside their own process. Both speak this protocol.
Messages are msgspec structs, so that the wire between the processes is this file too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from stockade.kernel.evidence import Evidence
from stockade.kernel.secret import Secret
from stockade.keys.lockbox import LockboxKeys
from stockade.keys.log_signing import LogSigner
from stockade.keys.material import KeyAnswer, KeyRequest, KeySpec
from stockade.keys.providers.provider import ProviderKey
from stockade.keys.request_receipts import Receipt

Part: TypeAlias = Literal["content", "metadata"]
Access: TypeAlias = Literal["read", "write"]


class ObjectRef(msgspec.Struct, frozen=True):
    """One stored thing of an account. All of it is bound into its key, so nothing can stand in for anything else.

    path:     kind and id, `files/file-4f...`; version: new with every writing, so that an older one cannot come back.
    data_key: the version of the account's data key it is kept under; "" for the newest, to write.
    """

    path: str
    version: str
    data_key: str = ""
    part: Part = "content"


class ObjectKeys(msgspec.Struct, frozen=True):
    """Keys on loan, in the order of what was asked for. Whoever has them wipes them when the lease ends, and asks again."""

    keys: tuple[Secret, ...]
    data_key: str
    """The version of the account's data key that new things are kept under."""
    lease_s: float


class Binding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A customer's key, as an account names it.

    vault_uri: without a trailing slash. key_version: "" follows the newest enabled one. principal_id: the managed identity that uses it.
    """

    vault_uri: str
    key_name: str
    key_version: str
    principal_id: str


class WrappedDataKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A data key as an account's document holds it: wrapped by the platform's key, and by the customer's around that where one is bound.

    version:     12 hex digits, new with every data key.
    wrapped:     what the outermost wrapping gave.
    platform:    the version of the platform's key inside.
    customer:    where the outer wrapping is the customer's: the key's whole id with version, `https://v.../keys/k/4f...`; "" where there is none.
    statement:   digest of the Lockbox statement that it opens beside, and beside no other; "" where there never was one.
    """

    version: str
    created_at: float
    wrapped: bytes
    platform: str
    customer: str = ""
    statement: str = ""


class JobScope(msgspec.Struct, frozen=True):
    """What a job may read and write: paths in full, or all of a kind below a prefix that ends in `/*`."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    expires_at: float


class BrokerStatus(msgspec.Struct, frozen=True):
    """How the broker stands. shares: how many are wanted to unseal, and how many have been given."""

    sealed: bool
    root_source: str
    shares_wanted: int = 0
    shares_given: int = 0
    providers: dict[str, str] = {}
    """Per provider "ok", or why it cannot be used."""
    platform_key: str = ""
    """The version of the platform's key that wraps data keys now; "" while sealed."""


class Broker(LockboxKeys, LogSigner, Protocol):
    """Synchronous; `AsyncBroker` has the same under the same names. Fault(UNAVAILABLE) when it is sealed or not to be reached.

    asked_by: who asks, for the record: a process and what it does (`data-worker Files_Get`).
    """

    # Content. Fault(CUSTOMER_KEY_UNAVAILABLE), Fault(PERMISSION_DENIED), Fault(LOCKBOX_DENIED), Fault(UNAUTHENTICATED), Fault(NOT_FOUND) for no
    # such account.

    def object_keys(
        self,
        account_id: str,
        objects: Sequence[ObjectRef],
        access: Access,
        data_action: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ObjectKeys: ...

    def job_grant(self, account_id: str, job: str, scope: JobScope, data_action: str, evidence: Evidence) -> Secret:
        """Return what lets a job go on with what its starter may do. No wider than the evidence allows at this moment."""
        ...

    # Data keys. Fault(CUSTOMER_KEY_UNAVAILABLE) with the reason when the customer's key does not serve. What a customer's key has wrapped is
    # unwrapped with it again before it is returned.

    # account_id: of the account or encryption scope. evidence: what was shown to ARM, by somebody who may write it; else Fault(PERMISSION_DENIED).

    def new_data_key(self, account_id: str, binding: Binding | None, evidence: Evidence) -> WrappedDataKey: ...

    def rewrap(
        self,
        account_id: str,
        held: WrappedDataKey,
        before: Binding | None,
        after: Binding | None,
        evidence: Evidence | None,
    ) -> WrappedDataKey:
        """Return the same data key wrapped as `after` says (None: by the platform alone), having opened it as `before` says.

        evidence None: nobody asks, but the data key is a stored one, and both are what its document binds now, as the broker reads it.
        """
        ...

    # Vault keys and secrets. version_id: the lower-case ARM id of a key's or secret's version, which material is bound to.

    def make_key(
        self, provider: str, spec: KeySpec, version_id: str, evidence: Evidence | None, asked_by: str
    ) -> ProviderKey:
        """Make the key of a version that is about to be stored: for a vault's caller, for ARM's, or for the key's own rotation policy.

        evidence None: nobody asks, but the policy that is stored with the key, which the broker reads, wants another version like the newest now.
        """
        ...

    def take_key(
        self,
        provider: str,
        spec: KeySpec,
        private: dict[str, Secret],
        version_id: str,
        evidence: Evidence,
        asked_by: str,
    ) -> ProviderKey: ...

    def use_key(self, version_id: str, request: KeyRequest, evidence: Evidence, asked_by: str) -> KeyAnswer:
        """Use a key version that is stored. The broker reads key and rights from the documents: its state, operations, roles or policies."""
        ...

    def destroy_key(self, provider: str, handle: bytes, version_id: str) -> None:
        """Destroy a key that no document holds any more; Fault(CONFLICT) for one that is in use, or can be recovered."""
        ...

    def back_up_key(self, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        """Return one stored version of a key for a vault's backup, sealed so that only this platform opens it. It may be disabled."""
        ...

    def restore_key(
        self, provider: str, backup: bytes, version_id: str, evidence: Evidence, asked_by: str
    ) -> ProviderKey:
        """Make a backed-up key again for a version that is about to be stored."""
        ...

    def seal_secret(self, value: Secret, version_id: str) -> bytes: ...

    def open_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> Secret: ...

    def back_up_secret(self, sealed: bytes, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        """Return one version of a secret for a vault's backup. Whoever may back up need not be one who may read it, and it may be disabled."""
        ...

    def restore_secret(self, backup: bytes, version_id: str, evidence: Evidence, asked_by: str) -> bytes:
        """Return a backed-up secret sealed for a version that is about to be stored."""
        ...

    def random(self, provider: str, count: int) -> bytes: ...

    # The platform's own.

    def purpose_key(self, purpose: str) -> Secret:
        """Return the key that a process of this platform derives for a purpose of its own. The broker's own purposes are not given out."""
        ...

    def sign(self, statement: bytes) -> bytes:
        """Sign a receipt with the platform's signing key (Ed25519; `receipt_key` verifies it)."""
        ...

    def receipt_key(self) -> bytes:
        """Return the public key (32 bytes) that receipts verify with."""
        ...

    def sign_receipt(self, receipt: Receipt) -> str:
        """Return the receipt of a request as a JWS, signed with a key that signs nothing else (`keys/request_receipts.py`)."""
        ...

    def request_receipt_key(self) -> bytes:
        """Return the public key (32 bytes) that receipts of requests verify with."""
        ...

    def rotate_platform(self) -> str:
        """Make a new version of the platform's key, which wraps from now on, and return it. What is wrapped still opens, until it is wrapped anew."""
        ...

    def status(self) -> BrokerStatus: ...

    def seal(self) -> None:
        """Wipe every key from memory. Nothing is opened until it is unsealed."""
        ...

    def unseal(self, share: Secret) -> BrokerStatus:
        """Take one share of the root key; with the last one that is wanted the platform is open."""
        ...
