"""Project Wycheproof's vectors, through the software provider and the one place that verifies: what is valid works, what is not is refused.

Where Key Vault has less than a vector asks for (labels of OAEP, other salts of PSS, other lengths of IV), the vector has to be refused too.
Signatures are verified with keys of which there is only the public half; no provider takes those, so they go to what all of them call.
There are no vectors for AES key wrap in the package: RFC 3394's own stand below. TESTS_WYCHEPROOF=all runs every file, the slow keys too.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import algorithms
from stockade.keys.material import Jwk, KeyRequest, KeySpec
from stockade.keys.providers.software import SoftwareProvider
from tests.factories import second_opinion
from tests.outside import program

ALL = os.environ.get("TESTS_WYCHEPROOF") == "all"
pytestmark = pytest.mark.vectors

OAEP = {
    "rsa_oaep_2048_sha1_mgf1sha1": "RSA-OAEP",
    "rsa_oaep_2048_sha256_mgf1sha256": "RSA-OAEP-256",
    "rsa_oaep_3072_sha256_mgf1sha256": "RSA-OAEP-256",
    "rsa_oaep_4096_sha256_mgf1sha256": "RSA-OAEP-256",
}
PKCS1 = ("rsa_pkcs1_2048", "rsa_pkcs1_3072", "rsa_pkcs1_4096") if ALL else ("rsa_pkcs1_2048",)
RSA_SIGNATURES = {
    "rsa_signature_2048_sha256": "RS256",
    "rsa_signature_2048_sha384": "RS384",
    "rsa_signature_2048_sha512": "RS512",
    "rsa_signature_3072_sha256": "RS256",
    "rsa_signature_3072_sha384": "RS384",
    "rsa_signature_3072_sha512": "RS512",
    "rsa_pss_2048_sha256_mgf1_32": "PS256",
    "rsa_pss_3072_sha256_mgf1_32": "PS256",
    "rsa_pss_4096_sha256_mgf1_32": "PS256",
}
OTHER_SALTS = {"rsa_pss_2048_sha256_mgf1_0": "PS256", "rsa_pss_4096_sha512_mgf1_32": "PS512"}
ECDSA = {
    "ecdsa_secp256r1_sha256_p1363": ("ES256", "P-256"),
    "ecdsa_secp384r1_sha384_p1363": ("ES384", "P-384"),
    "ecdsa_secp521r1_sha512_p1363": ("ES512", "P-521"),
    "ecdsa_secp256k1_sha256_p1363": ("ES256K", "P-256K"),
}


@pytest.fixture(scope="module")
def provider() -> Iterator[SoftwareProvider]:
    provider = SoftwareProvider(Secret(os.urandom(32)))
    yield provider
    provider.close()


def groups(folder: str, name: str) -> list[dict[str, Any]]:
    found = json.loads((program("vectors") / folder / "wycheproof" / f"{name}_test.json").read_text())["testGroups"]
    assert found
    return found


def octets(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def taken(provider: SoftwareProvider, group: dict[str, Any]):
    """Take in a group's private key: by its JWK, or by n, e and d where there is none."""
    jwk = group.get("privateKeyJwk")
    names = ("n", "e", "d", "p", "q", "dp", "dq", "qi")
    private = (
        {name: octets(jwk[name]) for name in names}
        if jwk
        else {name: bytes.fromhex(group[name]).lstrip(b"\0") for name in names[:3]}
    )
    return provider.take(KeySpec(type="RSA", size=group["keysize"]), private, "vector")


@pytest.mark.parametrize("name", sorted(OAEP))
def test_rsa_oaep(provider: SoftwareProvider, name: str) -> None:
    seen: Counter[str] = Counter()
    for group in groups("_rsa", name):
        key = taken(provider, group)
        for test in group["tests"]:
            value = bytes.fromhex(test["ct"])
            request = KeyRequest(use="unwrap", algorithm=OAEP[name], value=value)
            if test["result"] == "valid" and not test["label"]:
                assert provider.use(key.handle, key.public, request, "vector").value == bytes.fromhex(test["msg"]), test
            else:
                with pytest.raises(Fault) as caught:
                    provider.use(key.handle, key.public, request, "vector")
                assert caught.value.kind is FaultKind.INVALID
            seen[test["result"]] += 1
    assert seen["valid"] >= 15
    assert seen["invalid"] >= 15


