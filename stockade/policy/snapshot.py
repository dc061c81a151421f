"""The immutable state that decisions are made on.

A snapshot is a handful of indexes. Each document compiles to entries `(index, key, value)`; a change removes the entries of the documents
that changed and adds their new ones, copying only the indexes it touches, so that 10,000 accounts cost no more per change, nor per request,
than a dictionary copy. Values from several documents may meet under one key (assignments at a scope); where only one may be meant (a
subdomain, a key's digest) a collision resolves to nothing, whatever the order in which documents arrived.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from stockade.kernel.control import Control, Mode
from stockade.policy.addresses import NOWHERE, AddressSet
from stockade.policy.uris.allowed import AllowedHosts
from stockade.policy.uris.loss_prevention import LossPrevention

Entry: TypeAlias = tuple[str, Hashable, Any]
Index: TypeAlias = Mapping[Hashable, Mapping[str, Any]]

MEMO_LIMIT = 65_536
"""Decisions remembered per snapshot; cleared as a whole when full."""


@dataclass(frozen=True, slots=True)
class SubnetRule:
    """A subnet that an account admits."""

    subnet_id: str
    """Lower-case id; index "subnet" knows its prefixes."""
    without_endpoint: bool
    """Also while the subnet has no service endpoint for AI services (`ignoreMissingVnetServiceEndpoint`)."""


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Where requests to an account may come from, as its own properties say."""

    public_access: bool = True
    """`publicNetworkAccess`; False: only private endpoints, and what a perimeter admits."""
    admit_by_default: bool = True
    """`networkAcls.defaultAction`. The rules mean nothing while it is Allow."""
    addresses: AddressSet = NOWHERE
    """`networkAcls.ipRules`."""
    subnets: tuple[SubnetRule, ...] = ()
    """`networkAcls.virtualNetworkRules`."""
    trusted_services: bool = False
    """`networkAcls.bypass` is AzureServices: managed identities of trusted services need no rule."""


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """The customer's own key that an account's stored content depends on.

    Index "customer-key" has the ids, as they are shown, of all accounts and encryption scopes that have one, by their lower-case ids.
    """

    vault_uri: str
    """Lower case, without a trailing slash. Index "vault-at" says whether it is a vault of this platform."""
    key_name: str
    key_version: str
    """"" follows the newest enabled version."""
    principal_id: str
    """The managed identity of the account that uses the key; "" when the account has lost it."""
    guards_stateless: bool = True
    """Without the key requests that keep nothing are refused too."""


@dataclass(frozen=True, slots=True)
class AccountPolicy:
    """What the gateway must know of an account. Index "account", by lower-case id."""

    id: str
    arm_id: str
    name: str
    kind: str
    sku: str
    location: str
    tenant_id: str
    subdomain: str | None
    local_auth: bool
    network: NetworkPolicy
    calls_per_minute: int | None
    ordinal: int
    outbound: LossPrevention | None = None
    """Which URIs requests may carry; None when any."""
    output: AllowedHosts | None = None
    """Which URIs replies may carry; None when nobody looks."""
    modes: Mapping[Control, Mode] = field(default_factory=dict)
    """How each control stands; one that is not named is enforced."""
    customer_key: CustomerKey | None = None
    """None: the platform's key alone."""
    keeps_content: bool = True
    """Whether anything that callers send or models answer is kept at all."""
    keeps_completions: bool = True
    """Whether chat completions are kept on request."""

    def mode(self, control: Control) -> Mode:
        """Say what a refusal of this control does on this account."""
        return self.modes.get(control, "enforce")


@dataclass(frozen=True, slots=True)
class SubnetPolicy:
    """A subnet of a virtual network. Index "subnet", by its lower-case id."""

    id: str
    addresses: AddressSet
    service_endpoint: bool
    """It has the service endpoint `Microsoft.CognitiveServices`."""
    vault_endpoint: bool = False
    """It has the service endpoint `Microsoft.KeyVault`."""


@dataclass(frozen=True, slots=True)
class PerimeterAssociation:
    """A resource in a network security perimeter. Index "perimeter", by the resource's lower-case id."""

    id: str
    perimeter_id: str
    profile_id: str
    resource_id: str
    enforced: bool
    """Only the profile's rules count. False (learning): what they do not admit is left to the account's own."""


@dataclass(frozen=True, slots=True)
class PerimeterRule:
    """An inbound rule of a perimeter's profile. Index "perimeter-rule", by the profile's lower-case id."""

    id: str
    addresses: AddressSet
    subscriptions: frozenset[str]
    """Lower-case subscription ids (GUIDs) whose resources' managed identities are admitted."""


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """A subscription key's place. Index "key", by keyed digest."""

    account_id: str
    slot: Literal["Key1", "Key2"]


