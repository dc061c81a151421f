import jwt
import pytest

from stockade.identity import signing_keys, tokens
from stockade.identity.audiences import ai_audiences, arm_audiences, audience_for, graph_audiences, vault_audiences
from stockade.settings import Listen, Names, Settings
from tests.factories.identity import AI, World


def test_the_claims_are_those_azure_resource_providers_see(world: World) -> None:
    principal, _ = world.application()
    token = world.token(principal)
    [jwk] = signing_keys.published(world.snapshot(), world.issuer, world.clock.now())
    # Another library, reading nothing but what we publish.
    claims = jwt.decode(
        token,
        jwt.PyJWK(jwk),
        algorithms=["RS256"],
        audience=AI,
        issuer=world.issuer,
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    now = int(world.clock.now())
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (now, now, now + 3600)
    assert claims["oid"] == claims["sub"] == principal.object_id
    assert (claims["appid"], claims["appidacr"], claims["idtyp"]) == (principal.app_id, "1", "app")
    assert (claims["tid"], claims["ver"], claims["idp"]) == (world.tenant_id, "1.0", world.issuer)
    assert len(claims["uti"]) == 22
    assert jwt.get_unverified_header(token) == {"typ": "JWT", "alg": "RS256", "kid": jwk["kid"]}


@pytest.mark.parametrize(("count", "listed"), [(200, True), (201, False)])
def test_more_than_two_hundred_groups_are_not_listed(world: World, count: int, listed: bool) -> None:
    principal, _ = world.application()
    with world.database.read() as reader:
        key = world.keys.current(reader)
    issued = tokens.issue(
        key,
        principal,
        authority=world.settings.authority,
        audience=AI,
        proof="certificate",
        groups=[f"g{number}" for number in range(count)],
        now=world.clock.now(),
    )
    claims = jwt.decode(issued.token.reveal_text(), options={"verify_signature": False})
    assert ("groups" in claims) is listed
    assert ("_claim_names" in claims) is not listed
    assert claims["appidacr"] == "2"


def test_the_rest_of_a_life_is_exact(world: World) -> None:
    principal, _ = world.application()
    with world.database.read() as reader:
        key = world.keys.current(reader)
    now = 1_800_000_000.75
    issued = tokens.issue(key, principal, authority="a", audience=AI, proof="secret", groups=(), now=now)
    assert issued.expires_in(now) == 3599
    assert issued.expires_in(now + 3600) == 0
    assert repr(issued).count("***") == 1


@pytest.mark.parametrize(
    ("resource", "audience"),
    [
        ("https://cognitiveservices.azure.com", "https://cognitiveservices.azure.com"),
        ("https://cognitiveservices.azure.com/", "https://cognitiveservices.azure.com/"),
        ("https://COGNITIVESERVICES.azure.com", "https://cognitiveservices.azure.com"),
        ("https://management.core.windows.net/", "https://management.core.windows.net/"),
        ("https://management.core.windows.net//", "https://management.core.windows.net/"),
        ("https://management.azure.com", "https://management.azure.com"),
        ("https://localhost:8444", "https://localhost:8444"),
        ("https://localhost:8443", "https://localhost:8443"),
        ("https://vault.azure.net", "https://vault.azure.net"),
        ("https://vault.stockade.localhost:8444", "https://vault.stockade.localhost:8444"),
        ("https://graph.microsoft.com", "https://graph.microsoft.com"),
        ("00000003-0000-0000-c000-000000000000", "00000003-0000-0000-c000-000000000000"),
        ("https://example.com", None),
        ("", None),
        ("/", None),
        ("https://cognitiveservices.azure.com.evil.example", None),
    ],
)
def test_which_resources_can_be_asked_for(resource: str, audience: str | None) -> None:
    assert audience_for(Settings(), resource) == audience


def test_listeners_do_not_share_audiences() -> None:
    settings = Settings(names=Names(domain="ai.example"), listen=Listen(control_port=443))
    assert not ai_audiences(settings) & arm_audiences(settings)
    assert not vault_audiences(settings) & (ai_audiences(settings) | arm_audiences(settings))
    assert arm_audiences(settings) < graph_audiences(settings)
    assert "https://vault.ai.example" in vault_audiences(settings)