@pytest.mark.parametrize("name", PKCS1)
def test_rsa_pkcs1_decryption(provider: SoftwareProvider, name: str) -> None:
    keys: dict[str, Any] = {}
    seen: Counter[str] = Counter()
    for group in groups("_rsa", name):
        if group["n"] not in keys:
            keys[group["n"]] = taken(provider, group)
        key = keys[group["n"]]
        for test in group["tests"]:
            request = KeyRequest(use="decrypt", algorithm="RSA1_5", value=bytes.fromhex(test["ct"]))
            expected = bytes.fromhex(test["msg"])
            if test["result"] == "valid":
                assert provider.use(key.handle, key.public, request, "vector").value == expected, test
            else:
                # Refused, or something random instead of an answer that tells about the padding.
                try:
                    assert provider.use(key.handle, key.public, request, "vector").value != (expected or b"Test"), test
                except Fault as fault:
                    assert fault.kind is FaultKind.INVALID  # noqa: PT017
            seen[test["result"]] += 1
    assert min(seen.values()) >= 20


def verified(jwk: Jwk, algorithm: str, test: dict[str, Any]) -> bool | None:
    digest = second_opinion.digest(algorithm, bytes.fromhex(test["msg"]))
    request = KeyRequest(use="verify", algorithm=algorithm, value=digest, signature=bytes.fromhex(test["sig"]))
    return algorithms.use_public(algorithms.public_key(jwk), jwk.kty, request).valid


def rsa_jwk(group: dict[str, Any]) -> Jwk:
    return Jwk(kty="RSA", n=bytes.fromhex(group["n"]).lstrip(b"\0"), e=bytes.fromhex(group["e"]))


@pytest.mark.parametrize("name", sorted(RSA_SIGNATURES))
def test_rsa_signatures(name: str) -> None:
    seen: Counter[str] = Counter()
    for group in groups("_rsa", name):
        jwk = rsa_jwk(group)
        for test in group["tests"]:
            # "acceptable" are digest infos without their NULL, which RFC 8017 leaves to whoever verifies, and keys with the exponent 3.
            if test["result"] != "acceptable":
                assert verified(jwk, RSA_SIGNATURES[name], test) is (test["result"] == "valid"), test
            else:
                assert set(test["flags"]) <= {"MissingNull", "SmallPublicKey"}
            seen[test["result"]] += 1
    assert seen["valid"] >= 5
    assert seen["invalid"] >= 30


@pytest.mark.parametrize("name", sorted(OTHER_SALTS))
def test_pss_has_salts_as_long_as_the_digest(name: str) -> None:
    tests = [(rsa_jwk(group), test) for group in groups("_rsa", name) for test in group["tests"]]
    assert sum(test["result"] == "valid" for _, test in tests) >= 5
    # One that its own file calls invalid, because its salt is as long as the digest, is what we call valid.
    good = [test for jwk, test in tests if verified(jwk, OTHER_SALTS[name], test)]
    assert all((test["result"], test["comment"]) == ("invalid", "s_len changed to 32") for test in good)


@pytest.mark.parametrize("name", sorted(ECDSA))
def test_ecdsa(name: str) -> None:
    algorithm, curve = ECDSA[name]
    size = {"P-256": 32, "P-384": 48, "P-521": 66, "P-256K": 32}[curve]
    seen: Counter[str] = Counter()
    for group in groups("_ecdsa", name):
        x, y = (int(group["key"][member], 16).to_bytes(size) for member in ("wx", "wy"))
        jwk = Jwk(kty="EC", crv=curve, x=x, y=y)
        for test in group["tests"]:
            if test["result"] != "acceptable":
                assert verified(jwk, algorithm, test) is (test["result"] == "valid"), test
            seen[test["result"]] += 1
    assert seen["valid"] >= 100
    assert seen["invalid"] >= 50


@dataclass
class AesTest:
    """One message of the package's protobuf: its field numbers are read here, so that nothing of it has to be run."""

    id: int = 0
    type: str = ""
    key: bytes = b""
    pt: bytes = b""
    ct: bytes = b""
    iv: bytes = b""
    aad: bytes = b""
    tag: bytes = b""
    flags: list[str] = field(default_factory=list)


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message. Of wire types only what these have: varints and bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
            yield tag >> 3, value
        else:
            assert tag & 7 == 2, "no other wire type"
            length, at = varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length


