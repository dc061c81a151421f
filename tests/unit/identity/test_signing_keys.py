import pytest

from stockade.identity import signing_keys
from stockade.identity.principals import Principal
from stockade.identity.signing_keys import PREFIX, RETIREMENT_S, TYPE, KeyRing
from stockade.identity.verify import verify
from stockade.kernel.faults import Fault
from stockade.kernel.principal import RejectedCredential, TokenCredential
from stockade.keys.root import RootKey
from tests.factories.identity import AI, World

AUDIENCES = frozenset({AI})


def published(world: World) -> list[str]:
    return [key["kid"] for key in signing_keys.published(world.snapshot(), world.issuer, world.clock.now())]


def application(world: World) -> Principal:
    return world.application()[0]


def test_the_private_key_is_sealed_and_bound_to_its_document(world: World) -> None:
    with world.database.read() as reader:
        [document] = reader.list(TYPE)
    assert document.id.startswith(PREFIX)
    assert set(document.body["jwk"]) == {"kty", "n", "e"}
    assert set(document.private) == {"sealed"}
    import base64

    with pytest.raises(Fault):
        world.root_key.unseal(base64.b64decode(document.private["sealed"]), bound_to=document.id + "x")


def test_keys_outlive_a_restart(world: World) -> None:
    token = world.token(application(world))
    restarted = KeyRing(RootKey.open(world.settings.root_key_file))
    with world.database.write() as writer:
        assert not restarted.ensure(writer, world.clock.now())
        assert restarted.current(writer).key_id == world.keys.current(writer).key_id
    assert isinstance(verify(world.snapshot(), token, world.clock.now(), AUDIENCES), TokenCredential)


def test_rotation_keeps_the_old_key_until_its_tokens_are_gone(world: World) -> None:
    principal = application(world)
    old = world.token(principal)
    [first] = published(world)
    with world.database.write() as writer:
        second = world.keys.rotate(writer, world.clock.now())
        ended = writer.get(PREFIX + first)
    assert ended is not None and ended.private == {}
    assert sorted(published(world)) == sorted([first, second])
    new = world.token(principal)
    for token in (old, new):
        assert isinstance(verify(world.snapshot(), token, world.clock.now(), AUDIENCES), TokenCredential)
    world.manual.advance(RETIREMENT_S + 1)
    assert published(world) == [second]
    with world.database.write() as writer:
        assert world.keys.ensure(writer, world.clock.now())
        assert [document.body["kid"] for document in writer.list(TYPE)] == [second]


def test_a_retired_key_verifies_nothing_after_its_end(world: World) -> None:
    principal = application(world)
    with world.database.read() as reader:
        key = world.keys.current(reader)
    with world.database.write() as writer:
        world.keys.rotate(writer, world.clock.now())
    world.manual.advance(RETIREMENT_S + 1)
    from stockade.identity import tokens

    late = tokens.issue(
        key,
        principal,
        authority=world.settings.authority,
        audience=AI,
        proof="secret",
        groups=(),
        now=world.clock.now(),
    )
    found = verify(world.snapshot(), late.token.reveal_text(), world.clock.now(), AUDIENCES)
    assert found == RejectedCredential("token", "key_retired")


def test_rotation_happens_by_itself_after_ninety_days(world: World) -> None:
    [first] = published(world)
    world.manual.advance(89 * 86_400)
    with world.database.read() as reader:
        assert not world.keys.is_due(reader, world.clock.now())
    world.manual.advance(2 * 86_400)
    with world.database.read() as reader:
        assert world.keys.is_due(reader, world.clock.now())
    with world.database.write() as writer:
        assert world.keys.ensure(writer, world.clock.now())
        assert world.keys.current(writer).key_id != first


def test_without_a_key_nothing_is_signed(world: World) -> None:
    with world.database.write() as writer:
        for document in writer.list(TYPE):
            writer.remove(document)
    with world.database.read() as reader, pytest.raises(Fault):
        world.keys.current(reader)
