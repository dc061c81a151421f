"""Receipts of requests, verified with a JOSE library of other people's."""

from __future__ import annotations

import json
from hashlib import sha256

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import receipts
from stockade.keys.request_receipts import Receipt, jwk, key_id, key_named, read_key, request_hash, sign, verify

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
RECEIPT = Receipt(
    iss="https://arm.example",
    iat=1_800_000_000,
    jti="11111111-1111-4111-8111-111111111111",
    method="POST",
    path="/demo/openai/deployments/chat/chat/completions",
    request=request_hash("POST", "/p", "q", sha256(b"body").digest()),
    body=True,
    status=200,
    outcome="success",
    account="/subscriptions/s",
    policy=7,
    stored="none",
)


def test_another_library_verifies_it() -> None:
    text = sign(RECEIPT, PUBLIC, KEY.sign)
    key = jwt.PyJWKSet.from_dict({"keys": [jwk(PUBLIC)]})[jwt.get_unverified_header(text)["kid"]]
    claims = jwt.decode(text, key, algorithms=["EdDSA"], issuer="https://arm.example", options={"verify_iat": False})
    assert claims["stored"] == "none"
    assert (claims["jti"], claims["status"], claims["policy"]) == (RECEIPT.jti, 200, 7)
    assert jwt.get_unverified_header(text) == {"alg": "EdDSA", "kid": key_id(PUBLIC), "typ": "stockade-receipt+jwt"}


def test_what_is_signed_is_read_back() -> None:
    text = sign(RECEIPT, PUBLIC, KEY.sign)
    assert verify(text, PUBLIC) == RECEIPT
    assert key_named(text) == key_id(PUBLIC)


def test_no_changed_character_verifies() -> None:
    text = sign(RECEIPT, PUBLIC, KEY.sign)
    for at in range(len(text)):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        if receipts.from_text(changed.split(".")[-1]) == receipts.from_text(text.split(".")[-1]) and at > text.rindex(
            "."
        ):
            continue  # bits behind the signature's last byte
        with pytest.raises(Fault) as caught:
            verify(changed, PUBLIC)
        assert caught.value.kind is FaultKind.INVALID


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": "k", "typ": "stockade-receipt+jwt"},
        {"alg": "EdDSA", "kid": "k", "typ": "JWT"},
        {"alg": "EdDSA", "kid": "k", "typ": "stockade-receipt+jwt", "crit": ["x"]},
    ],
    ids=["algorithm", "type", "critical"],
)
def test_other_things_signed_with_the_key_are_no_receipts(header: dict[str, object]) -> None:
    signed = f"{receipts.to_text(json.dumps(header).encode())}.{sign(RECEIPT, PUBLIC, KEY.sign).split('.')[1]}"
    with pytest.raises(Fault):
        verify(f"{signed}.{receipts.to_text(KEY.sign(signed.encode()))}", PUBLIC)


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c", "." * 20_000, "é.é.é"], ids=["nothing", "two", "noise", "long", "letters"]
)
def test_noise_is_refused(text: str) -> None:
    with pytest.raises(Fault) as caught:
        verify(text, PUBLIC)
    assert caught.value.kind is FaultKind.INVALID
    assert key_named(text) == ""


def test_each_part_of_a_request_counts_and_none_runs_into_the_next() -> None:
    body = sha256(b"b").digest()
    asked = [
        ("GET", "/a", "q"),
        ("GET", "/aq", ""),
        ("GE", "T/a", "q"),
        ("GET", "/a", ""),
        ("POST", "/a", "q"),
        ("GET", "/a?q", ""),
    ]
    hashes = {request_hash(*one, body) for one in asked} | {request_hash("GET", "/a", "q", sha256(b"").digest())}
    assert len(hashes) == len(asked) + 1


def test_the_hash_is_what_the_documentation_says() -> None:
    def sha(value: bytes) -> bytes:
        return sha256(value).digest()

    parts = sha(b"POST") + sha("/ä b".encode()) + sha(b"api-version=1&x=%41") + sha(b"{}")
    assert request_hash("POST", "/ä b", "api-version=1&x=%41", sha(b"{}")) == receipts.to_text(sha(parts))


def test_keys_are_read_in_every_form_they_are_published_in() -> None:
    published = jwk(PUBLIC)
    other = {**published, "kid": "other", "x": receipts.to_text(b"x" * 32)}
    assert read_key(published["x"]) == PUBLIC
    assert read_key(json.dumps(published), published["kid"]) == PUBLIC
    assert read_key(json.dumps({"keys": [other, published]}), published["kid"]) == PUBLIC
    for wrong in ("", "!!", "AAAA", "{}", "{", json.dumps({"keys": [1]}), json.dumps({**published, "crv": "X25519"})):
        with pytest.raises(Fault):
            read_key(wrong)
    with pytest.raises(Fault):
        read_key(json.dumps({"keys": [other]}), published["kid"])