@cache
def aes_tests(name: str) -> list[AesTest]:
    names = {1: "id", 2: "type", 5: "key", 6: "pt", 7: "ct", 8: "iv", 9: "aad", 10: "tag"}
    found = []
    for number, message in fields((program("vectors") / "_aes" / "pb2" / f"aes_wycheproof_{name}.pb2").read_bytes()):
        if number == 6:
            test = AesTest()
            for inner, value in fields(bytes(message)):
                if inner == 2:
                    test.type = bytes(value).decode()
                elif inner == 4:
                    test.flags.append(bytes(value).decode())
                elif inner in names:
                    setattr(test, names[inner], value)
            found.append(test)
    assert len(found) > 50
    return found


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_aes_gcm(provider: SoftwareProvider, bits: int) -> None:
    seen: Counter[str] = Counter()
    for test in aes_tests(f"GCM_{bits}"):
        key = provider.take(KeySpec(type="oct", size=bits), {"k": test.key}, "vector")
        request = KeyRequest(
            use="decrypt", algorithm=f"A{bits}GCM", value=test.ct, iv=test.iv, aad=test.aad or None, tag=test.tag
        )
        if test.type == "valid" and len(test.iv) == 12 and len(test.tag) == 16:
            assert provider.use(key.handle, key.public, request, "vector").value == test.pt, test.id
            seen["valid"] += 1
        else:
            with pytest.raises(Fault) as caught:
                provider.use(key.handle, key.public, request, "vector")
            assert caught.value.kind is FaultKind.INVALID
            seen["refused"] += 1
    assert min(seen.values()) >= 15


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_aes_cbc_pkcs7(provider: SoftwareProvider, bits: int) -> None:
    seen: Counter[str] = Counter()
    for test in aes_tests(f"CBC-PKCS7_{bits}"):
        key = provider.take(KeySpec(type="oct", size=bits), {"k": test.key}, "vector")
        request = KeyRequest(use="decrypt", algorithm=f"A{bits}CBCPAD", value=test.ct, iv=test.iv)
        if test.type == "valid":
            assert provider.use(key.handle, key.public, request, "vector").value == test.pt, test.id
            back = KeyRequest(use="encrypt", algorithm=f"A{bits}CBCPAD", value=test.pt, iv=test.iv)
            assert provider.use(key.handle, key.public, back, "vector").value == test.ct, test.id
        else:
            with pytest.raises(Fault) as caught:
                provider.use(key.handle, key.public, request, "vector")
            assert caught.value.kind is FaultKind.INVALID
        seen[test.type] += 1
    assert min(seen.values()) >= 20


KEY = bytes(range(32)).hex()
KEY_WRAP = [
    pytest.param(128, 16, "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5", id="4.1"),
    pytest.param(192, 16, "96778b25ae6ca435f92b5b97c050aed2468ab8a17ad84e5d", id="4.2"),
    pytest.param(256, 16, "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7", id="4.3"),
    pytest.param(192, 24, "031d33264e15d33268f24ec260743edce1c6c7ddee725a936ba814915c6762d2", id="4.4"),
    pytest.param(256, 24, "a8f9bc1612c68b3ff6e6f4fbe30e71e4769c8b80a32cb8958cd5d17d6b254da1", id="4.5"),
    pytest.param(256, 32, "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21", id="4.6"),
]  # fmt: skip


@pytest.mark.parametrize(("bits", "length", "wrapped"), KEY_WRAP)
def test_aes_key_wrap_of_rfc_3394(provider: SoftwareProvider, bits: int, length: int, wrapped: str) -> None:
    data = bytes.fromhex("00112233445566778899aabbccddeeff" + KEY[: 2 * (length - 16)])
    key = provider.take(KeySpec(type="oct", size=bits), {"k": bytes.fromhex(KEY)[: bits // 8]}, "vector")
    request = KeyRequest(use="wrap", algorithm=f"A{bits}KW", value=data)
    assert provider.use(key.handle, key.public, request, "vector").value.hex() == wrapped
    back = KeyRequest(use="unwrap", algorithm=f"A{bits}KW", value=bytes.fromhex(wrapped))
    assert provider.use(key.handle, key.public, back, "vector").value == data
