"""The key broker under whatever comes: without evidence no key, no grant wider than it was made, no frame that ends it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.broker.data_keys import object_key
from stockade.broker.grants import Grant, Grants, covers
from stockade.kernel.evidence import ArmToken, CallerKey, CallerToken, Evidence, JobGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys import broker_wire as wire
from stockade.keys.broker import JobScope, ObjectRef
from stockade.keys.broker_client import BrokerClient
from stockade.keys.root import RootKey
from tests.factories.broker import Brokered
from tests.factories.data_plane import Account
from tests.unit.broker.test_server import CALLS, Served, Told

REFUSED = {
    FaultKind.UNAUTHENTICATED,
    FaultKind.KEY_REJECTED,
    FaultKind.PERMISSION_DENIED,
    FaultKind.INVALID,
    FaultKind.NOT_FOUND,
}
ACTIONS = ("OpenAI/files/read", "OpenAI/files/write", "OpenAI/batches/write", "OpenAI/responses/write", "", "*", "/*")
words = st.text("abfiles-/.*_0", max_size=12)
evidence = st.one_of(
    st.binary(max_size=300).map(lambda value: CallerKey(Secret(value))),
    st.binary(max_size=300).map(lambda value: CallerToken(Secret(value))),
    st.binary(max_size=300).map(lambda value: JobGrant(Secret(value))),
    st.binary(max_size=300).map(lambda value: ArmToken(Secret(value))),
    st.text("eyJ.abc", max_size=60).map(lambda value: CallerToken(Secret(value))),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Brokered, Account, Account]]:
    found = Brokered(tmp_path_factory.mktemp("broker"))
    yield found, found.plane.account("a1"), found.plane.account("a2")
    found.close()


@given(shown=evidence, action=st.sampled_from(ACTIONS), access=st.sampled_from(["read", "write"]), path=words)
def test_no_evidence_no_key(
    world: tuple[Brokered, Account, Account], shown: Evidence, action: str, access: str, path: str
) -> None:
    broker, account, other = world
    for what in (shown, CallerKey(Secret(other.key))):
        for ref in (ObjectRef("files/f", "aa"), ObjectRef(path, "aa")):
            with pytest.raises(Fault) as caught:
                broker.broker.object_keys(account.id, [ref], access, action, what, "test")  # type: ignore[arg-type]
            assert caught.value.kind in REFUSED
    assert all(record.decision == "deny" for record in broker.audit.records[-4:])


paths = st.tuples(st.sampled_from(["files", "batches"]), st.text("ab-", min_size=1, max_size=4)).map("/".join)
patterns = st.one_of(paths, st.sampled_from(["files/*", "batches/*"]))


@given(
    reads=st.lists(patterns, max_size=3),
    writes=st.lists(patterns, max_size=3),
    path=paths,
    access=st.sampled_from(["read", "write"]),
)
def test_a_job_gets_exactly_what_it_was_granted(
    world: tuple[Brokered, Account, Account], reads: list[str], writes: list[str], path: str, access: str
) -> None:
    broker, account, _ = world
    scope = JobScope(tuple(reads), tuple(writes), broker.clock.now() + 60)
    action = "OpenAI/batches/write"
    grant = broker.broker.job_grant(account.id, "j", scope, action, CallerKey(Secret(account.key)))

    def stands_for(pattern: str) -> bool:
        return pattern == path or (
            pattern.endswith("/*") and pattern.split("/", maxsplit=1)[0] == path.split("/", maxsplit=1)[0]
        )

    allowed = any(stands_for(one) for one in (writes if access == "write" else [*reads, *writes]))

    def ask() -> None:
        broker.broker.object_keys(account.id, [ObjectRef(path, "aa")], access, action, JobGrant(grant), "test")  # type: ignore[arg-type]

    if allowed:
        ask()
        return
    with pytest.raises(Fault) as caught:
        ask()
    assert caught.value.kind is FaultKind.PERMISSION_DENIED


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7), more=st.binary(max_size=8))
def test_a_grant_that_was_changed_is_none(place: int, bit: int, more: bytes) -> None:
    grants = Grants(RootKey(Secret(b"r" * 32)))
    made = grants.make(Grant("/a", "j", "x", ("files/f",), (), 100.0, "Key1")).reveal()
    place %= len(made)
    changed = made[:place] + bytes([made[place] ^ (1 << bit)]) + made[place + 1 :]
    for wrong in (changed, made + more if more else changed, made[:place]):
        with pytest.raises(Fault):
            grants.read(Secret(wrong), "/a", 1.0)
    assert grants.read(Secret(made), "/a", 99.0).reads == ("files/f",)
    for account, now in (("/b", 1.0), ("/a", 100.0)):
        with pytest.raises(Fault):
            grants.read(Secret(made), account, now)
    with pytest.raises(Fault):
        Grants(RootKey(Secret(b"s" * 32))).read(Secret(made), "/a", 1.0)


@given(pattern=words, path=words)
def test_a_pattern_covers_itself_or_what_is_below_it(pattern: str, path: str) -> None:
    below = pattern.endswith("/*") and path.startswith(pattern[:-1]) and len(path) > len(pattern) - 1
    assert covers(pattern, path) is (below if pattern.endswith("/*") else path == pattern)


places = st.tuples(words, words, words, words, st.sampled_from(["content", "metadata"]))


@given(one=places, other=places)
def test_every_thing_has_a_key_of_its_own(
    one: tuple[str, str, str, str, str], other: tuple[str, str, str, str, str]
) -> None:
    def key(place: tuple[str, str, str, str, str]) -> bytes:
        account, version, path, item, part = place
        return object_key(b"d" * 32, account, version, ObjectRef(path, item, part=part))  # type: ignore[arg-type]

    assert (key(one) == key(other)) is (one == other)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("socket") / "s", Told())
    yield found
    found.close()


@given(
    noise=st.one_of(
        st.binary(max_size=64),
        st.binary(max_size=200).map(lambda data: len(data).to_bytes(4, "big") + data),
        st.sampled_from(sorted(CALLS)).map(lambda name: wire.frame({"call": name})),
        st.dictionaries(
            st.sampled_from(["call", "account_id", "objects", "share", "count"]), st.integers(-(2**63), 2**63 - 1)
        ).map(wire.frame),
    )
)
def test_no_frame_ends_the_server(served: Served, noise: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(str(served.path))
        raw.sendall(noise)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65_536):
            pass
    client = BrokerClient(served.path, 5)
    assert client.random("software", 4) == b"rand"
    client.close()
