"""Who has signed what: every kind of key, and everything that is no signature of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256, sha384
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from joserfc.jwk import OctKey
from joserfc.jws import JWSRegistry

from stockade.kernel.faults import Fault, FaultKind
from stockade.lockbox.public_keys import public_jwk
from stockade.lockbox.signature import Signature, Signed, require, sign_elsewhere, signed_by_passkey, verified
from stockade.lockbox.statement import Approver
from stockade.lockbox.strict import base64url
from tests.factories.lockbox import PERSON, UP, UV, Authenticator, Kind, Signer, generated

PAYLOAD = b'{"what": "is signed"}'


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(Fault) as caught:
        call()
    assert (caught.value.kind, caught.value.code) == (FaultKind.PERMISSION_DENIED, "NotSigned")
    return caught.value.message


def check(signature: Signature, *approvers: Approver, payload: bytes = PAYLOAD) -> tuple[Approver, ...]:
    return verified(Signed(payload, (signature,)), approvers)


def jws(header: dict[str, Any] | str, value: bytes, between: str = "") -> Signature:
    text = header if isinstance(header, str) else json.dumps(header)
    return Signature("alice", jws=f"{base64url(text.encode())}.{between}.{base64url(value)}")


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA"])
def test_a_key_of_each_kind_signs_and_signs_that_payload_only(kind: Kind) -> None:
    alice, other = Signer(key=generated(kind)), Signer(key=generated(kind))
    signature = alice.sign(PAYLOAD)
    assert check(signature, alice.approver) == (alice.approver,)
    assert "does not verify" in refused(lambda: check(signature, alice.approver, payload=PAYLOAD + b" "))
    refused(lambda: check(signature, other.approver))
    for place in range(len(signature.jws)):
        changed = chr(ord(signature.jws[place]) ^ 1)
        text = signature.jws[:place] + changed + signature.jws[place + 1 :]
        refused(lambda text=text: check(Signature("alice", jws=text), alice.approver))  # type: ignore[misc]


def test_a_key_that_is_elsewhere_is_given_digests() -> None:
    small, large = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    long = rsa.generate_private_key(65_537, 2048)

    def of_curve(key: ec.EllipticCurvePrivateKey, digest: bytes, hashed: SHA256 | SHA384) -> bytes:
        r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(hashed))))
        size = key.key_size // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    def pss(digest: bytes) -> bytes:
        return long.sign(digest, padding.PSS(padding.MGF1(SHA256()), 32), utils.Prehashed(SHA256()))

    def pkcs1(digest: bytes) -> bytes:
        return long.sign(digest, padding.PKCS1v15(), utils.Prehashed(SHA256()))

    from joserfc.jwk import import_key

    for algorithm, key, sign in (
        ("ES256", small, lambda digest: of_curve(small, digest, SHA256())),
        ("ES384", large, lambda digest: of_curve(large, digest, SHA384())),
        ("PS256", long, pss),
        ("RS256", long, pkcs1),
    ):
        kind = "RSA" if key is long else "EC"
        jwk = import_key(key.public_key(), kind).as_dict(private=False)  # type: ignore[arg-type]
        approver = Approver("alice", PERSON.format(1), jwk=public_jwk({**jwk, "kty": f"{kind}-HSM", "kid": "k"}))
        signature = sign_elsewhere(PAYLOAD, "alice", algorithm, sign)  # type: ignore[arg-type]
        assert check(signature, approver) == (approver,)
    assert len(sha256(b"").digest()) != len(sha384(b"").digest())
    with pytest.raises(ValueError, match="not digests"):
        sign_elsewhere(PAYLOAD, "alice", "Ed25519", lambda digest: digest)


def test_the_header_chooses_nothing() -> None:
    alice = Signer()
    good = {"alg": "ES256", "kid": "alice", "typ": "stockade-lockbox"}

    def made(header: dict[str, Any] | str, algorithm: str = "ES256", between: str = "") -> Signature:
        text = header if isinstance(header, str) else json.dumps(header)
        message = f"{base64url(text.encode())}.{base64url(PAYLOAD)}".encode()
        key: Any = alice.key
        if algorithm == "HS256":  # the public key as a shared secret
            key = OctKey.import_key(json.dumps(alice.approver.jwk))
        value = b"" if algorithm == "none" else JWSRegistry.algorithms[algorithm].sign(message, key)
        return jws(text, value, between)

    assert check(made(good), alice.approver)
    for signature in (
        made({**good, "alg": "none"}, "none"),
        made({**good, "alg": "HS256"}, "HS256"),
        made({**good, "alg": "ES384"}),
        made({**good, "alg": ["ES256"]}),
        made({**good, "kid": "bob"}),
        made({**good, "typ": "JWT"}),
        made({"alg": "ES256", "kid": "alice"}),
        made({**good, "jwk": alice.key.as_dict(private=False)}),
        made({**good, "b64": False, "crit": ["b64"]}),
        made(json.dumps(good)[:-1] + ', "kid": "alice"}'),
        made("[]"),
        made("\ud7ff"),
        made(good, between=base64url(PAYLOAD)),
        Signature("alice", jws=made(good).jws + "="),
        Signature("alice", jws=made(good).jws.replace("..", ".")),
        Signature("alice", jws="x" * 5000),
        Signature("alice"),
        Signature("alice", jws=made(good).jws, assertion=Authenticator().sign(PAYLOAD).assertion),
    ):
        refused(lambda signature=signature: check(signature, alice.approver))  # type: ignore[misc]


def test_a_passkey_signs_for_its_origin_with_its_user_verified() -> None:
    carol = Authenticator(counter=7)
    signature = carol.sign(PAYLOAD)
    assert check(signature, carol.approver) == (carol.approver,)
    assert check(signature, carol.approver), "a counter that stands still keeps nobody out"
    refused(lambda: check(signature, carol.approver, payload=b"{}"))
    other = Authenticator().approver
    refused(lambda: check(signature, other))
    for changes in (
        {"flags": UP},
        {"flags": UV},
        {"origin": "https://console.stockade.localhost"},
        {"origin": "https://evil.example"},
        {"rp_id": "stockade.localhost"},
        {"kind": "webauthn.create"},
        {"more": {"crossOrigin": True}},
        {"more": {"challenge": base64url(b"x" * 32)}},
        {"credential": b"another"},
    ):
        wrong = Authenticator(key=carol.key, **changes).sign(PAYLOAD)  # type: ignore[arg-type]
        refused(lambda wrong=wrong: check(wrong, carol.approver))  # type: ignore[misc]
    assert signature.assertion is not None
    told = {name: getattr(signature.assertion, name) for name in signature.assertion.__struct_fields__}
    for name, text in told.items():
        for place in range(len(text)):
            changed = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
            assertion = type(signature.assertion)(**{**told, name: changed})
            refused(lambda assertion=assertion: check(Signature("carol", assertion=assertion), carol.approver))  # type: ignore[misc]
    refused(lambda: check(Signature("carol", jws=Signer(id="carol").sign(PAYLOAD).jws), carol.approver))
    for answer in ({}, {"id": "x", "response": None}, {"id": "x", "response": {}}):
        with pytest.raises(ValueError, match="no passkey's answer"):
            signed_by_passkey("carol", answer)


def test_one_bad_signature_spoils_the_good_ones() -> None:
    alice, bob = Signer(), Signer("bob", PERSON.format(2))
    both = (alice.approver, bob.approver)
    good = (alice.sign(PAYLOAD), bob.sign(PAYLOAD))
    assert verified(Signed(PAYLOAD, good), both) == both
    for wrong in (
        (),
        (good[0], good[0]),
        (*good, Signature("eve", jws=good[0].jws)),
        (good[0], bob.sign(b"something else")),
        tuple(Signature(f"k{n}") for n in range(17)),
    ):
        refused(lambda wrong=wrong: verified(Signed(PAYLOAD, wrong), both))  # type: ignore[misc]


def test_so_many_keys_of_so_many_people_other_than_the_one_who_asks() -> None:
    alice, bob = Signer(), Signer("bob", PERSON.format(2))
    twin = Signer("alice-2", alice.principal)
    approvers = tuple(one.approver for one in (alice, bob, twin))

    def ask(*signers: Signer, threshold: int = 2, without: tuple[str, ...] = ()) -> tuple[Approver, ...]:
        signed = Signed(PAYLOAD, tuple(signer.sign(PAYLOAD) for signer in signers))
        return require(signed, approvers, threshold, without=without)

    assert ask(alice, bob) == approvers[:2]
    assert len(ask(alice, bob, twin)) == 3
    refused(lambda: ask(alice))
    assert "another person" in refused(lambda: ask(alice, twin))
    assert "own request" in refused(lambda: ask(alice, bob, without=(bob.principal,)))
    assert ask(alice, bob, threshold=1, without=(bob.principal,)) == approvers[:1]
