"""Which accounts may have a customer's key, and which identity uses it."""

from __future__ import annotations

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.cognitive_services.encryption import WITH_KEY, WITH_KEY_IN_E0, check_kind, customer_key
from stockade.management.cognitive_services.kinds import KINDS

ENCRYPTION = {
    "keySource": "Microsoft.KeyVault",
    "keyVaultProperties": {"keyVaultUri": "https://V1.example:8444/", "keyName": "K1", "keyVersion": "AB"},
}


def refused(kind: str, sku: str, *, location: str = "local", strict: bool = False) -> str:
    try:
        check_kind(kind, sku, location, "t", strict=strict)
    except Fault as fault:
        return f"{fault.kind.value} {fault.code}"
    return ""


@pytest.mark.parametrize("kind", sorted(WITH_KEY_IN_E0))
def test_some_kinds_have_one_with_e0_alone(kind: str) -> None:
    for strict in (False, True):
        assert refused(kind, "E0", strict=strict) == ""
        assert refused(kind, "S0", strict=strict) == "AuthorizationFailed CustomerManagedKeyNotAvailableForSku"


def test_outside_strict_parity_e0_gives_every_kind_one() -> None:
    for kind in KINDS.values():
        assert refused(kind.name, "E0") == ""
        in_azure = kind.name in WITH_KEY | WITH_KEY_IN_E0
        assert (refused(kind.name, "E0", strict=True) == "") == in_azure


def test_every_kind_named_is_one() -> None:
    assert {kind.lower() for kind in WITH_KEY | WITH_KEY_IN_E0} <= KINDS.keys()


def test_a_translator_needs_a_region() -> None:
    assert refused("TextTranslation", "S1") == ""
    assert refused("TextTranslation", "S1", location="global") == "Invalid CustomerManagedKeyNotAvailable"


def test_the_key_and_the_identity_that_uses_it() -> None:
    users = {"/u1": {"clientId": "c1", "principalId": "p1"}, "/u2": {"clientId": "C2", "principalId": "p2"}}
    identity = {"principalId": "p0", "userAssignedIdentities": users}
    key = customer_key(ENCRYPTION, identity)
    assert key is not None
    assert (key.vault_uri, key.key_name, key.key_version, key.principal_id) == (
        "https://v1.example:8444",
        "K1",
        "ab",
        "p0",
    )

    def principal(client_id: str) -> str:
        named = {**ENCRYPTION["keyVaultProperties"], "identityClientId": client_id}  # type: ignore[dict-item]
        found = customer_key({**ENCRYPTION, "keyVaultProperties": named}, identity)
        assert found is not None
        return found.principal_id

    assert principal("c2") == "p2"
    assert principal("c3") == "", "one that the account does not have never stands for another"
    nobody = customer_key(ENCRYPTION, None)
    assert nobody is not None
    assert nobody.principal_id == ""
    assert customer_key({"keySource": "Microsoft.CognitiveServices"}, identity) is None
    assert customer_key(None, identity) is None


def test_the_fault_names_what_is_at_fault() -> None:
    with pytest.raises(Fault) as caught:
        check_kind("SpeechServices", "S0", "local", "properties.encryption.keySource", strict=False)
    assert (caught.value.kind, caught.value.target) == (FaultKind.INVALID, "properties.encryption.keySource")
    assert "userOwnedStorage" in caught.value.message
