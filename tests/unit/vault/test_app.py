"""Vaults over HTTP: the challenge, the order of checks, refusals in Key Vault's words, keys and secrets from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockade.kernel.faults import FaultKind
from stockade.settings import Names, Settings, Vault
from stockade.vault.app import OPERATIONS
from stockade.vault.wire import STATUS
from tests.factories.vault import CRYPTO_USER, GROUP, Vaulted, b64, unb64

HOSTED = "demo-vault.vault.stockade.localhost:8444"


def test_the_table_of_failures_is_total() -> None:
    assert set(STATUS) == set(FaultKind)


def test_every_operation_has_a_permission_that_is_known() -> None:
    from stockade.policy.vault_access import DATA_ACTIONS

    assert {operation.permission for operation in OPERATIONS} <= set(DATA_ACTIONS)


@pytest.mark.parametrize(
    ("host", "resource"),
    [
        ("localhost:8444", "https://vault.azure.net"),
        (HOSTED, "https://vault.stockade.localhost:8444"),
        (HOSTED.upper(), "https://vault.stockade.localhost:8444"),
    ],
    ids=["localhost", "own-host", "own-host-in-capitals"],
)
def test_without_a_credential_there_is_a_challenge_and_nothing_else(shared: Vaulted, host: str, resource: str) -> None:
    reply = shared.send("POST", "/keys/k1/create", content=b"", by="", host=host, version=None)
    assert reply.status_code == 401
    expected = f'Bearer authorization="https://localhost:8444/{shared.world.tenant_id}", resource="{resource}"'
    assert reply.headers["www-authenticate"] == expected
    assert reply.json()["error"]["code"] == "Unauthorized"


def test_what_is_no_vaults_goes_elsewhere(shared: Vaulted) -> None:
    for path in ("/subscriptions", "/keysmith", "/metadata/endpoints", "/"):
        assert shared.send("GET", path, by="").status_code == 418
    assert shared.send("GET", "/subscriptions", by="", host=HOSTED).status_code == 401
    missing = "nobody.vault.stockade.localhost:8444"
    shared.fails(404, "VaultNotFound", "GET", "/keys", by="", host=missing)


@pytest.mark.parametrize(
    "header",
    ["Basic eA==", "Bearer", "Bearer nonsense", "Bearer " + "a" * 40_000],
    ids=["basic", "empty", "bad", "long"],
)
def test_what_is_no_token_is_challenged_again(shared: Vaulted, header: str) -> None:
    reply = shared.send("GET", "/keys", by=header)
    assert reply.status_code == 401
    assert "resource=" in reply.headers["www-authenticate"]


def test_a_header_that_decides_something_comes_once(shared: Vaulted) -> None:
    sent = [("host", "localhost:8444"), *(("authorization", f"Bearer {shared.token()}") for _ in range(2))]
    reply = shared.client.request("GET", "/keys?api-version=7.6", headers=sent)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "BadParameter")


def test_tokens_for_others_and_old_ones_are_refused(vaulted: Vaulted) -> None:
    other = vaulted.token(audience="https://management.azure.com")
    assert "AKV10022" in vaulted.fails(401, "Unauthorized", "GET", "/keys", by=f"Bearer {other}")
    ours = vaulted.token(audience="https://vault.stockade.localhost:8444")
    vaulted.ok("GET", "/keys", by=f"Bearer {ours}")
    vaulted.clock.advance(86_400)
    vaulted.fails(401, "Unauthorized", "GET", "/keys", by=f"Bearer {ours}")


def test_a_version_of_the_api_is_asked_for_but_none_in_particular(shared: Vaulted) -> None:
    shared.fails(400, "BadParameter", "GET", "/keys", version=None)
    shared.fails(400, "BadParameter", "GET", "/keys", version="newest")
    for version in ("7.0", "7.6-preview.2", "2025-07-01", "2026-04-01-preview"):
        shared.ok("GET", "/keys", version=version)
    shared.ok("GET", "/keys?api%2Dversion=7.4", version=None)


def test_a_key_from_creation_to_purge(vaulted: Vaulted) -> None:
    made = vaulted.ok("POST", "/keys/K1/create", {"kty": "RSA", "tags": {"a": "b"}})
    kid = made["key"]["kid"]
    assert kid.startswith("https://localhost:8444/keys/K1/")
    assert len(unb64(made["key"]["n"])) == 256
    assert made["attributes"]["recoveryLevel"] == "Recoverable+Purgeable"
    assert made["attributes"]["recoverableDays"] == 90
    assert made["attributes"]["hsmPlatform"] == "0"
    newer = vaulted.ok("POST", "/keys/k1/create", {"kty": "RSA"}, host=HOSTED)
    assert newer["key"]["kid"].startswith(f"https://{HOSTED}/keys/K1/")
    assert vaulted.ok("GET", "/keys/k1/")["key"]["n"] == newer["key"]["n"] == vaulted.ok("GET", "/keys/K1")["key"]["n"]
    assert vaulted.ok("GET", kid.removeprefix("https://localhost:8444")) == made
    assert len(vaulted.ok("GET", "/keys/k1/versions")["value"]) == 2
    listed = vaulted.ok("GET", "/keys")
    assert [item["kid"] for item in listed["value"]] == ["https://localhost:8444/keys/K1"]
    assert listed["nextLink"] is None

    gone = vaulted.ok("DELETE", "/keys/k1")
    assert gone["recoveryId"] == "https://localhost:8444/deletedkeys/K1"
    assert gone["scheduledPurgeDate"] - gone["deletedDate"] == 90 * 86_400
    vaulted.fails(404, "KeyNotFound", "GET", "/keys/k1")
    vaulted.fails(409, "ObjectIsDeletedButRecoverable", "POST", "/keys/k1/create", {"kty": "EC"})
    assert vaulted.ok("GET", "/deletedkeys/k1")["key"]["kid"] == gone["key"]["kid"]
    assert len(vaulted.ok("GET", "/deletedkeys")["value"]) == 1
    vaulted.ok("POST", "/deletedkeys/k1/recover")
    assert vaulted.ok("GET", kid.removeprefix("https://localhost:8444"))["key"] == made["key"]
    vaulted.fails(404, "KeyNotFound", "GET", "/deletedkeys/k1")
    vaulted.ok("DELETE", "/keys/k1")
    assert vaulted.send("DELETE", "/deletedkeys/k1").status_code == 204
    vaulted.fails(404, "KeyNotFound", "GET", "/deletedkeys/k1")
    vaulted.ok("POST", "/keys/k1/create", {"kty": "EC"})
    assert len(vaulted.ok("GET", "/keys/k1/versions")["value"]) == 1


def test_a_secret_from_setting_to_purge(vaulted: Vaulted) -> None:
    sent = {"value": "hüsh", "contentType": "text/plain", "attributes": {"exp": 2_000_000_000}}
    made = vaulted.ok("PUT", "/secrets/S1", sent)
    assert made["value"] == "hüsh"
    assert made["attributes"]["exp"] == 2_000_000_000
    vaulted.ok("PUT", "/secrets/s1", {"value": "newer"})
    assert vaulted.ok("GET", "/secrets/s1/")["value"] == "newer"
    first = made["id"].removeprefix("https://localhost:8444")
    assert vaulted.ok("GET", first) == made
    changed = vaulted.ok("PATCH", first, {"attributes": {"enabled": False}, "tags": {"a": "b"}})
    assert (changed["contentType"], changed["tags"], "value" in changed) == ("text/plain", {"a": "b"}, False)
    vaulted.fails(403, "SecretDisabled", "GET", first)
    assert [item["id"] for item in vaulted.ok("GET", "/secrets")["value"]] == ["https://localhost:8444/secrets/S1"]
    assert "hüsh" not in vaulted.send("GET", "/secrets/s1/versions").text
    vaulted.ok("DELETE", "/secrets/s1")
    vaulted.fails(409, "ObjectIsDeletedButRecoverable", "PUT", "/secrets/s1", {"value": "x"})
    assert "value" not in vaulted.ok("GET", "/deletedsecrets/s1")
    assert "value" not in vaulted.ok("POST", "/deletedsecrets/s1/recover")
    assert vaulted.ok("GET", "/secrets/s1")["value"] == "newer"
    vaulted.ok("DELETE", "/secrets/s1")
    assert vaulted.send("DELETE", "/deletedsecrets/s1").status_code == 204
    vaulted.fails(404, "SecretNotFound", "GET", "/secrets/s1")


def test_values_are_nowhere_in_clear(shared: Vaulted) -> None:
    shared.ok("PUT", "/secrets/canary", {"value": "canary-of-the-vault"})
    for file in shared.settings.data_dir.rglob("*"):
        if file.is_file():
            assert b"canary-of-the-vault" not in file.read_bytes(), file
    assert "canary-of-the-vault" not in repr(shared.audit.records)


def test_uses_of_keys(shared: Vaulted) -> None:
    shared.ok("POST", "/keys/rsa/create", {"kty": "RSA"})
    plain = b64(b"0123456789abcdef")
    for there, back in (("encrypt", "decrypt"), ("wrapkey", "unwrapkey")):
        sealed = shared.ok("POST", f"/keys/rsa//{there}", {"alg": "RSA-OAEP-256", "value": plain})
        path = sealed["kid"].removeprefix("https://localhost:8444")
        opened = shared.ok("POST", f"{path}/{back}", {"alg": "RSA-OAEP-256", "value": sealed["value"]})
        assert opened == {"kid": sealed["kid"], "value": plain}
    digest = b64(b"\x01" * 32)
    shared.ok("POST", "/keys/ec/create", {"kty": "EC", "crv": "P-256"})
    signed = shared.ok("POST", "/keys/ec//sign", {"alg": "ES256", "value": digest})
    for sent, valid in ((digest, True), (b64(b"\x02" * 32), False)):
        asked = {"alg": "ES256", "digest": sent, "value": signed["value"]}
        assert shared.ok("POST", "/keys/ec//verify", asked) == {"value": valid}
    shared.fails(400, "BadParameter", "POST", "/keys/ec//sign", {"alg": "RS256", "value": digest})
    shared.fails(400, "BadParameter", "POST", "/keys/rsa//decrypt", {"alg": "RSA-OAEP", "value": b64(b"\0" * 256)})


def test_rsnull_signs_what_is_sent_as_it_is(shared: Vaulted) -> None:
    jwk = shared.ok("POST", "/keys/bare/create", {"kty": "RSA"})["key"]
    sent = b"not a digest: " + b"m" * 37  # MD5 and SHA-1 one after the other are 36 bytes, so TLS 1.0 needs this too
    signed = unb64(shared.ok("POST", "/keys/bare//sign", {"alg": "RSNULL", "value": b64(sent)})["value"])
    number = pow(int.from_bytes(signed), int.from_bytes(unb64(jwk["e"])), int.from_bytes(unb64(jwk["n"])))
    assert (
        number.to_bytes(256) == b"\0\x01" + b"\xff" * (253 - len(sent)) + b"\0" + sent
    )  # RFC 8017, 9.2 without DigestInfo
    for digest, valid in ((sent, True), (sent[1:], False)):
        asked = {"alg": "RSNULL", "digest": b64(digest), "value": b64(signed)}
        assert shared.ok("POST", "/keys/bare//verify", asked) == {"value": valid}
    shared.fails(400, "BadParameter", "POST", "/keys/bare//sign", {"alg": "RSNULL", "value": b64(b"m" * 246)})


@pytest.mark.parametrize(
    ("change", "refused", "still", "code"),
    [
        ({"attributes": {"enabled": False}}, ("encrypt", "decrypt", "sign"), (), "KeyDisabled"),
        ({"attributes": {"exp": 1_700_000_000}}, ("encrypt", "sign", "wrapkey"), ("decrypt", "verify"), "KeyExpired"),
        ({"attributes": {"nbf": 1_900_000_000}}, ("encrypt", "sign"), ("unwrapkey", "verify"), "KeyNotYetValid"),
        ({"key_ops": ["sign", "verify"]}, ("encrypt", "unwrapkey"), ("sign", "verify"), "KeyOperationForbidden"),
    ],
    ids=["disabled", "expired", "not-yet", "operations"],
)
def test_what_a_keys_state_refuses(
    shared: Vaulted, change: Any, refused: tuple[str, ...], still: tuple[str, ...], code: str
) -> None:
    name = f"state-{code}"
    shared.ok("POST", f"/keys/{name}/create", {"kty": "RSA"})
    bodies = _uses(shared, name)
    shared.ok("PATCH", f"/keys/{name}/", change)
    for use in refused:
        message = shared.fails(403, code, "POST", f"/keys/{name}//{use}", bodies[use])
        assert message.startswith("Operation ")
    for use in still:
        shared.ok("POST", f"/keys/{name}//{use}", bodies[use])


def _uses(vaulted: Vaulted, name: str) -> dict[str, Any]:
    plain, digest = b64(b"0123456789abcdef"), b64(b"\x01" * 32)
    sealed = vaulted.ok("POST", f"/keys/{name}//encrypt", {"alg": "RSA-OAEP", "value": plain})["value"]
    signed = vaulted.ok("POST", f"/keys/{name}//sign", {"alg": "PS256", "value": digest})["value"]
    return {
        "encrypt": {"alg": "RSA-OAEP", "value": plain},
        "decrypt": {"alg": "RSA-OAEP", "value": sealed},
        "wrapkey": {"alg": "RSA-OAEP", "value": plain},
        "unwrapkey": {"alg": "RSA-OAEP", "value": sealed},
        "sign": {"alg": "PS256", "value": digest},
        "verify": {"alg": "PS256", "digest": digest, "value": signed},
    }


def test_a_role_is_needed_and_named(shared: Vaulted) -> None:
    shared.ok("POST", "/keys/roled/create", {"kty": "RSA"})
    stranger = shared.principal("stranger")
    message = shared.fails(403, "ForbiddenByRbac", "GET", "/keys/roled", by=stranger)
    for part in (
        "Action: 'Microsoft.KeyVault/vaults/keys/read'",
        f"Resource: '{GROUP}/providers/Microsoft.KeyVault/vaults/Demo-Vault/keys/roled'",
        f"oid={stranger.object_id}",
        "Vault: Demo-Vault;location=local",
    ):
        assert part in message
    # What is not there is refused alike: who may not read learns nothing.
    shared.fails(403, "ForbiddenByRbac", "GET", "/keys/nothing", by=stranger)
    key = f"{GROUP}/providers/Microsoft.KeyVault/vaults/Demo-Vault/keys/roled"
    user = shared.principal("user", (CRYPTO_USER, key))
    shared.ok("GET", "/keys/roled", by=user)
    shared.fails(403, "ForbiddenByRbac", "GET", "/keys/roled2", by=user)
    shared.fails(403, "ForbiddenByRbac", "DELETE", "/keys/roled", by=user)


def test_access_policies_decide_where_the_vault_says_so(vaulted: Vaulted) -> None:
    one = vaulted.principal("one")
    entry = {
        "tenantId": vaulted.world.tenant_id,
        "objectId": one.object_id,
        "permissions": {"keys": ["create", "get"]},
    }
    vaulted.make_vault("Demo-Vault", enableRbacAuthorization=False, accessPolicies=[entry])
    vaulted.ok("POST", "/keys/k1/create", {"kty": "EC"}, by=one)
    message = vaulted.fails(403, "AccessDenied", "POST", "/keys/k1//sign", {}, by=one)
    assert "does not have keys sign permission on key vault 'Demo-Vault;location=local'" in message
    vaulted.fails(403, "AccessDenied", "GET", "/keys/k1")  # roles mean nothing now


def test_network_rules_come_before_roles(vaulted: Vaulted) -> None:
    acls = {"defaultAction": "Deny", "bypass": "None", "ipRules": [{"value": "203.0.113.0/24"}]}
    vaulted.make_vault("Demo-Vault", networkAcls=acls)
    message = vaulted.fails(403, "ForbiddenByFirewall", "GET", "/keys")
    assert "is not authorized and caller is not a trusted service" in message
    vaulted.fails(403, "ForbiddenByFirewall", "GET", "/keys", by="")
    vaulted.make_vault("Demo-Vault", publicNetworkAccess="Disabled", networkAcls={**acls, "bypass": "AzureServices"})
    vaulted.fails(403, "ForbiddenByConnection", "GET", "/keys")
    # With a bypass, who asks could matter: so who it is, is asked first.
    vaulted.fails(401, "Unauthorized", "GET", "/keys", by="")


def test_lists_have_pages(vaulted: Vaulted) -> None:
    names = [f"s{number:02}" for number in range(5)]
    for name in names:
        vaulted.ok("PUT", f"/secrets/{name}", {"value": name})
    found, path = [], "/secrets?maxresults=2"
    while path:
        page = vaulted.ok("GET", path, version=None if "api-version" in path else "7.4")
        assert len(page["value"]) <= 2
        found += [item["id"].rsplit("/", 1)[-1] for item in page["value"]]
        path = (page["nextLink"] or "").removeprefix("https://localhost:8444")
    assert found == names
    for wrong in ("maxresults=0", "maxresults=26", "maxresults=x", "%24skiptoken=%C3%A4"):
        vaulted.fails(400, "BadParameter", "GET", f"/secrets?{wrong}")


def test_backups_come_back_and_only_here(shared: Vaulted) -> None:
    for path, body in (("/keys/backed/create", {"kty": "EC"}), ("/keys/backed/create", {"kty": "RSA"})):
        made = shared.ok("POST", path, body)
    value = shared.ok("PUT", "/secrets/backed", {"value": "kept"})
    first = value["id"].removeprefix("https://localhost:8444")
    shared.ok("PATCH", first, {"attributes": {"enabled": False}})  # which keeps nobody from backing it up
    value = shared.ok("PUT", "/secrets/backed", {"value": "kept"})
    key, secret = (shared.ok("POST", f"/{place}/backup") for place in ("keys/backed", "secrets/backed"))
    shared.fails(409, "KeyAlreadyExists", "POST", "/keys/restore", key)
    for place in ("keys/backed", "secrets/backed"):
        shared.ok("DELETE", f"/{place}")
        shared.ok("DELETE", f"/deleted{place}")
    shared.fails(400, "BadParameter", "POST", "/keys/restore", secret)
    restored = shared.ok("POST", "/keys/restore", key)
    assert restored["key"] == made["key"]
    assert len(shared.ok("GET", "/keys/backed/versions")["value"]) == 2
    shared.ok("POST", "/keys/backed//sign", {"alg": "RS256", "value": b64(b"\x01" * 32)})
    shared.ok("POST", "/secrets/restore", secret)
    assert shared.ok("GET", "/secrets/backed")["value"] == value["value"]
    blob = bytearray(unb64(key["value"]))
    blob[-1] ^= 1
    for broken in (bytes(blob), b"", b"x" * 500):
        shared.fails(400, "BadParameter", "POST", "/keys/restore", {"value": b64(broken)})


def test_purge_protection_keeps_what_was_deleted(vaulted: Vaulted) -> None:
    vaulted.make_vault("Demo-Vault", enablePurgeProtection=True, softDeleteRetentionInDays=7)
    made = vaulted.ok("POST", "/keys/k1/create", {"kty": "EC"})
    assert made["attributes"]["recoveryLevel"] == "CustomizedRecoverable"
    vaulted.ok("DELETE", "/keys/k1")
    vaulted.fails(403, "ForbiddenByPolicy", "DELETE", "/deletedkeys/k1")
    vaulted.clock.advance(7 * 86_400 + 1)
    vaulted.fails(404, "KeyNotFound", "GET", "/deletedkeys/k1")
    vaulted.ok("POST", "/keys/k1/create", {"kty": "EC"})  # although no sweep has come by
    assert len(vaulted.ok("GET", "/keys/k1/versions")["value"]) == 1


def test_hsm_keys_need_a_premium_vault(vaulted: Vaulted) -> None:
    vaulted.fails(400, "BadParameter", "POST", "/keys/k1/create", {"kty": "RSA-HSM"})
    vaulted.make_vault("Demo-Vault", sku="premium")
    made = vaulted.ok("POST", "/keys/k1/create", {"kty": "RSA-HSM"})
    assert (made["key"]["kty"], made["attributes"]["hsmPlatform"]) == ("RSA-HSM", "0")


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/keys/k1/create", {}, "BadParameter"),
        ("POST", "/keys/k1/create", {"kty": "oct"}, "BadParameter"),
        ("POST", "/keys/k1/create", {"kty": "RSA", "key_size": 1024}, "BadParameter"),
        ("POST", "/keys/k1/create", {"kty": "RSA", "public_exponent": 3}, "BadParameter"),
        ("POST", "/keys/k1/create", {"kty": "EC", "crv": "P-1"}, "BadParameter"),
        ("POST", "/keys/k1/create", {"kty": "EC", "key_ops": ["encrypt"]}, "BadParameter"),
        ("POST", "/keys/k1/create", {"kty": "RSA", "attributes": {"nbf": 9, "exp": 8}}, "BadParameter"),
        ("POST", "/keys/k1/create", {"kty": "RSA", "attributes": {"exp": -1}}, "BadParameter"),
        ("POST", "/keys/k1/create", {"kty": "RSA", "attributes": {"exportable": True}}, "BadParameter"),
        ("POST", "/keys/k1/create", {"kty": "RSA", "release_policy": {"data": "e30"}}, "NotSupported"),
        ("POST", "/keys/k1/create", {"kty": "RSA", "tags": {str(n): "" for n in range(16)}}, "BadParameter"),
        ("POST", "/keys/k1/create", [], "BadParameter"),
        ("POST", "/keys/k_1/create", {"kty": "RSA"}, "BadParameter"),
        ("POST", f"/keys/{'k' * 128}/create", {"kty": "RSA"}, "BadParameter"),
        ("PUT", "/keys/k1", {"key": {"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}}, "BadParameter"),
        ("PUT", "/keys/k1", {"key": {"kty": "RSA", "n": "not base64!"}}, "BadParameter"),
        ("PUT", "/keys/k1", {"key": {"kty": "RSA-HSM", "key_hsm": "AA"}}, "NotSupported"),
        ("PUT", "/secrets/s1", {}, "BadParameter"),
        ("PUT", "/secrets/s1", {"value": "x" * 25_601}, "BadParameter"),
        ("PUT", "/secrets/s1", {"value": 5}, "BadParameter"),
        ("GET", "/keys/k1/" + "g" * 32, None, "BadParameter"),
        ("POST", "/rng", {"count": 0}, "BadParameter"),
        ("GET", "/certificates", None, "NotSupported"),
    ],
    ids=str,
)
def test_what_is_not_well_formed_is_refused(shared: Vaulted, method: str, path: str, body: Any, code: str) -> None:
    shared.fails(400, code, method, path, body)


def test_addresses_that_are_not_there(shared: Vaulted) -> None:
    shared.fails(404, "NotFound", "GET", "/keys/a/b/c/d")
    shared.fails(405, "MethodNotAllowed", "DELETE", "/keys")
    shared.fails(400, "BadParameter", "GET", "/keys/%2e%2e")
    shared.fails(404, "KeyNotFound", "POST", "/keys/absent//sign", {"alg": "ES256", "value": "AA"})


def test_bodies_are_bounded(shared: Vaulted) -> None:
    shared.fails(413, "RequestEntityTooLarge", "PUT", "/secrets/s1", content=b" " * 200_000)
    shared.fails(400, "BadParameter", "PUT", "/secrets/s1", content=b"[" * 100_000)


def test_random_bytes_come_in_the_number_asked_for(shared: Vaulted) -> None:
    assert len(unb64(shared.ok("POST", "/rng", {"count": 128})["value"])) == 128


def test_keys_are_not_released_nor_attested(shared: Vaulted) -> None:
    made = shared.ok("POST", "/keys/unreleased/create", {"kty": "EC"})
    path = made["key"]["kid"].removeprefix("https://localhost:8444")
    shared.fails(403, "KeyReleaseNotPermitted", "POST", f"{path}/release", {"target": "x"})
    shared.fails(400, "NotSupported", "GET", f"{path}/attestation")


def test_a_vault_takes_only_so_many_requests(tmp_path: Path) -> None:
    vaulted = Vaulted(tmp_path, Settings(data_dir=tmp_path, vault=Vault(transactions_per_10_s=3)))
    for _ in range(3):
        vaulted.ok("GET", "/keys")
    reply = vaulted.send("GET", "/keys")
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "Throttled")
    assert 1 <= int(reply.headers["retry-after"]) <= 10
    vaulted.clock.advance(10)
    vaulted.ok("GET", "/keys")
    vaulted.close()


def test_changes_are_recorded_before_they_are_made_and_everything_else_once(vaulted: Vaulted) -> None:
    vaulted.ok("POST", "/keys/k1/create", {"kty": "EC"})
    intent, outcome = vaulted.audit.records
    assert (intent.phase, outcome.phase, outcome.status) == ("intent", "outcome", 200)
    assert intent.id == outcome.id
    assert (intent.operation, intent.principal) == ("KeyCreate", vaulted.admin.object_id)
    assert "Key Vault Administrator" in outcome.rule
    vaulted.audit.records.clear()
    vaulted.ok("POST", "/keys/k1//sign", {"alg": "ES256", "value": b64(b"\x01" * 32)})
    vaulted.send("GET", "/keys", by="")
    used, challenged = vaulted.audit.records
    assert (used.operation, used.decision, used.outcome) == ("KeySign", "allow", "success")
    assert (challenged.decision, challenged.credential, challenged.status) == ("deny", "none", 401)
    vaulted.audit.healthy = False
    vaulted.fails(503, "ServiceUnavailable", "GET", "/keys")


def test_headers_are_those_of_key_vault(shared: Vaulted) -> None:
    reply = shared.send("GET", "/keys", headers={"x-ms-client-request-id": "mine"})
    assert reply.headers["x-ms-keyvault-region"] == "local"
    assert reply.headers["x-ms-client-request-id"] == "mine"
    assert reply.headers["x-ms-request-id"]
    assert reply.headers["cache-control"] == "no-store"


def test_a_domain_of_ones_own(tmp_path: Path) -> None:
    vaulted = Vaulted(tmp_path, Settings(data_dir=tmp_path, names=Names(domain="ai.example.org")))
    reply = vaulted.send("GET", "/keys", by="", host="demo-vault.vault.ai.example.org:8444")
    assert 'resource="https://vault.ai.example.org:8444"' in reply.headers["www-authenticate"]
    vaulted.ok("GET", "/keys", host="demo-vault.vault.ai.example.org:8444")
    vaulted.ok("GET", "/keys", host="management.ai.example.org:8444")
    vaulted.close()
