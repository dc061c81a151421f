"""Data keys follow a rotation in the background: all of one document or none of them, and nothing that somebody else has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from stockade.jobs.job import Workplace
from stockade.jobs.work import rewrap
from stockade.jobs.work.rewrap import PLUGIN
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.broker import Broker
from stockade.policy.remote_keys import TYPE, state_body, state_id
from stockade.policy.snapshot import RemoteKeyState
from tests.factories.bound import ACCOUNT, Bound
from tests.factories.control_plane import ControlPlane
from tests.factories.jobs import InProcessRun, workplace

SCOPE = f"{ACCOUNT}/encryptionScopes/s1"


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Bound]:
    plane = ControlPlane(tmp_path)
    made = Bound(plane)
    made.bind()
    plane.clock.advance(1)
    yield made
    plane.close()


def place(bound: Bound) -> Workplace:
    plane = bound.plane
    return workplace(
        plane.settings.data_dir,
        plane.database,
        snapshot=plane.source.current,
        clock=plane.clock,
        broker=cast("Broker", bound.broker),
    )


def due(bound: Bound) -> list[str]:
    return list(PLUGIN.due(place(bound)))


def work(bound: Bound, piece: str) -> None:
    asyncio.run(PLUGIN.do(place(bound), InProcessRun(piece)))


def test_what_is_behind_a_newer_version_is_due_once(bound: Bound) -> None:
    assert due(bound) == []
    new = bound.new_version()
    (piece,) = due(bound)
    assert piece.startswith(ACCOUNT.lower() + "|")
    held = bound.document().private["dataKeys"][0]
    work(bound, piece)
    assert bound.wrapped_by() == [new]
    after = bound.document().private["dataKeys"][0]
    assert (after["version"], after["created_at"]) == (held["version"], held["created_at"]), "the same data key"
    assert due(bound) == []
    calls = len(bound.broker.calls)
    work(bound, piece)
    assert "rewrap" not in bound.broker.calls[calls:], "done twice is done once"
    shown = bound.plane.ok("GET", f"{ACCOUNT}/encryptionStatus")["rewrap"]
    assert (shown["state"], shown["done"]) == ("Current", 1)
    assert shown["lastRewrap"] is not None


def test_a_newer_version_in_a_vault_elsewhere_is_followed_once_it_has_been_seen(bound: Bound) -> None:
    uri, old, new = "https://v9.elsewhere.example", bound.broker.newest_elsewhere, "f" * 32
    bound.broker.elsewhere[uri] = None
    bound.bind(keyVaultUri=uri)
    key = bound.policy().customer_key
    assert key is not None

    def seen(version: str, failure: str = "") -> None:
        state = RemoteKeyState(uri, "k1", failure, "", bound.plane.clock.now(), version)
        with bound.plane.database.write() as writer:
            writer.put(state_id(ACCOUNT.lower()), TYPE, state_body(ACCOUNT.lower(), state))

    def status() -> tuple[str, str]:
        shown = bound.plane.ok("GET", f"{ACCOUNT}/encryptionStatus")
        return shown["keyVersion"], shown["rewrap"]["state"]

    assert (status(), due(bound)) == ((old, "Current"), [])
    bound.broker.newest_elsewhere = new
    assert due(bound) == []
    seen(new, "VaultUnreachable")
    assert due(bound) == []
    seen(new)
    assert status() == (new, "Pending")
    (piece,) = due(bound)
    work(bound, piece)
    assert bound.wrapped_by() == [new]
    assert (status(), due(bound)) == ((new, "Current"), [])
    bound.bind(keyVaultUri=uri, keyVersion=old)
    seen(new)
    assert (status(), due(bound)) == ((old, "Current"), []), "a pinned version stays"


def test_back_and_forth_is_another_piece_each_time(bound: Bound) -> None:
    old, new = bound.version, bound.new_version()
    pieces = due(bound)
    work(bound, pieces[0])
    bound.change_version(new, exp=int(bound.plane.clock.now()) - 1)
    pieces += due(bound)
    work(bound, pieces[1])
    assert bound.wrapped_by() == [old]
    bound.change_version(new, exp=None)
    pieces += due(bound)
    work(bound, pieces[2])
    assert bound.wrapped_by() == [new]
    assert len(set(pieces)) == 3


def test_a_pinned_version_and_the_platforms_key_are_left_alone(bound: Bound) -> None:
    bound.bind(keyVersion=bound.version)
    bound.account(ACCOUNT.replace("a1", "a2"))
    bound.new_version()
    assert due(bound) == []


def test_a_newer_key_of_the_platforms_is_followed_by_everybody(bound: Bound) -> None:
    other = ACCOUNT.replace("a1", "a2")
    bound.account(other)
    bound.plane.ok("PUT", SCOPE, {"properties": bound.encryption()})
    bound.broker.platform = "p2"
    pieces = due(bound)
    assert {piece.rpartition("|")[0] for piece in pieces} == {ACCOUNT.lower(), SCOPE.lower(), other.lower()}
    for piece in pieces:
        work(bound, piece)
    assert due(bound) == []
    assert [bound.document(path).private["dataKeys"][0]["platform"] for path in (ACCOUNT, SCOPE, other)] == ["p2"] * 3
    assert bound.wrapped_by() == [bound.version]


def test_nothing_is_due_while_the_key_does_not_serve(bound: Bound) -> None:
    bound.new_version()
    (piece,) = due(bound)
    bound.change_version(bound.version, enabled=False)
    assert due(bound) == [], "the old version is needed to open them"
    work(bound, piece)
    assert bound.wrapped_by() == [bound.version]
    bound.change_version(bound.version, enabled=True)
    assert due(bound) == [piece]


def test_a_key_that_is_lost_on_the_way_is_tried_again(bound: Bound) -> None:
    bound.new_version()
    (piece,) = due(bound)
    bound.broker.broken = Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, "gone", details={"problem": "KeyDisabled"})
    with pytest.raises(Fault) as caught:
        work(bound, piece)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert bound.wrapped_by() == [bound.version]
    bound.broker.broken = None
    work(bound, piece)
    assert due(bound) == []


def test_what_somebody_else_changed_meanwhile_stays(bound: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
    bound.new_version()
    (piece,) = due(bound)
    wrap = rewrap.rewrapped

    def slow(*given: object) -> object:
        made = wrap(*given)  # type: ignore[arg-type]
        bound.bind(keyVersion=bound.version)
        bound.plane.ok("POST", f"{ACCOUNT}/rewrapDataKeys")
        return made

    monkeypatch.setattr(rewrap, "rewrapped", slow)
    work(bound, piece)
    assert bound.wrapped_by() == [bound.version], "it was bound to this one while the other was being wrapped"
    assert bound.plane.ok("GET", f"{ACCOUNT}/encryptionStatus")["state"] == "Available"


def test_an_account_that_is_gone_needs_nothing(bound: Bound) -> None:
    bound.new_version()
    (piece,) = due(bound)
    bound.plane.ok("DELETE", ACCOUNT)
    assert due(bound) == []
    work(bound, piece)


def test_it_can_be_asked_for(bound: Bound) -> None:
    new = bound.new_version()
    status = bound.plane.ok("POST", f"{ACCOUNT}/rewrapDataKeys")
    assert (status["rewrap"]["state"], bound.wrapped_by()) == ("Current", [new])