@dataclass(frozen=True, slots=True)
class DeploymentPolicy:
    """A model deployment. Index "deployment", by (account id, lower-case name); also index "deployments-of", by account id."""

    account_id: str
    name: str
    model: str
    model_version: str
    model_format: str
    calls_per_minute: int | None
    ordinal: int
    created_at: float


@dataclass(frozen=True, slots=True)
class Permission:
    """One permission set of a role, patterns in lower case."""

    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    data_actions: tuple[str, ...]
    not_data_actions: tuple[str, ...]
    conditional: bool = False
    """Azure attaches a condition to it. Conditions are not evaluated here, so what they guard is not granted."""


@dataclass(frozen=True, slots=True)
class RoleDefinition:
    """Index "role", by lower-case GUID."""

    id: str
    name: str
    built_in: bool
    permissions: tuple[Permission, ...]


@dataclass(frozen=True, slots=True)
class RoleAssignment:
    """Index "assignment", by lower-case scope.

    since, until: epoch seconds; a role for a while is in force from the one until just before the other, whether or not its document is there still.
    made_at: when it was assigned. request: the id of the role request it came of, "" where somebody has just assigned it.
    """

    id: str
    scope: str
    role_id: str
    principal_id: str
    since: float = -math.inf
    until: float = math.inf
    made_at: float = -math.inf
    request: str = ""

    def in_force(self, now: float) -> bool:
        """Say whether it counts at an instant."""
        return self.since <= now < self.until


@dataclass(frozen=True, slots=True)
class DenyAssignment:
    """Index "deny", by lower-case scope."""

    id: str
    name: str
    scope: str
    permissions: tuple[Permission, ...]
    principals: frozenset[str]
    excluded: frozenset[str]
    this_scope_only: bool


@dataclass(frozen=True, slots=True)
class PrincipalPolicy:
    """A principal of the directory. Index "principal", by object id."""

    object_id: str
    type: str
    app_id: str | None
    display_name: str
    enabled: bool
    issuer: str | None = None
    """The further issuer it belongs to; None for our own. No other issuer's token can speak for it."""
    resource_id: str | None = None
    """The lower-case ARM id of the resource whose managed identity it is; None for all others."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key that signs tokens of one issuer. Index "verification-key", by (issuer, key id)."""

    issuer: str
    key_id: str
    algorithm: str
    jwk: Mapping[str, Any]
    not_after: float | None


@dataclass(frozen=True, slots=True)
class IssuerPolicy:
    """An issuer whose tokens are accepted. Index "issuer", by the exact `iss` value."""

    issuer: str
    tenant_id: str
    audiences: frozenset[str]
    local: bool
    """Our own token service: its principals must be in the directory and enabled."""
    keys_expire_at: float | None
    """After this instant the fetched keys are too old to trust and every token of the issuer is refused."""
    object_id_claim: str = "oid"
    app_id_claim: str = "appid"


@dataclass(frozen=True, slots=True)
class PrivateEndpointPolicy:
    """A private endpoint connection. Index "private-endpoint-connection", by lower-case id.

    The approved ones of all accounts also stand in index "private-endpoints" under the one key "", to be listened for.
    """

    id: str
    account_id: str
    status: str
    """Pending, Approved, Rejected, Disconnected."""
    address: str | None
    """Where its listener stands, e.g. `127.20.0.4`; None when the endpoint has no address."""
    endpoint_id: str | None
    """The private endpoint, lower-case id; None when it is not one of this platform."""


VaultPermission: TypeAlias = str
"""A word of an access policy, lower case, with what it is about: `keys/get`, `keys/wrapkey`, `secrets/set`. `keys/all` stands for each."""


@dataclass(frozen=True, slots=True)
class VaultPolicy:
    """A key vault. Index "vault", by lower-case id; index "vault-at", by its lower-case URI without a trailing slash, has its id."""

    id: str
    arm_id: str
    name: str
    uri: str
    location: str
    tenant_id: str
    rbac: bool
    """Roles decide; else `access` does."""
    access: Mapping[str, frozenset[VaultPermission]]
    """Per object id of a principal."""
    network: NetworkPolicy
    purge_protection: bool
    soft_delete: bool
    premium: bool


