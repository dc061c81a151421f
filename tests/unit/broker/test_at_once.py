"""What the broker answers on its event loop: the same as in a thread, by the same rules, and nothing that has to be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stockade.broker.at_once import NotAtOnce
from stockade.broker.server import BrokerServer
from stockade.broker.service import MAX_AT_ONCE
from stockade.broker.vault_keys import SHORT_VALUE, _short
from stockade.kernel.evidence import CallerKey, CallerToken
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import broker_wire as wire
from stockade.keys.broker import ObjectKeys, ObjectRef
from stockade.keys.material import Jwk, KeyRequest, KeySpec
from stockade.keys.stored import StoredKey
from tests.factories.broker import VAULT, Brokered, ref

SIGN = KeyRequest(use="sign", algorithm="ES256", value=b"d" * 32)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Brokered]:
    found = Brokered(tmp_path)
    yield found
    found.close()


def left_to_a_thread(call: Callable[[], object]) -> None:
    """Hold a call to: not refused here, because a refusal waits for its record."""
    with pytest.raises(NotAtOnce):
        call()


def refused(call: Callable[[], object], kind: FaultKind) -> None:
    with pytest.raises(Fault) as caught:
        call()
    assert caught.value.kind is kind


def test_keys_are_used_at_once_by_the_rules_that_hold_in_a_thread(world: Brokered) -> None:
    spec = KeySpec(type="EC", curve="P-256")
    version = world.key(spec=spec)
    principal, _ = world.plane.world.application("signer")
    shown = CallerToken(Secret(world.plane.world.token(principal, VAULT)))
    world.permit(principal, "keys/sign")

    def at_once() -> bytes:
        return world.broker.use_key_at_once(version.id, SIGN, shown, "vault").value

    def told() -> list[str]:
        return [one.decision for one in world.audit.records if "vaultKeys/sign" in one.operation]

    with pytest.raises(NotAtOnce):  # its document has to be read
        at_once()
    assert told() == []
    world.broker.use_key(version.id, SIGN, shown, "vault")
    assert len(at_once()) == 64
    assert told() == ["allow"] * 2
    world.known = False
    with pytest.raises(NotAtOnce):  # policy has to be read
        at_once()
    world.known = True
    assert told() == ["allow"] * 2
    world.key(spec=spec, enabled=False)
    left_to_a_thread(at_once)
    world.key(spec=spec)
    world.permit(principal, "keys/verify")
    left_to_a_thread(at_once)
    world.permit(principal, "keys/sign")
    forged = CallerToken(Secret(shown.token.reveal()[:-8] + b"AAAAAAAA"))
    left_to_a_thread(lambda: world.broker.use_key_at_once(version.id, SIGN, forged, "vault"))
    assert told() == ["allow"] * 2
    refused(lambda: world.broker.use_key(version.id, SIGN, forged, "vault"), FaultKind.UNAUTHENTICATED)
    assert told() == ["allow"] * 2 + ["deny"]
    assert world.audit.waited_for[-1] is world.audit.records[-1], "a refusal is on disk before it is told"
    world.plane.account()  # the documents have changed: this one's may have
    with pytest.raises(NotAtOnce):
        at_once()
    world.broker.seal()
    left_to_a_thread(at_once)


@pytest.mark.parametrize(
    ("stored", "value", "short"),
    [
        (("software", Jwk(kty="EC", crv="P-256")), 32, True),
        (("software", Jwk(kty="EC", crv="P-521")), 64, False),
        (("software", Jwk(kty="RSA", n=b"\xff" * 256)), 32, True),
        (("software", Jwk(kty="RSA", n=b"\xff" * 384)), 32, False),
        (("software", Jwk(kty="oct")), 32, True),
        (("software", Jwk(kty="oct")), SHORT_VALUE + 1, False),
        (("token", Jwk(kty="EC", crv="P-256")), 32, False),
    ],
    ids=["p256", "p521", "rsa2048", "rsa3072", "aes", "long", "elsewhere"],
)
def test_what_takes_long_or_is_elsewhere_is_left_to_a_thread(
    stored: tuple[str, Jwk], value: int, *, short: bool
) -> None:
    provider, public = stored
    request = KeyRequest(use="sign", algorithm="x", value=bytes(value))
    assert _short(StoredKey(provider=provider, handle=b"h", public=public), request) is short


def test_objects_keys_are_given_at_once_while_their_data_key_is_open(world: Brokered) -> None:
    account = world.plane.account()
    shown = CallerKey(Secret(account.key))

    def asked(*objects: ObjectRef) -> tuple[str, tuple[ObjectRef, ...], str, str, CallerKey, str]:
        return account.id, objects or (ref(),), "write", "OpenAI/files/write", shown, "test"

    def at_once(*objects: ObjectRef) -> ObjectKeys:
        return world.broker.object_keys_at_once(*asked(*objects))  # type: ignore[arg-type]

    def told() -> int:
        return len([one for one in world.audit.records if "/content/" in one.operation])

    with pytest.raises(NotAtOnce):  # the account's document has to be read
        at_once()
    world.broker.object_keys(*asked())  # type: ignore[arg-type]
    first = world.broker.object_keys(*asked())  # type: ignore[arg-type]
    before = told()
    assert at_once().keys[0].matches(first.keys[0].reveal())
    assert told() == before + 1
    with pytest.raises(NotAtOnce):
        at_once(*[ref(f"file-{index}") for index in range(MAX_AT_ONCE + 1)])
    with pytest.raises(NotAtOnce):  # a refusal waits for its record
        at_once(ref("../x"))
    world.plane.world.manual.advance(world.plane.settings.keys.lease_s)
    with pytest.raises(NotAtOnce):  # the data key has to be opened
        at_once()
    assert told() == before + 1


async def test_the_server_asks_a_thread_for_what_cannot_be_had_at_once() -> None:
    class AtOnce:
        def use_key_at_once(self, version_id: str, *_: object) -> object:
            if version_id == "/waits":
                raise NotAtOnce
            if version_id == "/fails":
                raise RuntimeError
            return b"at once"

    class Slow:
        def use_key(self, *_: object) -> object:
            return b"in a thread"

        def status(self) -> object:
            return b"status"

    server = BrokerServer(Path("unused"), Slow(), frozenset(), AtOnce())  # type: ignore[arg-type]

    def call(version_id: str) -> wire.Call:
        return wire.UseKeyCall(version_id, SIGN, wire.shown(CallerToken(Secret("t"))), "vault")

    found = server.answer(call("/v"))
    assert isinstance(found, bytes)
    assert wire.read_answer(found[wire.HEADER :], bytes) == b"at once"
    failed = server.answer(call("/fails"))
    assert isinstance(failed, bytes)
    refused(lambda: wire.read_answer(failed[wire.HEADER :], bytes), FaultKind.INTERNAL)
    for one, expected in ((call("/waits"), b"in a thread"), (wire.StatusCall(), b"status")):
        later = server.answer(one)
        assert isinstance(later, asyncio.Future)
        assert wire.read_answer((await later)[wire.HEADER :], bytes) == expected
    await server.close()
