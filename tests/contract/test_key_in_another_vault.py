"""A customer's key in another vault, as the broker sees it: with Azure's client over TLS, against our own vault.

What the vault's owner does is done with the vault's own client; what the provider then says is one of the codes of `policy/customer_key.py`.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import pytest
from azure.keyvault.keys import KeyClient

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.providers.azure_key_vault import AzureKeyVaultProvider
from stockade.keys.providers.provider import RemoteVault
from stockade.policy.customer_key import Problem
from stockade.settings import Provider
from tests.live import Live

INNER = os.urandom(61)
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def connect(live: Live) -> Iterator[Callable[..., AzureKeyVaultProvider]]:
    """Return what makes a provider: by default with the administrator's credential."""
    made = []
    with pytest.MonkeyPatch.context() as patch:

        def build(client_id: str = "", secret: str = "", **more: Any) -> AzureKeyVaultProvider:
            login = {
                "tenantId": live.tenant,
                "clientId": client_id or live.admin[0],
                "clientSecret": secret or live.admin[1],
                "authority": live.authority,
            }
            patch.setenv("TESTS_VAULT_CREDENTIAL", json.dumps(login))
            known = {"url": f"https://localhost:{live.ports[1]}", "ca_file": str(live.ca), "timeout_s": 20.0}
            place = Provider(
                name="customer", type="azure-key-vault", credential_env="TESTS_VAULT_CREDENTIAL", **{**known, **more}
            )
            made.append(AzureKeyVaultProvider(place, Secret(bytes(32))))
            return made[-1]

        yield build
        for provider in made:
            provider.close()


@pytest.fixture(scope="module")
def provider(connect: Callable[..., AzureKeyVaultProvider]) -> AzureKeyVaultProvider:
    return connect()


@pytest.fixture(scope="module")
def owner(live: Live, client_environment: Mapping[str, str]) -> Iterator[KeyClient]:
    url = f"https://localhost:{live.ports[1]}"
    with live.credential() as credential, KeyClient(url, credential, verify_challenge_resource=False) as client:
        yield client


@pytest.fixture
def key(owner: KeyClient) -> Any:
    return owner.create_rsa_key(f"customer-{uuid.uuid4().hex[:8]}", size=2048)


def problem(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(Fault) as caught:
        call(*arguments)
    assert caught.value.kind is FaultKind.CUSTOMER_KEY_UNAVAILABLE, caught.value
    found = caught.value.details["problem"]
    assert found in get_args(Problem)
    return str(found)


def test_wraps_with_the_newest_and_unwraps_with_what_wrapped(
    provider: AzureKeyVaultProvider, owner: KeyClient, key: Any
) -> None:
    assert isinstance(provider, RemoteVault)
    assert provider.serving(key.name, "") == key.id
    wrapped, used = provider.wrap_named(key.name, INNER)
    assert used == key.id
    newer = owner.rotate_key(key.name)
    assert provider.serving(key.name, "") == newer.id
    assert provider.serving(key.name, key.properties.version) == key.id
    again, used_again = provider.wrap_named(f"{provider.url}/keys/{key.name}", INNER)
    assert used_again == newer.id
    for name, value in ((used, wrapped), (used_again, again)):
        assert provider.unwrap_named(name, value) == INNER
    pinned, used_pinned = provider.wrap_named(key.id, INNER)
    assert used_pinned == key.id
    assert provider.unwrap_named(key.id, pinned) == INNER
    with pytest.raises(Fault) as caught:
        provider.unwrap_named(newer.id, wrapped)
    assert caught.value.kind is FaultKind.INVALID


def test_a_newest_version_that_is_disabled_leaves_it_to_the_one_before(
    provider: AzureKeyVaultProvider, owner: KeyClient, key: Any
) -> None:
    newer = owner.rotate_key(key.name)
    owner.update_key_properties(key.name, newer.properties.version, enabled=False)
    assert provider.serving(key.name, "") == key.id
    assert provider.wrap_named(key.name, INNER)[1] == key.id
    owner.update_key_properties(key.name, key.properties.version, enabled=False)
    assert problem(provider.serving, key.name, "") == "KeyDisabled"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"enabled": False}, "KeyDisabled", id="disabled"),
        pytest.param({"expires_on": NOW - dt.timedelta(minutes=1)}, "KeyExpired", id="expired"),
        pytest.param({"not_before": NOW + dt.timedelta(hours=1)}, "KeyNotYetValid", id="not yet"),
        pytest.param({"key_operations": ["sign", "verify"]}, "KeyOperationNotPermitted", id="operations"),
    ],
)
@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "newest"])
def test_what_the_owner_takes_away_is_said(
    provider: AzureKeyVaultProvider, owner: KeyClient, key: Any, change: dict[str, Any], expected: str, pinned: bool
) -> None:
    wrapped, used = provider.wrap_named(key.name, INNER)
    owner.update_key_properties(key.name, key.properties.version, **change)
    assert problem(provider.serving, key.name, key.properties.version if pinned else "") == expected
    assert problem(provider.wrap_named, key.name, INNER) == expected
    if expected in {"KeyDisabled", "KeyOperationNotPermitted"}:
        assert problem(provider.unwrap_named, used, wrapped) == expected
    else:
        # Key Vault's rule: what was wrapped before is unwrapped outside the time too.
        assert provider.unwrap_named(used, wrapped) == INNER


