"""The members of an account that mean something here, as msgspec reads them. Everything else in a body is kept as it came."""

from __future__ import annotations

from msgspec import Struct

from stockade.management.cognitive_services.encryption import Encryption


class IpRule(Struct, rename="camel"):
    """One address or range."""

    value: str


class VirtualNetworkRule(Struct, rename="camel"):
    """One subnet."""

    id: str
    ignore_missing_vnet_service_endpoint: bool | None = None


class NetworkRuleSet(Struct, rename="camel"):
    """Who may reach the account."""

    default_action: str | None = None
    bypass: str | None = None
    ip_rules: list[IpRule] | None = None
    virtual_network_rules: list[VirtualNetworkRule] | None = None


class UserOwnedStorage(Struct, rename="camel"):
    """A storage account of the customer's."""

    resource_id: str | None = None
    identity_client_id: str | None = None


class ApiProperties(Struct, rename="camel"):
    """Those of its members that are secrets."""

    qna_azure_search_endpoint_key: str | None = None
    event_hub_connection_string: str | None = None
    storage_account_connection_string: str | None = None


class Properties(Struct, rename="camel"):
    """An account's properties."""

    custom_sub_domain_name: str | None = None
    public_network_access: str | None = None
    network_acls: NetworkRuleSet | None = None
    disable_local_auth: bool | None = None
    restrict_outbound_network_access: bool | None = None
    allowed_fqdn_list: list[str] | None = None
    encryption: Encryption | None = None
    user_owned_storage: list[UserOwnedStorage] | None = None
    api_properties: ApiProperties | None = None
    restore: bool | None = None
    dynamic_throttling_enabled: bool | None = None
    stored_completions_disabled: bool | None = None
    allow_project_management: bool | None = None
    stockade: dict[str, object] | None = None
    """Ours; `extension.py` reads it."""


class Sku(Struct, rename="camel"):
    """The pricing tier."""

    name: str | None = None
    tier: str | None = None
    size: str | None = None
    family: str | None = None
    capacity: int | str | None = None
    """`az` sends it as a string."""


class Identity(Struct, rename="camel"):
    """Managed identities."""

    type: str | None = None
    user_assigned_identities: dict[str, dict[str, object] | None] | None = None


class Account(Struct, rename="camel"):
    """The whole body."""

    kind: str | None = None
    location: str | None = None
    sku: Sku | None = None
    identity: Identity | None = None
    tags: dict[str, object] | None = None
    properties: Properties | None = None
