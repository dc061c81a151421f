"""What no provider's conformance shows of the one table of algorithms; the rest is in tests/shelves."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import algorithms
from stockade.keys.material import CURVES, RSA_SIGNATURES, Jwk, KeyRequest, KeySpec


@pytest.mark.parametrize("curve", sorted(CURVES))
def test_ec_keys_there_and_back(curve: str) -> None:
    key = ec.generate_private_key(algorithms.EC_CURVES[curve])
    jwk = algorithms.jwk_of("EC", key.public_key())
    assert algorithms.public_key(jwk) == key.public_key()
    assert jwk.x is not None
    assert len(jwk.x) == CURVES[curve][1]
    again = algorithms.private_key(KeySpec(type="EC", curve=curve), algorithms.private_members(key))
    assert again.private_numbers() == key.private_numbers()


def test_rsa_keys_there_and_back() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert algorithms.public_key(algorithms.jwk_of("RSA-HSM", key.public_key())) == key.public_key()
    again = algorithms.private_key(KeySpec(type="RSA", size=2048), algorithms.private_members(key))
    assert again.private_numbers() == key.private_numbers()


@pytest.mark.parametrize(
    "jwk",
    [
        pytest.param(Jwk(kty="RSA", n=b"\x01"), id="no exponent"),
        pytest.param(Jwk(kty="RSA", n=b"\x80" * 256, e=b"\x01\x00\x00"), id="even exponent"),
        pytest.param(Jwk(kty="EC", crv="P-256", x=b"\x01" * 32, y=b"\x01" * 32), id="off the curve"),
        pytest.param(Jwk(kty="EC", x=b"\x01" * 32, y=b"\x01" * 32), id="no curve"),
        pytest.param(Jwk(kty="oct"), id="symmetric"),
    ],
)
def test_what_is_no_public_key(jwk: Jwk) -> None:
    with pytest.raises(Fault) as caught:
        algorithms.public_key(jwk)
    assert caught.value.kind is FaultKind.INVALID


def test_the_table_is_the_contracts() -> None:
    """Each RSA algorithm is known for the uses that the contract gives it, and for no other."""
    for algorithm in RSA_SIGNATURES:
        length = 51 if algorithm == "RSNULL" else int(algorithm[2:]) // 8
        for use in ("sign", "verify", "encrypt", "decrypt", "wrap", "unwrap"):
            request = KeyRequest(use=use, algorithm=algorithm, value=bytes(length))
            if use in {"sign", "verify"}:
                algorithms.check_request(Jwk(kty="RSA-HSM"), request)
                continue
            with pytest.raises(Fault):
                algorithms.check_request(Jwk(kty="RSA"), request)


def test_a_long_name_is_not_quoted_whole() -> None:
    with pytest.raises(Fault) as caught:
        algorithms.check_request(Jwk(kty="RSA"), KeyRequest(use="sign", algorithm="A" * 10_000, value=b""))
    assert len(caught.value.message) < 200


def test_numbers_that_are_too_large_are_not_worked_on() -> None:
    huge = {"n": b"\x01" * 20_000, "e": b"\x01\x00\x01", "d": b"\x01" * 20_000}
    for private in (huge, {**huge, "n": b"\x01" * 256, "e": b"\x01" * 9}):
        with pytest.raises(Fault) as caught:
            algorithms.private_key(KeySpec(type="RSA", size=2048), private)
        assert caught.value.kind is FaultKind.INVALID
