"""The members of a vault that mean something here, as msgspec reads them. Everything else in a body is kept as it came."""

from __future__ import annotations

from msgspec import Struct


class Sku(Struct, rename="camel"):
    """The tier: `standard` has software keys, `premium` HSM keys too."""

    family: str | None = None
    name: str | None = None


class Permissions(Struct, rename="camel"):
    """What an access policy permits."""

    keys: list[str] | None = None
    secrets: list[str] | None = None
    certificates: list[str] | None = None
    storage: list[str] | None = None


class AccessPolicy(Struct, rename="camel"):
    """What one principal may do."""

    tenant_id: str | None = None
    object_id: str | None = None
    application_id: str | None = None
    permissions: Permissions | None = None


class IpRule(Struct, rename="camel"):
    """One address or range."""

    value: str


class VirtualNetworkRule(Struct, rename="camel"):
    """One subnet."""

    id: str
    ignore_missing_vnet_service_endpoint: bool | None = None


class NetworkRuleSet(Struct, rename="camel"):
    """Who may reach the vault."""

    default_action: str | None = None
    bypass: str | None = None
    ip_rules: list[IpRule] | None = None
    virtual_network_rules: list[VirtualNetworkRule] | None = None


class Properties(Struct, rename="camel"):
    """A vault's properties."""

    tenant_id: str | None = None
    sku: Sku | None = None
    access_policies: list[AccessPolicy] | None = None
    vault_uri: str | None = None
    enabled_for_deployment: bool | None = None
    enabled_for_disk_encryption: bool | None = None
    enabled_for_template_deployment: bool | None = None
    enable_soft_delete: bool | None = None
    soft_delete_retention_in_days: int | None = None
    enable_rbac_authorization: bool | None = None
    create_mode: str | None = None
    enable_purge_protection: bool | None = None
    network_acls: NetworkRuleSet | None = None
    public_network_access: str | None = None


class Vault(Struct, rename="camel"):
    """The whole body."""

    location: str | None = None
    tags: dict[str, object] | None = None
    properties: Properties | None = None
