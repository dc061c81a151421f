"""No text that was not signed by a trusted key is ever accepted, and none makes the verifier fail."""

import json
from collections.abc import Iterator
from urllib.parse import urlencode

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from stockade.identity.app import routes
from stockade.identity.metadata import metadata_app
from stockade.identity.verify import TokenCache, verify
from stockade.kernel.principal import RejectedCredential, TokenCredential
from stockade.policy.snapshot import Snapshot
from tests.factories import jose
from tests.factories.identity import AI, World
from tests.factories.jose import NOW, claims, encode, header, sign

SNAPSHOT = Snapshot().with_changes(1, {"idp": jose.entries()})
AUDIENCES = frozenset({AI})
GOOD = sign(header(), claims())

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["iss", "aud", "oid", "exp", "nbf", "iat", "tid", "appid", "groups", "scp", "uti", "alg", "kid", "typ", "crit"]
)


def refused(token: str) -> bool:
    return isinstance(verify(SNAPSHOT, token, NOW, AUDIENCES, TokenCache()), RejectedCredential)


def test_the_token_all_others_are_made_from_is_good() -> None:
    assert not refused(GOOD)


@given(st.text(max_size=300) | st.text(alphabet="abcXYZ019-_.=", max_size=300))
def test_any_text(text: str) -> None:
    assert refused(text)


@given(st.lists(st.binary(max_size=60), min_size=3, max_size=5))
def test_any_segments(parts: list[bytes]) -> None:
    assert refused(".".join(encode(part) for part in parts))


@given(st.integers(0, len(GOOD) - 1), st.characters(max_codepoint=0x2FF))
def test_one_changed_character(position: int, character: str) -> None:
    changed = GOOD[:position] + character + GOOD[position + 1 :]
    assert refused(changed) == (changed != GOOD)


@given(st.integers(0, len(GOOD)), st.text(min_size=1, max_size=4))
def test_anything_put_in(position: int, text: str) -> None:
    assert refused(GOOD[:position] + text + GOOD[position:])


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 40))
def test_anything_cut_out(position: int, length: int) -> None:
    assert refused(GOOD[:position] + GOOD[position + length :])


@given(st.dictionaries(NAMES | st.text(max_size=8), JSON, max_size=6))
def test_any_header_over_an_unsigned_body(members: dict[str, object]) -> None:
    _, body, signature = GOOD.split(".")
    assert refused(f"{encode(json.dumps(members).encode())}.{body}.{signature}")


@settings(max_examples=200)
@given(st.dictionaries(NAMES | st.text(max_size=8), JSON, max_size=6))
def test_signed_nonsense_is_refused_or_understood_as_another_library_does(members: dict[str, object]) -> None:
    token = sign(header(), json.dumps(claims() | members))
    found = verify(SNAPSHOT, token, NOW, AUDIENCES)
    if isinstance(found, TokenCredential):
        public = jwt.PyJWK(jose.RSA.as_dict(private=False), algorithm="RS256")
        options = {
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
            "verify_aud": False,
            "verify_sub": False,
            "verify_jti": False,
        }
        read = jwt.decode(token, public, algorithms=["RS256"], options=options)
        assert read["iss"] == found.issuer
        assert read["oid"].lower() == found.object_id
        assert read["exp"] == found.expires_at
        named = read["aud"] if isinstance(read["aud"], list) else [read["aud"]]
        assert found.audience in [name.removesuffix("/") for name in named]


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, TestClient, TestClient]]:
    world = World(tmp_path_factory.mktemp("world"))
    with world.database.write() as writer:
        world.directory.machine_identity(writer)
    with (
        TestClient(Starlette(routes=routes(world.services))) as tokens,
        TestClient(metadata_app(world.services)) as metadata,
    ):
        yield world, tokens, metadata


FIELDS = st.sampled_from(
    ["grant_type", "client_id", "client_secret", "scope", "client_assertion", "client_assertion_type", "resource", "x"]
)
VALUES = st.sampled_from(["client_credentials", f"{AI}/.default", AI, GOOD, "a.b.c", ""]) | st.text(max_size=30)
HEADER_VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(FIELDS, VALUES), max_size=7),
    st.none() | HEADER_VALUES,
    st.sampled_from(["/oauth2/v2.0/token", "/oauth2/token"]),
)
def test_no_made_up_form_earns_a_token_or_breaks_the_service(
    clients: tuple[World, TestClient, TestClient], form: list[tuple[str, str]], basic: str | None, path: str
) -> None:
    world, tokens, _ = clients
    headers = {"content-type": "application/x-www-form-urlencoded"} | (
        {"authorization": f"Basic {basic}"} if basic is not None else {}
    )
    response = tokens.post(f"/{world.tenant_id}{path}", content=urlencode(form, errors="replace"), headers=headers)
    assert 400 <= response.status_code < 500
    assert response.json()["error_description"].startswith("AADSTS")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_token_service(clients: tuple[World, TestClient, TestClient], content: bytes) -> None:
    world, tokens, _ = clients
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert 400 <= tokens.post(f"/{world.tenant_id}/oauth2/token", content=content, headers=headers).status_code < 500


@settings(max_examples=100, deadline=None)
@given(
    HEADER_VALUES,
    st.dictionaries(st.sampled_from(["api-version", "resource", "client_id", "mi_res_id"]), VALUES, max_size=4),
)
def test_no_made_up_header_earns_an_identity(
    clients: tuple[World, TestClient, TestClient], value: str, query: dict[str, str]
) -> None:
    world, _, metadata = clients
    world.manual.advance(1)
    sent = {
        name: text.encode("utf-8", "replace").decode()
        for name, text in ({"api-version": "2019-08-01", "resource": AI} | query).items()
    }
    response = metadata.get(
        "http://localhost/msi/token", params=sent, headers={"x-identity-header": value, "secret": value}
    )
    assert 400 <= response.status_code < 500
