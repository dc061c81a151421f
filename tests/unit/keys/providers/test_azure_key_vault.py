"""What of another key vault needs no vault: which addresses are asked, how, and what its refusals are called. The rest: tests/contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import get_args

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.providers import azure_key_vault
from stockade.keys.providers.azure_key_vault import AzureKeyVaultProvider
from stockade.policy.customer_key import Problem
from stockade.settings import Provider

LOGIN = {"tenantId": "t", "clientId": "c", "clientSecret": "vault-secret-5591"}
VERSION = "0" * 32


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureKeyVaultProvider]:
    monkeypatch.setenv("TESTS_VAULT", json.dumps(LOGIN))
    place = Provider(
        name="v", type="azure-key-vault", url="https://v.vault.example/", credential_env="TESTS_VAULT", timeout_s=5.0
    )
    provider = AzureKeyVaultProvider(place, Secret(bytes(32)))
    yield provider
    provider.close()


def refusal(status: int, code: str = "", inner: str = "") -> HttpResponseError:
    raised = HttpResponseError("refused")
    raised.status_code = status
    if code:
        raised.error = SimpleNamespace(code=code, innererror={"code": inner} if inner else None)
    return raised


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(refusal(404, "KeyNotFound"), "KeyNotFound", id="not found"),
        pytest.param(refusal(403, "Forbidden", "KeyDisabled"), "KeyDisabled", id="disabled"),
        pytest.param(refusal(403, "Forbidden", "ForbiddenByRbac"), "AccessDenied", id="role"),
        pytest.param(refusal(403, "Forbidden", "AccessDenied"), "AccessDenied", id="policy"),
        pytest.param(refusal(403, "Forbidden", "ForbiddenByFirewall"), "VaultNetworkDenied", id="firewall"),
        pytest.param(refusal(403), "AccessDenied", id="no body"),
        pytest.param(refusal(401, "Unauthorized"), "AccessDenied", id="token"),
        pytest.param(refusal(429, "Throttled"), "VaultUnreachable", id="throttled"),
        pytest.param(refusal(500), "VaultUnreachable", id="broken"),
        pytest.param(ServiceRequestError("no route"), "VaultUnreachable", id="no route"),
        pytest.param(OSError("no authority"), "VaultUnreachable", id="no authority"),
        pytest.param(ValueError("not JSON"), "VaultUnreachable", id="no answer"),
    ],
)
def test_what_a_refusal_is_called(
    provider: AzureKeyVaultProvider, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(provider._client, "send_request", fail)
    monkeypatch.setattr(provider._client, "get_key", fail)
    calls = (
        lambda: provider.unwrap_named(f"k/{VERSION}", b"x"),
        lambda: provider.wrap_named(f"k/{VERSION}", b"x"),
        lambda: provider.serving("k", VERSION),
    )
    assert expected in get_args(Problem)
    for call in calls:
        with pytest.raises(Fault) as caught:
            call()
        assert caught.value.kind is FaultKind.CUSTOMER_KEY_UNAVAILABLE
        assert caught.value.details == {"problem": expected}
        assert "vault-secret-5591" not in repr(caught.value)


@pytest.mark.parametrize(
    ("url", "verified"),
    [
        ("https://kv1.vault.azure.net", True),
        ("https://localhost:8444", False),
        ("https://127.0.0.1:8444", False),
        ("https://[::1]:8444", False),
    ],
    ids=["name", "localhost", "IPv4", "IPv6"],
)
def test_the_challenge_is_checked_where_it_can_be(url: str, *, verified: bool) -> None:
    assert azure_key_vault._has_parent_domain(url) is verified


def test_a_key_that_unwraps_is_named_with_its_version(provider: AzureKeyVaultProvider) -> None:
    with pytest.raises(Fault) as caught:
        provider.unwrap_named("k", b"x")
    assert caught.value.kind is FaultKind.INVALID


def test_nothing_is_tried_again(provider: AzureKeyVaultProvider) -> None:
    policies = provider._client._client._config.retry_policy
    assert policies.total_retries == 0


def test_without_a_credential_the_makers_own_search_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Provider(name="v", type="azure-key-vault", url="https://v.vault.example")
    provider = AzureKeyVaultProvider(place, Secret(bytes(32)))
    assert type(provider._login).__name__ == "DefaultAzureCredential"
    provider.close()
