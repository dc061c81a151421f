"""A further issuer from end to end: a real server, a real provider in its own process, the unmodified `openai` package, the command line."""

from __future__ import annotations

import base64
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import openai
import pytest
from joserfc.jwk import RSAKey

from tests.factories.oidc import Provider
from tests.live import Live, finish, start, wait_for

OPENAI_USER = "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd"
ACCOUNT = "demo-openai"
VERSION = "2024-10-21"
UNAUTHORIZED = {
    "statusCode": 401,
    "message": "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired.",
}
MAX_AGE_S = 6
"""Of the keys of the provider `short`; `steady` has the defaults."""


class Platform:
    """A server that trusts two providers."""

    def __init__(self, live: Live, steady: Provider, short: Provider) -> None:
        self.live, self.steady, self.short = live, steady, short
        self.endpoint = live.account(ACCOUNT)["AZURE_OPENAI_ENDPOINT"]
        self.account = live.account_id(ACCOUNT)

    def client(self, token: str) -> openai.AzureOpenAI:
        transport = openai.DefaultHttpxClient(verify=self.live.trust())
        return openai.AzureOpenAI(
            azure_endpoint=self.endpoint,
            azure_ad_token=token,
            api_key=None,
            api_version=VERSION,
            max_retries=0,
            timeout=60,
            http_client=transport,
        )

    def models(self, token: str) -> str:
        """Ask for the models with the openai package; return `accepted`, or the status and code of the refusal."""
        with self.client(token) as client:
            try:
                client.models.list()
            except openai.APIStatusError as refused:
                return f"{refused.status_code} {refused.code or refused.response.json().get('message', '')[:12]}"
        return "accepted"

    def raw(self, token: str) -> httpx.Response:
        url = f"{self.endpoint}openai/models?api-version={VERSION}"
        return httpx.get(url, headers={"Authorization": f"Bearer {token}"}, verify=self.live.trust(), timeout=30)

    def register(self, provider: Provider, subject: str, name: str, *more: str) -> str:
        """Register with the command line; return the object id."""
        return self.live.stockade(
            "identity", "register", subject, "--issuer", provider.issuer, "--name", name, *more
        ).strip()

    def assign(self, object_id: str) -> Any:
        """Give the role Cognitive Services OpenAI User on the account; return the response."""
        path = f"{self.account}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
        role = (
            f"/subscriptions/{self.live.subscription}/providers/Microsoft.Authorization/roleDefinitions/{OPENAI_USER}"
        )
        body = {"properties": {"roleDefinitionId": role, "principalId": object_id}}
        return self.live.request("PUT", path, body, version="2022-04-01")

    def member(self, name: str) -> tuple[str, str]:
        """Make a principal of `steady` that has the role; return its subject and object id."""
        subject = str(uuid.uuid4())
        object_id = self.register(self.steady, subject, name)
        assert self.assign(object_id).status_code == 201
        return subject, object_id


NO_ROLE, NO_TOKEN = "401 PermissionDenied", "401 Unauthorized"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("external")
    steady, short = (Provider(folder / name, name) for name in ("steady", "short"))
    settings = f"""
trusted_proxies = ["127.0.0.1"]

[[issuers]]
issuer = "{steady.issuer}"
audiences = ["stockade"]
object_id_claim = "sub"
app_id_claim = "azp"
ca_file = "{steady.authority}"

[[issuers]]
issuer = "{short.issuer}"
object_id_claim = "sub"
ca_file = "{short.authority}"
refresh_s = 1
keys_max_age_s = {MAX_AGE_S}
"""
    live = start(folder / "data", "--workers", "2", settings=settings)
    made = Platform(live, steady, short)
    wait_for(lambda: made.models(steady.token("anyone")) == NO_ROLE, "the keys of the provider have been fetched")
    yield made
    finish(live)
    for provider in (steady, short):
        provider.stop()


