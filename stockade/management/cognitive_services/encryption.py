"""`encryption` of accounts and encryption scopes: whose key, which kinds may have a customer's, and what the policy makes of it.

Source: contracts, control-plane sections 1.3, 2, 3 and 6.6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import is_guid
from stockade.keys.broker import Binding
from stockade.management.cognitive_services.kinds import CLOSED_SKU
from stockade.management.locations import GLOBAL
from stockade.management.shape import one_of
from stockade.policy.snapshot import CustomerKey
from stockade.storage.documents import Json

PLATFORM: Final = "Microsoft.CognitiveServices"
CUSTOMER: Final = "Microsoft.KeyVault"
WITH_KEY: Final = frozenset(
    """
    AIServices ConversationalLanguageUnderstanding CustomVision.Prediction CustomVision.Training FormRecognizer MetricsAdvisor OpenAI
    TextAnalytics TextTranslation
    """.split()  # noqa: SIM905 - readable
)
"""Kinds that take a customer's key in every SKU."""
WITH_KEY_IN_E0: Final = frozenset({"ContentModerator", "Face", "LUIS", "LUIS.Authoring", "Personalizer"})
BY_OTHER_MEANS: Final = {
    "SpeechServices": "its data is kept in storage of your own (userOwnedStorage), which you encrypt with your key",
    "QnAMaker": "its data is in your own search service, which you encrypt with your key",
}
_NAMING: Final = ("keyVaultUri", "keyName", "keyVersion", "identityClientId")
_VAULT_URI = re.compile(r"https://[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?(:[0-9]{1,5})?/?", re.IGNORECASE)
_KEY_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
_KEY_VERSION = re.compile(r"[0-9a-fA-F]{32}")


class KeyVaultProperties(Struct, rename="camel"):
    """A customer's key."""

    key_name: str | None = None
    key_version: str | None = None
    key_vault_uri: str | None = None
    identity_client_id: str | None = None


class Encryption(Struct, rename="camel"):
    """Whose key customer content is encrypted with."""

    key_source: str | None = None
    key_vault_properties: KeyVaultProperties | None = None


def planned(asked: Encryption, raw: Mapping[str, Any], target: str) -> Json:
    """Return `encryption` as it is stored; Fault(INVALID) naming the member at fault. target: where it stands, `properties.encryption`."""
    source = one_of(asked.key_source or PLATFORM, (PLATFORM, CUSTOMER), f"{target}.keySource")
    if source == PLATFORM:
        if asked.key_vault_properties is not None and asked.key_vault_properties != KeyVaultProperties():
            raise _invalid(f"A key is named, but keySource is not {CUSTOMER}.", f"{target}.keySource")
        return {name: value for name, value in raw.items() if name != "keyVaultProperties"} | {"keySource": source}
    named = asked.key_vault_properties or KeyVaultProperties()
    where = f"{target}.keyVaultProperties"
    if not _VAULT_URI.fullmatch(named.key_vault_uri or ""):
        raise _invalid(
            "keyVaultUri is the vault's address, such as https://myvault.vault.example/.", f"{where}.keyVaultUri"
        )
    if not _KEY_NAME.fullmatch(named.key_name or ""):
        raise _invalid("keyName is the key's name: letters, digits and hyphens.", f"{where}.keyName")
    if named.key_version and not _KEY_VERSION.fullmatch(named.key_version):
        message = "keyVersion is 32 hexadecimal digits; leave it out to follow the newest version."
        raise _invalid(message, f"{where}.keyVersion")
    if named.identity_client_id and not is_guid(named.identity_client_id):
        message = "identityClientId is the client id of a user-assigned identity of the account."
        raise _invalid(message, f"{where}.identityClientId")
    return {**raw, "keySource": source}


def check_kind(kind: str, sku: str, location: str, target: str, *, strict: bool) -> None:
    """Refuse a customer's key on accounts that cannot have one, saying which could. Outside strict parity SKU E0 gives every kind one."""
    if kind in WITH_KEY or (sku == CLOSED_SKU and (kind in WITH_KEY_IN_E0 or not strict)):
        if kind == "TextTranslation" and location == GLOBAL:
            message = "A Translator account has a customer-managed key only where it has a region, not in 'global'."
            raise Fault(FaultKind.INVALID, message, code="CustomerManagedKeyNotAvailable", target=target)
        return
    if kind in WITH_KEY_IN_E0:
        message = (
            f"An account of kind '{kind}' has a customer-managed key only with SKU {CLOSED_SKU}, and this one has '{sku}'. "
            f"{CLOSED_SKU} is chosen when an account is created, once a request for it is approved."
        )
        raise Fault(FaultKind.AUTHORIZATION_FAILED, message, code="CustomerManagedKeyNotAvailableForSku", target=target)
    other = BY_OTHER_MEANS.get(kind)
    message = f"Accounts of kind '{kind}' have no customer-managed keys" + (f": {other}." if other else ".")
    raise Fault(FaultKind.INVALID, message, code="CustomerManagedKeyNotAvailable", target=target)


def customer_key(
    encryption: Mapping[str, Any] | None, identity: Mapping[str, Any] | None, *, guards_stateless: bool = True
) -> CustomerKey | None:
    """Return the customer's key that a stored `encryption` names; None for the platform's. identity: the account's, as it is stored."""
    if encryption is None or encryption.get("keySource") != CUSTOMER:
        return None
    named = encryption["keyVaultProperties"]
    return CustomerKey(
        vault_uri=str(named["keyVaultUri"]).lower().rstrip("/"),
        key_name=str(named["keyName"]),
        key_version=str(named.get("keyVersion") or "").lower(),
        principal_id=_principal(identity or {}, str(named.get("identityClientId") or "")),
        guards_stateless=guards_stateless,
    )


def named(encryption: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """Return what names a customer's key, to be compared; None for the platform's."""
    if encryption is None or encryption.get("keySource") != CUSTOMER:
        return None
    key = encryption["keyVaultProperties"]
    return tuple(str(key.get(member) or "").lower().rstrip("/") for member in _NAMING)


def binding(key: CustomerKey | None) -> Binding | None:
    """Return a customer's key as the key broker is asked with it."""
    if key is None:
        return None
    return Binding(key.vault_uri, key.key_name, key.key_version, key.principal_id)


def _principal(identity: Mapping[str, Any], client_id: str) -> str:
    """Return the identity that uses the key: the user-assigned one that is named, else the system-assigned; "" when the account has it not."""
    if not client_id:
        return str(identity.get("principalId") or "")
    for assigned in (identity.get("userAssignedIdentities") or {}).values():
        if str(assigned.get("clientId") or "").lower() == client_id.lower():
            return str(assigned.get("principalId") or "")
    return ""


def _invalid(message: str, target: str) -> Fault:
    return Fault(FaultKind.INVALID, message, code="InvalidRequestContent", target=target)
