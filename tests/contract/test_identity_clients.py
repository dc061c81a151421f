"""Unmodified Azure clients against the token service, over TLS with a private authority."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import azure.core.exceptions
import azure.identity
import msal
import pytest
import requests
from starlette.applications import Starlette

from stockade.identity.app import routes
from stockade.identity.audiences import AI, arm_audiences, vault_audiences
from stockade.identity.metadata import identity_header, metadata_app
from stockade.identity.principals import Principal
from stockade.identity.verify import verify
from stockade.kernel.clock import SystemClock
from stockade.kernel.principal import TokenCredential
from stockade.settings import Listen, Metadata, Settings
from tests.factories.identity import World, client_certificate, listener, server_certificate, serving

ARM_SCOPE = "https://management.azure.com/.default"
AI_SCOPE = f"{AI}/.default"
USER_ASSIGNED = (
    "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/r"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/one"
)
FOREIGN = (
    "AZURE_",
    "IDENTITY_",
    "MSI_",
    "IMDS_",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    "NO_PROXY",
    "no_proxy",
)


class Platform:
    """The identity part of a control plane, and the metadata port, as clients reach them."""

    def __init__(self, world: World, ca: Path) -> None:
        self.world, self.ca = world, ca
        with world.database.write() as writer:
            self.machine = world.directory.machine_identity(writer)
            self.user_assigned = world.directory.create_managed_identity(writer, USER_ASSIGNED, "UserAssigned")
        self.application, self.secret = world.application("client")

    @property
    def authority(self) -> str:
        return self.world.settings.authority

    def owner(self, token: str, audiences: frozenset[str] | None = None) -> str:
        accepted = audiences or arm_audiences(self.world.settings)
        found = verify(self.world.snapshot(), token, self.world.clock.now(), accepted)
        assert isinstance(found, TokenCredential), found
        return found.object_id


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    control, plain = listener(), listener()
    settings = Settings(
        data_dir=folder,
        listen=Listen(control_port=control.getsockname()[1], metadata_port=plain.getsockname()[1]),
        metadata=Metadata(user_assigned=(USER_ASSIGNED,)),
    )
    world = World(folder, settings, SystemClock())
    ca, key = server_certificate(folder)
    app = Starlette(routes=routes(world.services))
    with serving(app, control, (ca, key)), serving(metadata_app(world.services), plain):
        yield Platform(world, ca)


@pytest.fixture(autouse=True)
def environment(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    import os

    for name in list(os.environ):
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(platform.ca))
    return monkeypatch


def use_application(environment: pytest.MonkeyPatch, platform: Platform) -> None:
    environment.setenv("AZURE_AUTHORITY_HOST", platform.authority)
    environment.setenv("AZURE_TENANT_ID", platform.world.tenant_id)
    environment.setenv("AZURE_CLIENT_ID", platform.application.app_id or "")
    environment.setenv("AZURE_CLIENT_SECRET", platform.secret)


def use_app_service(environment: pytest.MonkeyPatch, platform: Platform, principal: Principal) -> None:
    environment.setenv("IDENTITY_ENDPOINT", f"{platform.world.settings.metadata_endpoint}/msi/token")
    environment.setenv("IDENTITY_HEADER", identity_header(platform.world.root_key, principal.object_id).reveal_text())


# azure-identity


def test_client_secret_credential(platform: Platform) -> None:
    credential = azure.identity.ClientSecretCredential(
        platform.world.tenant_id,
        platform.application.app_id or "",
        platform.secret,
        authority=platform.authority,
        disable_instance_discovery=True,
    )
    token = credential.get_token(ARM_SCOPE)
    assert platform.owner(token.token) == platform.application.object_id
    assert 3590 <= token.expires_on - platform.world.clock.now() <= 3600
    for scope, audiences in (
        (AI_SCOPE, frozenset({AI})),
        ("https://management.core.windows.net//.default", None),
        (f"{platform.world.settings.arm_endpoint}/.default", None),
        ("https://vault.azure.net/.default", vault_audiences(platform.world.settings)),
    ):
        assert platform.owner(credential.get_token(scope).token, audiences) == platform.application.object_id


def test_continuous_access_evaluation_is_asked_for_and_harmless(platform: Platform) -> None:
    credential = azure.identity.ClientSecretCredential(
        platform.world.tenant_id,
        platform.application.app_id or "",
        platform.secret,
        authority=platform.authority,
        disable_instance_discovery=True,
    )
    assert platform.owner(credential.get_token(ARM_SCOPE, enable_cae=True).token) == platform.application.object_id


@pytest.mark.parametrize(
    ("scope", "secret", "code"),
    [
        (ARM_SCOPE, "wrong", "AADSTS7000215"),
        ("https://example.com/.default", None, "AADSTS500011"),
        ("https://management.azure.com/", None, "AADSTS70011"),
    ],
)
def test_refusals_reach_the_caller(platform: Platform, scope: str, secret: str | None, code: str) -> None:
    credential = azure.identity.ClientSecretCredential(
        platform.world.tenant_id,
        platform.application.app_id or "",
        secret or platform.secret,
        authority=platform.authority,
        disable_instance_discovery=True,
    )
    with pytest.raises(azure.core.exceptions.ClientAuthenticationError, match=code) as failure:
        credential.get_token(scope)
    assert platform.secret not in str(failure.value)


def test_environment_credential(platform: Platform, environment: pytest.MonkeyPatch) -> None:
    use_application(environment, platform)
    credential = azure.identity.EnvironmentCredential(disable_instance_discovery=True)
    assert platform.owner(credential.get_token(ARM_SCOPE).token) == platform.application.object_id


def test_certificate_credential(platform: Platform, tmp_path: Path) -> None:
    certificate, _ = client_certificate(tmp_path)
    with platform.world.database.write() as writer:
        application, _ = platform.world.directory.create_application(writer, "with a certificate")
        key_id = platform.world.directory.add_certificate(writer, application.object_id, certificate.read_bytes())
    for options in ({}, {"send_certificate_chain": True}):
        credential = azure.identity.CertificateCredential(
            platform.world.tenant_id,
            application.app_id or "",
            str(certificate),
            authority=platform.authority,
            disable_instance_discovery=True,
            **options,
        )
        # Twice: msal sends the same assertion again.
        for scope, audiences in ((ARM_SCOPE, None), (AI_SCOPE, frozenset({AI}))):
            assert platform.owner(credential.get_token(scope).token, audiences) == application.object_id
    with platform.world.database.write() as writer:
        platform.world.directory.remove_credential(writer, application.object_id, key_id)
    with pytest.raises(azure.core.exceptions.ClientAuthenticationError, match="AADSTS700027"):
        credential.get_token("https://vault.azure.net/.default")


def test_default_credential_with_an_application(platform: Platform, environment: pytest.MonkeyPatch) -> None:
    use_application(environment, platform)
    credential = azure.identity.DefaultAzureCredential(disable_instance_discovery=True)
    assert platform.owner(credential.get_token(ARM_SCOPE).token) == platform.application.object_id


def test_default_credential_with_the_machine(platform: Platform, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", platform.world.settings.metadata_endpoint)
    credential = azure.identity.DefaultAzureCredential(disable_instance_discovery=True)
    assert platform.owner(credential.get_token(ARM_SCOPE).token) == platform.machine.object_id


def test_default_credential_with_a_managed_identity(platform: Platform, environment: pytest.MonkeyPatch) -> None:
    use_app_service(environment, platform, platform.user_assigned)
    credential = azure.identity.DefaultAzureCredential(disable_instance_discovery=True)
    assert platform.owner(credential.get_token(ARM_SCOPE).token) == platform.user_assigned.object_id


def test_managed_identity_credential_on_a_machine(platform: Platform, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", platform.world.settings.metadata_endpoint)
    own = azure.identity.ManagedIdentityCredential()
    assert platform.owner(own.get_token(ARM_SCOPE).token) == platform.machine.object_id
    for selector in (
        {"client_id": platform.user_assigned.app_id},
        {"identity_config": {"resource_id": USER_ASSIGNED}},
        {"identity_config": {"object_id": platform.user_assigned.object_id}},
    ):
        chosen = azure.identity.ManagedIdentityCredential(**selector)
        assert platform.owner(chosen.get_token(ARM_SCOPE).token) == platform.user_assigned.object_id
    unknown = azure.identity.ManagedIdentityCredential(client_id="0f0f0f0f-0000-4000-8000-00000000000f")
    with pytest.raises(azure.identity.CredentialUnavailableError):
        unknown.get_token(ARM_SCOPE)


def test_managed_identity_credential_of_an_app(platform: Platform, environment: pytest.MonkeyPatch) -> None:
    use_app_service(environment, platform, platform.user_assigned)
    own = azure.identity.ManagedIdentityCredential()
    token = own.get_token(ARM_SCOPE)
    assert platform.owner(token.token) == platform.user_assigned.object_id
    assert token.expires_on > platform.world.clock.now() + 1700
    by_id = azure.identity.ManagedIdentityCredential(client_id=platform.user_assigned.app_id)
    assert platform.owner(by_id.get_token(ARM_SCOPE).token) == platform.user_assigned.object_id
    environment.setenv("IDENTITY_HEADER", "guess")
    with pytest.raises(azure.core.exceptions.ClientAuthenticationError):
        azure.identity.ManagedIdentityCredential().get_token(ARM_SCOPE)


# msal


def test_msal_confidential_client(platform: Platform) -> None:
    client = msal.ConfidentialClientApplication(
        platform.application.app_id,
        client_credential=platform.secret,
        authority=f"{platform.authority}/{platform.world.tenant_id}",
        instance_discovery=False,
    )
    first = client.acquire_token_for_client([ARM_SCOPE])
    assert platform.owner(first["access_token"]) == platform.application.object_id
    assert client.acquire_token_for_client([ARM_SCOPE])["token_source"] == "cache"


def test_msal_oidc_authority_accepts_our_issuer(platform: Platform) -> None:
    client = msal.ConfidentialClientApplication(
        platform.application.app_id,
        client_credential=platform.secret,
        oidc_authority=f"{platform.authority}/{platform.world.tenant_id}/v2.0",
    )
    assert "access_token" in client.acquire_token_for_client([ARM_SCOPE])


def test_msal_legacy_machine_learning_form(platform: Platform, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MSI_ENDPOINT", f"{platform.world.settings.metadata_endpoint}/msi/token")
    environment.setenv(
        "MSI_SECRET", identity_header(platform.world.root_key, platform.user_assigned.object_id).reveal_text()
    )
    with requests.Session() as session:
        client = msal.ManagedIdentityClient(msal.SystemAssignedManagedIdentity(), http_client=session)
        found = client.acquire_token_for_client(resource="https://management.azure.com")
    assert platform.owner(found["access_token"]) == platform.user_assigned.object_id
