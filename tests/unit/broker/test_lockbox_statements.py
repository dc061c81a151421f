"""Statements bound to data keys: who may, what continues what, and what a database that was changed or put back opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stockade.broker.floors import FILE_NAME
from stockade.kernel.evidence import CallerToken
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.secret import Secret
from stockade.keys.stored import DATA_KEYS, LOCKBOX, data_keys_form, data_keys_of, statement_form
from stockade.lockbox.signature import Signed
from stockade.lockbox.statement import Callers, PinnedIssuer, Statement, digest
from stockade.management.first_start import assign_role
from tests.factories.broker import CONTRIBUTOR, ref
from tests.factories.data_plane import GROUP
from tests.factories.lockbox import Authenticator, Signer, signed
from tests.factories.protected import GUID, READ, Protected

MISMATCH = "LockboxStatementMismatch"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Protected]:
    found = Protected(tmp_path)
    yield found
    found.close()


def refused(call: Callable[[], object], code: str | None, kind: FaultKind | None = None) -> str:
    of_lockbox = code in {MISMATCH, "LockboxCallerNotNamed"}
    with pytest.raises(Fault) as caught:
        call()
    wanted = kind or (FaultKind.LOCKBOX_DENIED if of_lockbox else FaultKind.PERMISSION_DENIED)
    assert (caught.value.code, caught.value.kind) == (code, wanted), caught.value.message
    return caught.value.message


def opens(world: Protected, version: str = "") -> list[bytes]:
    return [key.reveal() for key in world.ask(ref(data_key=version), access="read", data_action=READ).keys]


def keys_of(world: Protected) -> tuple[Any, ...]:
    return data_keys_of(world.private())


def restarted(world: Protected) -> None:
    world.broker.close()
    world.broker = world.another()


# Binding


def test_data_keys_are_wrapped_along_with_the_statement_and_a_new_one_begins(world: Protected) -> None:
    before = world.ask()
    (bare,) = keys_of(world)
    whole = world.protect()
    old, new = keys_of(world)
    assert {old.statement, new.statement} == {digest(whole.payload)}
    assert (old.version, old.created_at) == (bare.version, bare.created_at)
    assert old.wrapped != bare.wrapped
    assert opens(world, bare.version) == [key.reveal() for key in before.keys], "what was kept is there"
    assert world.ask().data_key == new.version
    assert opens(world, new.version) != opens(world, bare.version)
    record = next(one for one in world.audit.placed if one.operation == "Stockade.Lockbox/statements/bind")
    assert record.because is not None
    assert (record.because["statement"], record.because["sequence"]) == (old.statement, "1")


def test_an_account_from_before_there_were_data_keys_begins_with_one(world: Protected) -> None:
    world.protect()
    (only,) = keys_of(world)
    assert world.ask().data_key == only.version


def test_each_further_statement_is_signed_by_the_approvers_of_the_one_before(world: Protected) -> None:
    carol = Authenticator()
    world.protect()
    following = world.statement(approvers=(carol.approver,))
    for signers in ((Signer("alice", world.alices.principal),), (carol,), (world.operators,)):
        refused(lambda signers=signers: world.bind(following, *signers), "NotSigned")  # type: ignore[misc]
    stranger, _ = world.somebody("stranger", "")
    world.bind(following, world.bobs, by=stranger)
    assert len(keys_of(world)) == 2
    world.bind(world.statement(approvers=(world.alices.approver, world.bobs.approver), threshold=2), carol)
    last = world.statement(threshold=2)
    refused(lambda: world.bind(last, carol), "NotSigned")
    refused(lambda: world.bind(last, world.alices), "NotSigned")
    world.bind(last, world.alices, world.bobs)


def test_a_first_statement_is_an_owners_who_is_an_approver_and_has_signed(world: Protected) -> None:
    told = world.statement()
    refused(lambda: world.bind(told, by=world.operator), None)
    refused(lambda: world.bind(told, by=world.bob), None)
    with world.plane.world.database.write() as writer:
        assign_role(writer, GROUP, CONTRIBUTOR, world.bob.object_id, "ServicePrincipal", world.clock.now())
    assert "takes an Owner" in refused(lambda: world.bind(told, world.bobs, by=world.bob), None)
    refused(lambda: world.bind(told, world.bobs), "NotSigned")
    refused(lambda: world.bind(told, Signer("alice", world.alices.principal)), "NotSigned")
    whole = signed(told, world.alices)
    refused(
        lambda: world.broker.bind_statement(world.account.id, Signed(whole.payload, ()), world.arm(world.alice)),
        "NotSigned",
    )
    assert not [one for one in world.audit.records if one.operation.endswith("bind") and one.decision == "allow"]
    world.bind(told)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"account_guid": "6" * 32}, FaultKind.INVALID),
        ({"account": GROUP.lower() + "/providers/microsoft.cognitiveservices/accounts/a2"}, FaultKind.INVALID),
        ({"sequence": 3}, FaultKind.CONFLICT),
        ({"sequence": 1, "previous": "", "issued_at": 7.0}, FaultKind.CONFLICT),
        ({"previous": "a" * 64}, FaultKind.CONFLICT),
    ],
    ids=range(5),
)
def test_what_does_not_continue(world: Protected, changes: dict[str, Any], kind: FaultKind) -> None:
    world.protect()
    with pytest.raises(Fault) as caught:
        world.bind(world.statement(**changes))
    assert caught.value.kind is kind
    opens(world)


def test_a_first_statement_continues_nothing(world: Protected) -> None:
    told = world.statement(sequence=2, previous="a" * 64)
    refused(lambda: world.bind(told), "StatementOutOfSequence", FaultKind.CONFLICT)


def test_the_same_statement_again_changes_nothing(world: Protected) -> None:
    whole = world.protect()
    held = keys_of(world)
    assert world.broker.bind_statement(world.account.id, whole, world.arm(world.alice)) == held
    refused(lambda: world.broker.bind_statement(world.account.id, whole, world.arm(world.operator)), None)


def test_a_statement_that_was_bound_and_not_stored_can_be_made_anew(world: Protected) -> None:
    first = world.statement()
    world.broker.bind_statement(world.account.id, signed(first, world.alices), world.arm(world.alice))
    opens(world)
    world.bind(msgspec.structs.replace(first, issued_at=first.issued_at + 1))
    opens(world)


def test_protection_ends_with_a_statement_that_says_so(world: Protected) -> None:
    world.protect(callers=Callers(keys=(world.forget(),)))
    token = world.plane.caller("reader", "Cognitive Services OpenAI User")[1]
    by_token = CallerToken(Secret(token))
    refused(lambda: world.ask(evidence=by_token, access="read", data_action=READ), "LockboxCallerNotNamed")
    lent = world.grant(world.request())
    off = world.statement(protected=False)
    refused(lambda: world.bind(off, world.operators), "NotSigned")
    world.bind(off, world.bobs)
    world.ask(evidence=by_token, access="read", data_action=READ)
    refused(lambda: world.read(lent), "LockboxRefused")
    refused(world.request, "LockboxNotProtected")
    refused(lambda: world.bind(world.statement(), world.bobs, by=world.bob), None)
    world.bind(world.statement())
    restarted(world)
    opens(world)


def test_data_keys_are_so_many(world: Protected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stockade.broker.lockbox.MAX_DATA_KEYS", 2)
    world.protect()
    world.bind(world.statement())
    refused(lambda: world.bind(world.statement()), None, FaultKind.LIMIT)


def test_what_pins_nothing_is_not_bound(world: Protected) -> None:
    ours = PinnedIssuer(world.plane.world.issuer, ("A" * 43,))
    refused(lambda: world.protect(callers=Callers(issuers=(ours,))), "InvalidStatement", FaultKind.INVALID)
    told = world.statement(callers=Callers(keys=("b" * 64,)))
    message = refused(lambda: world.bind(told), "KeyNotForgotten", FaultKind.INVALID)
    assert '"forget": true' in message
    sha = world.forget()
    world.protect(callers=Callers(keys=(sha,)))


# With customers' keys


def test_a_customers_key_stays_around_it_and_wrapping_anew_keeps_the_statement(world: Protected) -> None:
    world.ask()
    (bare,) = keys_of(world)
    world.key()
    _, binding = world.bound(world.account)
    shown = world.writer()
    held = world.broker.rewrap(world.account.id, bare, None, binding, shown)
    world.store({DATA_KEYS: data_keys_form((held,))})
    first = opens(world, bare.version)
    world.protect()
    assert all(one.customer == held.customer and one.statement for one in keys_of(world))
    assert opens(world, bare.version) == first
    world.key(version="3" * 32, created=world.clock.now() + 1)
    world.broker.rotate_platform()
    wrapped = [world.broker.rewrap(world.account.id, one, binding, binding, None) for one in keys_of(world)]
    world.store({DATA_KEYS: data_keys_form(wrapped)})
    assert all(one.customer.endswith("3" * 32) and one.statement == digest(world.payload) for one in wrapped)
    restarted(world)
    assert opens(world, bare.version) == first
    bare_again = [world.broker.rewrap(world.account.id, one, binding, None, shown) for one in wrapped]
    assert {one.statement for one in bare_again} == {digest(world.payload)}, (
        "whoever may write the account unbinds no statement"
    )
    without = msgspec.structs.replace(bare_again[0], statement="")
    with pytest.raises(Fault):
        world.broker.rewrap(world.account.id, without, None, None, shown)
    world.key(version="3" * 32, enabled=False)
    with pytest.raises(Fault) as caught:
        world.bind(world.statement())
    assert caught.value.kind is FaultKind.CUSTOMER_KEY_UNAVAILABLE


# A database that somebody has written into, or put back


def test_what_was_kept_under_a_statement_does_not_open_without_it(world: Protected) -> None:
    world.ask()
    before = world.private()
    world.protect()
    version = world.ask().data_key
    good = world.private()
    keys = data_keys_of(good)
    stripped = [msgspec.structs.replace(one, statement="") for one in keys]
    other = world.statement(sequence=1, previous="", approvers=(world.operators.approver,))
    forged = signed(other, world.operators)
    rebound = [msgspec.structs.replace(one, statement=digest(forged.payload)) for one in keys]
    unsigned = Signed(world.payload, ())
    for changes in (
        {LOCKBOX: None},
        {LOCKBOX: None, DATA_KEYS: data_keys_form(stripped)},
        {LOCKBOX: statement_form(forged)},
        {LOCKBOX: statement_form(forged), DATA_KEYS: data_keys_form(rebound)},
        {LOCKBOX: {"payload": "eA==", "signatures": []}},
        {DATA_KEYS: before[DATA_KEYS], LOCKBOX: None},
        {DATA_KEYS: before[DATA_KEYS]},
        {DATA_KEYS: [*data_keys_form(keys), *before[DATA_KEYS]]},
        {DATA_KEYS: data_keys_form([msgspec.structs.replace(stripped[0], version=keys[1].version)]), LOCKBOX: None},
    ):
        world.store({DATA_KEYS: good[DATA_KEYS], LOCKBOX: good[LOCKBOX], **changes})
        for attempt in (lambda: opens(world, version), lambda: opens(world, keys[0].version), world.ask):
            with pytest.raises(Fault) as caught:
                attempt()
            assert caught.value.kind in {FaultKind.LOCKBOX_DENIED, FaultKind.UNAVAILABLE, FaultKind.NOT_FOUND}
    world.store({DATA_KEYS: good[DATA_KEYS], LOCKBOX: statement_form(unsigned)})
    opens(world, version)  # the keys are bound to the bytes: who had signed them mattered when they were bound


def test_data_keys_from_before_the_protection_stay_shut(world: Protected) -> None:
    world.ask()
    before = world.private()
    world.protect()
    opens(world)
    old = before[DATA_KEYS][0]["version"]
    world.store({DATA_KEYS: before[DATA_KEYS], LOCKBOX: None})
    assert "has none any more" in refused(lambda: opens(world, old), MISMATCH)
    restarted(world)
    refused(lambda: opens(world, old), MISMATCH)
    own = world.statement(sequence=1, previous="", approvers=(world.alices.approver,))
    refused(lambda: world.bind(own), MISMATCH)


def test_an_account_that_lost_statement_and_keys_is_given_no_new_ones(world: Protected) -> None:
    world.protect()
    opens(world)
    good = world.private()
    world.store({DATA_KEYS: [], LOCKBOX: None})
    assert "has none any more" in refused(world.ask, MISMATCH)
    refused(lambda: world.bind(world.statement(sequence=1, previous="", issued_at=7.0)), MISMATCH)
    world.store({DATA_KEYS: good[DATA_KEYS], LOCKBOX: good[LOCKBOX]})
    opens(world)


def test_the_floor_is_there_as_soon_as_the_statement_is_stored(world: Protected) -> None:
    world.ask()
    before = world.private()
    world.protect()
    world.broker.sweep()
    restarted(world)
    world.store({DATA_KEYS: before[DATA_KEYS], LOCKBOX: None})
    refused(lambda: opens(world), MISMATCH)


def test_an_older_statement_does_not_come_back(world: Protected) -> None:
    world.protect(approvers=(world.alices.approver, world.bobs.approver))
    first = world.private()
    world.bind(world.statement(approvers=(world.alices.approver,)))
    opens(world)
    world.store({DATA_KEYS: first[DATA_KEYS], LOCKBOX: first[LOCKBOX]})
    assert "has seen 2" in refused(lambda: opens(world), MISMATCH)
    refused(world.request, MISMATCH)
    restarted(world)
    refused(lambda: opens(world), MISMATCH)


def test_a_restored_database_is_led_to_where_it_was_by_the_same_statements_and_by_no_others(world: Protected) -> None:
    version = world.ask().data_key
    kept = opens(world, version)
    before = world.private()
    steps: list[Signed] = [world.protect()]
    steps += [world.bind(world.statement()) for _ in range(2)]
    opens(world)
    world.store({DATA_KEYS: before[DATA_KEYS], LOCKBOX: None})
    world.payload = b""

    def put(told: Statement, *signers: Signer, whole: Signed | None = None) -> None:
        sent = whole or signed(told, *(signers or (world.alices,)))
        keys = world.broker.bind_statement(world.account.id, sent, world.arm(world.alice))
        world.store({DATA_KEYS: data_keys_form(keys), LOCKBOX: statement_form(sent)})
        world.payload = sent.payload

    for number, step in enumerate(steps):
        put(world.statement(), whole=step)
        if number + 1 < len(steps):
            refused(lambda: opens(world), MISMATCH)
    assert opens(world, version) == kept
    world.store({DATA_KEYS: before[DATA_KEYS], LOCKBOX: None})
    world.payload = b""
    put(world.statement(issued_at=world.clock.now() + 5))
    put(world.statement())
    refused(lambda: put(world.statement()), MISMATCH)
    refused(lambda: opens(world), MISMATCH)


def test_floors_that_were_put_back_open_nothing_that_was_kept_since(world: Protected) -> None:
    """The honest exception: what was kept before, under keys from before, opens again by the rules from before."""
    floors = world.plane.settings.data_dir / FILE_NAME
    old_version = world.ask().data_key
    before = world.private()
    world.protect()
    new_version = world.ask().data_key
    protected = world.private()
    floors.unlink()
    for changes in (
        {LOCKBOX: None},
        {LOCKBOX: None, DATA_KEYS: [{**one, "statement": ""} for one in protected[DATA_KEYS]]},
        {LOCKBOX: None, DATA_KEYS: before[DATA_KEYS]},
    ):
        world.store({**changes})
        restarted(world)
        with pytest.raises(Fault):
            opens(world, new_version)
    assert opens(world, old_version)


def test_another_account_of_the_same_name_begins_anew(world: Protected) -> None:
    world.protect()
    opens(world)
    with world.plane.world.database.write() as writer:
        document = writer.get(world.account.id)
        assert document is not None
        body = {**document.body, "properties": {**document.body["properties"], "internalId": "6" * 32}}
        writer.put(document.id, document.type, body, {**document.private, DATA_KEYS: [], LOCKBOX: None})
    opens(world)
    world.payload = b""
    refused(lambda: world.bind(world.statement(account_guid=GUID)), "InvalidStatement", FaultKind.INVALID)
    world.bind(world.statement(account_guid="6" * 32))
    opens(world)


def test_a_data_key_that_is_open_is_open_beside_its_statement_alone(world: Protected) -> None:
    world.protect()
    version = world.ask().data_key
    good = world.private()
    bogus = [{**one, "statement": "", "wrapped": "AAAA"} for one in good[DATA_KEYS]]
    (world.plane.settings.data_dir / FILE_NAME).unlink()
    floors = world.broker._state().floors
    floors._by_data_key.clear()
    floors._known.statements.clear()
    world.store({LOCKBOX: None, DATA_KEYS: bogus})
    with pytest.raises(Fault) as caught:
        opens(world, version)
    assert caught.value.kind is FaultKind.UNAVAILABLE