def test_from_a_stranger_to_a_user_and_back(platform: Platform) -> None:
    live, subject = platform.live, str(uuid.uuid4())
    token = platform.steady.token(subject)
    assert platform.models(token) == NO_ROLE
    refused = platform.assign(subject)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "PrincipalNotFound")

    assert platform.register(platform.steady, subject, "Ann", "--type", "User", "--client-id", "portal") == subject
    listed = {entry["objectId"]: entry for entry in json.loads(live.stockade("identity", "list", "--format", "json"))}
    assert (listed[subject]["kind"], listed[subject]["issuer"]) == ("external", platform.steady.issuer)
    assert platform.models(token) == NO_ROLE
    assert platform.assign(subject).status_code == 201
    assert platform.models(token) == "accepted"
    with platform.client(token) as client:
        said = client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "Say hello."}], max_tokens=4
        )
    assert said.choices[0].message.role == "assistant"

    live.stockade("identity", "disable", "Ann")
    assert platform.models(token) == NO_TOKEN
    assert subject in live.stockade("identity", "list") and "disabled" in live.stockade("identity", "list")
    live.stockade("identity", "enable", subject)
    assert platform.models(token) == "accepted"
    live.stockade("identity", "delete", "Ann")
    assert platform.models(token) == NO_ROLE, "its role assignment is still there, and counts for nobody"


def test_a_provider_with_names_instead_of_guids(platform: Platform) -> None:
    object_id = platform.register(platform.short, "auth0|123", "Bob", "--type", "User")
    assert platform.assign(object_id).status_code == 201
    audience = "https://cognitiveservices.azure.com"
    assert platform.models(platform.short.token("auth0|123", aud=audience)) == "accepted"
    assert platform.models(platform.short.token("auth0|124", aud=audience)) == NO_ROLE
    assert platform.models(platform.short.token(object_id, aud=audience)) == NO_ROLE, "a subject that spells the id"
    assert platform.models(platform.steady.token("auth0|123")) == NO_ROLE, "another issuer's"


def test_a_group_is_enough(platform: Platform) -> None:
    group = platform.register(platform.steady, "/engineers", "Engineers", "--type", "Group")
    assert platform.assign(group).status_code == 201
    assert platform.models(platform.steady.token("someone", groups=["/sales", "/engineers"])) == "accepted"
    assert platform.models(platform.steady.token("someone", groups=["/sales"])) == NO_ROLE
    assert platform.models(platform.steady.token("/engineers")) == NO_ROLE, "a person named like the group"
    platform.live.stockade("identity", "disable", "Engineers")
    assert platform.models(platform.steady.token("someone", groups=["/engineers"])) == NO_ROLE


def test_an_issuer_speaks_for_its_own_only(platform: Platform) -> None:
    administrator = platform.live.cli("identity", "list", "--format", "json").stdout
    owner = next(
        entry["objectId"] for entry in json.loads(administrator) if entry["clientId"] == platform.live.admin[0]
    )
    subject, _ = platform.member("steady's own")
    audience = "https://cognitiveservices.azure.com"
    assert platform.models(platform.steady.token(owner)) == NO_TOKEN
    assert platform.models(platform.short.token(subject, aud=audience)) == NO_TOKEN
    platform.live.stockade("identity", "register", owner, "--issuer", platform.steady.issuer, "--name", "x", fails=6)
    stranger = platform.live.cli(
        "identity", "register", subject, "--issuer", "https://other.example", "--name", "x", check=False
    )
    assert stranger.returncode == 7 and "settings.toml" in stranger.stderr and platform.steady.issuer in stranger.stderr


