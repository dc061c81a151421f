"""Requests, grants and operators' reads: what opens, for whom, for how long; and everything else, which opens nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stockade.broker.lockbox_tokens import LockboxTokens, OperatorGranted
from stockade.kernel.evidence import ArmToken, JobGrant, OperatorGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.ids import new_guid
from stockade.kernel.secret import Secret
from stockade.keys.broker import JobScope
from stockade.lockbox.approval import BREAK_GLASS, Approval, Operator
from stockade.lockbox.statement import BreakGlass, digest
from stockade.settings import Lockbox as Rules
from tests.factories.broker import ref
from tests.factories.lockbox import Authenticator, Signer, signed
from tests.factories.protected import READ, Protected


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Protected]:
    found = Protected(tmp_path)
    found.protect()
    yield found
    found.close()


def refused(call: Callable[[], object], code: str | None, kind: FaultKind = FaultKind.PERMISSION_DENIED) -> str:
    with pytest.raises(Fault) as caught:
        call()
    assert (caught.value.code, caught.value.kind) == (code, kind), caught.value.message
    return caught.value.message


def changed(said: Approval, **changes: Any) -> Approval:
    return msgspec.structs.replace(said, **changes)


# What works


def test_an_operator_reads_what_was_approved_and_nothing_else(world: Protected) -> None:
    kept = world.ask(ref("file-1"), ref("file-2"))
    lent = world.grant(world.request(scope=("files/file-1", "batches/*")))
    found = world.read(lent, ref("file-1", data_key=kept.data_key))
    assert found.keys[0].reveal() == kept.keys[0].reveal()
    assert lent.expires_at == world.clock.now() + 3600
    world.read(lent, ref(data_key=kept.data_key, path="batches/b-1"))
    assert "not in its scope" in refused(lambda: world.read(lent, ref("file-2")), "LockboxRefused")
    refused(lambda: world.read(lent, ref("file-1"), ref("file-2")), "LockboxRefused")
    refused(lambda: world.read(lent, ref(path="batches")), None, FaultKind.INVALID)
    assert "write nothing" in refused(lambda: world.read(lent, ref("file-1"), access="write"), "LockboxRefused")
    everything = world.grant(world.request(scope=("files/*",)))
    world.read(everything, ref("file-1"), ref("file-2"), ref("file-2", part="metadata"))


def test_a_passkey_approves_as_well(world: Protected) -> None:
    carol = Authenticator()
    world.bind(world.statement(approvers=(world.alices.approver, carol.approver)))
    lent = world.grant(world.request(), carol)
    world.read(lent)


def test_everything_has_its_place_in_the_log_before_it_is_given(world: Protected) -> None:
    said = world.request()
    lent = world.grant(said)
    world.read(lent, ref("file-1"), ref("file-1", part="metadata"))
    bound, granted, read = world.audit.placed
    assert [one.operation for one in (bound, granted, read)] == [
        "Stockade.Lockbox/statements/bind",
        "Stockade.Lockbox/access/grant",
        "Stockade.Lockbox/content/read",
    ]
    assert {one.resource.lower() for one in (bound, granted, read)} == {world.account.id}
    assert granted.principal == read.principal == world.operator.object_id
    assert granted.because is not None
    assert granted.because["signers"] == "alice"
    assert granted.because["purpose"] == said.purpose
    assert granted.because["scope"] == "files/file-1"
    assert read.because is not None
    assert read.because["request"] == said.request
    assert read.because["paths"] == "files/file-1, files/file-1"
    world.audit.full = True
    for give in (lambda: world.grant(said), lambda: world.read(lent)):
        with pytest.raises(Fault) as caught:
            give()
        assert caught.value.kind is FaultKind.UNAVAILABLE
    world.audit.full = False
    world.read(lent)


def test_asked_again_it_gives_what_is_left_and_not_more(world: Protected) -> None:
    said = world.request(duration_s=600.0, not_after=world.clock.now() + 3600)
    first = world.grant(said)
    assert first.expires_at == world.clock.now() + 600
    world.plane.world.manual.advance(500)
    assert world.grant(said).expires_at == first.expires_at
    assert world.read(first).lease_s == world.plane.settings.keys.lease_s
    world.plane.world.manual.advance(98)
    assert world.read(first).lease_s == pytest.approx(2)
    world.plane.world.manual.advance(3)
    assert "its time is over" in refused(lambda: world.read(first), "LockboxRefused")
    assert "its time is over" in refused(lambda: world.grant(said), "LockboxRefused")


# What was signed


@pytest.mark.parametrize(
    "changes",
    [
        {"scope": ("files/*",)},
        {"duration_s": 28_800.0},
        {"not_after": 1_800_086_400.0},
        {"purpose": "Something else"},
        {"request": "11111111-2222-4333-8444-555555555555"},
        {"operator": Operator("11111111-2222-4333-8444-555555555555", "x")},
        {"account": "/subscriptions/11111111-1111-4111-8111-111111111111/resourcegroups/group1/providers/x/y/z"},
        {"type": BREAK_GLASS},
    ],
    ids=range(8),
)
def test_an_approval_that_was_changed_after_it_was_signed(world: Protected, changes: dict[str, Any]) -> None:
    said = world.request()
    whole = signed(said, world.alices)
    forged = msgspec.structs.replace(whole, payload=msgspec.json.encode(changed(said, **changes)))
    evidence = world.arm(world.operator)
    with pytest.raises(Fault):
        world.broker.grant_access(changes.get("request", said.request), forged, evidence)
    assert world.audit.placed[-1].operation.endswith("/bind"), "nothing was granted"


def test_only_approvers_of_the_statement_approve_and_nobody_for_themselves(world: Protected) -> None:
    said, mallory = world.request(), Signer("alice", world.alices.principal)
    refused(lambda: world.grant(said, mallory), "NotSigned")
    refused(lambda: world.grant(said, Signer("mallory")), "NotSigned")
    refused(lambda: world.grant(said, world.alices, mallory), "NotSigned")
    world.bind(world.statement(approvers=(world.alices.approver, world.operators.approver, world.bobs.approver)))
    again = world.request()
    assert "own request" in refused(lambda: world.grant(again, world.operators), "NotSigned")
    world.grant(again, world.operators, world.alices)
    world.bind(world.statement(threshold=2), world.bobs)
    third = world.request()
    refused(lambda: world.grant(third), "NotSigned")
    world.grant(third, world.alices, world.bobs)


def test_an_approval_is_for_the_request_it_was_made_for(world: Protected) -> None:
    first, second = world.request(), world.request()
    evidence = world.arm(world.operator)
    whole = signed(first, world.alices)
    refused(lambda: world.broker.grant_access(second.request, whole, evidence), "LockboxRefused")
    borrowed = changed(second, nonce=first.nonce)
    refused(lambda: world.grant(borrowed), "ChallengeOver", FaultKind.CONFLICT)
    made_up = changed(first, nonce="A" * 64)
    refused(lambda: world.grant(made_up), "ChallengeOver", FaultKind.CONFLICT)
    for place in range(len(first.nonce)):
        nonce = first.nonce[:place] + ("A" if first.nonce[place] != "A" else "B") + first.nonce[place + 1 :]
        refused(lambda nonce=nonce: world.grant(changed(first, nonce=nonce)), "ChallengeOver", FaultKind.CONFLICT)  # type: ignore[misc]


def test_there_is_one_approval_for_a_request(world: Protected) -> None:
    said = world.request()
    world.grant(said)
    wider = changed(said, scope=("files/*",))
    assert "before" in refused(lambda: world.grant(wider, world.bobs), "LockboxRefused")
    world.grant(said)


def test_a_newer_statement_ends_what_was_approved_under_the_one_before(world: Protected) -> None:
    said = world.request()
    lent = world.grant(said)
    waiting = world.request()
    world.bind(world.statement())
    assert "another statement" in refused(lambda: world.read(lent), "LockboxRefused")
    refused(lambda: world.grant(said), "LockboxRefused")
    refused(lambda: world.grant(waiting), "LockboxRefused")
    world.grant(world.request())


def test_an_approval_has_its_time(world: Protected) -> None:
    now = world.clock.now()
    later = world.request(not_before=now + 60, not_after=now + 600)
    assert "not valid yet" in refused(lambda: world.grant(later), "LockboxRefused")
    world.plane.world.manual.advance(40)
    world.grant(later)
    over = world.request(not_after=world.clock.now() + 10)
    world.plane.world.manual.advance(10)
    assert "time is over" in refused(lambda: world.grant(over), "LockboxRefused")
    world.plane.world.manual.advance(-600)
    refused(lambda: world.grant(over), "LockboxRefused")


def test_a_request_lapses_even_if_something_was_signed_for_it(world: Protected) -> None:
    now = world.clock.now()
    said = world.request(not_after=now + 5 * 86_400)
    world.plane.world.manual.advance(4 * 86_400 + 28_800)
    assert "lapsed" in refused(lambda: world.grant(said), "LockboxRefused")


def test_setting_the_clock_back_lengthens_nothing(world: Protected) -> None:
    said = world.request(duration_s=600.0)
    lent = world.grant(said)
    world.plane.world.manual.advance(590)
    world.read(lent)
    clock = world.plane.world.manual
    clock._now -= 580  # the wall clock alone
    world.read(lent)
    clock._monotonic += 11
    assert "its time is over" in refused(lambda: world.read(lent), "LockboxRefused")
    refused(lambda: world.grant(said), "LockboxRefused")


def test_what_is_revoked_stays_revoked(world: Protected) -> None:
    said = world.request()
    lent = world.grant(said)
    world.read(lent)
    world.broker.revoke_access(said.request)
    refused(lambda: world.read(lent), "LockboxRevoked")
    refused(lambda: world.grant(said), "LockboxRevoked")
    refused(lambda: world.request(name=said.request), "LockboxRevoked")
    world.broker.revoke_access(said.request)
    never_opened = new_guid()
    world.broker.revoke_access(never_opened)
    refused(lambda: world.request(name=never_opened), "LockboxRevoked")
    refused(lambda: world.broker.revoke_access("../x"), None, FaultKind.INVALID)
    assert world.another()._state().floors.is_revoked(said.request)


def test_a_restart_ends_everything_that_was_granted_or_open(world: Protected) -> None:
    said = world.request()
    lent = world.grant(said)
    waiting = world.request()
    world.broker = world.another()
    refused(lambda: world.read(lent), None, FaultKind.UNAUTHENTICATED)
    for one in (said, waiting):
        refused(lambda one=one: world.grant(one), "ChallengeOver", FaultKind.CONFLICT)  # type: ignore[misc]
    world.grant(world.request(name=waiting.request))


# The operator


def test_the_operator_shows_who_they_are_and_that_they_are_here(world: Protected) -> None:
    said = world.request()
    assert "another operator" in refused(lambda: world.grant(said, by=world.second), "LockboxRefused")
    lent = world.grant(said)
    assert "another operator's" in refused(lambda: world.read(lent, by=world.second), "LockboxRefused")
    nobody = ArmToken(Secret("a.b.c"))
    with pytest.raises(Fault) as caught:
        world.broker.grant_access(said.request, signed(said, world.alices), nobody)
    assert caught.value.kind is FaultKind.UNAUTHENTICATED
    for grant, token in (
        (lent.grant, nobody.token),
        (Secret(b""), world.arm(world.operator).token),
        (Secret(b"x" * 300), world.arm(world.operator).token),
    ):
        with pytest.raises(Fault) as caught:
            world.ask(evidence=OperatorGrant(grant, token), access="read", data_action=READ)
        assert caught.value.kind is FaultKind.UNAUTHENTICATED


def test_a_sign_in_is_fresh_when_it_is_used(world: Protected) -> None:
    said = world.request()
    token = world.arm(world.operator)
    world.plane.world.manual.advance(901)
    with pytest.raises(Fault) as caught:
        world.broker.grant_access(said.request, signed(said, world.alices), token)
    assert caught.value.code == "SignInRequired"
    lent = world.grant(said)
    world.plane.world.manual.advance(1800)
    world.read(lent)


def test_an_operator_without_the_role_any_more_reads_nothing(world: Protected) -> None:
    said = world.request()
    lent = world.grant(said)
    with world.plane.world.database.write() as writer:
        for document in writer.list("microsoft.authorization/roleassignments"):
            if document.body["properties"]["principalId"] == world.operator.object_id:
                writer.remove(document)
    assert "lacks the data action" in refused(lambda: world.read(lent), "LockboxRefused")
    refused(lambda: world.grant(said), "LockboxRefused")
    refused(world.request, "LockboxRefused")


def test_who_opens_a_request(world: Protected) -> None:
    name = new_guid()
    opened = world.broker.open_request(world.account.id, name, world.arm(world.operator))
    assert opened.statement == digest(world.payload)
    assert opened.expires_at == world.clock.now() + 4 * 86_400
    again = world.broker.open_request(world.account.id.upper(), name, world.arm(world.bob))
    assert again.nonce == opened.nonce, "several approvers sign the same"
    world.bind(world.statement(threshold=1))
    under_the_next = world.broker.open_request(world.account.id, name, world.arm(world.operator))
    assert under_the_next.nonce != opened.nonce
    stranger, _ = world.somebody("stranger", "")
    refused(lambda: world.broker.open_request(world.account.id, name, world.arm(stranger)), "LockboxRefused")
    other = world.plane.account("a2")
    refused(lambda: world.broker.open_request(other.id, name, world.arm(world.operator)), "LockboxNotProtected")
    refused(
        lambda: world.broker.open_request(world.account.id, "x", world.arm(world.operator)),
        None,
        FaultKind.INVALID,
    )


def test_a_request_is_one_accounts(world: Protected) -> None:
    said = world.request()
    other = world.plane.account("a2", internalId="7" * 32)
    first, world.account = world.account, other
    world.payload, before = b"", world.payload
    told = world.statement(account_guid="7" * 32)
    world.bind(told)
    refused(lambda: world.request(name=said.request), "ChallengeOver", FaultKind.CONFLICT)
    refused(lambda: world.grant(changed(said, account=other.id)), "LockboxRefused")
    world.account, world.payload = first, before
    lent = world.grant(said)
    world.account = other
    assert "another account" in refused(lambda: world.read(lent), "LockboxRefused")


# Which accounts


@pytest.mark.parametrize(
    ("kind", "sku", "code"),
    [
        ("LUIS.Authoring", "E0", "LockboxAccountClosed"),
        ("Face", "E0", "LockboxAccountClosed"),
        ("SpeechServices", "S0", "LockboxOwnStorage"),
        ("Face", "S0", ""),
    ],
)
def test_some_accounts_are_never_opened_request_or_not(world: Protected, kind: str, sku: str, code: str) -> None:
    said = world.request()
    lent = world.grant(said)
    with world.plane.world.database.write() as writer:
        document = writer.get(world.account.id)
        assert document is not None
        writer.put(document.id, document.type, {**document.body, "kind": kind, "sku": {"name": sku}})
    for step in (world.request, lambda: world.grant(said), lambda: world.read(lent)):
        if code:
            refused(step, code)
        else:
            step()


def test_a_tenant_that_has_not_opted_in_is_not_read(world: Protected) -> None:
    lent = world.grant(world.request())
    before = world.policy["lockbox"]
    world.policy["lockbox"] = before[1:]
    refused(world.request, "LockboxNotEnabled")
    refused(lambda: world.read(lent), "LockboxNotEnabled")
    world.policy["lockbox"] = (("lockbox", "tenant", "yes"), *before[1:])
    refused(lambda: world.read(lent), "LockboxNotEnabled")
    world.policy["lockbox"] = before
    world.read(lent)


def test_settings_make_it_narrower(tmp_path: Path) -> None:
    world = Protected(tmp_path, lockbox=Rules(max_hours=1, require_mfa=True))
    world.protect()
    said = world.request(duration_s=3601.0, not_after=world.clock.now() + 7200)
    refused(lambda: world.grant(world.request()), "MfaRequired")
    refused(lambda: world.grant(said), "MfaRequired")
    world.close()


# Breaking the glass


def glass(world: Protected, **changes: Any) -> Approval:
    return world.request(type=BREAK_GLASS, **changes)


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Protected]:
    found = Protected(tmp_path, lockbox=Rules(break_glass=True))
    clause = BreakGlass((found.operators.approver, found.seconds.approver))
    found.protect(break_glass=clause)
    yield found
    found.close()


def test_two_operators_break_the_glass_where_it_was_agreed(fragile: Protected) -> None:
    said = glass(fragile)
    refused(lambda: fragile.grant(said, fragile.operators), "NotSigned")
    refused(lambda: fragile.grant(said, fragile.alices, fragile.bobs), "NotSigned")
    lent = fragile.grant(said, fragile.operators, fragile.seconds)
    placed = fragile.audit.placed[-1]
    assert placed.operation == "Stockade.Lockbox/access/breakGlass"
    assert placed.because is not None
    assert placed.because["signers"] == "operator, second"
    fragile.read(lent)
    longer = glass(fragile, duration_s=3601.0, not_after=fragile.clock.now() + 7200)
    refused(lambda: fragile.grant(longer, fragile.operators, fragile.seconds), "LockboxRefused")
    fragile.bind(fragile.statement())
    again = glass(fragile)
    assert "no clause" in refused(lambda: fragile.grant(again, fragile.operators, fragile.seconds), "LockboxRefused")
    ordinary = fragile.request()
    refused(lambda: fragile.grant(ordinary, fragile.operators, fragile.seconds), "NotSigned")


def test_without_the_setting_nobody_breaks_it(world: Protected) -> None:
    world.bind(world.statement(break_glass=BreakGlass((world.operators.approver, world.seconds.approver))))
    said = glass(world)
    message = refused(lambda: world.grant(said, world.operators, world.seconds), "LockboxRefused")
    assert "lockbox.break_glass" in message


# Limits


def test_what_is_open_is_bounded_and_revoking_never_fails_for_it(
    world: Protected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockade.broker.lockbox.MAX_OPEN", 2)
    monkeypatch.setattr("stockade.broker.lockbox.MAX_REVOKED", 1)
    first, second = world.request(), world.request()
    refused(world.request, None, FaultKind.LIMIT)
    for one in (first, second):
        world.broker.revoke_access(one.request)
        refused(lambda one=one: world.grant(one), "LockboxRevoked")  # type: ignore[misc]
    unknown = new_guid()
    world.broker.revoke_access(unknown)
    assert world.broker._state().floors.revocations == 2
    world.plane.world.manual.advance(4 * 86_400 + 1)
    world.request()


def test_an_operator_reads_so_much_at_once(world: Protected) -> None:
    lent = world.grant(world.request(scope=("files/*",)))
    world.read(lent, *(ref(f"file-{n}") for n in range(100)))
    record = world.audit.placed[-1]
    assert record.because is not None
    assert record.because["paths"].count("files/") == 100
    refused(lambda: world.read(lent, *(ref(f"file-{n}") for n in range(101))), None, FaultKind.INVALID)


def test_an_operators_grant_starts_no_job_and_opens_nothing_else(world: Protected) -> None:
    lent = world.grant(world.request())
    evidence = world.evidence(lent)
    scope = JobScope(("files/file-1",), (), world.clock.now() + 60)
    with pytest.raises(Fault) as caught:
        world.broker.job_grant(world.account.id, "job", scope, READ, evidence)
    assert caught.value.kind is FaultKind.UNAUTHENTICATED
    with pytest.raises(Fault) as caught:
        world.ask(evidence=JobGrant(lent.grant), access="read", data_action=READ)
    assert caught.value.kind is FaultKind.UNAUTHENTICATED


def test_a_grant_of_another_process_or_of_another_form_is_none() -> None:
    granted = OperatorGranted("r", "a", "s", "p", ("files/*",), "o", "t", break_glass=False)
    ours, other = LockboxTokens(), LockboxTokens()
    shown = ours.grant(granted)
    assert ours.read(shown) == granted
    nonce = ours.challenge("r", "a", "s", 7.0)
    assert ours.created_at(nonce, "r", "a", "s") == 7.0
    value = shown.reveal()
    wrong = [value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :] for place in range(len(value))]
    for one in (*wrong, value[:-1], value + b"\0", value[32:], b""):
        with pytest.raises(Fault):
            ours.read(Secret(one))
    with pytest.raises(Fault):
        other.read(shown)
    for parts in (("x", "a", "s"), ("r", "x", "s"), ("r", "a", "x"), ("ra", "", "s")):
        with pytest.raises(Fault):
            ours.created_at(nonce, *parts)
    with pytest.raises(Fault):
        other.created_at(nonce, "r", "a", "s")
