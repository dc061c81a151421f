"""Azure's Key Vault clients, unmodified, against vaults with a host of their own and against the default vault on localhost.

Only the resolution of names below `stockade.localhost` is this file's: the clients keep all their checks, the challenge's resource among them.
"""

from __future__ import annotations

import hashlib
import socket
import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.keyvault.keys import (
    JsonWebKey,
    KeyClient,
    KeyCurveName,
    KeyOperation,
    KeyRotationLifetimeAction,
    KeyRotationPolicy,
    KeyRotationPolicyAction,
)
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm
from azure.keyvault.secrets import SecretClient
from azure.mgmt.keyvault import KeyVaultManagementClient
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.live import Live

RSA_ENCRYPTION = ["RSA1_5", "RSA-OAEP", "RSA-OAEP-256"]


@pytest.fixture(scope="module", autouse=True)
def names() -> Iterator[None]:
    """Resolve what a resolver with one wildcard would."""
    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **named: Any) -> Any:
        ours = isinstance(host, str) and host.lower().endswith(".stockade.localhost")
        return real("127.0.0.1" if ours else host, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield


def new_name(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def vault_url(live: Live) -> str:
    return f"https://demo-vault.vault.stockade.localhost:{live.ports[1]}"


@pytest.fixture(scope="module")
def keys(live: Live, client_environment: Mapping[str, str], vault_url: str) -> Iterator[KeyClient]:
    with live.credential() as credential, KeyClient(vault_url, credential) as client:
        yield client


@pytest.fixture(scope="module")
def secrets(live: Live, client_environment: Mapping[str, str], vault_url: str) -> Iterator[SecretClient]:
    with live.credential() as credential, SecretClient(vault_url, credential) as client:
        yield client


@pytest.fixture(scope="module")
def management(live: Live, client_environment: Mapping[str, str]) -> Iterator[KeyVaultManagementClient]:
    with live.credential() as credential:
        yield KeyVaultManagementClient(
            credential,
            live.subscription,
            base_url=live.arm,
            credential_scopes=["https://management.azure.com/.default"],
        )


@pytest.fixture(scope="module")
def rsa_key(keys: KeyClient) -> Any:
    return keys.create_rsa_key(new_name("rsa"), size=2048)


def test_a_keys_life(keys: KeyClient) -> None:
    name = new_name("life")
    first = keys.create_key(name, "EC", curve=KeyCurveName.p_256, tags={"a": "b"})
    assert first.key.crv == "P-256"
    second = keys.rotate_key(name)
    assert second.properties.version != first.properties.version
    assert keys.get_key(name).properties.version == second.properties.version
    changed = keys.update_key_properties(name, first.properties.version, enabled=False, tags={"c": "d"})
    assert (changed.properties.enabled, changed.properties.tags) == (False, {"c": "d"})
    versions = {one.version for one in keys.list_properties_of_key_versions(name)}
    assert versions == {first.properties.version, second.properties.version}
    assert name in {one.name for one in keys.list_properties_of_keys(max_page_size=2)}
    with pytest.raises(HttpResponseError, match="disabled key") as refused:
        keys.get_cryptography_client(name, key_version=first.properties.version).sign("ES256", b"\1" * 32)
    assert refused.value.status_code == 403
    gone = keys.begin_delete_key(name).result()
    assert gone.recovery_id
    with pytest.raises(ResourceNotFoundError) as missing:
        keys.get_key(name)
    assert missing.value.error.code == "KeyNotFound"
    with pytest.raises(ResourceExistsError) as taken:
        keys.create_key(name, "EC")
    assert taken.value.error.innererror["code"] == "ObjectIsDeletedButRecoverable"
    assert name in {one.name for one in keys.list_deleted_keys()}
    with pytest.raises(HttpResponseError) as protected:
        keys.purge_deleted_key(name)  # the demonstration vault has purge protection
    assert protected.value.status_code == 403
    assert keys.begin_recover_deleted_key(name).result().id == second.id
    assert keys.get_key(name).id == second.id


@pytest.mark.parametrize("algorithm", RSA_ENCRYPTION)
def test_encryption(keys: KeyClient, rsa_key: Any, algorithm: str) -> None:
    client = keys.get_cryptography_client(rsa_key.name)
    sealed = client.encrypt(EncryptionAlgorithm(algorithm), b"plain")
    assert client.decrypt(EncryptionAlgorithm(algorithm), sealed.ciphertext).plaintext == b"plain"


@pytest.mark.parametrize("algorithm", RSA_ENCRYPTION)
def test_wrapping(keys: KeyClient, rsa_key: Any, algorithm: str) -> None:
    client = keys.get_cryptography_client(rsa_key.name)
    wrapped = client.wrap_key(KeyWrapAlgorithm(algorithm), b"k" * 32)
    assert client.unwrap_key(KeyWrapAlgorithm(algorithm), wrapped.encrypted_key).key == b"k" * 32


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_rsa_signatures(keys: KeyClient, rsa_key: Any, algorithm: str) -> None:
    client = keys.get_cryptography_client(rsa_key.name)
    digest = hashlib.new(f"sha{algorithm[2:]}", b"message").digest()
    signed = client.sign(SignatureAlgorithm(algorithm), digest)
    assert client.verify(SignatureAlgorithm(algorithm), digest, signed.signature).is_valid  # by the client itself
    local = CryptographyClient.from_jwk(rsa_key.key)
    assert local.verify(SignatureAlgorithm(algorithm), digest, signed.signature).is_valid


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521", "P-256K"])
def test_ec_signatures(keys: KeyClient, curve: str) -> None:
    algorithm = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "P-256K": "ES256K"}[curve]
    made = keys.create_ec_key(new_name("ec"), curve=curve)
    client = keys.get_cryptography_client(made.name)
    digest = hashlib.new(f"sha{algorithm[2:5]}", b"message").digest()
    signed = client.sign(SignatureAlgorithm(algorithm), digest)
    assert client.verify(SignatureAlgorithm(algorithm), digest, signed.signature).is_valid
    assert not client.verify(SignatureAlgorithm(algorithm), digest[::-1], signed.signature).is_valid


def test_import_backup_and_restore(keys: KeyClient, management: KeyVaultManagementClient, live: Live) -> None:
    private = rsa.generate_private_key(65537, 2048)
    numbers, public = private.private_numbers(), private.public_key().public_numbers()

    def octets(number: int) -> bytes:
        return number.to_bytes((number.bit_length() + 7) // 8)

    jwk = JsonWebKey(
        kty="RSA",
        key_ops=[KeyOperation.sign, KeyOperation.verify, KeyOperation.unwrap_key, KeyOperation.wrap_key],
        n=octets(public.n),
        e=octets(public.e),
        **{name: octets(getattr(numbers, name)) for name in ("d", "p", "q")},
        dp=octets(numbers.dmp1),
        dq=octets(numbers.dmq1),
        qi=octets(numbers.iqmp),
    )
    name = new_name("imported")
    made = keys.import_key(name, jwk)
    assert made.key.n == octets(public.n)
    assert made.key.d is None
    kept = keys.backup_key(name)
    # Restored into another vault of the same subscription.
    other = new_name("v")
    management.vaults.begin_create_or_update(live.resource_group, other, vault_body(live)).result()
    with live.credential() as credential:
        url = f"https://{other}.vault.stockade.localhost:{live.ports[1]}"
        with (
            pytest.raises(HttpResponseError, match="not authorized to perform action"),
            KeyClient(url, credential) as no,
        ):
            no.restore_key_backup(kept)
        administer(live, other)
        with KeyClient(url, credential) as there:
            restored = there.restore_key_backup(kept)
            assert restored.key.n == made.key.n
            assert restored.properties.version == made.properties.version
            wrapped = CryptographyClient.from_jwk(made.key).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k" * 32)
            unwrapped = there.get_cryptography_client(name).unwrap_key(
                KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key
            )
            assert unwrapped.key == b"k" * 32
            there.begin_delete_key(name).wait()
            there.purge_deleted_key(name)
            assert list(there.list_deleted_keys()) == []


def test_rotation_policies(keys: KeyClient) -> None:
    name = new_name("rotated")
    keys.create_rsa_key(name)
    assert keys.get_key_rotation_policy(name).lifetime_actions[0].action == KeyRotationPolicyAction.notify
    rotate = KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P2M")
    stored = keys.update_key_rotation_policy(name, KeyRotationPolicy(), lifetime_actions=[rotate], expires_in="P90D")
    assert (stored.expires_in, stored.lifetime_actions[0].time_after_create) == ("P90D", "P2M")
    assert keys.get_key_rotation_policy(name).expires_in == "P90D"
    rotated = keys.rotate_key(name)
    lasts = rotated.properties.expires_on - rotated.properties.created_on
    assert abs(lasts - timedelta(days=90)) < timedelta(minutes=1)  # it is created when its key has been made
    with pytest.raises(HttpResponseError) as refused:
        keys.update_key_rotation_policy(
            name,
            KeyRotationPolicy(),
            lifetime_actions=[KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P1D")],
        )
    assert refused.value.status_code == 400


def test_random_bytes_and_what_is_never_given_out(keys: KeyClient, rsa_key: Any) -> None:
    assert len(keys.get_random_bytes(count=32)) == 32
    with pytest.raises(HttpResponseError, match="never released") as refused:
        keys.release_key(rsa_key.name, "attestation")
    assert refused.value.status_code == 403
    with pytest.raises(HttpResponseError, match="no attestation"):
        keys.get_key_attestation(rsa_key.name)


def test_a_secrets_life(secrets: SecretClient) -> None:
    name = new_name("secret")
    first = secrets.set_secret(name, "one", content_type="text/plain", tags={"a": "b"})
    second = secrets.set_secret(name, "two")
    assert secrets.get_secret(name).value == "two"
    assert secrets.get_secret(name, first.properties.version).value == "one"
    assert secrets.get_secret(name, first.properties.version).properties.content_type == "text/plain"
    secrets.update_secret_properties(name, second.properties.version, enabled=False)
    with pytest.raises(HttpResponseError, match="disabled secret") as refused:
        secrets.get_secret(name)
    assert refused.value.status_code == 403
    secrets.update_secret_properties(name, second.properties.version, enabled=True)
    assert len(list(secrets.list_properties_of_secret_versions(name))) == 2
    assert name in {one.name for one in secrets.list_properties_of_secrets()}
    kept = secrets.backup_secret(name)
    with pytest.raises(ResourceExistsError):
        secrets.restore_secret_backup(kept)
    secrets.begin_delete_secret(name).wait()
    assert name in {one.name for one in secrets.list_deleted_secrets()}
    secrets.begin_recover_deleted_secret(name).wait()
    assert secrets.get_secret(name).value == "two"


def test_the_default_vault_answers_on_localhost(live: Live, client_environment: Mapping[str, str]) -> None:
    with live.credential() as credential:
        with KeyClient(live.arm, credential, verify_challenge_resource=False) as keys:
            made = keys.create_ec_key(new_name("local"))
            assert made.id.startswith(f"{live.arm}/keys/")
            assert keys.get_cryptography_client(made.name).sign("ES256", b"\1" * 32).signature
        with SecretClient(live.arm, credential, verify_challenge_resource=False) as secrets:
            assert secrets.set_secret(new_name("local"), "x").value == "x"
        with KeyClient(live.arm, credential) as strict, pytest.raises(ValueError, match="does not match the requested"):
            strict.get_key("any")


def test_who_has_no_role_is_told_so(live: Live, client_environment: Mapping[str, str], vault_url: str) -> None:
    stranger = live.identity(new_name("stranger"))
    with live.credential(stranger["clientId"], stranger["clientSecret"]) as credential:
        with KeyClient(vault_url, credential) as keys, pytest.raises(HttpResponseError) as refused:
            keys.get_key("any")
        assert refused.value.status_code == 403
        assert refused.value.error.innererror["code"] == "ForbiddenByRbac"
    wrong = live.credential(stranger["clientId"], "wrong")
    with wrong, KeyClient(vault_url, wrong) as keys, pytest.raises(ClientAuthenticationError):
        keys.get_key("any")


def vault_body(live: Live, **properties: Any) -> Any:
    held = {"tenantId": live.tenant, "sku": {"family": "A", "name": "standard"}, "enableRbacAuthorization": True}
    return {"location": live.location, "properties": {**held, **properties}}


def administer(live: Live, vault: str) -> None:
    """Make the administrator Key Vault Administrator of a vault."""
    arm_id = f"{live.group_id}/providers/Microsoft.KeyVault/vaults/{vault}"
    role = f"/subscriptions/{live.subscription}/providers/Microsoft.Authorization/roleDefinitions"
    properties = {"roleDefinitionId": f"{role}/00482a5a-887f-4fb3-b363-3b7fe8e74483", "principalId": live.object_id}
    path = f"{arm_id}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    assert live.request("PUT", path, {"properties": properties}).status_code == 201


def test_vaults_by_the_management_client(management: KeyVaultManagementClient, live: Live) -> None:
    group, name = live.resource_group, new_name("v")
    vaults = management.vaults
    assert vaults.check_name_availability({"name": name, "type": "Microsoft.KeyVault/vaults"}).name_available
    body = vault_body(live, softDeleteRetentionInDays=7)
    made = vaults.begin_create_or_update(group, name, body).result()
    assert made.properties.vault_uri == f"https://{name}.vault.stockade.localhost:{live.ports[1]}/"
    assert vaults.get(group, name).id == made.id
    changed = vaults.update(group, name, {"tags": {"a": "b"}, "properties": {"publicNetworkAccess": "Disabled"}})
    assert (changed.tags, changed.properties.public_network_access) == ({"a": "b"}, "Disabled")
    for listed in (vaults.list_by_resource_group(group), vaults.list_by_subscription(), vaults.list()):
        assert made.id in {one.id for one in listed}
    entry = {"tenantId": live.tenant, "objectId": str(uuid.uuid4()), "permissions": {"keys": ["get"]}}
    policies = vaults.update_access_policy(group, name, "add", {"properties": {"accessPolicies": [entry]}})
    assert policies.properties.access_policies[0].permissions.keys_property == ["get"]
    assert management.operations.list()
    assert list(management.private_endpoint_connections.list_by_resource(group, name)) == []
    vaults.delete(group, name)
    assert vaults.get_deleted(name, live.location).properties.vault_id == made.id
    assert name in {one.name for one in vaults.list_deleted()}
    recovered = vaults.begin_create_or_update(group, name, vault_body(live, createMode="recover")).result()
    assert recovered.tags == {"a": "b"}
    vaults.delete(group, name)
    vaults.begin_purge_deleted(name, live.location).result()
    with pytest.raises(ResourceNotFoundError):
        vaults.get_deleted(name, live.location)


def test_keys_and_secrets_by_the_management_client(
    management: KeyVaultManagementClient, keys: KeyClient, secrets: SecretClient, live: Live
) -> None:
    group, name = live.resource_group, new_name("arm")
    made = management.keys.create_if_not_exist(
        group, "demo-vault", name, {"properties": {"kty": "EC", "curveName": "P-384"}}
    )
    assert keys.get_key(name).key.crv == made.properties.curve_name == "P-384"
    versions = list(management.keys.list_versions(group, "demo-vault", name))
    assert management.keys.get_version(group, "demo-vault", name, versions[0].name).id == versions[0].id
    assert name in {one.name for one in management.keys.list(group, "demo-vault")}
    assert management.keys.get(group, "demo-vault", name).properties.key_uri_with_version.startswith(
        "https://demo-vault."
    )
    management.secrets.create_or_update(group, "demo-vault", name, {"properties": {"value": "by ARM"}})
    assert secrets.get_secret(name).value == "by ARM"
    management.secrets.update(group, "demo-vault", name, {"tags": {"a": "b"}})
    assert management.secrets.get(group, "demo-vault", name).tags == {"a": "b"}
    assert name in {one.name for one in management.secrets.list(group, "demo-vault")}
