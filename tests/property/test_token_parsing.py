"""No text that was not signed by a trusted key is ever accepted, and none makes the verifier fail."""

import json

import jwt
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.identity.verify import TokenCache, verify
from stockade.kernel.principal import RejectedCredential, TokenCredential
from stockade.policy.snapshot import Snapshot
from tests.factories import jose
from tests.factories.identity import AI
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
