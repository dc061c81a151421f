from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from stockade.identity.client_assertion import LEEWAY_S, MAX_LIFE_S, certificate_entry, check_assertion
from stockade.identity.compact import NotVerified
from stockade.kernel.faults import Fault
from tests.factories.identity import client_certificate, server_certificate
from tests.factories.jose import NOW, sign

APP = "0f0f0f0f-0000-4000-8000-00000000000a"
TOKEN_ENDPOINT = "https://localhost:8444/t/oauth2/v2.0/token"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], Any]]:
    folder = tmp_path_factory.mktemp("certificates")
    made: dict[str, tuple[dict[str, Any], Any]] = {}
    for name, elliptic in (("rsa", False), ("ec", True)):
        certificate, key_file = client_certificate(folder, elliptic=elliptic)
        load = ECKey if elliptic else RSAKey
        entry = certificate_entry(certificate.read_bytes()) | {"expiresAt": NOW + 1000}
        made[name] = (entry, load.import_key(key_file.read_bytes()))
    return made


def check(
    keys: dict[str, Any], which: str = "rsa", alg: str = "RS256", header: Any = None, signer: str = "", **changes: Any
) -> str:
    entry, _ = keys[which]
    good = {"iss": APP, "sub": APP, "aud": TOKEN_ENDPOINT, "exp": NOW + 600, "nbf": NOW, "jti": "1"}
    claims = {name: value for name, value in (good | changes).items() if value is not None}
    token = sign(
        {"alg": alg, "typ": "JWT", "x5t": entry["thumbprint"]} if header is None else header,
        claims,
        keys[signer or which][1],
        alg,
    )
    try:
        check_assertion(token, APP, [kept for kept, _ in keys.values()], {TOKEN_ENDPOINT}, NOW)
    except NotVerified as refusal:
        return refusal.reason
    return "accepted"


@pytest.mark.parametrize(("which", "alg"), [("rsa", "RS256"), ("rsa", "PS256"), ("ec", "ES256")])
def test_each_kind_of_certificate(keys: dict[str, Any], which: str, alg: str) -> None:
    assert check(keys, which, alg) == "accepted"


def test_every_way_to_name_a_certificate(keys: dict[str, Any]) -> None:
    entry = keys["rsa"][0]
    import base64

    hexadecimal = base64.urlsafe_b64decode(entry["thumbprint"] + "==").hex()
    for name in (
        {"x5t": entry["thumbprint"] + "="},
        {"x5t#S256": entry["sha256"]},
        {"kid": hexadecimal},
        {"kid": hexadecimal.upper()},
    ):
        assert check(keys, header={"alg": "RS256", **name}) == "accepted"
    for name in ({}, {"x5t": 7}, {"x5t": "\u00e9"}, {"x5t": entry["sha256"]}):
        assert check(keys, header={"alg": "RS256", **name}) == "unknown_certificate"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "other"}, "wrong_application"),
        ({"sub": "other"}, "wrong_application"),
        ({"sub": None}, "wrong_application"),
        ({"aud": "https://other/token"}, "wrong_audience"),
        ({"aud": None}, "wrong_audience"),
        ({"aud": ["https://other/token", TOKEN_ENDPOINT]}, "accepted"),
        ({"exp": None}, "expired"),
        ({"exp": NOW - LEEWAY_S}, "expired"),
        ({"nbf": NOW + LEEWAY_S + 1}, "expired"),
        ({"exp": NOW + MAX_LIFE_S + LEEWAY_S + 1}, "lives_too_long"),
        ({"iss": APP.upper(), "sub": APP.upper()}, "accepted"),
    ],
)
def test_claims(keys: dict[str, Any], changes: dict[str, Any], reason: str) -> None:
    assert check(keys, **changes) == reason


def test_the_named_certificate_must_have_signed(keys: dict[str, Any]) -> None:
    entry = keys["rsa"][0]
    assert check(keys, alg="ES256", signer="ec") == "bad_algorithm"
    other = RSAKey.generate_key(2048)
    assert (
        check({**keys, "other": (entry | {"thumbprint": "x", "sha256": "y"}, other)}, signer="other") == "bad_signature"
    )


def test_an_expired_certificate(keys: dict[str, Any]) -> None:
    entry, key = keys["rsa"]
    assert check({"rsa": (entry | {"expiresAt": NOW}, key)}) == "certificate_expired"


def test_only_certificates_are_registered(tmp_path: Path) -> None:
    _, key_file = client_certificate(tmp_path)
    for wrong in (b"", b"nonsense", key_file.read_bytes(), b"x" * 70_000):
        with pytest.raises(Fault):
            certificate_entry(wrong)
    certificate, _ = server_certificate(tmp_path)
    assert certificate_entry(certificate.read_text())["pem"].startswith("-----BEGIN CERTIFICATE-----")
