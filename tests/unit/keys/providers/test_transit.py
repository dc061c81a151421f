"""What of transit is not every provider's: versions, the encryption that would make a key, names, and a server that fails. On the stand-in."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.material import KeyRequest, KeySpec
from stockade.keys.providers.provider import NamedKeys
from stockade.keys.providers.transit import TransitProvider
from stockade.settings import Provider
from tests.factories.transit import TOKEN, Engine, transit

AES = KeySpec(type="oct", size=256)
P256 = KeySpec(type="EC", curve="P-256")
SEAL = Secret(bytes(32))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with transit(tmp_path_factory.mktemp("transit")) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESTS_TRANSIT_TOKEN", TOKEN)
        yield engine


@pytest.fixture
def engine(shared: Engine) -> Iterator[Engine]:
    yield shared
    shared.delay, shared.fails_with, shared.says = None, 0, None
    shared.asked.clear()


def place(engine: Engine, **more: object) -> Provider:
    known = {"url": engine.url, "ca_file": engine.ca_file, "credential_env": "TESTS_TRANSIT_TOKEN", "timeout_s": 10.0}
    return Provider(name="bao", type="transit", **{**known, **more})


@pytest.fixture
def provider(engine: Engine) -> Iterator[TransitProvider]:
    provider = TransitProvider(place(engine), SEAL)
    yield provider
    provider.close()


def unavailable(call, *arguments) -> Fault:
    with pytest.raises(Fault) as caught:
        call(*arguments)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    return caught.value


def test_keys_cannot_be_exported_and_are_deleted_when_that_is_allowed(
    provider: TransitProvider, engine: Engine
) -> None:
    key = provider.create(P256, "a")
    made = engine.asked[0]
    assert made[:1] == ("POST",)
    assert made[2] == {"type": "ecdsa-p256", "exportable": False, "allow_plaintext_backup": False}
    engine.asked.clear()
    provider.destroy(key.handle, "a")
    assert [(method, path.partition("/")[2].partition("/")[2]) for method, path, _ in engine.asked] == [
        ("GET", ""), ("POST", "config"), ("DELETE", ""),
    ]  # fmt: skip


def test_a_key_that_somebody_rotates_is_still_the_same(provider: TransitProvider, engine: Engine) -> None:
    signs, seals = provider.create(P256, "a"), provider.create(AES, "a")
    for name in list(engine.keys):
        engine.answer("POST", f"keys/{name}/rotate", {})
    digest = bytes(32)
    signature = provider.use(
        signs.handle, signs.public, KeyRequest(use="sign", algorithm="ES256", value=digest), "a"
    ).value
    verify = KeyRequest(use="verify", algorithm="ES256", value=digest, signature=signature)
    assert provider.use(signs.handle, signs.public, verify, "a").valid is True
    sealed = provider.use(seals.handle, seals.public, KeyRequest(use="encrypt", algorithm="A256GCM", value=b"x"), "a")
    opens = KeyRequest(use="decrypt", algorithm="A256GCM", value=sealed.value, iv=sealed.iv, tag=sealed.tag)
    assert provider.use(seals.handle, seals.public, opens, "a").value == b"x"


def test_encrypting_with_a_key_that_is_gone_makes_none(provider: TransitProvider, engine: Engine) -> None:
    key = provider.create(AES, "a")
    engine.keys.clear()
    unavailable(provider.use, key.handle, key.public, KeyRequest(use="encrypt", algorithm="A256GCM", value=b"x"), "a")
    unavailable(provider.wrap_named, "no-such-key", b"x")
    assert not engine.keys


def test_imported_keys_are_wrapped_on_their_way(provider: TransitProvider, engine: Engine) -> None:
    value = os.urandom(32)
    provider.take(AES, {"k": value}, "a")
    assert value.hex() not in str(engine.asked)
    assert [key.versions for key in engine.keys.values() if key.imported][-1] == {1: value}


def test_keys_with_a_name_wrap_and_outlive_their_rotation(provider: TransitProvider, engine: Engine) -> None:
    assert isinstance(provider, NamedKeys)
    engine.answer("POST", "keys/root", {"type": "aes256-gcm96"})
    value = os.urandom(32)
    wrapped, name = provider.wrap_named("root", value)
    engine.answer("POST", "keys/root/rotate", {})
    assert provider.unwrap_named(name, wrapped) == value
    assert provider.wrap_named("root", value)[0].startswith(b"vault:v2:")
    for wrong in (b"", wrapped[:-4], b"vault:v9:" + wrapped[9:], b"\xff\x00"):
        with pytest.raises(Fault) as caught:
            provider.unwrap_named("root", wrong)
        assert caught.value.kind is FaultKind.INVALID
    for name in ("../keys/root", "a/b", "", "ä", "a?b"):
        with pytest.raises(Fault) as caught:
            provider.wrap_named(name, value)
        assert caught.value.kind is FaultKind.INVALID


def test_a_server_that_hangs_is_not_waited_for(engine: Engine) -> None:
    provider = TransitProvider(place(engine, timeout_s=0.3), SEAL)
    engine.delay = threading.Event()
    began = time.monotonic()
    assert unavailable(provider.check).retry_after_s == 1
    assert time.monotonic() - began < 5
    engine.delay.set()
    provider.close()


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503, 307])
def test_a_server_that_refuses(provider: TransitProvider, engine: Engine, status: int) -> None:
    key = provider.create(P256, "a")
    engine.fails_with = status
    request = KeyRequest(use="sign", algorithm="ES256", value=bytes(32))
    assert TOKEN not in repr(unavailable(provider.use, key.handle, key.public, request, "a"))
    unavailable(provider.check)
    unavailable(provider.destroy, key.handle, "a")


@pytest.mark.parametrize(
    "says",
    [
        pytest.param({}, id="nothing"),
        pytest.param(
            {"signature": "vault:v2:AAAA", "ciphertext": "vault:v2:AAAA", "plaintext": "?"}, id="another version"
        ),
        pytest.param(
            {"signature": "vault:v1:!", "ciphertext": ["x"], "plaintext": 1, "keys": {"1": "x"}}, id="other forms"
        ),
        pytest.param(
            {"signature": "vault:v1:AAAA", "ciphertext": "vault:v1:AAAA", "keys": {"1": {"public_key": "not PEM"}}},
            id="not what it says it is",
        ),
    ],
)
def test_an_answer_that_is_none(provider: TransitProvider, engine: Engine, says: dict[str, object]) -> None:
    key, aes = provider.create(P256, "a"), provider.create(AES, "a")
    engine.says = says
    unavailable(provider.use, key.handle, key.public, KeyRequest(use="sign", algorithm="ES256", value=bytes(32)), "a")
    sealed = {"iv": bytes(12), "tag": bytes(16)}
    for request in (
        KeyRequest(use="encrypt", algorithm="A256GCM", value=b"x"),
        KeyRequest(use="decrypt", algorithm="A256GCM", value=b"x", **sealed),
    ):
        unavailable(provider.use, aes.handle, aes.public, request, "a")
    unavailable(provider.create, P256, "a")
    unavailable(provider.take, AES, {"k": bytes(32)}, "a")
    unavailable(provider.random, 8)


def test_another_token_or_certificate(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ("", "/no/such/authority.pem"):
        other = TransitProvider(place(engine, ca_file=file), SEAL)
        unavailable(other.check)
        other.close()
    monkeypatch.setenv("TESTS_TRANSIT_TOKEN", "s.another")
    other = TransitProvider(place(engine), SEAL)
    assert "s.another" not in unavailable(other.check).message
    other.close()
    gone = TransitProvider(msgspec.structs.replace(place(engine), url="https://localhost:1"), SEAL)
    unavailable(gone.check)
    gone.close()
