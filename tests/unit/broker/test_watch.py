"""Keys in vaults elsewhere: what is taken away there is written down here within two fifths of a lease."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.broker.watch import Watch
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.broker import WrappedDataKey
from stockade.policy.customer_key import unavailable
from stockade.policy.snapshot import CustomerKey, RemoteKeyState
from tests.factories.broker import Brokered
from tests.factories.data_plane import Account

ELSEWHERE = "https://kept.vault.azure.net"


class Elsewhere:
    """A vault of somebody else's."""

    url = ELSEWHERE

    def __init__(self) -> None:
        self.problem = ""
        self.may_unwrap = True
        self.newest = "1A"
        self.asked: list[str] = []
        self.answers = threading.Event()
        self.answers.set()

    def serving(self, name: str, version: str) -> str:
        self._answer(f"serving {name} {version}")
        if self.problem:
            raise Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, "No.", details={"problem": self.problem})
        return f"{ELSEWHERE}/keys/{name}/{version or self.newest}"

    def wrap_named(self, name: str, value: bytes) -> tuple[bytes, str]:
        raise AssertionError("nothing is wrapped to find out whether it could be")

    def unwrap_named(self, name: str, wrapped: bytes) -> bytes:
        self._answer(f"unwrap {name} {wrapped.decode()}")
        if not self.may_unwrap:
            raise Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, "No.", details={"problem": "AccessDenied"})
        return b"inner"

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        self.answers.wait(10)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Brokered]:
    found = Brokered(tmp_path)
    yield found
    found.close()


@pytest.fixture
def vault() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def watch(world: Brokered, vault: Elsewhere) -> Iterator[Watch]:
    found = Watch(
        world.plane.world.database,
        world.clock,
        world.snapshot,
        lambda uri: vault if uri == ELSEWHERE else None,
        lease_s=0.5,
    )
    yield found
    vault.answers.set()
    found.close()


def bound(world: Brokered, name: str = "a1", uri: str = ELSEWHERE) -> Account:
    account = world.plane.account(name)
    identity, _ = world.plane.world.application(f"identity-{name}")
    held = WrappedDataKey("aaaaaaaaaaaa", 1.0, b"wrapped", "p", f"{uri}/keys/K1/9")
    world.store_data_keys(account, held)
    world.customer_keys[account.id] = CustomerKey(uri, "K1", "", identity.object_id)
    return account


def problem(world: Brokered, account: Account) -> str:
    """Return what policy says of the account's key."""
    found = unavailable(world.snapshot(), account.id, world.customer_keys[account.id], world.clock.now())
    return found.problem if found is not None else ""


def test_a_key_that_is_taken_away_elsewhere_is_refused_here_and_given_back_it_serves_again(
    world: Brokered, vault: Elsewhere, watch: Watch
) -> None:
    account = bound(world)
    assert problem(world, account) == "VaultNotFound", "until it has been asked"
    assert watch.look()
    assert sorted(vault.asked) == ["serving K1 ", f"unwrap {ELSEWHERE}/keys/K1/9 wrapped"]
    assert problem(world, account) == ""
    vault.problem = "KeyDisabled"
    watch.look()
    assert problem(world, account) == "KeyDisabled"
    vault.problem = ""
    vault.may_unwrap = False
    watch.look()
    assert problem(world, account) == "AccessDenied", "who may look may not unwrap"
    vault.may_unwrap = True
    watch.look()
    assert problem(world, account) == ""


def test_nothing_is_written_while_nothing_changes(world: Brokered, vault: Elsewhere, watch: Watch) -> None:
    bound(world)
    watch.look()
    before = world.snapshot().generation
    watch.look()
    assert world.snapshot().generation == before


def test_a_new_version_elsewhere_is_written_down_and_kept_while_nothing_can_be_seen(
    world: Brokered, vault: Elsewhere, watch: Watch
) -> None:
    account = bound(world)

    def seen() -> tuple[str, str]:
        state: RemoteKeyState | None = world.snapshot().only("remote-key", account.id)
        assert state is not None
        return state.version, state.failure

    watch.look()
    assert seen() == ("1a", "")
    vault.newest = "2b"
    watch.look()
    assert seen() == ("2b", "")
    vault.problem = "AccessDenied"
    watch.look()
    assert seen() == ("2b", "AccessDenied")
    vault.problem = ""
    watch.look()
    assert seen() == ("2b", "")
    world.customer_keys[account.id] = CustomerKey(ELSEWHERE, "K2", "", world.customer_keys[account.id].principal_id)
    vault.problem = "KeyNotFound"
    world.plane.account("a2")  # policy has changed
    watch.look()
    assert seen() == ("", "KeyNotFound"), "what was seen of another key is not this one's"


def test_a_vault_that_does_not_answer_in_time_is_unreachable_until_it_does(
    world: Brokered, vault: Elsewhere, watch: Watch
) -> None:
    account = bound(world)
    watch.look()
    vault.answers.clear()
    watch.look()
    assert problem(world, account) == "VaultUnreachable"
    asked = len(vault.asked)
    watch.look()
    assert len(vault.asked) == asked, "nobody is asked again before they have answered"
    vault.answers.set()
    for _ in range(2):  # what was under way ends, and what it said counts
        watch.look()
    assert problem(world, account) == ""


def test_accounts_with_the_same_key_ask_once_and_those_that_go_leave_nothing(
    world: Brokered, vault: Elsewhere, watch: Watch
) -> None:
    first, second = bound(world, "a1"), bound(world, "a2")
    watch.look()
    assert len(vault.asked) == 2
    world.plane.delete(first)
    del world.customer_keys[first.id]
    watch.look()
    assert list(world.snapshot().keys("remote-key")) == [second.id]


def test_a_vault_that_the_settings_do_not_know_is_not_found(world: Brokered, watch: Watch) -> None:
    account = bound(world, uri="https://other.vault.azure.net")
    watch.look()
    assert problem(world, account) == "VaultNotFound"
    assert not Watch(world.plane.world.database, world.clock, world.base.source.current, lambda _: None, 5).look()


def test_a_vault_that_hangs_keeps_nobody_elses_waiting(world: Brokered, vault: Elsewhere) -> None:
    other, url = Elsewhere(), "https://hangs.vault.azure.net"
    other.answers.clear()
    watch = Watch(
        world.plane.world.database,
        world.clock,
        world.snapshot,
        {ELSEWHERE: vault, url: other}.get,
        lease_s=0.5,
    )
    hanging = [bound(world, f"h{number}", url) for number in range(10)]
    for number, account in enumerate(hanging):  # each with a key of its own, more than may be asked about at once
        key = world.customer_keys[account.id]
        world.customer_keys[account.id] = CustomerKey(url, f"k{number}", "", key.principal_id)
    well = bound(world, "a1")
    watch.look()
    watch.look()
    assert {problem(world, account) for account in hanging} == {"VaultUnreachable"}
    assert problem(world, well) == ""
    other.answers.set()
    watch.close()