def wrong_tokens(provider: Provider, subject: str) -> dict[str, str]:
    now = int(time.time())
    other = RSAKey.generate_key(2048, auto_kid=False)
    good = provider.token(subject)
    said, signature = good.rsplit(".", 1)
    claims = said.split(".")[1]

    def encoded(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    public = provider.key.as_pem(private=False)
    confused = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': provider.kid})}.{claims}"
    mac = base64.urlsafe_b64encode(hmac.digest(public, confused.encode(), sha256)).rstrip(b"=").decode()
    return {
        "audience": provider.token(subject, aud="someone-else"),
        "audience of ARM": provider.token(subject, aud="https://management.azure.com"),
        "no audience": provider.token(subject, aud=None),
        "tenant": provider.token(subject, iss=f"https://login.microsoftonline.com/{uuid.uuid4()}/v2.0"),
        "another realm": provider.token(subject, iss=provider.issuer + "2"),
        "no subject": provider.token(subject, sub=None),
        "subject of another type": provider.token(subject, sub={"a": [1]}),
        "expired": provider.token(subject, exp=now - 60),
        "not yet valid": provider.token(subject, nbf=now + 600),
        "no expiry": provider.token(subject, exp=None),
        "endless": provider.token(subject, exp=10**30),
        "another key": provider.token(subject, key=other),
        "unknown key id": provider.token(subject, header={"kid": "made up"}, key=other),
        "key id of another type": provider.token(subject, header={"kid": ["one"]}),
        "no algorithm": f"{encoded({'alg': 'none', 'typ': 'JWT', 'kid': provider.kid})}.{claims}.",
        "algorithm confusion": f"{confused}.{mac}",
        "another algorithm": provider.token(subject, header={"alg": "RS512"}),
        "critical extension": provider.token(subject, header={"crit": ["x"], "x": 1}),
        "key in the header": provider.token(subject, header={"jwk": other.as_dict(private=False)}, key=other),
        "cut off": good[:-20],
        "altered": f"{encoded({**provider.claims(subject), 'groups': ['/engineers']})}".join(
            [said.split(".")[0] + ".", "." + signature]
        ),
        "groups of another type": provider.token(subject, groups={"a": 1}),
        "groups in no encoding": provider.token(subject, groups=["\ud800"]),
        "no object": f"{said.split('.')[0]}.{encoded([1, 2])}.{signature}",
    }


def test_wrong_tokens_are_refused_in_azures_words(platform: Platform) -> None:
    subject, _ = platform.member("right until it is wrong")
    assert platform.models(platform.steady.token(subject)) == "accepted"
    wrong = wrong_tokens(platform.steady, subject)
    answers = {what: platform.raw(token) for what, token in wrong.items()}
    refused = dict.fromkeys(wrong, (401, UNAUTHORIZED))
    assert {what: (answer.status_code, answer.json()) for what, answer in answers.items()} == refused
    path = platform.account
    at_arm = {what: platform.live.request("GET", path, token=token).status_code for what, token in wrong.items()}
    assert at_arm == dict.fromkeys(wrong, 401)
    # Odd, but properly signed.
    deep = platform.steady.token(subject, x=json.loads("[" * 400 + "]" * 400))
    assert platform.models(deep) == "accepted"
    assert platform.models(platform.steady.token(subject)) == "accepted"


def test_a_new_key_at_the_provider_is_noticed(platform: Platform) -> None:
    subject, _ = platform.member("through a rotation")
    old = platform.steady.token(subject)
    platform.steady.rotate("two")
    token = platform.steady.token(subject)
    # The first use of the unknown key asks for a fetch, which comes half a minute after the last one at the earliest, not in five minutes.
    wait_for(lambda: platform.models(token) == "accepted", "the provider's new key is known", timeout_s=60)
    assert platform.models(old) == "accepted", "the old key is still published"


def test_keys_that_nobody_confirms_end(platform: Platform) -> None:
    object_id = platform.register(platform.short, "outage", "Outage")
    assert platform.assign(object_id).status_code == 201
    token = platform.short.token("outage", aud="https://cognitiveservices.azure.com")
    assert platform.models(token) == "accepted"
    platform.short.stop()
    try:
        assert platform.models(token) == "accepted", "a provider that is away for a moment stops nobody"
        wait_for(lambda: platform.models(token) == NO_TOKEN, "the keys are too old", timeout_s=MAX_AGE_S + 10)
    finally:
        platform.short.start()
    wait_for(lambda: platform.models(token) == "accepted", "the provider is back", timeout_s=40)


def test_the_audit_log_says_who_it_was_and_from_where(platform: Platform) -> None:
    subject, _ = platform.member("audited")
    asked = httpx.get(
        f"{platform.endpoint}openai/models?api-version={VERSION}",
        headers={"Authorization": f"Bearer {platform.steady.token(subject)}", "X-Forwarded-For": "203.0.113.9"},
        verify=platform.live.trust(),
        timeout=30,
    )
    assert asked.status_code == 200
    [record] = json.loads(platform.live.stockade("audit", "show", asked.headers["apim-request-id"], "--format", "json"))
    assert (record["principal"], record["application"], record["callerAddress"]) == (subject, "portal", "203.0.113.9")
    token = httpx.post(
        f"{platform.live.authority}/{platform.live.tenant}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": "nobody",
            "client_secret": "x",
            "scope": "https://management.azure.com/.default",
        },
        headers={"X-Forwarded-For": "203.0.113.10"},
        verify=platform.live.trust(),
        timeout=30,
    )
    assert token.status_code == 400
    wait_for(
        lambda: "203.0.113.10" in platform.live.stockade("audit", "tail", "--json", "-n", "50"),
        "the token request is recorded",
    )
