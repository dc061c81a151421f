"""Binding a customer's key to an account: what it takes, what is said when it is not there, and that nothing is ever done by half."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.customer_key import Unavailable, unavailable
from stockade.storage.documents import State
from tests.factories.bound import ACCOUNT, IDENTITIES, KEY, NO_KEY, VAULT, Bound
from tests.factories.control_plane import ControlPlane

PREFLIGHT = "CustomerManagedKeyPreflightFailed"


@pytest.fixture
def bound(plane: ControlPlane) -> Bound:
    return Bound(plane)


def details(bound: Bound, body: Any, status: int = 400) -> list[str]:
    """Send a PATCH that is refused; return the problems told, each also standing in the message."""
    before = bound.document()
    reply = bound.plane.send("PATCH", ACCOUNT, body)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["code"] == PREFLIGHT
    assert all(one["message"] in error["message"] for one in error["details"])
    assert bound.document() == before, "nothing was changed"
    return [one["code"] for one in error["details"]]


def test_every_account_has_a_data_key_from_the_start(bound: Bound) -> None:
    assert bound.wrapped_by() == [""]
    assert "dataKeys" not in bound.plane.send("GET", ACCOUNT).text


def test_a_key_is_bound_after_creation_and_left_again(bound: Bound) -> None:
    shown = bound.bind()
    assert shown["properties"]["encryption"] == bound.encryption()
    assert bound.wrapped_by() == [bound.version]
    key = bound.policy().customer_key
    assert key is not None
    assert (key.vault_uri, key.key_name, key.principal_id) == (
        bound.plane.settings.vault_uri("vault1"),
        "k1",
        bound.principal,
    )
    assert key.guards_stateless
    held = bound.document().private["dataKeys"][0]["version"]
    bound.plane.ok("PATCH", ACCOUNT, {"properties": {"encryption": NO_KEY}})
    assert bound.wrapped_by() == [""]
    assert bound.policy().customer_key is None
    assert bound.document().private["dataKeys"][0]["version"] == held, "it is the same data key"


def test_what_names_no_key_keeps_it(bound: Bound) -> None:
    bound.bind()
    calls = len(bound.broker.calls)
    bound.account()
    bound.plane.ok("PATCH", ACCOUNT, {"tags": {"a": "b"}})
    bound.bind()
    assert bound.wrapped_by() == [bound.version]
    assert len(bound.broker.calls) == calls, "and wraps nothing anew"


def test_while_the_key_is_away_the_account_can_still_be_managed(bound: Bound) -> None:
    bound.bind()
    bound.change_version(bound.version, enabled=False)
    bound.plane.ok("PATCH", ACCOUNT, {"tags": {"a": "b"}})
    bound.account()
    message = bound.plane.fails(
        403, "CustomerManagedKeyUnavailable", "PATCH", ACCOUNT, {"properties": {"encryption": NO_KEY}}
    )
    assert "once more" in message
    assert bound.wrapped_by() == [bound.version]
    bound.change_version(bound.version, enabled=True)
    bound.plane.ok("PATCH", ACCOUNT, {"properties": {"encryption": NO_KEY}})


def test_a_pinned_version_stays_and_a_newer_one_is_followed_without(bound: Bound) -> None:
    old = bound.version
    bound.bind(keyVersion=old)
    bound.plane.clock.advance(1)
    new = bound.new_version()
    assert bound.wrapped_by() == [old]
    bound.bind(keyVersion=new)
    assert bound.wrapped_by() == [new]
    bound.bind()
    assert bound.wrapped_by() == [new]
    bound.bind(keyVersion=old.upper())
    assert bound.wrapped_by() == [old]


def test_a_key_at_creation_takes_an_identity_that_is_there_already(bound: Bound) -> None:
    plane, path = bound.plane, ACCOUNT.replace("a1", "a2")
    plane.ok("PUT", f"{IDENTITIES}/user1", {"location": "local"})
    user = plane.ok("GET", f"{IDENTITIES}/user1")["properties"]
    identity = {"type": "UserAssigned", "userAssignedIdentities": {f"{IDENTITIES}/user1": {}}}
    encryption = bound.encryption(identityClientId=user["clientId"])
    body = {"kind": "OpenAI", "sku": {"name": "S0"}, "location": "local", "properties": {"encryption": encryption}}
    message = plane.fails(400, PREFLIGHT, "PUT", path, {**body, "identity": identity})
    assert "Key Vault Crypto Service Encryption User" in message
    plane.fails(404, "ResourceNotFound", "GET", path)
    bound.grant(user["principalId"])
    plane.ok("PUT", path, {**body, "identity": identity})
    assert bound.wrapped_by(path) == [bound.version]
    # Without it at hand, and with a system-assigned one that is only made now.
    plane.fails(400, PREFLIGHT, "PUT", ACCOUNT.replace("a1", "a3"), {**body, "identity": {"type": "SystemAssigned"}})
    plane.fails(400, PREFLIGHT, "PUT", ACCOUNT.replace("a1", "a3"), body)


def test_all_that_is_wrong_is_told_at_once_with_what_to_do(bound: Bound) -> None:
    plane = bound.plane
    bound.vault(VAULT.replace("vault1", "vault2"), networkAcls={"defaultAction": "Deny", "bypass": "None"})
    bound.new_version(
        KEY.replace("vault1", "vault2"),
        enabled=False,
        exp=int(plane.clock.now()) - 5,
        type="EC",
        size=256,
        operations=("sign",),
    )
    other = bound.encryption(keyVaultUri=plane.settings.vault_uri("vault2"))
    assert details(bound, {"properties": {"encryption": other}}) == [
        "KeyDisabled", "KeyExpired", "KeyOperationNotPermitted", "AccessDenied", "VaultNetworkDenied", "PurgeProtectionDisabled",
        "KeyTypeNotSupported",
    ]  # fmt: skip
    reply = plane.send("PATCH", ACCOUNT, {"properties": {"encryption": other}}).json()["error"]
    assert "az role assignment create --assignee-object-id " + bound.principal in reply["message"]
    assert "az keyvault update -n vault2 --enable-purge-protection true" in reply["message"]
    for key, problem in (({"keyName": "none"}, "KeyNotFound"), ({"keyVersion": "0" * 32}, "KeyNotFound")):
        assert problem in details(bound, {"properties": {"encryption": bound.encryption(**key)}})
    nowhere = bound.encryption(keyVaultUri=plane.settings.vault_uri("vault3"))
    assert details(bound, {"properties": {"encryption": nowhere}}) == ["VaultNotFound"]
    none = {"identity": {"type": "None"}, "properties": {"encryption": bound.encryption()}}
    assert details(bound, none) == ["IdentityMissing"]


def test_a_key_that_wraps_and_does_not_unwrap_is_not_bound(bound: Bound) -> None:
    bound.broker.locks_only = True
    assert details(bound, {"properties": {"encryption": bound.encryption()}}) == ["KeyOperationNotPermitted"]
    assert bound.wrapped_by() == [""]


def test_a_broker_that_does_not_answer_changes_nothing(bound: Bound) -> None:
    before = bound.document()
    bound.broker.broken = Fault(FaultKind.UNAVAILABLE, "The key broker cannot be reached.", retry_after_s=1)
    bound.plane.fails(503, "ServiceUnavailable", "PATCH", ACCOUNT, {"properties": {"encryption": bound.encryption()}})
    new = {"kind": "OpenAI", "sku": {"name": "S0"}, "location": "local"}
    bound.plane.fails(503, "ServiceUnavailable", "PUT", ACCOUNT.replace("a1", "a2"), new)
    assert bound.document() == before
    bound.plane.ok("PATCH", ACCOUNT, {"tags": {"still": "managed"}})


def test_a_vault_elsewhere_is_tried_by_the_broker(bound: Bound) -> None:
    uri = "https://v9.elsewhere.example"
    away = bound.encryption(keyVaultUri=uri)
    bound.broker.elsewhere[uri] = Unavailable("VaultUnreachable", "It does not answer.")
    assert details(bound, {"properties": {"encryption": away}}) == ["VaultUnreachable"]
    bound.broker.elsewhere[uri] = None
    checked = bound.plane.ok("POST", f"{ACCOUNT}/checkEncryption", {"encryption": away})
    assert checked["ready"] is True
    assert bound.wrapped_by() == [""], "looking binds nothing"
    bound.bind(keyVaultUri=uri)
    assert bound.wrapped_by() == ["e" * 32]
    assert bound.plane.ok("GET", f"{ACCOUNT}/encryptionStatus")["state"] == "Available", "from the first moment"


def test_who_takes_the_identity_away_takes_the_key_away(bound: Bound) -> None:
    bound.bind()
    bound.plane.ok("PATCH", ACCOUNT, {"identity": {"type": "None"}})
    snapshot, key = bound.plane.source.current(), bound.policy().customer_key
    assert key is not None
    found = unavailable(snapshot, ACCOUNT.lower(), key, bound.plane.clock.now())
    assert found is not None
    assert found.problem == "IdentityMissing"
    status = bound.plane.ok("GET", f"{ACCOUNT}/encryptionStatus")
    assert status["state"] == "Unavailable"
    assert status["problems"][0]["command"] == "az cognitiveservices account identity assign -g Group1 -n a1"
    bound.plane.ok("PATCH", ACCOUNT, {"identity": {"type": "SystemAssigned"}})
    bound.grant(bound.principal)
    assert bound.plane.ok("GET", f"{ACCOUNT}/encryptionStatus")["state"] == "Available"


def test_a_restored_account_has_its_key_and_data_keys(bound: Bound) -> None:
    bound.bind()
    held = bound.document().private["dataKeys"]
    bound.plane.ok("DELETE", ACCOUNT)
    assert bound.document(ACCOUNT, State.SOFT_DELETED).private["dataKeys"] == held
    bound.plane.ok("PUT", ACCOUNT, {"location": "local", "properties": {"restore": True}})
    assert bound.document().private["dataKeys"] == held
    assert bound.plane.ok("GET", f"{ACCOUNT}/encryptionStatus")["state"] == "Available"


KINDS = (
    ("Face", "S0", 403, "CustomerManagedKeyNotAvailableForSku"),
    ("LUIS.Authoring", "F0", 403, "CustomerManagedKeyNotAvailableForSku"),
    ("SpeechServices", "S0", 400, "CustomerManagedKeyNotAvailable"),
    ("AnomalyDetector", "S0", 400, "CustomerManagedKeyNotAvailable"),
    ("TextAnalytics", "S", 400, PREFLIGHT),
    ("FormRecognizer", "S0", 400, PREFLIGHT),
    ("TextTranslation", "S1", 400, PREFLIGHT),
)


def test_which_kinds_may_have_one(bound: Bound) -> None:
    for kind, sku, status, code in KINDS:
        path = ACCOUNT.replace("a1", f"other-{kind}")
        bound.account(path, kind=kind, sku={"name": sku})
        body = {"properties": {"encryption": bound.encryption()}}
        message = bound.plane.fails(status, code, "PATCH", path, body)  # those that may have one lack the role alone
        assert ("E0" in message) == (status == 403), kind


def test_a_translator_of_no_region_has_none(bound: Bound) -> None:
    path = ACCOUNT.replace("a1", "global")
    bound.account(path, kind="TextTranslation", sku={"name": "S1"}, location="global")
    body = {"properties": {"encryption": bound.encryption()}}
    assert "region" in bound.plane.fails(400, "CustomerManagedKeyNotAvailable", "PATCH", path, body)


WRONG: tuple[tuple[str, Any], ...] = (
    ("keyVaultUri", "http://v1.example"),
    ("keyVaultUri", "https://u:p@v1.example/"),
    ("keyVaultUri", "https://v1.example/keys/k1"),
    ("keyVaultUri", None),
    ("keyName", "../secrets"),
    ("keyName", ""),
    ("keyVersion", "latest"),
    ("identityClientId", "me"),
)


def test_a_key_that_is_not_named_properly(bound: Bound) -> None:
    for member, value in WRONG:
        reply = bound.plane.send("PATCH", ACCOUNT, {"properties": {"encryption": bound.encryption(**{member: value})}})
        assert reply.status_code == 400, (member, value)
        assert reply.json()["error"]["target"] == f"properties.encryption.keyVaultProperties.{member}"


def test_a_key_without_the_source_is_a_mistake_and_not_ignored(bound: Bound) -> None:
    body = {"properties": {"encryption": {**bound.encryption(), "keySource": "Microsoft.CognitiveServices"}}}
    bound.plane.fails(400, "InvalidRequestContent", "PATCH", ACCOUNT, body)


def test_checking_only_looks_and_says_what_binding_would_say(bound: Bound) -> None:
    before, calls = bound.document(), len(bound.broker.calls)
    asked = {"encryption": bound.encryption(keyName="none")}
    found = bound.plane.ok("POST", f"{ACCOUNT}/checkEncryption", asked)
    assert (found["ready"], [one["code"] for one in found["problems"]]) == (False, ["KeyNotFound", "AccessDenied"])
    assert all(one["help"] for one in found["problems"])
    good = bound.plane.ok("POST", f"{ACCOUNT}/checkEncryption", {"Encryption": bound.encryption()})
    assert (good["ready"], good["keyVersion"]) == (True, bound.version)
    assert bound.plane.ok("POST", f"{ACCOUNT}/checkEncryption")["ready"] is True, "the platform's key"
    assert bound.document() == before
    assert len(bound.broker.calls) == calls


def test_status_says_how_far_a_rotation_has_come(bound: Bound) -> None:
    bound.bind()
    bound.plane.clock.advance(1)
    new = bound.new_version()
    status = bound.plane.ok("GET", f"{ACCOUNT}/encryptionStatus")
    assert status["keyVersion"] == new
    assert status["dataKeys"][0]["customerKeyId"].endswith(bound.version)
    assert (status["rewrap"]["state"], status["rewrap"]["done"], status["rewrap"]["of"]) == ("Pending", 0, 1)


def test_inference_that_keeps_nothing_may_be_allowed_without_the_key(bound: Bound) -> None:
    bound.bind()
    allowed = {"properties": {"stockade": {"customerKey": {"statelessInference": "allowed"}}}}
    bound.plane.ok("PATCH", ACCOUNT, allowed)
    key = bound.policy().customer_key
    assert key is not None
    assert not key.guards_stateless
    wrong = {"properties": {"stockade": {"customerKey": {"statelessInference": "sometimes"}}}}
    bound.plane.fails(400, "InvalidRequestContent", "PATCH", ACCOUNT, wrong)


def test_strict_parity_takes_what_azure_takes(bound: Bound) -> None:
    plane = bound.plane
    plane.ok("PUT", f"{IDENTITIES}/user1", {"location": "local"})
    user = plane.ok("GET", f"{IDENTITIES}/user1")["properties"]
    bound.grant(user["principalId"])
    both = {"type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {f"{IDENTITIES}/user1": {}}}
    plane.ok("PATCH", ACCOUNT, {"identity": both})
    foundry = ACCOUNT.replace("a1", "foundry")
    bound.account(foundry, kind="AIServices", identity=both)
    large = bound.new_version(KEY.replace("k1", "large"), size=4096)
    object.__setattr__(plane.platform, "settings", msgspec.structs.replace(plane.settings, strict_parity=True))

    def patched(path: str, **key: Any) -> Any:
        return "PATCH", path, {"properties": {"encryption": bound.encryption(**key)}}

    assert large
    named = {"identityClientId": user["clientId"]}
    plane.fails(400, "UserAssignedIdentityNotSupported", *patched(ACCOUNT, **named))
    plane.fails(400, "PropertyChangeNotAllowed", *patched(foundry, **named))
    assert "2048" in plane.fails(400, PREFLIGHT, *patched(ACCOUNT, keyName="large"))
    bound.bind()
    body = {"kind": "OpenAI", "sku": {"name": "S0"}, "location": "local", "properties": {}}
    plane.ok("PUT", ACCOUNT, body)
    assert bound.wrapped_by() == [""], "a PUT that does not name it takes it away"


def test_an_account_from_before_there_were_data_keys_is_given_one(bound: Bound) -> None:
    with bound.plane.database.write() as writer:
        old = writer.get(ACCOUNT)
        assert old is not None
        without = {name: value for name, value in old.private.items() if name != "dataKeys"}
        writer.put(
            old.id, old.type, old.body, without, subscription=old.subscription, resource_group=old.resource_group
        )
    assert bound.plane.ok("GET", f"{ACCOUNT}/encryptionStatus")["dataKeys"] == []
    bound.bind()
    assert bound.wrapped_by() == [bound.version]


def test_the_status_is_told_while_the_broker_is_away(bound: Bound) -> None:
    bound.bind()
    bound.broker.broken = Fault(FaultKind.UNAVAILABLE, "The key broker cannot be reached.")
    assert bound.plane.ok("GET", f"{ACCOUNT}/encryptionStatus")["state"] == "Available"
