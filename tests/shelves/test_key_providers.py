"""What every provider of keys has to do: each inherits these tests, and says of what it does not do that it does not.

A second opinion on every result comes from `cryptography`'s public side, by the RFCs' words and not by our table (`factories/second_opinion.py`).
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.material import Jwk, KeyRequest, KeySpec
from stockade.keys.providers.installed import install, types
from stockade.keys.providers.provider import KeyProvider, ProviderKey
from stockade.keys.providers.software import SoftwareProvider
from stockade.settings import Provider
from tests.factories import kms, second_opinion, softhsm
from tests.factories.softhsm import softhsm_place
from tests.factories.transit import TOKEN, transit
from tests.live import Live

BOUND = "/subscriptions/s/resourcegroups/g/providers/microsoft.keyvault/vaults/v/keys/k/versions/1"
MESSAGE = b"what is signed"
VALUE = bytes(range(32))

RSA = KeySpec(type="RSA", size=2048)
P256 = KeySpec(type="EC", curve="P-256")
P384 = KeySpec(type="EC", curve="P-384")
P521 = KeySpec(type="EC", curve="P-521")
P256K = KeySpec(type="EC", curve="P-256K")
AES128 = KeySpec(type="oct", size=128)
AES192 = KeySpec(type="oct", size=192)
AES256 = KeySpec(type="oct", size=256)
SPECS = {
    "RSA": RSA,
    "P-256": P256,
    "P-384": P384,
    "P-521": P521,
    "P-256K": P256K,
    "128": AES128,
    "192": AES192,
    "256": AES256,
}
SIGNS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    "ES256": "P-256",
    "ES384": "P-384",
    "ES512": "P-521",
    "ES256K": "P-256K",
}
ENCRYPTS = ("RSA1_5", "RSA-OAEP", "RSA-OAEP-256")
AES = tuple(f"A{size}{mode}" for size in (128, 192, 256) for mode in ("GCM", "CBC", "CBCPAD", "KW"))


WRONG = [
    pytest.param("RSA", "sign", "ES256", id="RSA signs ES256"),
    pytest.param("RSA", "sign", "RSA-OAEP", id="RSA signs with encryption"),
    pytest.param("RSA", "encrypt", "RS256", id="RSA encrypts with a signature"),
    pytest.param("RSA", "decrypt", "A256GCM", id="RSA decrypts AES"),
    pytest.param("RSA", "sign", "RS1", id="RSA signs with SHA-1"),
    pytest.param("RSA", "sign", "", id="RSA signs with nothing"),
    pytest.param("RSA", "encrypt", "rsa-oaep", id="another case"),
    pytest.param("P-256", "sign", "ES384", id="P-256 signs ES384"),
    pytest.param("P-256", "sign", "ES256K", id="P-256 signs ES256K"),
    pytest.param("P-256", "sign", "RS256", id="P-256 signs RS256"),
    pytest.param("P-256", "wrap", "RSA-OAEP", id="P-256 wraps"),
    pytest.param("256", "encrypt", "A128GCM", id="256 bits used as 128"),
    pytest.param("256", "encrypt", "A256KW", id="encrypts with key wrap"),
    pytest.param("256", "sign", "A256GCM", id="AES signs"),
    pytest.param("256", "wrap", "RSA-OAEP", id="AES wraps with RSA"),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try each provider with the keys that it has; that it has no others is what test_says_what_it_makes asserts."""
    provider = metafunc.cls
    if provider is None or not issubclass(provider, Conformance):
        return
    for names, values in {
        ("held",): sorted(provider.specs),
        ("one_of_each",): [name for name in ("RSA", "P-256", "256") if name in provider.specs],
        ("signs",): [name for name, spec in SIGNS.items() if spec in provider.specs],
        ("aes",): [name for name in AES if name[1:4] in provider.specs],
        ("oaep",): [name for name in ("RSA-OAEP", "RSA-OAEP-256") if name in provider.algorithms],
        ("spec", "use", "wrong"): [param for param in WRONG if param.values[0] in provider.specs],
    }.items():
        if set(names) <= set(metafunc.fixturenames):
            metafunc.parametrize(",".join(names), values)


