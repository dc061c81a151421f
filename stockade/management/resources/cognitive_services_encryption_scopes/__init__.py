"""`Microsoft.CognitiveServices/accounts/encryptionScopes`: named scopes, each with a data key of its own, under the platform's key or a customer's.

A scope's key is bound as an account's is: all that is wrong is told, and it is proven before anything is stored. It is used by one of the account's
identities, the one it had when the key was named. No request of Azure's data plane names a scope, so nothing is kept under one; what a scope
gives is a key that is bound, followed through rotations and watched, for what will name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from stockade.management.cognitive_services import data_keys, encryption
from stockade.management.cognitive_services.encryption import Encryption, KeyVaultProperties
from stockade.management.cognitive_services.kinds import ACCOUNTS
from stockade.management.merge import merge_patch
from stockade.management.resource_type import Action, Call, Planned, Reply, ResourceType, display_id
from stockade.management.shape import one_of, respelled, typed
from stockade.policy.snapshot import CustomerKey, EncryptionScopePolicy, Entry
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document, Json

TARGET = "properties"
KEY_TARGET = f"{TARGET}.keyVaultProperties"


class Properties(Struct, rename="camel"):
    """Whose key, and whether the scope may be used."""

    key_source: str | None = None
    key_vault_properties: KeyVaultProperties | None = None
    state: str | None = None


class EncryptionScope(Struct, rename="camel"):
    """The whole body."""

    properties: Properties | None = None


class EncryptionScopes(ResourceType):
    """A stored encryption scope."""

    type = name = f"{ACCOUNTS}/encryptionScopes"
    methods = frozenset({"GET", "PUT", "DELETE"})

    @property
    def actions(self) -> Sequence[Action]:
        return (Action("encryptionStatus", f"{self.type}/read", _status, method="GET"),)

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body = merge_patch({}, respelled(call.body, EncryptionScope))
        asked = typed(body, EncryptionScope).properties or Properties()
        state = one_of(asked.state or "Enabled", ("Enabled", "Disabled"), f"{TARGET}.state")
        named = Encryption(asked.key_source, asked.key_vault_properties)
        properties = {
            **encryption.planned(named, body.get("properties", {}), TARGET),
            "state": state,
            "provisioningState": "Succeeded",
        }
        account = _account(call, reader)
        private = dict(current.private) if current is not None else {}
        key = encryption.customer_key(properties, account.body.get("identity"))
        private["principalId"] = key.principal_id if key is not None else ""
        planned = {**body, "properties": properties}
        if key is not None and _differs(planned, private, current):
            kind, sku, strict = account.body["kind"], account.body["sku"]["name"], call.platform.settings.strict_parity
            encryption.check_kind(kind, sku, account.body["location"], f"{TARGET}.keySource", strict=strict)
            data_keys.require_bindable(call, key, _owner(call, account, call.id.key), KEY_TARGET)
        return Planned(planned, private)

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        held = bool(document.private.get("dataKeys"))
        if held and not _differs(document.body, document.private, previous):
            return document
        owner = _owner(call, _account(call, writer), document.id)
        before = _key(previous) if held and previous is not None else None
        return data_keys.settle(call, writer, document, owner, before, _key(document), KEY_TARGET)

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        super().remove(call, writer, document)
        return Reply(204)  # SDKs take nothing else here

    def compile(self, document: Document) -> Iterable[Entry]:
        key = _key(document)
        if key is not None:
            account_id = document.id.rpartition("/encryptionscopes/")[0]
            enabled = document.body["properties"]["state"] == "Enabled"
            yield ("encryption-scope", document.id, EncryptionScopePolicy(document.id, account_id, enabled, key))
        yield from data_keys.compile_data_keys(document, bound=key is not None)


def _status(call: Call, reader: Reader, document: Document) -> Json:
    owner = _owner(call, _account(call, reader), document.id)
    return data_keys.status_body(call, document, _key(document), owner)


def _account(call: Call, reader: Reader) -> Document:
    account = reader.get(call.id.parent)
    assert account is not None, "the pipeline has seen the parent"
    return account


def _owner(call: Call, account: Document, scope_id: str) -> data_keys.Owner:
    return data_keys.Owner(scope_id, display_id(account), call.platform.tenant_id, account.body["location"])


def _key(document: Document) -> CustomerKey | None:
    identity = {"principalId": document.private.get("principalId", "")}
    properties = dict(document.body["properties"])
    if properties.get("keyVaultProperties"):
        # Which identity that was stands in the private part: the account's own document is another one.
        properties["keyVaultProperties"] = {**properties["keyVaultProperties"], "identityClientId": None}
    return encryption.customer_key(properties, identity)


def _differs(body: Mapping[str, Any], private: Mapping[str, Any], before: Document | None) -> bool:
    """Say whether another key is named than before, or it is used by another identity."""
    if before is None:
        return True
    now, then = encryption.named(body["properties"]), encryption.named(before.body["properties"])
    return now != then or (now is not None and private.get("principalId") != before.private.get("principalId"))


PLUGIN = EncryptionScopes()
