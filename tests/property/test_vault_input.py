"""Whatever a caller of a vault sends: an answer in Key Vault's words, never a bug of ours, and nothing that could be read in two ways."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stockade.kernel.faults import Fault, FaultKind
from stockade.policy.key_rotation import later
from stockade.settings import Settings
from stockade.vault.address import Addresses, Place, item_name, segments, version_name
from stockade.vault.app import Head
from stockade.vault.wire import decoded, encoded
from tests.factories.vault import Vaulted

T = TypeVar("T")

METHODS = st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", ""])
VERBS = "create backup restore recover rotate rotationpolicy sign verify encrypt decrypt wrapkey unwrapkey release attestation versions"
COLLECTIONS = "keys secrets deletedkeys deletedsecrets rng certificates"
ODD = f"k1 s1 K1 a_b .. %2e%2e %00 %2f %ff {'0' * 32}"
WORDS = st.sampled_from(["", *f"{VERBS} {COLLECTIONS} {ODD}".split()])
PATHS = st.one_of(
    st.lists(WORDS, min_size=1, max_size=7).map(lambda words: "/" + "/".join(words)),
    st.binary(max_size=60).map(lambda raw: "/" + raw.decode("latin-1")),
)
QUERIES = st.one_of(
    st.just("api-version=7.6"),
    st.text(max_size=40),
    st.sampled_from(
        ["api-version=7.6&maxresults=2", "api-version=7.6&$skiptoken=AAAA", "api-version=7.6&maxresults=-1"]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
KNOWN = "kty key_size public_exponent key_ops attributes tags crv release_policy key Hsm alg value digest iv aad tag count lifetimeActions"
MEMBERS = st.sampled_from(KNOWN.split())
VALUES = st.one_of(
    JSON,
    st.sampled_from(
        [
            "RSA",
            "EC",
            "RS256",
            "ES256",
            "RSA-OAEP",
            "AQEB",
            {"enabled": False},
            {"nbf": 1, "exp": 1e300},
            {"kty": "RSA"},
        ]
    ),
)
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(MEMBERS, VALUES, max_size=6).map(lambda value: json.dumps(value).encode()),
)


@pytest.fixture(scope="module")
def vaulted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vaulted]:
    made = Vaulted(tmp_path_factory.mktemp("vault"))
    made.ok("POST", "/keys/k1/create", {"kty": "EC"})
    made.ok("PUT", "/secrets/s1", {"value": "v"})
    yield made
    made.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(METHODS, PATHS, QUERIES, BODIES)
@example("POST", "/keys/k1//sign", "api-version=7.6", b'{"alg":"ES256","value":"\\ud800"}')
@example("PUT", "/secrets/s1", "api-version=7.6", b'{"value":"\\ud800"}')
@example("PUT", "/keys/k2", "api-version=7.6", b'{"key":{"kty":"RSA","n":"AQ","e":"AQ","d":"AQ","p":"AQ","q":"AQ"}}')
@example("PUT", "/keys/k1/rotationpolicy", "api-version=7.6", b'{"lifetimeActions":[{}]}')
@example("PATCH", "/keys/k1/", "api-version=7.6", b'{"attributes":{"exp":1e308}}')
@example("GET", "/keys", "api-version=7.6&$skiptoken=/4==", b"")
def test_every_request_has_an_answer_of_ours(vaulted: Vaulted, method: str, path: str, query: str, body: bytes) -> None:
    head = Head(
        Place("demo-vault", "https://localhost:8444", own_host=False),
        method,
        path.encode("latin-1", "ignore"),
        query.encode("utf-8", "ignore"),
        {"authorization": f"Bearer {vaulted.token()}"},
        "127.0.0.1",
        "decision",
        0.0,
    )
    status, content, _, _ = vaulted.app._answer(head, body)
    assert status != 500, content
    found: Any = json.loads(content) if content else None
    if status >= 400:
        assert found["error"]["code"]
        assert found["error"]["message"]
    else:
        assert (found is None) == (status == 204)
    vaulted.audit.records.clear()
    vaulted.clock.advance(1)  # so that not all of it is one window of requests


def or_refused(read: Callable[[], T]) -> T | None:
    """Return what was read; None where it was refused as Key Vault refuses a bad parameter."""
    try:
        return read()
    except Fault as fault:
        if fault.kind is not FaultKind.INVALID:
            raise
        return None


@given(st.binary(max_size=200))
def test_base64url_has_one_spelling(value: bytes) -> None:
    text = encoded(value)
    assert decoded(text, "value") == value
    assert base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) == value


@given(st.text(st.characters(max_codepoint=0x17F), max_size=12))
@example("AB")
@example("AA=")
@example("A+/A")
@example("AAAAA")
def test_what_is_no_base64url_is_refused(text: str) -> None:
    value = or_refused(lambda: decoded(text, "value"))
    assert value is None or encoded(value) == text


@given(st.binary(max_size=80))
def test_paths_are_read_in_one_way_or_not_at_all(raw: bytes) -> None:
    found = or_refused(lambda: segments(b"/" + raw)) or ()
    assert not any(mark in part for part in found for mark in "/\\%?#\0")


@given(st.text(max_size=140))
def test_names_are_safe_to_put_into_an_id(text: str) -> None:
    for read in (item_name, version_name):
        found = or_refused(lambda read=read: read(text, "name")) or ""
        assert found.isascii()
        assert all(character.isalnum() or character == "-" for character in found)


@given(st.text(max_size=80), st.binary(max_size=30))
@example("demo-vault.vault.stockade.localhost", b"/keys")
@example("evil/..vault.stockade.localhost", b"/keys")
@example('localhost"><script>', b"/keys")
def test_a_host_is_reflected_only_when_it_could_be_one(host: str, path: bytes) -> None:
    place = Addresses(Settings()).place(host, path)
    if place is not None:
        assert not set(place.base.removeprefix("https://")) & set('/"<>\\ @?#')


@given(st.integers(0, 10_000), st.integers(0, 400))
def test_time_moves_by_a_duration_and_back(days: int, months: int) -> None:
    start = 1_800_000_000.0
    assert later(later(start, f"P{days}D"), f"P{days}D", -1) == start
    assert later(start, f"P{months}M") >= start