@dataclass(frozen=True, slots=True)
class VaultVersionPolicy:
    """One version of a key or secret. Index "vault-version", by its lower-case ARM id (`.../keys/k/versions/4f...`).

    Index "vault-versions-of" has those of one key or secret, by its own lower-case ARM id.
    """

    id: str
    vault_id: str
    item_id: str
    """The key's or secret's own lower-case ARM id."""
    version: str
    kind: Literal["keys", "secrets"]
    enabled: bool
    not_before: float | None
    expires: float | None
    created: float
    key_type: str = ""
    key_size: int = 0
    operations: frozenset[str] = frozenset()
    """`key_ops` of a key."""


@dataclass(frozen=True, slots=True)
class DataKeyPolicy:
    """How one data key is wrapped.

    platform: the version of the platform's key. customer: the id, with version, of the customer's key around it; "" where there is none.
    wrapping: another one for every wrapping, so that two of them can be told apart.
    """

    version: str
    platform: str
    customer: str = ""
    wrapping: str = ""


@dataclass(frozen=True, slots=True)
class DataKeysPolicy:
    """The data keys of an account or encryption scope, the newest last. Index "data-keys", by its lower-case id."""

    owner_id: str
    keys: tuple[DataKeyPolicy, ...]


@dataclass(frozen=True, slots=True)
class EncryptionScopePolicy:
    """An encryption scope of an account that a customer's key is bound to. Index "encryption-scope", by its lower-case id."""

    id: str
    account_id: str
    enabled: bool
    customer_key: CustomerKey


@dataclass(frozen=True, slots=True)
class RemoteKeyState:
    """What the broker last found of a customer's key in a vault that is not ours. Index "remote-key", by the account's lower-case id."""

    vault_uri: str
    key_name: str
    failure: str
    """"" while it serves; else a code of `policy/customer_key.py`."""
    message: str
    since: float
    version: str = ""
    """The version that serves, in lower case: the pinned one or the newest, or while none does the one that last did; "" before one is known."""


class Snapshot:
    """Indexes by name. Never changed after it is built; `memo` only remembers answers that the indexes imply."""

    __slots__ = ("_owned", "generation", "indexes", "memo")

    def __init__(
        self,
        generation: int = 0,
        indexes: Mapping[str, Index] | None = None,
        owned: Mapping[str, tuple[Entry, ...]] | None = None,
    ) -> None:
        self.generation = generation
        self.indexes: Mapping[str, Index] = indexes or {}
        self._owned: Mapping[str, tuple[Entry, ...]] = owned or {}
        self.memo: dict[Hashable, Any] = {}

    def only(self, index: str, key: Hashable) -> Any | None:
        """Return the single value under a key; None when there is none or more than one claims it."""
        table = self.indexes.get(index)
        found = table.get(key) if table is not None else None
        if found is None or len(found) != 1:
            return None
        for value in found.values():
            return value
        return None

    def all(self, index: str, key: Hashable) -> tuple[Any, ...]:
        """Return every value under a key, ordered by the document it came from."""
        table = self.indexes.get(index)
        found = table.get(key) if table is not None else None
        return tuple(found[owner] for owner in sorted(found)) if found else ()

    def keys(self, index: str) -> Iterable[Hashable]:
        return self.indexes.get(index, {}).keys()

    def remembered(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """Return a value implied by this snapshot, computing it once."""
        try:
            return self.memo[key]
        except KeyError:
            if len(self.memo) >= MEMO_LIMIT:
                self.memo.clear()
            value = self.memo[key] = compute()
            return value

    def with_changes(self, generation: int, changes: Mapping[str, tuple[Entry, ...]]) -> Snapshot:
        """Return the next snapshot. `changes` maps a document id to all entries it now has (none: the document is gone)."""
        indexes: dict[str, dict[Hashable, Mapping[str, Any]]] = {}
        owned = dict(self._owned)

        def writable(name: str) -> dict[Hashable, Mapping[str, Any]]:
            if name not in indexes:
                indexes[name] = dict(self.indexes.get(name, {}))
            return indexes[name]

        for document_id, entries in changes.items():
            for index, key, _ in owned.pop(document_id, ()):
                table = writable(index)
                rest = {owner: value for owner, value in table.get(key, {}).items() if owner != document_id}
                if rest:
                    table[key] = rest
                else:
                    table.pop(key, None)  # gone already where the document had said it twice
            for index, key, value in entries:
                table = writable(index)
                table[key] = {**table.get(key, {}), document_id: value}
            if entries:
                owned[document_id] = entries
        return Snapshot(generation, {**self.indexes, **indexes}, owned)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and _shape(self.indexes) == _shape(other.indexes)

    __hash__ = None  # type: ignore[assignment]


def _shape(indexes: Mapping[str, Index]) -> dict[str, Any]:
    return {name: {key: dict(values) for key, values in table.items()} for name, table in indexes.items() if table}
