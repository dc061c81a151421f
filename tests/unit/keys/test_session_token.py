"""Ten-minute tokens that stand for a key."""

from __future__ import annotations

import base64
import json

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from stockade.kernel.principal import KeyCredential, RejectedCredential
from stockade.kernel.secret import Secret
from stockade.keys.session_token import LIFETIME_S, MAX_LENGTH, SessionTokens

NOW = 1_800_000_000.0
KEY = b"k" * 32
CREDENTIAL = KeyCredential("/accounts/a", "Key2", b"d" * 32)
tokens = SessionTokens(Secret(KEY))


def reason(token: str, now: float = NOW) -> str:
    read = tokens.read(token, now)
    assert isinstance(read, RejectedCredential)
    return read.reason


def signed(under: bytes = KEY, header: dict[str, object] | None = None, **changes: object) -> str:
    claims = {
        "iss": "urn:ms.cognitiveservices",
        "aud": "/accounts/a",
        "slot": "Key1",
        "key": "00",
        "iat": int(NOW),
        "exp": int(NOW) + 600,
    }
    named = header or {"alg": "HS256", "typ": "JWT", "kid": "sts/1"}
    present = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return jwt.encode(named, present, OctKey.import_key(under), algorithms=[str(named["alg"])])


def test_token_stands_for_its_key() -> None:
    token = tokens.issue(CREDENTIAL, "local", NOW)
    assert tokens.is_one(token)
    assert tokens.read(token, NOW + 1) == KeyCredential("/accounts/a", "Key2", b"d" * 32, via_token=True)


def test_token_lives_ten_minutes() -> None:
    token = tokens.issue(CREDENTIAL, "local", NOW)
    assert isinstance(tokens.read(token, NOW + LIFETIME_S - 1), KeyCredential)
    assert reason(token, NOW + LIFETIME_S) == "session_token_expired"
    assert isinstance(tokens.read(token, NOW - 60), KeyCredential), "another machine's clock may be a minute ahead"
    assert reason(token, NOW - 61) == "session_token_expired"


def test_token_under_another_key_or_none_is_refused() -> None:
    head, claims, signature = tokens.issue(CREDENTIAL, "local", NOW).split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).decode().rstrip("=")
    for forged in (
        signed(b"x" * 32),
        f"{none}.{claims}.",
        f"{head}.{claims}.",
        f"{head}.{claims}.{signature[::-1]}",
        f"{head}.{claims}",
    ):
        assert reason(forged) == "session_token_invalid"
    assert reason(signed(header={"alg": "HS512", "kid": "sts/1"})) == "session_token_invalid"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"},
        {"exp": None},
        {"iat": None},
        {"key": None},
        {"aud": None},
        {"key": "zz"},
        {"exp": "soon"},
        {"slot": None},
    ],
)
def test_token_with_claims_amiss_is_refused(changes: dict[str, object]) -> None:
    assert isinstance(tokens.read(signed(**changes), NOW), RejectedCredential)


def test_overlong_token_is_not_looked_at() -> None:
    assert reason("x" * (MAX_LENGTH + 1)) == "session_token_too_long"


def test_other_tokens_are_told_apart_without_parsing() -> None:
    assert not tokens.is_one(signed(header={"alg": "HS256", "typ": "JWT", "kid": "other"}))
    assert not tokens.is_one("")