def test_a_deleted_key_is_not_found_until_it_is_back(
    provider: AzureKeyVaultProvider, owner: KeyClient, key: Any
) -> None:
    wrapped, used = provider.wrap_named(key.name, INNER)
    owner.begin_delete_key(key.name).result()
    assert problem(provider.serving, key.name, "") == "KeyNotFound"
    assert problem(provider.unwrap_named, used, wrapped) == "KeyNotFound"
    owner.begin_recover_deleted_key(key.name).result()
    assert provider.unwrap_named(used, wrapped) == INNER


def test_without_a_role(live: Live, connect: Callable[..., AzureKeyVaultProvider], key: Any) -> None:
    made = live.identity(f"nobody-{uuid.uuid4().hex[:8]}")
    nobody = connect(made["clientId"], made["clientSecret"])
    assert problem(nobody.serving, key.name, "") == "AccessDenied"
    assert problem(nobody.wrap_named, key.id, INNER) == "AccessDenied"
    assert problem(nobody.unwrap_named, key.id, INNER) == "AccessDenied"
    with pytest.raises(Fault) as caught:
        nobody.check()
    assert caught.value.kind is FaultKind.UNAVAILABLE


def test_an_ec_key_does_not_wrap(provider: AzureKeyVaultProvider, owner: KeyClient) -> None:
    made = owner.create_ec_key(f"customer-{uuid.uuid4().hex[:8]}", curve="P-256")
    assert problem(provider.serving, made.name, "") == "KeyOperationNotPermitted"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("https://localhost:1/keys/k/" + "0" * 32, id="another port"),
        pytest.param("https://elsewhere.example/keys/k/" + "0" * 32, id="another host"),
        pytest.param("k/../../secrets/s", id="another path"),
        pytest.param("k?x=y", id="a query"),
        pytest.param("", id="nothing"),
    ],
)
def test_only_keys_of_this_vault_are_asked_for(provider: AzureKeyVaultProvider, name: str) -> None:
    for call in (lambda: provider.wrap_named(name, INNER), lambda: provider.unwrap_named(name, INNER)):
        with pytest.raises(Fault) as caught:
            call()
        assert caught.value.kind is FaultKind.INVALID


def test_a_vault_that_is_not_there(connect: Callable[..., AzureKeyVaultProvider]) -> None:
    gone = connect(url="https://localhost:1", timeout_s=5.0)
    assert problem(gone.serving, "k", "") == "VaultUnreachable"
    assert problem(gone.unwrap_named, "k/" + "0" * 32, INNER) == "VaultUnreachable"
    with pytest.raises(Fault) as caught:
        gone.check()
    assert caught.value.kind is FaultKind.UNAVAILABLE