def refused(kind: FaultKind, call, *arguments, **more) -> Fault:
    with pytest.raises(Fault) as caught:
        call(*arguments, **more)
    assert caught.value.kind is kind, caught.value
    return caught.value


def rsa_members(key: rsa.RSAPrivateKey) -> dict[str, bytes]:
    numbers = key.private_numbers()
    members = {
        "n": numbers.public_numbers.n, "e": numbers.public_numbers.e, "d": numbers.d, "p": numbers.p, "q": numbers.q,
        "dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp,
    }  # fmt: skip
    return {name: number.to_bytes((number.bit_length() + 7) // 8) for name, number in members.items()}


def ec_members(key: ec.EllipticCurvePrivateKey) -> dict[str, bytes]:
    numbers = key.private_numbers()
    size = (key.key_size + 7) // 8
    public = numbers.public_numbers
    return {"d": numbers.private_value.to_bytes(size), "x": public.x.to_bytes(size), "y": public.y.to_bytes(size)}


class Conformance:
    """Inherited by one class for each provider, which says what of all this the provider does."""

    specs: ClassVar[set[str]] = set(SPECS)
    algorithms: ClassVar[set[str]] = {*SIGNS, *ENCRYPTS, *AES, "RSNULL"}
    takes: ClassVar[bool] = True
    exports: ClassVar[bool] = True
    hardware: ClassVar[bool] = True
    """Makes keys of the types that end in -HSM."""
    handle_is_the_key: ClassVar[bool] = False
    """Destroying it is then deleting the handle, which is not the provider's to do."""

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> Iterator[KeyProvider]:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls, provider: KeyProvider) -> dict[str, ProviderKey]:
        """One key of each kind: making them is what takes long."""
        return {name: provider.create(SPECS[name], BOUND) for name in sorted(cls.specs)}

    def use(self, provider: KeyProvider, key: ProviderKey, use: str, algorithm: str, value: bytes, **more):
        request = KeyRequest(use=use, algorithm=algorithm, value=value, **more)
        return provider.use(key.handle, key.public, request, BOUND)

    def unless_unsupported(self, algorithm: str, call, *arguments, **more):
        if algorithm in self.algorithms:
            return call(*arguments, **more)
        refused(FaultKind.UNSUPPORTED, call, *arguments, **more)
        return None

    def test_is_a_provider_of_its_type(self, provider: KeyProvider) -> None:
        assert isinstance(provider, KeyProvider)
        assert types()[provider.type].type == provider.type
        provider.check()

    @pytest.mark.parametrize("name", sorted(SPECS))
    def test_says_what_it_makes(self, provider: KeyProvider, made: dict[str, ProviderKey], name: str) -> None:
        assert provider.supports(SPECS[name]) is (name in self.specs)
        if name in self.specs:
            assert made[name].public.kty == SPECS[name].type
        else:
            refused(FaultKind.UNSUPPORTED, provider.create, SPECS[name], BOUND)

    @pytest.mark.parametrize(
        "spec",
        [
            pytest.param(KeySpec(type="RSA", size=1024), id="RSA-1024"),
            pytest.param(KeySpec(type="RSA"), id="RSA without a size"),
            pytest.param(KeySpec(type="RSA", size=2048, curve="P-256"), id="RSA with a curve"),
            pytest.param(KeySpec(type="EC"), id="EC without a curve"),
            pytest.param(KeySpec(type="EC", size=256, curve="P-256"), id="EC with a size"),
            pytest.param(KeySpec(type="oct", size=64), id="oct-64"),
        ],
    )
    def test_makes_no_other_kind(self, provider: KeyProvider, spec: KeySpec) -> None:
        assert not provider.supports(spec)
        refused(FaultKind.UNSUPPORTED, provider.create, spec, BOUND)

    @pytest.mark.parametrize("kind", ["RSA-HSM", "EC-HSM"])
    def test_the_type_is_said_as_asked_for(self, provider: KeyProvider, kind: str) -> None:
        spec = KeySpec(type="RSA-HSM", size=2048) if kind == "RSA-HSM" else KeySpec(type="EC-HSM", curve="P-256")
        if not self.hardware:
            refused(FaultKind.UNSUPPORTED, provider.create, spec, BOUND)
            return
        key = provider.create(spec, BOUND)
        assert key.public.kty == kind
        provider.destroy(key.handle, BOUND)

    def test_signs_what_others_verify(self, provider: KeyProvider, made: dict[str, ProviderKey], signs: str) -> None:
        algorithm, key = signs, made[SIGNS[signs]]
        digest = second_opinion.digest(algorithm, MESSAGE)
        answer = self.unless_unsupported(algorithm, self.use, provider, key, "sign", algorithm, digest)
        if answer is None:
            return
        assert second_opinion.verifies(key.public, algorithm, MESSAGE, answer.value)
        verify = {"use": "verify", "algorithm": algorithm}
        assert self.use(provider, key, **verify, value=digest, signature=answer.value).valid is True
        other = second_opinion.digest(algorithm, b"something else")
        assert self.use(provider, key, **verify, value=other, signature=answer.value).valid is False
        bent = bytes([*answer.value[:-1], answer.value[-1] ^ 1])
        for signature in (bent, answer.value[:-1], b"", bytes(len(answer.value)), answer.value + b"\0"):
            assert self.use(provider, key, **verify, value=digest, signature=signature).valid is False
        for length in (0, len(digest) - 1, len(digest) + 1):
            for use in ("sign", "verify"):
                more = {"signature": answer.value} if use == "verify" else {}
                fault = refused(FaultKind.INVALID, self.use, provider, key, use, algorithm, bytes(length), **more)
                assert fault.target == "value"

    def test_signs_a_digest_info_as_it_is(self, provider: KeyProvider, made: dict[str, ProviderKey]) -> None:
        """RSNULL: what TLS 1.0 signs, say, and RS256 too when the digest's name stands before it (RFC 8017, 9.2)."""
        info = bytes.fromhex("3031300d060960864801650304020105000420") + second_opinion.digest("RS256", MESSAGE)
        key = made["RSA"]
        answer = self.unless_unsupported("RSNULL", self.use, provider, key, "sign", "RSNULL", info)
        if answer is None:
            return
        assert second_opinion.verifies(key.public, "RS256", MESSAGE, answer.value)
        assert self.use(provider, key, "verify", "RSNULL", info, signature=answer.value).valid is True
        assert self.use(provider, key, "verify", "RSNULL", info[1:], signature=answer.value).valid is False
        for wrong in (b"", bytes(246)):
            refused(FaultKind.INVALID, self.use, provider, key, "sign", "RSNULL", wrong)

    @pytest.mark.parametrize("algorithm", ENCRYPTS)
    @pytest.mark.parametrize(("out", "back"), [("encrypt", "decrypt"), ("wrap", "unwrap")])
    def test_rsa_opens_what_others_encrypt(
        self, provider: KeyProvider, made: dict[str, ProviderKey], algorithm: str, out: str, back: str
    ) -> None:
        key = made["RSA"]
        theirs = second_opinion.encrypt(key.public, algorithm, VALUE)
        answer = self.unless_unsupported(algorithm, self.use, provider, key, back, algorithm, theirs)
        if answer is None:
            # What could not be opened again is not made either.
            refused(FaultKind.UNSUPPORTED, self.use, provider, key, out, algorithm, VALUE)
            return
        assert answer.value == VALUE
        ours = self.use(provider, key, out, algorithm, VALUE).value
        assert len(ours) == 256
        assert ours != self.use(provider, key, out, algorithm, VALUE).value
        assert self.use(provider, key, back, algorithm, ours).value == VALUE
        refused(FaultKind.INVALID, self.use, provider, key, out, algorithm, bytes(250))

    def test_every_failed_decryption_is_the_same(
        self, provider: KeyProvider, made: dict[str, ProviderKey], oaep: str
    ) -> None:
        algorithm, key = oaep, made["RSA"]
        right = second_opinion.encrypt(key.public, algorithm, VALUE)
        other = second_opinion.encrypt(key.public, "RSA-OAEP" if algorithm[-1] == "6" else "RSA-OAEP-256", VALUE)
        wrong = [right[:-1], right + b"\0", b"", bytes(256), bytes([*right[:-1], right[-1] ^ 1]), b"\xff" * 256, other]
        faults = [
            refused(FaultKind.INVALID, self.use, provider, key, use, algorithm, value)
            for value in wrong
            for use in ("decrypt", "unwrap")
        ]
        assert len({(fault.message, fault.target, fault.code) for fault in faults}) == 1
        assert all(fault.__cause__ is None for fault in faults), "what exactly failed is not kept either"

    def test_old_padding_is_no_oracle(self, provider: KeyProvider, made: dict[str, ProviderKey]) -> None:
        """A bad RSA1_5 value is refused, or opened to something random (implicit rejection): never to be told from a good one by its padding."""
        if "RSA1_5" not in self.algorithms:
            refused(FaultKind.UNSUPPORTED, self.use, provider, made["RSA"], "unwrap", "RSA1_5", bytes(256))
            return
        key = made["RSA"]
        good = second_opinion.encrypt(key.public, "RSA1_5", VALUE)
        bad = bytes([*good[:-1], good[-1] ^ 1])
        fault = None
        try:
            opened = self.use(provider, key, "unwrap", "RSA1_5", bad).value
        except Fault as caught:
            opened, fault = b"", caught
        assert opened != VALUE
        same = refused(FaultKind.INVALID, self.use, provider, key, "unwrap", "RSA1_5", b"short")
        assert fault is None or (fault.kind, fault.message) == (same.kind, same.message)

    def test_aes_there_and_back(self, provider: KeyProvider, made: dict[str, ProviderKey], aes: str) -> None:
        algorithm, key = aes, made[aes[1:4]]
        out, back = ("wrap", "unwrap") if algorithm.endswith("KW") else ("encrypt", "decrypt")
        more = {"iv": bytes(16)} if "CBC" in algorithm else {"aad": b"aad"} if "GCM" in algorithm else {}
        answer = self.unless_unsupported(algorithm, self.use, provider, key, out, algorithm, VALUE, **more)
        if answer is None:
            return
        returned = {name: value for name in ("iv", "tag") if (value := getattr(answer, name)) is not None}
        assert set(returned) == {"iv", "tag"} if "GCM" in algorithm else set(returned) <= {"iv"}
        again = {**more, **returned}
        assert answer.value != VALUE
        assert self.use(provider, key, back, algorithm, answer.value, **again).value == VALUE
        if algorithm[4:] in {"GCM", "KW"}:
            bent = bytes([*answer.value[:-1], answer.value[-1] ^ 1])
            wrong = [refused(FaultKind.INVALID, self.use, provider, key, back, algorithm, bent, **again)]
            if algorithm.endswith("GCM"):
                for field in ("iv", "tag", "aad"):
                    changed = {**again, field: bytes([again[field][0] ^ 1, *again[field][1:]])}
                    wrong.append(
                        refused(FaultKind.INVALID, self.use, provider, key, back, algorithm, answer.value, **changed)
                    )
            assert len({fault.message for fault in wrong}) == 1
        else:
            refused(FaultKind.INVALID, self.use, provider, key, back, algorithm, answer.value[:-1], **again)
        if algorithm.endswith("CBC"):
            refused(FaultKind.INVALID, self.use, provider, key, out, algorithm, VALUE[:-1], **more)
        if "CBC" in algorithm:
            refused(FaultKind.INVALID, self.use, provider, key, out, algorithm, VALUE)

    def test_gcm_chooses_its_own_nonce(self, provider: KeyProvider, made: dict[str, ProviderKey]) -> None:
        if "256" not in self.specs:
            refused(FaultKind.UNSUPPORTED, provider.create, AES256, BOUND)
            return
        key = made["256"]
        nonces = {self.use(provider, key, "encrypt", "A256GCM", VALUE).iv for _ in range(8)}
        assert len(nonces) == 8
        refused(FaultKind.INVALID, self.use, provider, key, "encrypt", "A256GCM", VALUE, iv=bytes(12))

    def test_an_algorithm_of_another_kind_is_refused(
        self, provider: KeyProvider, made: dict[str, ProviderKey], spec: str, use: str, wrong: str
    ) -> None:
        refused(FaultKind.INVALID, self.use, provider, made[spec], use, wrong, VALUE)

    def test_a_handle_belongs_to_one_thing(
        self, provider: KeyProvider, made: dict[str, ProviderKey], held: str
    ) -> None:
        name = held
        key, request = made[name], self.first_use(name)
        provider.use(key.handle, key.public, request, BOUND)
        for bound_to in (BOUND + "0", BOUND[:-1], "", BOUND.upper()):
            refused(FaultKind.UNAVAILABLE, provider.use, key.handle, key.public, request, bound_to)
            refused(FaultKind.UNAVAILABLE, provider.destroy, key.handle, bound_to)
        for handle in (
            b"",
            b"\x01",
            key.handle[:-1],
            key.handle + b"\0",
            bytes([*key.handle[:-1], key.handle[-1] ^ 1]),
            bytes([key.handle[0] ^ 1, *key.handle[1:]]),
            bytes([*key.handle[:14], key.handle[14] ^ 0x80, *key.handle[15:]]),
        ):
            refused(FaultKind.UNAVAILABLE, provider.use, handle, key.public, request, BOUND)
            refused(FaultKind.UNAVAILABLE, provider.destroy, handle, BOUND)
        provider.use(key.handle, key.public, request, BOUND)

    def first_use(self, name: str) -> KeyRequest:
        """Return something that the provider does with a key of that kind."""
        if name == "RSA" and "RS256" in self.algorithms:
            return KeyRequest(use="sign", algorithm="RS256", value=second_opinion.digest("RS256", MESSAGE))
        if name == "RSA":
            return KeyRequest(use="encrypt", algorithm="RSA-OAEP-256", value=VALUE)
        if name.startswith("P-"):
            algorithm = second_opinion.EC_ALGORITHM[name]
            return KeyRequest(use="sign", algorithm=algorithm, value=second_opinion.digest(algorithm, MESSAGE))
        return KeyRequest(use="encrypt", algorithm=f"A{name}GCM", value=VALUE)

    def test_another_public_key_in_the_document_changes_nothing(
        self, provider: KeyProvider, made: dict[str, ProviderKey]
    ) -> None:
        """Who can write to the database must not get data wrapped for a key of theirs."""
        theirs = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
        public = Jwk(kty="RSA", n=theirs.n.to_bytes(256), e=b"\1\0\1")
        algorithm = next(name for name in ("RSA-OAEP", "RSA-OAEP-256", "RSA1_5") if name in self.algorithms)
        request = KeyRequest(use="wrap", algorithm=algorithm, value=VALUE)
        answer = provider.use(made["RSA"].handle, public, request, BOUND)
        assert self.use(provider, made["RSA"], "unwrap", algorithm, answer.value).value == VALUE

    def test_takes_an_rsa_key(self, provider: KeyProvider) -> None:
        theirs = rsa.generate_private_key(65537, 2048)
        members = rsa_members(theirs)
        if not self.takes:
            refused(FaultKind.UNSUPPORTED, provider.take, RSA, members, BOUND)
            return
        for given in (members, {name: members[name] for name in ("n", "e", "d")}):
            key = provider.take(RSA, given, BOUND)
            assert second_opinion.key_of(key.public) == theirs.public_key()
            signature = self.use(provider, key, "sign", "RS256", second_opinion.digest("RS256", MESSAGE)).value
            assert second_opinion.verifies(key.public, "RS256", MESSAGE, signature)
            provider.destroy(key.handle, BOUND)

    @pytest.mark.parametrize("curve", sorted(second_opinion.CURVES))
    def test_takes_an_ec_key(self, provider: KeyProvider, curve: str) -> None:
        theirs = ec.generate_private_key(second_opinion.CURVES[curve])
        spec = SPECS[curve]
        if not self.takes or curve not in self.specs:
            refused(FaultKind.UNSUPPORTED, provider.take, spec, ec_members(theirs), BOUND)
            return
        key = provider.take(spec, ec_members(theirs), BOUND)
        assert second_opinion.key_of(key.public) == theirs.public_key()
        algorithm = second_opinion.EC_ALGORITHM[curve]
        signature = self.use(provider, key, "sign", algorithm, second_opinion.digest(algorithm, MESSAGE)).value
        assert second_opinion.verifies(key.public, algorithm, MESSAGE, signature)
        provider.destroy(key.handle, BOUND)

    def test_takes_an_aes_key(self, provider: KeyProvider) -> None:
        theirs = os.urandom(32)
        if not self.takes or "256" not in self.specs:
            refused(FaultKind.UNSUPPORTED, provider.take, AES256, {"k": theirs}, BOUND)
            return
        key = provider.take(AES256, {"k": theirs}, BOUND)
        if "A256GCM" in self.algorithms:
            answer = self.use(provider, key, "encrypt", "A256GCM", VALUE, aad=b"aad")
            assert AESGCM(theirs).decrypt(answer.iv, answer.value + answer.tag, b"aad") == VALUE
        if "A256KW" in self.algorithms:
            assert aes_key_unwrap(theirs, self.use(provider, key, "wrap", "A256KW", VALUE).value) == VALUE
        provider.destroy(key.handle, BOUND)

    def test_takes_nothing_that_is_no_key(self, provider: KeyProvider) -> None:
        if not self.takes:
            refused(FaultKind.UNSUPPORTED, provider.take, RSA, {}, BOUND)
            return
        members, other = (rsa_members(rsa.generate_private_key(65537, 2048)) for _ in range(2))
        point = ec_members(ec.generate_private_key(ec.SECP256R1()))
        another = ec_members(ec.generate_private_key(ec.SECP256R1()))
        wrong = [
            (RSA, {}),
            (RSA, {**members, "d": other["d"]}),
            (RSA, {**members, "p": other["p"]}),
            (RSA, {**members, "qi": other["qi"]}),
            (RSA, {**members, "e": b"\2"}),
            (RSA, {**members, "n": b"\1" + bytes(1_000)}),
            (RSA, {name: value for name, value in members.items() if name != "q"}),
            (RSA, {"n": members["n"], "e": b"\3", "d": members["d"]}),
            (KeySpec(type="RSA", size=3072), members),
            (P256, {}),
            (P256, {"d": b""}),
            (P256, {"d": b"\xff" * 32}),
            (P256, {**point, "x": another["x"]}),
            (P256, {**point, "x": another["x"], "y": another["y"]}),
            (AES256, {}),
            (AES256, {"k": bytes(16)}),
        ]
        for spec, private in wrong:
            if provider.supports(spec):
                fault = refused(FaultKind.INVALID, provider.take, spec, private, BOUND)
                assert not any(
                    str(int.from_bytes(value)) in fault.message for value in private.values() if len(value) > 8
                )

    def test_leaves_and_comes_back(self, provider: KeyProvider, made: dict[str, ProviderKey], held: str) -> None:
        name = held
        key = made[name]
        if not self.exports:
            refused(FaultKind.UNSUPPORTED, provider.export, key.handle, BOUND)
            refused(FaultKind.UNSUPPORTED, provider.restore, b"anything", BOUND)
            return
        exported = provider.export(key.handle, BOUND)
        back = provider.restore(exported, "elsewhere")
        assert back.public == key.public
        assert back.handle != key.handle
        request = self.first_use(name)
        first = provider.use(back.handle, back.public, request, "elsewhere")
        if request.use == "sign":
            verify = KeyRequest(use="verify", algorithm=request.algorithm, value=request.value, signature=first.value)
        else:
            verify = KeyRequest(
                use="decrypt", algorithm=request.algorithm, value=first.value, iv=first.iv, tag=first.tag
            )
        answer = provider.use(key.handle, key.public, verify, BOUND)
        assert answer.valid is True or answer.value == VALUE
        refused(FaultKind.UNAVAILABLE, provider.use, back.handle, back.public, request, BOUND)
        refused(FaultKind.UNAVAILABLE, provider.export, key.handle, "elsewhere")

    def test_destroyed_is_gone(self, provider: KeyProvider, one_of_each: str) -> None:
        name = one_of_each
        key, request = provider.create(SPECS[name], BOUND), self.first_use(name)
        provider.use(key.handle, key.public, request, BOUND)
        provider.destroy(key.handle, BOUND)
        provider.destroy(key.handle, BOUND)
        if not self.handle_is_the_key:
            refused(FaultKind.UNAVAILABLE, provider.use, key.handle, key.public, request, BOUND)

    def test_random(self, provider: KeyProvider) -> None:
        for count in (1, 31, 128):
            assert len(provider.random(count)) == count
        assert provider.random(32) != provider.random(32)
        for count in (0, -1, 5000):
            refused(FaultKind.INVALID, provider.random, count)

    def test_from_several_threads(self, provider: KeyProvider, made: dict[str, ProviderKey]) -> None:
        names = [name for name in ("RSA", "P-256", "256") if name in self.specs] * 8
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(
                    lambda name: provider.use(made[name].handle, made[name].public, self.first_use(name), BOUND), names
                )
            )
        for name, answer in zip(names, answers, strict=True):
            if name == "256":
                more = {"iv": answer.iv, "tag": answer.tag}
                assert self.use(provider, made[name], "decrypt", "A256GCM", answer.value, **more).value == VALUE
            elif name == "RSA" and "RS256" not in self.algorithms:
                assert self.use(provider, made[name], "decrypt", "RSA-OAEP-256", answer.value).value == VALUE
            else:
                algorithm = "RS256" if name == "RSA" else "ES256"
                assert second_opinion.verifies(made[name].public, algorithm, MESSAGE, answer.value)

    def test_nothing_shows_a_key(
        self, provider: KeyProvider, made: dict[str, ProviderKey], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        secrets: list[bytes] = []
        if self.takes:
            theirs = rsa_members(rsa.generate_private_key(65537, 2048))
            key = provider.take(RSA, theirs, BOUND)
            secrets = [theirs[name] for name in ("d", "p", "q", "dp", "dq", "qi")]
        else:
            key = provider.create(RSA, BOUND)
        provider.use(key.handle, key.public, self.first_use("RSA"), BOUND)
        algorithm, opened = min(self.algorithms & {"RSA-OAEP", "RSA-OAEP-256"}), os.urandom(33)
        sealed = second_opinion.encrypt(key.public, algorithm, opened)
        assert self.use(provider, key, "unwrap", algorithm, sealed).value == opened
        secrets.append(opened)
        shown = f"{provider!r} {provider} {vars(provider)} {key.handle!r}{caplog.text}"
        if self.exports:
            secrets.append(provider.export(key.handle, BOUND)[1:])
        for secret in secrets:
            assert secret not in key.handle
            assert secret.hex() not in shown
            assert repr(secret)[2:-1] not in shown
            assert base64.b64encode(secret).decode() not in shown
            assert base64.urlsafe_b64encode(secret).rstrip(b"=").decode() not in shown
            assert f"{int.from_bytes(secret):x}" not in shown
        assert "PRIVATE KEY" not in shown
        for text in self.credentials():
            assert text not in shown
        provider.destroy(key.handle, BOUND)

    def credentials(self) -> tuple[str, ...]:
        """Return what the provider authenticates with, which nothing may show."""
        return ()


class TestSoftware(Conformance):
    handle_is_the_key = True

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> Iterator[KeyProvider]:
        provider = SoftwareProvider(Secret(os.urandom(32)))
        yield provider
        provider.close()


@pytest.mark.softhsm
class TestPkcs11(Conformance):
    """On SoftHSM 2.6, whose OAEP knows SHA-1 alone; the token's keys never leave it."""

    algorithms = Conformance.algorithms - {"RSA-OAEP-256"}
    exports = False

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> Iterator[KeyProvider]:
        provider = install(softhsm_place(), Secret(os.urandom(32)))
        yield provider
        provider.close()

    def credentials(self) -> tuple[str, ...]:
        return (softhsm.PIN,)


class TestTransit(Conformance):
    """Against a stand-in that is written from the public API; see tests/factories/transit.py."""

    specs = Conformance.specs - {"P-256K", "192"}
    algorithms = {*SIGNS, "RSNULL", "RSA-OAEP-256", "A128GCM", "A256GCM"} - {"ES256K"}
    exports = False

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyProvider]:
        with (
            transit(tmp_path_factory.mktemp("transit"), "kms/transit") as engine,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("TESTS_TRANSIT_TOKEN", TOKEN)
            place = Provider(
                name="bao",
                type="transit",
                url=engine.url,
                place="kms/transit",
                credential_env="TESTS_TRANSIT_TOKEN",
                ca_file=engine.ca_file,
                timeout_s=20.0,
            )
            provider = install(place, Secret(os.urandom(32)))
            yield provider
            provider.close()

    def credentials(self) -> tuple[str, ...]:
        return (TOKEN,)


class TestAwsKms(Conformance):
    """Against moto's server, corrected where it does not do as KMS does; see tests/factories/kms.py. Of import moto has nothing."""

    specs = Conformance.specs - {"128", "192", "256"}
    algorithms = Conformance.algorithms & {"ES256", "ES384", "ES512", "ES256K", "RSA-OAEP", "RSA-OAEP-256"}
    takes = False
    exports = False

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> Iterator[KeyProvider]:
        with kms.kms() as url, pytest.MonkeyPatch.context() as patch:
            patch.setenv("TESTS_KMS_CREDENTIAL", kms.CREDENTIAL)
            place = Provider(
                name="kms",
                type="aws-kms",
                url=url,
                place="eu-central-1",
                credential_env="TESTS_KMS_CREDENTIAL",
                timeout_s=20.0,
            )
            provider = install(place, Secret(os.urandom(32)))
            yield provider
            provider.close()

    def credentials(self) -> tuple[str, ...]:
        return ("kms-secret-8812",)


class TestAzureKeyVault(Conformance):
    """Against our own vault, over TLS and with a credential of its own: the client is Azure's, and so the vault is tried too."""

    specs = Conformance.specs - {"128", "192", "256"}
    algorithms = Conformance.algorithms - {*AES}
    exports = False
    hardware = False
    """The demonstration vault is of the tier standard."""
    secret = ""

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, live: Live) -> Iterator[KeyProvider]:
        client_id, secret = live.admin
        login = {"tenantId": live.tenant, "clientId": client_id, "clientSecret": secret, "authority": live.authority}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TESTS_VAULT_CREDENTIAL", json.dumps(login))
            place = Provider(
                name="elsewhere",
                type="azure-key-vault",
                url=f"https://localhost:{live.ports[1]}/",
                credential_env="TESTS_VAULT_CREDENTIAL",
                ca_file=str(live.ca),
                timeout_s=20.0,
            )
            provider = install(place, Secret(os.urandom(32)))
            cls.secret = secret
            yield provider
            provider.close()

    def credentials(self) -> tuple[str, ...]:
        return (self.secret,)
