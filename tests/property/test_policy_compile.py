"""Compiling policy: independent of order, deterministic, and a deny assignment never opens anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stockade.kernel.faults import Fault
from stockade.kernel.operation import Operation
from stockade.kernel.principal import EVERYONE, KeyCredential, RejectedCredential, TokenCredential
from stockade.kernel.verdict import Allow, Deny
from stockade.policy.compile import Compiler
from stockade.policy.decide import decide
from stockade.policy.facts import Facts
from stockade.policy.snapshot import DenyAssignment, Entry, NetworkPolicy, Permission, Snapshot
from stockade.storage.documents import Document, State
from tests.factories import policy

INDEXES = ("account", "subdomain", "assignment")
ENTRIES = st.lists(st.tuples(st.sampled_from(INDEXES), st.integers(0, 3), st.integers(0, 9)), max_size=4)
DOCUMENTS = st.builds(
    lambda number, entries, state: Document(f"/d{number}", "t", {"entries": entries}, state=state),
    st.integers(0, 5), ENTRIES, st.sampled_from([State.LIVE, State.LIVE, State.SOFT_DELETED, State.GONE]),
)  # fmt: skip


def read(document: Document) -> Iterator[Entry]:
    yield from document.body["entries"]


COMPILER = Compiler({"t": read})


def built(documents: list[Document], batches: list[int]) -> Snapshot:
    snapshot, rest = Snapshot(), list(documents)
    for size in batches:
        taken, rest = rest[:size], rest[size:]
        snapshot = COMPILER.apply(snapshot, 1, taken)
    return COMPILER.apply(snapshot, 1, rest)


def answers(snapshot: Snapshot) -> dict[tuple[str, int], Any]:
    return {
        (index, key): (snapshot.only(index, key), snapshot.all(index, key)) for index in INDEXES for key in range(4)
    }


@given(
    st.lists(DOCUMENTS, max_size=12), st.lists(st.integers(0, 4), max_size=4), st.lists(st.integers(0, 4), max_size=4)
)
def test_same_changes_give_the_same_policy_however_they_are_batched(
    documents: list[Document], one: list[int], two: list[int]
) -> None:
    assert built(documents, one) == built(documents, two)
    assert answers(built(documents, one)) == answers(built(documents, two))


@given(st.lists(DOCUMENTS, max_size=8, unique_by=lambda document: document.id), st.randoms())
def test_same_documents_give_the_same_policy_in_any_order(documents: list[Document], chance: Any) -> None:
    shuffled = list(documents)
    chance.shuffle(shuffled)
    assert answers(built(documents, [])) == answers(built(shuffled, [1, 2]))


@given(st.lists(DOCUMENTS, max_size=12))
def test_history_leaves_nothing_behind(documents: list[Document]) -> None:
    last = {document.id: document for document in documents}
    assert built(documents, [1] * len(documents)) == built(list(last.values()), [])
    gone = [Document(document_id, "t", {"entries": []}, state=State.GONE) for document_id in last]
    assert built([*documents, *gone], []) == Snapshot()


PATTERNS = st.lists(
    st.sampled_from(
        [
            "*",
            "*/read",
            "*/action",
            "microsoft.cognitiveservices/*",
            "microsoft.cognitiveservices/accounts/openai/*",
            "x",
        ]
    ),
    max_size=3,
).map(tuple)
DENIES = st.builds(
    DenyAssignment, id=st.just("d"), name=st.just("D"), scope=st.sampled_from(["/", policy.GROUP, policy.ACCOUNT]),
    permissions=st.lists(st.builds(Permission, PATTERNS, PATTERNS, PATTERNS, PATTERNS), max_size=2).map(tuple),
    principals=st.frozensets(st.sampled_from([EVERYONE, policy.PRINCIPAL, "g"]), max_size=2),
    excluded=st.frozensets(st.sampled_from([policy.PRINCIPAL, "g"]), max_size=1), this_scope_only=st.booleans(),
)  # fmt: skip
CREDENTIALS = st.one_of(
    st.none(),
    st.builds(RejectedCredential, st.sampled_from(["key", "token", "several"]), st.text(max_size=5)),
    st.builds(
        KeyCredential,
        st.sampled_from([policy.ACCOUNT, "/other"]),
        st.sampled_from(["Key1", "Key2"]),
        st.just(b""),
        st.booleans(),
    ),
    st.builds(
        TokenCredential,
        st.sampled_from(["t", "u"]),
        st.sampled_from([policy.PRINCIPAL, "nobody", ""]),
        st.none(),
        st.just(""),
        st.just(""),
        st.just(0.0),
        groups=st.lists(st.sampled_from(["g", "h"]), max_size=2).map(tuple),
    ),
)
ACCOUNTS = st.one_of(
    st.none(),
    st.builds(
        policy.account,
        local_auth=st.booleans(),
        network=st.builds(
            NetworkPolicy, public_access=st.booleans(), admit_by_default=st.booleans(), trusted_services=st.booleans()
        ),
        subdomain=st.sampled_from([None, "a"]),
        calls_per_minute=st.sampled_from([None, 0, 5]),
    ),
)
OPERATIONS = st.sampled_from(
    [None, policy.CHAT, Operation("Open", "GET", "/x", None), Operation("Odd", "GET", "/y", "a/b")]
)
FACTS = st.builds(
    Facts, now=st.floats(), address=st.one_of(st.text(max_size=20), st.ip_addresses().map(str)), account=ACCOUNTS, regional=st.booleans(),
    credential=CREDENTIALS, operation=OPERATIONS, path=st.text(max_size=20), method=st.text(max_size=5),
    deployment=st.sampled_from([None, policy.deployment(calls_per_minute=5)]), calls_this_minute=st.integers(), deployment_calls_this_minute=st.integers(),  # noqa: E501
    seconds_to_next_minute=st.floats(0, 60),
)  # fmt: skip


@given(FACTS, st.sampled_from(["head", "body"]))
def test_decision_is_total_repeatable_and_says_why(facts: Facts, point: Any) -> None:
    snapshot = policy.snapshot()
    first, again = decide(snapshot, facts, point), decide(policy.snapshot(), facts, point)
    match first, again:
        case Allow(), Allow():
            pass
        case Deny(rule=one, fault=fault), Deny(rule=two, fault=other):
            assert isinstance(fault, Fault)
            assert (one, fault.kind, fault.message) == (two, other.kind, other.message)
        case unlike:
            raise AssertionError(unlike)


@given(FACTS)
def test_nobody_passes_the_head_without_a_proven_credential(facts: Facts) -> None:
    if isinstance(decide(policy.snapshot(), facts, "head"), Allow):
        assert facts.account is not None and facts.operation is not None
        public = facts.operation.data_action is None
        assert public or isinstance(facts.credential, KeyCredential | TokenCredential)
        if isinstance(facts.credential, KeyCredential) and not public:
            assert facts.credential.account_id == facts.account.id and facts.account.local_auth


@given(FACTS, st.lists(DENIES, min_size=1, max_size=3))
def test_deny_assignment_never_opens_anything(facts: Facts, denies: list[DenyAssignment]) -> None:
    without = decide(policy.snapshot(), facts, "head")
    with_them = decide(policy.snapshot(*(("deny", deny.scope, deny) for deny in denies)), facts, "head")
    assert isinstance(without, Allow) or isinstance(with_them, Deny)
