"""From a vault's documents to policy: indexes "vault", "vault-at", "vault-version" and "vault-versions-of"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from stockade.policy.compile import Compile
from stockade.policy.network_acls import compiled_network
from stockade.policy.snapshot import Entry, VaultPolicy, VaultVersionPolicy
from stockade.settings import Settings
from stockade.storage.documents import Document
from stockade.vault.documents import (
    KEY_VERSIONS,
    SECRET_VERSIONS,
    VAULTS,
    item_id_of,
    key_version_of,
    secret_version_of,
    vault_id_of,
)

FAMILIES: Final = ("keys", "secrets")
"""Of an access policy's permissions; certificates and storage accounts are not kept here, so theirs grant nothing."""


def compilers(settings: Settings) -> Mapping[str, Compile]:
    """Return how the documents of vaults compile where the platform's address is known."""
    return {VAULTS.lower(): partial(compile_vault, settings=settings), **VERSIONS}


def compile_vault(document: Document, settings: Settings | None = None) -> Iterable[Entry]:
    """Return a vault's entries.

    It answers at the address it was given when it was made, which keys that accounts are bound to go on naming, and at its address as things are
    configured now; the default vault at the control plane's own address too. settings None: only the first is known.
    """
    properties, name = document.body["properties"], str(document.body["name"])
    addresses = [normal_uri(properties["vaultUri"])]
    if settings is not None:
        addresses = [settings.vault_uri(name), *addresses]
        if name.lower() == settings.vault.default.lower():
            addresses += [settings.arm_endpoint, f"https://localhost:{settings.listen.control_port}"]
    yield (
        "vault",
        document.id,
        VaultPolicy(
            id=document.id,
            arm_id=str(document.body["id"]),
            name=name,
            uri=addresses[0],
            location=document.body["location"],
            tenant_id=str(properties["tenantId"]).lower(),
            rbac=properties.get("enableRbacAuthorization") is True,
            access=_access(properties.get("accessPolicies") or ()),
            network=compiled_network(properties),
            purge_protection=properties.get("enablePurgeProtection") is True,
            soft_delete=True,
            premium=str(properties["sku"]["name"]).lower() == "premium",
        ),
    )
    yield ("vault-named", name.lower(), document.id)
    for uri in dict.fromkeys(addresses):
        yield ("vault-at", uri.lower(), document.id)


def compile_key_version(document: Document) -> Iterable[Entry]:
    """Return the entries of a key's version."""
    version = key_version_of(document)
    yield from _version(
        VaultVersionPolicy(
            id=document.id,
            vault_id=vault_id_of(document.id),
            item_id=item_id_of(document.id),
            version=document.id.rsplit("/", 1)[-1],
            kind="keys",
            enabled=version.attributes.enabled,
            not_before=version.attributes.nbf,
            expires=version.attributes.exp,
            created=version.attributes.created,
            key_type=version.type,
            key_size=version.size,
            operations=frozenset(version.operations),
        )
    )


def compile_secret_version(document: Document) -> Iterable[Entry]:
    """Return the entries of a secret's version."""
    attributes = secret_version_of(document).attributes
    yield from _version(
        VaultVersionPolicy(
            id=document.id,
            vault_id=vault_id_of(document.id),
            item_id=item_id_of(document.id),
            version=document.id.rsplit("/", 1)[-1],
            kind="secrets",
            enabled=attributes.enabled,
            not_before=attributes.nbf,
            expires=attributes.exp,
            created=attributes.created,
        )
    )


VERSIONS: Final[Mapping[str, Compile]] = {
    KEY_VERSIONS.lower(): compile_key_version,
    SECRET_VERSIONS.lower(): compile_secret_version,
}
"""How versions compile, by document type."""


def normal_uri(text: str) -> str:
    """Return a vault's address as policy compares it: lower case, without a trailing slash."""
    return text.rstrip("/").lower()


def _version(policy: VaultVersionPolicy) -> Iterable[Entry]:
    yield ("vault-version", policy.id, policy)
    yield ("vault-versions-of", policy.item_id, policy)


def _access(policies: Iterable[Mapping[str, object]]) -> Mapping[str, frozenset[str]]:
    held: dict[str, frozenset[str]] = {}
    for policy in policies:
        permissions = policy.get("permissions")
        if not isinstance(permissions, Mapping):
            continue
        words = frozenset(
            f"{family}/{str(word).lower()}" for family in FAMILIES for word in permissions.get(family) or ()
        )
        principal = str(policy["objectId"]).lower()
        held[principal] = held.get(principal, frozenset()) | words
    return held
