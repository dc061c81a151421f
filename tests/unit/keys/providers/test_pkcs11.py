"""What of PKCS#11 is not every provider's: how keys are marked, sessions that are lost, keys with a label. On SoftHSM2."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
import pkcs11
import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.material import KeyRequest, KeySpec
from stockade.keys.providers.pkcs11 import Pkcs11Provider
from stockade.keys.providers.provider import NamedKeys
from tests.factories.softhsm import PIN, softhsm_place

pytestmark = pytest.mark.softhsm
SIGN = KeyRequest(use="sign", algorithm="ES256", value=bytes(32))
P256 = KeySpec(type="EC", curve="P-256")


@pytest.fixture(scope="module")
def provider() -> Iterator[Pkcs11Provider]:
    provider = Pkcs11Provider(softhsm_place(), Secret(os.urandom(32)))
    yield provider
    provider.close()


def objects(kind: pkcs11.ObjectClass) -> list[pkcs11.Object]:
    place = softhsm_place()
    token = pkcs11.lib(place.url).get_token(token_label=place.place)
    return list(token.open().get_objects({pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.TOKEN: True}))


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        pytest.param(KeySpec(type="RSA-HSM", size=2048), pkcs11.ObjectClass.PRIVATE_KEY, id="RSA"),
        pytest.param(P256, pkcs11.ObjectClass.PRIVATE_KEY, id="EC"),
        pytest.param(KeySpec(type="oct-HSM", size=256), pkcs11.ObjectClass.SECRET_KEY, id="AES"),
    ],
)
def test_keys_cannot_be_read_off_the_token(provider: Pkcs11Provider, spec: KeySpec, kind: pkcs11.ObjectClass) -> None:
    provider.check()
    before = {found[pkcs11.Attribute.ID] for found in objects(kind)}
    key = provider.create(spec, "a")
    (made,) = [found for found in objects(kind) if found[pkcs11.Attribute.ID] not in before]
    assert made[pkcs11.Attribute.SENSITIVE]
    assert made[pkcs11.Attribute.PRIVATE]
    assert not made[pkcs11.Attribute.EXTRACTABLE]
    assert made[pkcs11.Attribute.NEVER_EXTRACTABLE]
    with pytest.raises(pkcs11.AttributeSensitive):
        made[pkcs11.Attribute.PRIVATE_EXPONENT if spec.type == "RSA-HSM" else pkcs11.Attribute.VALUE]
    provider.destroy(key.handle, "a")
    assert {found[pkcs11.Attribute.ID] for found in objects(kind)} == before
    assert not objects(pkcs11.ObjectClass.PUBLIC_KEY), "the public half is not left behind"


# python-pkcs11 ends the search that a lost session began once more, in a destructor, and says that it could not.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*OperationContext:pytest.PytestUnraisableExceptionWarning")
def test_sessions_that_are_lost_are_opened_again(provider: Pkcs11Provider) -> None:
    key = provider.create(P256, "a")
    library = pkcs11.lib(softhsm_place().url)
    for _ in range(2):
        library.reinitialize()
        assert provider.use(key.handle, key.public, SIGN, "a").value
    # Somebody else in the process logs out, and with it everybody.
    provider._token._login.close()
    provider._token._may_renew_at = 0.0
    assert provider.use(key.handle, key.public, SIGN, "a").value


def test_a_token_that_is_not_there() -> None:
    place = msgspec.structs.replace(softhsm_place(), place="no such token")
    provider = Pkcs11Provider(place, Secret(bytes(32)))
    with pytest.raises(Fault) as caught:
        provider.check()
    assert caught.value.kind is FaultKind.UNAVAILABLE
    provider.close()


def test_a_wrong_pin_is_tried_once(monkeypatch: pytest.MonkeyPatch, provider: Pkcs11Provider) -> None:
    provider.check()
    tried = []
    monkeypatch.setenv("TESTS_SOFTHSM_PIN", "wrong-pin-0000")
    other = Pkcs11Provider(softhsm_place(), Secret(bytes(32)))
    log_in = other._token._log_in
    monkeypatch.setattr(other._token, "_log_in", lambda token: tried.append(1) or log_in(token))
    provider._token._login.close()
    with pytest.raises(Fault) as caught:
        other.check()
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert "PIN" in caught.value.message
    assert PIN not in caught.value.message
    assert len(tried) == 1
    other.close()
    provider._token._leave()
    provider.check()


def test_a_module_that_is_not_there() -> None:
    provider = Pkcs11Provider(msgspec.structs.replace(softhsm_place(), url="/nowhere/lib.so"), Secret(bytes(32)))
    with pytest.raises(Fault) as caught:
        provider.check()
    assert caught.value.kind is FaultKind.UNAVAILABLE
    provider.close()


@pytest.mark.parametrize("kind", ["AES", "RSA"])
def test_keys_with_a_label_wrap(provider: Pkcs11Provider, kind: str) -> None:
    assert isinstance(provider, NamedKeys)
    label = f"root-{kind}"

    def make(session: pkcs11.Session) -> None:
        if kind == "AES":
            session.generate_key(pkcs11.KeyType.AES, 256, label=label, store=True)
        else:
            session.generate_keypair(pkcs11.KeyType.RSA, 2048, label=label, store=True)

    provider._token.run(make)
    root = os.urandom(32)
    wrapped, name = provider.wrap_named(label, root)
    assert name == label
    assert root not in wrapped
    assert provider.unwrap_named(label, wrapped) == root
    for wrong in (wrapped[:-1], b"", bytes([*wrapped[:-1], wrapped[-1] ^ 1])):
        with pytest.raises(Fault) as caught:
            provider.unwrap_named(label, wrong)
        assert caught.value.kind is FaultKind.INVALID
    with pytest.raises(Fault) as caught:
        provider.wrap_named("no such label", root)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    provider._token.run(
        lambda session: [found.destroy() for found in session.get_objects({pkcs11.Attribute.LABEL: label})]
    )
