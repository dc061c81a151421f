"""Rotation policies run: by the clock, once per version, and after a kill as if there had been none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockade.jobs.job import Work, Workplace
from stockade.jobs.work.vault_rotation import PLUGIN
from stockade.management import outbox
from stockade.settings import Notices, Settings
from tests.factories.audit import read_back
from tests.factories.jobs import InProcessRun, workplace
from tests.factories.vault import Vaulted

DAY = 86_400
TOLD = Notices(webhook="https://hooks.example.com/", webhook_secret_env="X")


@pytest.fixture
def vaulted(tmp_path: Path) -> Iterator[Vaulted]:
    made = Vaulted(tmp_path, Settings(data_dir=tmp_path, notices=TOLD))
    yield made
    made.close()


@pytest.fixture
def place(vaulted: Vaulted, tmp_path: Path) -> Workplace:
    return workplace(
        tmp_path,
        vaulted.database,
        snapshot=vaulted.source.current,
        clock=vaulted.clock,
        broker=vaulted.broker,
        settings=vaulted.settings,
    )


def key(vaulted: Vaulted, policy: Any, **attributes: Any) -> Any:
    made = vaulted.ok("POST", "/keys/k1/create", {"kty": "EC", "attributes": attributes, "tags": {"a": "b"}})
    if policy is not None:
        vaulted.ok("PUT", "/keys/k1/rotationpolicy", policy)
    return made


def policy(kind: str, trigger: str, expiry: str | None = None) -> Any:
    time = {"timeAfterCreate" if kind == "Rotate" else "timeBeforeExpiry": trigger}
    return {"lifetimeActions": [{"trigger": time, "action": {"type": kind}}], "attributes": {"expiryTime": expiry}}


def versions(vaulted: Vaulted) -> list[Any]:
    found: list[Any] = vaulted.ok("GET", "/keys/k1/versions")["value"]
    return found


async def work(place: Workplace) -> list[str]:
    """Do all that is due, and return its names."""
    pieces = list(PLUGIN.due(place))
    for piece in pieces:
        await PLUGIN.do(place, InProcessRun(piece))
    return pieces


def test_it_is_work() -> None:
    assert isinstance(PLUGIN, Work)


async def test_a_key_is_rotated_when_its_time_has_come(vaulted: Vaulted, place: Workplace) -> None:
    first = key(vaulted, policy("Rotate", "P30D", "P90D"))
    vaulted.clock.advance(30 * DAY - 1)
    assert await work(place) == []
    vaulted.clock.advance(2)
    assert await work(place) == [f"rotate.{first['key']['kid'].rsplit('/', 1)[-1]}"]
    assert await work(place) == []
    newest = vaulted.ok("GET", "/keys/k1")
    assert newest["key"]["kid"] != first["key"]["kid"]
    assert (newest["key"]["crv"], newest["key"]["key_ops"], newest["tags"]) == ("P-256", ["sign", "verify"], {"a": "b"})
    assert newest["attributes"]["exp"] == int(vaulted.clock.now()) + 90 * DAY
    vaulted.clock.advance(30 * DAY)
    assert len(await work(place)) == 1
    assert len(versions(vaulted)) == 3
    found = read_back(place.settings, place.audit)
    assert [one["operation"] for one in found] == ["KeyRotate"] * 4  # an intent and an outcome, twice


async def test_rotation_before_expiry_follows_the_newest_version(vaulted: Vaulted, place: Workplace) -> None:
    key(vaulted, None, exp=int(vaulted.clock.now()) + 60 * DAY)
    wanted = policy("Rotate", "P10D", "P60D")
    wanted["lifetimeActions"][0]["trigger"] = {"timeBeforeExpiry": "P10D"}
    vaulted.ok("PUT", "/keys/k1/rotationpolicy", wanted)
    vaulted.clock.advance(50 * DAY + 1)
    assert len(await work(place)) == 1
    assert await work(place) == []
    vaulted.clock.advance(50 * DAY + 1)
    assert len(await work(place)) == 1


async def test_a_piece_that_was_done_already_makes_no_second_version(vaulted: Vaulted, place: Workplace) -> None:
    key(vaulted, policy("Rotate", "P7D"))
    vaulted.clock.advance(8 * DAY)
    (piece,) = PLUGIN.due(place)
    await PLUGIN.do(place, InProcessRun(piece))
    await PLUGIN.do(place, InProcessRun(piece))
    assert len(versions(vaulted)) == 2


async def test_somebody_who_rotates_by_hand_is_not_followed_at_once(vaulted: Vaulted, place: Workplace) -> None:
    key(vaulted, policy("Rotate", "P7D"))
    vaulted.clock.advance(8 * DAY)
    (piece,) = PLUGIN.due(place)
    vaulted.ok("POST", "/keys/k1/rotate")
    await PLUGIN.do(place, InProcessRun(piece))
    assert len(versions(vaulted)) == 2
    assert list(PLUGIN.due(place)) == []


@pytest.mark.parametrize(("wanted", "days"), [(None, 30), (policy("Notify", "P14D"), 14)], ids=["default", "own"])
async def test_operators_are_told_once_of_a_version_that_expires(
    vaulted: Vaulted, place: Workplace, wanted: Any, days: int
) -> None:
    key(vaulted, wanted, exp=int(vaulted.clock.now()) + 60 * DAY)
    vaulted.clock.advance((60 - days) * DAY - 1)
    assert await work(place) == []
    vaulted.clock.advance(2)
    assert len(await work(place)) == 1
    assert await work(place) == []
    with vaulted.database.read() as reader:
        (notice,) = reader.list(outbox.TYPE)
    assert notice.body["kind"] == "vaultKey.nearExpiry"
    assert notice.body["data"]["key"] == "k1"
    assert len(versions(vaulted)) == 1


async def test_deleted_keys_and_vaults_are_left_alone(vaulted: Vaulted, place: Workplace) -> None:
    key(vaulted, policy("Rotate", "P7D"))
    vaulted.clock.advance(8 * DAY)
    (piece,) = PLUGIN.due(place)
    vaulted.ok("DELETE", "/keys/k1")
    assert list(PLUGIN.due(place)) == []
    await PLUGIN.do(place, InProcessRun(piece))
    vaulted.ok("POST", "/deletedkeys/k1/recover")
    assert len(versions(vaulted)) == 1
