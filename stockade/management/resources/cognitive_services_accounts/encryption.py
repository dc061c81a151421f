"""An account's `encryption`, and what can be asked about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.cognitive_services import data_keys
from stockade.management.cognitive_services.encryption import (
    CUSTOMER,
    Encryption,
    check_kind,
    customer_key,
    named,
    planned,
)
from stockade.management.resource_type import Call, display_id
from stockade.management.resources.cognitive_services_accounts import extension
from stockade.management.shape import respelled, typed
from stockade.policy.snapshot import CustomerKey
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

TARGET: Final = "properties.encryption"
KEY_TARGET: Final = f"{TARGET}.keyVaultProperties"


def planned_encryption(call: Call, asked: Encryption, body: Json, before: Document | None) -> Json:
    """Return `encryption` as it is stored. body: the account as planned, identity included. A new key has to be fit to be bound."""
    properties = body["properties"]
    encryption = planned(asked, properties["encryption"], TARGET)
    if encryption["keySource"] != CUSTOMER or named(encryption) == _named_by(before):
        return encryption
    strict = call.platform.settings.strict_parity
    check_kind(body["kind"], body["sku"]["name"], body["location"], f"{TARGET}.keySource", strict=strict)
    if strict:
        _check_parity(encryption, body["kind"], before)
    key = customer_key(encryption, body.get("identity"))
    assert key is not None
    data_keys.require_bindable(call, key, _owner(call, call.id.key, call.id.text, body), KEY_TARGET)
    return encryption


def settle(call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
    """Give the account its data keys, and wrap them anew where another key is named than before; return it as then stored."""
    held = bool(document.private.get("dataKeys"))
    if held and _named_by(document) == _named_by(previous):
        return document  # also where the identity has changed: who takes the key away that way has done so
    before = key_of(previous) if held else None
    owner = owner_of(call, document)
    return data_keys.settle(call, writer, document, owner, before, key_of(document), KEY_TARGET)


def key_of(document: Document | None) -> CustomerKey | None:
    """Return the customer's key of a stored account; None for the platform's."""
    if document is None:
        return None
    properties = document.body["properties"]
    return customer_key(
        properties.get("encryption"),
        document.body.get("identity"),
        guards_stateless=extension.guards_stateless(properties),
    )


def owner_of(call: Call, document: Document) -> data_keys.Owner:
    """Return an account as far as its key has to suit it."""
    return _owner(call, document.id, display_id(document), document.body)


def check_encryption(call: Call, reader: Reader, document: Document) -> Json:
    """Answer `checkEncryption`: whether the key, or the `encryption` in the body, could be bound now, and all that is wrong. Only looks."""
    key = key_of(document)
    given = next((value for name, value in call.body.items() if name.lower() == "encryption"), None)
    if given is not None:
        if not isinstance(given, Mapping):
            raise Fault(FaultKind.INVALID, "The property 'encryption' is an object.", target="encryption")
        raw = respelled(given, Encryption)
        encryption = planned(typed(raw, Encryption), raw, "encryption")
        key = customer_key(encryption, document.body.get("identity"))
        if key is not None:
            body, strict = document.body, call.platform.settings.strict_parity
            check_kind(body["kind"], body["sku"]["name"], body["location"], "encryption.keySource", strict=strict)
    return data_keys.check_body(call, key, owner_of(call, document))


def encryption_status(call: Call, reader: Reader, document: Document) -> Json:
    """Answer `encryptionStatus`: which key is in use, whether it serves, and how far data keys follow its newest version."""
    return data_keys.status_body(call, document, key_of(document), owner_of(call, document))


def rewrap(call: Call, writer: Writer, document: Document) -> Json:
    """Answer `rewrapDataKeys`: wrap the data keys anew now, with the newest version of the customer's and the platform's key."""
    made = data_keys.rewrapped(call.platform.broker, document, key_of(document))
    return encryption_status(call, writer, data_keys.store(writer, document, made, call.now))


def _owner(call: Call, account_id: str, arm_id: str, body: Mapping[str, Any]) -> data_keys.Owner:
    return data_keys.Owner(account_id, arm_id, call.platform.tenant_id, body["location"])


def _check_parity(encryption: Mapping[str, Any], kind: str, before: Document | None) -> None:
    """Refuse what Azure does not take."""
    if kind == "OpenAI" and encryption["keyVaultProperties"].get("identityClientId"):
        message = "Azure OpenAI uses a customer-managed key by the account's system-assigned identity only; leave identityClientId out."
        raise Fault(
            FaultKind.INVALID, message, code="UserAssignedIdentityNotSupported", target=f"{KEY_TARGET}.identityClientId"
        )
    if kind == "AIServices" and before is not None and _named_by(before) is None:
        message = "An account of kind AIServices gets its customer-managed key when it is created, and cannot change to one later."
        raise Fault(FaultKind.INVALID, message, code="PropertyChangeNotAllowed", target=f"{TARGET}.keySource")


def _named_by(document: Document | None) -> tuple[str, ...] | None:
    return named(document.body["properties"].get("encryption")) if document is not None and document.body else None
