"""What is kept of a decision is enough to take it again: on its own snapshot it comes out the same. And the ring keeps to its bounds."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.decisions.record import Decision, decision, noted
from stockade.decisions.replay import replay
from stockade.decisions.ring import DecisionRing
from stockade.decisions.store import DecisionStore
from stockade.decisions.what_if import compare
from stockade.kernel.clock import ManualClock
from stockade.kernel.control import Control
from stockade.kernel.principal import KeyCredential, RejectedCredential, TokenCredential
from stockade.kernel.record import AuditRecord
from stockade.kernel.verdict import Allow, Deny
from stockade.policy.addresses import AddressSet
from stockade.policy.decide import decide
from stockade.policy.facts import Facts
from stockade.policy.snapshot import AccountPolicy, NetworkPolicy, RoleAssignment, Snapshot
from stockade.policy.uris.allowed import compile_allowed
from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import LossPrevention
from stockade.policy.uris.patterns import UriRule
from stockade.settings import Decisions
from tests.factories import policy

HOSTS = ["a.example", "b.example", "c.a.example", "192.0.2.9"]
ADDRESSES = ["192.0.2.1", "192.0.2.200", "198.51.100.7", "2001:db8::1", "::ffff:192.0.2.1"]
NETWORKS = ["192.0.2.0/25", "198.51.100.7", "2001:db8::/32", "0.0.0.0/0"]
MODES = st.dictionaries(st.sampled_from(list(Control)), st.sampled_from(["report", "off"]), max_size=3)
URIS = st.one_of(
    st.builds(
        "https://{}/p?{}".format, st.sampled_from(HOSTS), st.sampled_from(["q=1", "q=123", "other=1", "q=a@b.example"])
    ),
    st.builds("https://user:pw@{}/p?q=1".format, st.sampled_from(HOSTS)),
    st.builds("http://{}:8080/".format, st.sampled_from(HOSTS)),
    st.sampled_from(
        ["data:text/plain,x", "", "//", "not a uri", "file:///etc/passwd", "https://[::1]/", "https://a.example:99999"]
    ),
    st.builds("https:\\\\{}/".format, st.sampled_from(HOSTS)),
    st.builds("//{}/x".format, st.sampled_from(HOSTS)),
    st.builds("{}://{}/x".format, st.sampled_from(["custom", "ftp", "ws", "HTTPS"]), st.sampled_from(HOSTS)),
    st.sampled_from(
        [
            "mailto:a@b.example",
            "javascript:alert(1)",
            "https://a.example@b.example/",
            "https://0x7f.1/",
            "https://[::1]:99/",
        ]
    ),
    st.text(max_size=20),
)
CREDENTIALS = st.one_of(
    st.none(),
    st.builds(
        KeyCredential,
        st.sampled_from([policy.ACCOUNT, "/other"]),
        st.sampled_from(["Key1", "Key2"]),
        st.just(b"d" * 32),
    ),
    st.builds(
        TokenCredential,
        tenant_id=st.sampled_from(["t", "u"]),
        object_id=st.sampled_from([policy.PRINCIPAL, "nobody"]),
        app_id=st.none(),
        audience=st.just("a"),
        issuer=st.just("i"),
        expires_at=st.just(2e9),
        groups=st.lists(st.sampled_from(["g1", "g2"]), max_size=2).map(tuple),
    ),
    st.builds(
        RejectedCredential, st.sampled_from(["key", "token", "several"]), st.sampled_from(["expired", "unknown_key"])
    ),
)


@st.composite
def accounts(draw: st.DrawFn) -> AccountPolicy:
    outbound = None
    if draw(st.booleans()):
        allowed = compile_allowed(
            draw(st.lists(st.sampled_from([*HOSTS, "*.a.example", "http://b.example"]), max_size=3))
        )
        rules = draw(
            st.sampled_from(
                [(), (UriRule("short", max_query_length=2),), (UriRule("some", allowed_parameters=frozenset({"q"})),)]
            )
        )
        outbound = LossPrevention(
            allowed, deep_scan=draw(st.booleans()), refuse_emails=draw(st.booleans()), rules=rules
        )
    return policy.account(
        network=NetworkPolicy(
            public_access=draw(st.booleans()),
            admit_by_default=draw(st.booleans()),
            addresses=AddressSet.of(draw(st.lists(st.sampled_from(NETWORKS), max_size=3, unique=True))),
        ),
        local_auth=draw(st.booleans()),
        subdomain=draw(st.sampled_from(["a", None])),
        calls_per_minute=draw(st.sampled_from([None, 3])),
        outbound=outbound,
        modes=draw(MODES),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    role = RoleAssignment(
        "ra",
        policy.ACCOUNT,
        draw(st.sampled_from([policy.OPENAI_USER, "none"])),
        draw(st.sampled_from([policy.PRINCIPAL, "g1"])),
    )
    account = draw(accounts())
    entries = {"ra": (("assignment", policy.ACCOUNT, role),), "acc": (("account", policy.ACCOUNT, account),)}
    return policy.snapshot().with_changes(2, entries)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "address": draw(st.sampled_from(ADDRESSES)),
        "credential": draw(CREDENTIALS),
        "operation": draw(st.sampled_from([policy.CHAT, None])),
        "regional": draw(st.booleans()),
        "uris": tuple(
            FoundUri(f"u[{n}]", uri, draw(st.booleans())) for n, uri in enumerate(draw(st.lists(URIS, max_size=4)))
        ),
        "calls": draw(st.sampled_from([0, 5])),
    }


def decided(snapshot: Snapshot, request: dict[str, Any]) -> tuple[Allow | Deny, Decision]:
    """Decide as the gateway does, and return the verdict and what is kept of it after it was written and read again."""
    account: AccountPolicy = snapshot.only("account", policy.ACCOUNT)  # type: ignore[assignment]
    operation = request["operation"]
    facts = Facts(
        1.8e9, request["address"], account, request["regional"], request["credential"], operation, "/p", "POST"
    )
    verdict: Allow | Deny = decide(snapshot, facts, "head")
    point, reported = "head", verdict.reported
    if isinstance(verdict, Allow):
        point = "body"
        facts.uris = request["uris"] if account.outbound is not None else ()
        facts.calls_this_minute = request["calls"]
        verdict = decide(snapshot, facts, "body")
        reported = (*reported, *verdict.reported)
    denied = verdict if isinstance(verdict, Deny) else None
    exchange = SimpleNamespace(
        method="POST", peer="127.0.0.1:1", address_derivation="peer address", account=account, credential=request["credential"],
        route=SimpleNamespace(operation=operation) if operation is not None else None, snapshot=snapshot, private_endpoint=None,
        denied=denied, reported=reported, uris=facts.uris, facts=facts, point=point, ended_by="", admitted=None,
    )  # fmt: skip
    record = AuditRecord(
        time=1.8e9, id="i", category="RequestResponse", phase="decision", operation=operation.name if operation is not None else "",
        caller_address=request["address"], status=200,
        decision="deny" if denied is not None else "allow", outcome="success" if denied is None else "failed:x",
    )  # fmt: skip
    made = decision(noted(exchange, record))  # type: ignore[arg-type]
    full: Allow | Deny = (
        Deny(denied.rule, denied.fault, denied.because, reported) if denied is not None else Allow(reported)
    )
    return full, msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Decision)


def told(verdict: Allow | Deny) -> tuple[Any, ...]:
    head = (verdict.rule, verdict.fault.kind) if isinstance(verdict, Deny) else ()
    return (*head, tuple((one.rule, one.fault.kind) for one in verdict.reported))


@given(snapshots(), requests())
def test_a_decision_taken_again_on_its_own_snapshot_comes_out_the_same(
    snapshot: Snapshot, request: dict[str, Any]
) -> None:
    verdict, made = decided(snapshot, request)
    again = replay(made, snapshot)
    assert again.verdict is not None, again.unknown
    assert told(again.verdict) == told(verdict)


@given(snapshots(), snapshots(), requests())
def test_taken_on_another_snapshot_it_is_right_or_not_told(
    first: Snapshot, second: Snapshot, request: dict[str, Any]
) -> None:
    _, made = decided(first, request)
    verdict, _ = decided(second, request)
    again = replay(made, second)
    if again.verdict is None:
        assert again.unknown
    elif isinstance(verdict, Deny) and verdict.rule == "quota" and not made.calls:
        assert isinstance(again.verdict, Allow)  # nobody counted its calls then
    else:
        # Whether it is refused is never wrong. What would only be reported may be less than was, where nobody looked at the URIs.
        assert type(again.verdict) is type(verdict)
        assert told(again.verdict)[:-1] == told(verdict)[:-1]
        if isinstance(verdict, Deny) and verdict.rule == "outbound":
            assert isinstance(again.verdict, Deny)
            assert again.verdict.because["host"] == verdict.because["host"]


@given(snapshots(), st.lists(requests(), max_size=5))
def test_a_change_that_changes_nothing_changes_no_decision(snapshot: Snapshot, asked: Sequence[dict[str, Any]]) -> None:
    made = [decided(snapshot, request)[1] for request in asked]
    answer = compare(made, snapshot, snapshot)
    assert (answer["same"], answer["callers"], answer["requests"]) == (len(made), [], [])


@given(snapshots(), requests())
def test_nothing_of_a_uri_beyond_its_host_is_kept(snapshot: Snapshot, request: dict[str, Any]) -> None:
    marked = {
        **request,
        "uris": tuple(FoundUri(uri.path, uri.uri + "/CANARY?CANARY#CANARY") for uri in request["uris"]),
    }
    _, made = decided(snapshot, marked)
    assert "CANARY" not in str([(uri.scheme, uri.port) for uri in made.uris])


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 40)), max_size=30),
    st.integers(1, 6),
    st.integers(4, 20),
    st.integers(1, 4),
)
def test_the_ring_never_exceeds_its_bounds(
    batches: Sequence[tuple[int, bool, int]], each: int, all_together: int, counted: int
) -> None:
    bounds = Decisions(keep_per_account=each, keep=all_together, findings_per_account=counted, findings=3 * counted)
    with TemporaryDirectory() as folder:
        store = DecisionStore(Path(folder), bounds)
        ring = DecisionRing(store, bounds, ManualClock())
        snapshot = policy.snapshot()
        for number, refused, count in batches:
            account = policy.account(
                id=f"{policy.ACCOUNT}{number}", network=NetworkPolicy(admit_by_default=not refused)
            )
            for place in range(count):
                address = str(ipaddress.ip_address(place))
                facts = Facts(1.8e9, address, account, False, policy.KEY, policy.CHAT, "/p", "POST")
                verdict = decide(snapshot, facts, "head")
                denied = verdict if isinstance(verdict, Deny) else None
                exchange = SimpleNamespace(
                    method="POST", peer="p:1", address_derivation="", account=account, credential=policy.KEY, route=None, snapshot=snapshot,
                    private_endpoint=None, denied=denied, reported=(), uris=(), facts=facts, point="head", ended_by="", admitted=None,
                )  # fmt: skip
                record = AuditRecord(
                    time=1.8e9,
                    id=f"{number}-{place}",
                    category="RequestResponse",
                    phase="decision",
                    operation="",
                    caller_address=address,
                )
                ring.note(exchange, record)  # type: ignore[arg-type]
            ring._flush()
        with store._using(1) as connection:
            [total] = connection.execute("SELECT count(*) FROM decisions").fetchone()
            rings = connection.execute("SELECT count(*) FROM decisions GROUP BY account").fetchall()
            findings = connection.execute("SELECT count(*) FROM findings GROUP BY account").fetchall()
        store.close()
    assert total <= all_together
    assert all(count <= each for (count,) in rings)
    assert all(count <= counted + 1 for (count,) in findings)  # and one for all further ones
