"""What the key broker gives, to whom, and what it writes down before it does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from stockade.identity.audiences import ARM
from stockade.identity.principals import Principal
from stockade.kernel.evidence import ArmToken, CallerKey, CallerToken, Evidence, JobGrant
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.resource_id import ResourceId
from stockade.kernel.secret import Secret
from stockade.keys import request_receipts
from stockade.keys.broker import Binding, JobScope, ObjectKeys, ObjectRef, WrappedDataKey
from stockade.keys.material import KeyRequest, KeySpec
from stockade.keys.request_receipts import Receipt
from stockade.keys.stored import DATA_KEYS, StoredKey, data_keys_form
from stockade.keys.stored import key_of as stored_key
from stockade.management.access import roles
from stockade.management.first_start import assign_role
from stockade.policy.snapshot import CustomerKey, EncryptionScopePolicy
from stockade.storage.documents import State
from tests.factories.broker import CONTRIBUTOR, VAULT, Brokered, ref
from tests.factories.data_plane import GROUP, Account

READ, WRITE = "OpenAI/files/read", "OpenAI/files/write"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Brokered]:
    found = Brokered(tmp_path)
    yield found
    found.close()


def key_of(account: Account) -> CallerKey:
    return CallerKey(Secret(account.key))


def ask(
    world: Brokered, account: Account, *objects: ObjectRef, evidence: Evidence | None = None, **changes: Any
) -> ObjectKeys:
    asked: dict[str, Any] = {"access": "write", "data_action": WRITE, "asked_by": "test", **changes}
    return world.broker.object_keys(account.id, objects or (ref(),), evidence=evidence or key_of(account), **asked)


def refused(call: Callable[[], object], kind: FaultKind) -> Fault:
    with pytest.raises(Fault) as caught:
        call()
    assert caught.value.kind is kind, caught.value.message
    return caught.value


def vault_caller(world: Brokered) -> tuple[Principal, CallerToken]:
    principal, _ = world.plane.world.application("keeper")
    return principal, CallerToken(Secret(world.plane.world.token(principal, VAULT)))


def revealed(keys: ObjectKeys) -> list[bytes]:
    return [key.reveal() for key in keys.keys]


def test_the_same_object_has_the_same_key_and_every_other_thing_another(world: Brokered) -> None:
    account, other = world.plane.account("a1"), world.plane.account("a2")
    objects = [ref(), ref("file-2"), ref(version="ab"), ref(part="metadata")]
    first = ask(world, account, *objects)
    assert len(set(revealed(first))) == 4
    assert all(len(key) == 32 for key in revealed(first))
    again = world.another().object_keys(
        account.id, [ref(data_key=first.data_key)], "read", READ, key_of(account), "test"
    )
    assert revealed(again) == revealed(first)[:1], "also after a restart"
    assert revealed(ask(world, other)) != revealed(first)[:1]
    assert first.lease_s == world.plane.settings.keys.lease_s


def test_what_no_credential_proves_gives_no_key(world: Brokered) -> None:
    account, other = world.plane.account("a1"), world.plane.account("a2")
    stranger, token = world.plane.caller("stranger", None)
    for evidence, kind in (
        (CallerKey(Secret("")), FaultKind.KEY_REJECTED),
        (CallerKey(Secret("x" * 5000)), FaultKind.UNAUTHENTICATED),
        (key_of(other), FaultKind.KEY_REJECTED),
        (CallerToken(Secret(b"\xff\xfe")), FaultKind.UNAUTHENTICATED),
        (CallerToken(Secret("a.b.c")), FaultKind.UNAUTHENTICATED),
        (CallerToken(Secret(world.plane.world.token(stranger, VAULT))), FaultKind.UNAUTHENTICATED),
        (CallerToken(Secret(token)), FaultKind.PERMISSION_DENIED),
        (JobGrant(Secret(b"")), FaultKind.UNAUTHENTICATED),
        (JobGrant(Secret(b"x" * 200)), FaultKind.UNAUTHENTICATED),
    ):
        refused(lambda evidence=evidence: ask(world, account, evidence=evidence), kind)  # type: ignore[misc]
    refused(lambda: ask(world, dataclasses.replace(account, id=account.id + "x")), FaultKind.NOT_FOUND)
    assert {record.decision for record in world.audit.records} == {"deny"}


def test_a_role_for_a_while_is_worth_a_key_until_it_ends_by_the_brokers_own_clock(world: Brokered) -> None:
    """Nothing is committed and nothing published when it ends: the broker looks at the clock, not at whether somebody has tidied up."""
    account, plane = world.plane.account("a1"), world.plane
    contributor, now = "a001fd3d-188f-4b5d-821b-7da978bf7442", plane.world.clock.now()
    guest, token = plane.caller("guest", None)
    with plane.world.database.write() as writer:
        roles.put(
            writer,
            name="55555555-5555-4555-8555-555555555555",
            scope=ResourceId.parse(account.id),
            role_id=contributor,
            principal_id=guest.object_id,
            principal_type="ServicePrincipal",
            author="",
            window=roles.While(now, now + 60, "/r"),
        )
    evidence = CallerToken(Secret(token))
    assert ask(world, account, evidence=evidence).keys
    plane.world.manual.advance(59.9)
    assert ask(world, account, evidence=evidence).keys
    plane.world.manual.advance(0.1)
    refused(lambda: ask(world, account, evidence=evidence), FaultKind.PERMISSION_DENIED)


def test_a_regenerated_key_proves_nothing_any_more(world: Brokered) -> None:
    account = world.plane.account()
    ask(world, account)
    world.plane.regenerate(account)
    refused(lambda: ask(world, account), FaultKind.KEY_REJECTED)


def test_an_account_without_local_authentication_takes_no_key(world: Brokered) -> None:
    account = world.plane.account(disableLocalAuth=True)
    refused(lambda: ask(world, account), FaultKind.LOCAL_AUTH_DISABLED)


def test_a_token_needs_the_data_action_and_the_data_action_the_kind(world: Brokered) -> None:
    account = world.plane.account()
    _, token = world.plane.caller("reader", "Cognitive Services OpenAI User")
    _, powerful = world.plane.caller("writer", "Cognitive Services OpenAI Contributor")
    reader, writer = CallerToken(Secret(token)), CallerToken(Secret(powerful))
    made = ask(world, account, evidence=writer)
    ask(world, account, ref(data_key=made.data_key), evidence=reader, access="read", data_action=READ)
    refused(lambda: ask(world, account, evidence=reader), FaultKind.PERMISSION_DENIED)
    chat = "OpenAI/deployments/chat/completions/action"
    refused(lambda: ask(world, account, evidence=reader, access="read", data_action=chat), FaultKind.PERMISSION_DENIED)
    unknown = ObjectRef("secrets/x", "aa")
    refused(lambda: ask(world, account, unknown, evidence=writer), FaultKind.PERMISSION_DENIED)


@pytest.mark.parametrize(
    "wrong",
    [
        ObjectRef("files", "aa"),
        ObjectRef("files/../x", "aa"),
        ObjectRef("files/x/y", "aa"),
        ObjectRef("files/x", ""),
        ObjectRef("files/x", "a" * 65),
        ObjectRef("files/x", "aa", data_key="../"),
        ObjectRef("FILES/x", "aa"),
    ],
    ids=range(7),
)
def test_what_is_no_object_has_no_key(world: Brokered, wrong: ObjectRef) -> None:
    refused(lambda: ask(world, world.plane.account(), wrong), FaultKind.INVALID)


def test_every_answer_is_recorded_before_it_is_given_and_without_a_record_there_is_none(world: Brokered) -> None:
    account = world.plane.account()
    ask(world, account, ref("file-7"))
    record = world.audit.records[-1]
    assert (record.operation, record.decision, record.credential) == ("Stockade.Keys/content/write", "allow", "Key1")
    assert (record.resource.lower(), record.client) == (account.id, "test")
    assert record.because == {"dataAction": WRITE, "paths": "files/file-7", "evidence": "key"}
    world.audit.healthy = False
    refused(lambda: ask(world, account), FaultKind.UNAVAILABLE)
    assert world.audit.records[-1] is record
    assert account.key not in repr(world.audit.records)


def test_a_job_goes_on_with_what_its_starter_was_allowed(world: Brokered) -> None:
    account, other = world.plane.account("a1"), world.plane.account("a2")
    scope = JobScope(("files/file-1",), ("files/*", "batches/b1"), world.clock.now() + 3600)
    action = "OpenAI/batches/write"
    grant = JobGrant(world.broker.job_grant(account.id, "b1", scope, action, key_of(account)))
    first = ask(world, account)

    def go(path: str = "files/file-1", **changes: Any) -> ObjectKeys:
        asked: dict[str, Any] = {"access": "read", "data_action": action, "evidence": grant, **changes}
        return ask(world, asked.pop("account", account), ObjectRef(path, "aa"), **asked)

    assert revealed(go()) == revealed(first)
    go("batches/b1", access="write")
    go("files/file-9", access="write")
    refused(lambda: go("batches/b2"), FaultKind.PERMISSION_DENIED)
    refused(lambda: go("responses/r"), FaultKind.PERMISSION_DENIED)
    refused(lambda: go(data_action=READ), FaultKind.PERMISSION_DENIED)
    refused(lambda: go(account=other), FaultKind.UNAUTHENTICATED)
    refused(lambda: world.broker.job_grant(account.id, "b2", scope, action, grant), FaultKind.PERMISSION_DENIED)
    world.plane.regenerate(account)
    go()  # its starter's key is gone; what the job was granted is not
    world.plane.world.manual.advance(3601)
    refused(go, FaultKind.UNAUTHENTICATED)


def test_a_job_gets_no_more_than_its_starter_has(world: Brokered) -> None:
    account = world.plane.account()
    _, token = world.plane.caller("reader", "Cognitive Services OpenAI User")
    now = world.clock.now()

    def grant(scope: JobScope, action: str, evidence: Evidence) -> object:
        return world.broker.job_grant(account.id, "j", scope, action, evidence)

    reader = CallerToken(Secret(token))
    scope = JobScope(("files/file-1",), (), now + 60)
    refused(lambda: grant(scope, "OpenAI/batches/write", reader), FaultKind.PERMISSION_DENIED)
    grant(scope, READ, reader)
    wide = JobScope((), ("files/*",), now + 60)
    refused(lambda: grant(wide, READ, reader), FaultKind.PERMISSION_DENIED)
    refused(lambda: grant(wide, READ, key_of(account)), FaultKind.PERMISSION_DENIED)
    for wrong in (
        JobScope((), (), now),
        JobScope((), (), now + 8 * 86_400),
        JobScope(("*",), (), now + 60),
        JobScope(("files/x/*",), (), now + 60),
        JobScope(("files/a",) * 1001, (), now + 60),
    ):
        refused(lambda wrong=wrong: grant(wrong, READ, key_of(account)), FaultKind.INVALID)  # type: ignore[misc]


def test_a_customers_key_is_around_the_data_key_and_without_it_nothing_opens(world: Brokered) -> None:
    account = world.plane.account()
    world.key()
    identity, binding = world.bound(account)
    held = world.broker.new_data_key(account.id, binding, world.writer())
    assert held.customer == f"{binding.vault_uri}/keys/k1/{'1' * 32}"
    assert len(held.wrapped) == 256
    world.store_data_keys(account, held)
    first = ask(world, account)
    problems = {}
    for name, take_away, give_back in (
        ("KeyDisabled", lambda: world.key(enabled=False), world.key),
        ("KeyExpired", lambda: world.key(expires=world.clock.now()), world.key),
        ("KeyOperationNotPermitted", lambda: world.key(operations=frozenset({"sign"})), world.key),
        (
            "AccessDenied",
            lambda: world.permit(identity, "keys/get"),
            lambda: world.permit(identity, "keys/get", "keys/wrapkey", "keys/unwrapkey"),
        ),
    ):
        take_away()
        fault = refused(lambda: ask(world, account), FaultKind.CUSTOMER_KEY_UNAVAILABLE)
        problems[name] = fault.details["problem"]
        world.broker.sweep()
        assert len(world.broker._open_keys) == 0, "and what was open is wiped"
        give_back()
        assert revealed(ask(world, account)) == revealed(first)
    assert problems == {name: name for name in problems}


def test_a_data_key_is_wrapped_anew_and_stays_the_same(world: Brokered) -> None:
    account = world.plane.account()
    first = ask(world, account)
    (bare,) = world.data_keys(account)
    world.key()
    _, binding = world.bound(account)
    shown = world.writer()
    bound = world.broker.rewrap(account.id, bare, None, binding, shown)
    world.store_data_keys(account, bound)
    world.key(version="3" * 32, created=world.clock.now() + 1)
    rotated = world.broker.rewrap(account.id, bound, binding, binding, None)
    assert rotated.customer.endswith("3" * 32)
    for held in (bound, rotated):
        world.store_data_keys(account, held)
        assert revealed(ask(world, account)) == revealed(first)
    back = world.broker.rewrap(account.id, rotated, binding, None, shown)
    assert (back.version, back.customer) == (bare.version, "")
    world.key(enabled=False)
    refused(lambda: world.broker.rewrap(account.id, bound, binding, None, shown), FaultKind.CUSTOMER_KEY_UNAVAILABLE)
    other = f"{account.id}2"
    refused(lambda: world.broker.rewrap(other, bare, None, None, shown), FaultKind.UNAVAILABLE)
    told = []
    for one in world.audit.records:
        because = one.because or {}
        if "dataKeys/" in one.operation:
            told.append((one.operation[23:], one.outcome, because["before"], because["after"], because.get("evidence")))
    customer = f"{binding.vault_uri}/keys/k1"
    assert told == [
        ("create", "success", "platform", "platform", None),
        ("wrap", "success", "platform", customer, "arm"),
        ("wrap", "success", customer, customer, "policy"),
        ("wrap", "success", customer, "platform", "arm"),
        ("wrap", "failed:CustomerKeyUnavailable", customer, "platform", "arm"),
        ("wrap", "failed:Unavailable", "platform", "platform", "arm"),
    ]


def test_without_a_caller_a_data_key_is_wrapped_as_its_document_says_and_in_no_other_way(world: Brokered) -> None:
    account, other = world.plane.account("a1"), world.plane.account("a2")
    ask(world, account)
    (bare,) = world.data_keys(account)

    def rewrap(
        held: WrappedDataKey, before: Binding | None, after: Binding | None, account_id: str = account.id
    ) -> WrappedDataKey:
        return world.broker.rewrap(account_id, held, before, after, None)

    assert rewrap(bare, None, None, account.id.upper()).version == bare.version
    world.key()
    identity, binding = world.bound(account)
    pinned = Binding(binding.vault_uri, "k1", "1" * 32, identity.object_id)
    bound = world.broker.rewrap(account.id, bare, None, binding, world.writer())
    world.store_data_keys(account, bound)
    for before, after in ((binding, None), (None, None), (None, binding), (binding, pinned), (pinned, binding)):
        fault = refused(lambda b=before, a=after: rewrap(bound, b, a), FaultKind.PERMISSION_DENIED)  # type: ignore[misc]
        assert fault.message.startswith("Nobody asks for it")
    refused(lambda: rewrap(bare, binding, binding), FaultKind.PERMISSION_DENIED)  # it is stored no longer
    world.key("k2")
    world.customer_keys[account.id] = CustomerKey(binding.vault_uri, "k2", "", identity.object_id)
    swapped = Binding(binding.vault_uri, "k2", "", identity.object_id)
    refused(lambda: rewrap(bound, swapped, swapped), FaultKind.PERMISSION_DENIED)  # only the document was changed
    del world.customer_keys[account.id]
    refused(lambda: rewrap(bound, None, None), FaultKind.PERMISSION_DENIED)
    world.customer_keys[account.id] = CustomerKey(binding.vault_uri, "k1", "", identity.object_id)
    refused(lambda: rewrap(bound, binding, binding, other.id), FaultKind.PERMISSION_DENIED)
    refused(lambda: rewrap(bound, binding, binding, account.id + "x"), FaultKind.PERMISSION_DENIED)
    assert rewrap(bound, binding, binding).customer == bound.customer


def test_data_keys_of_encryption_scopes_are_their_own(world: Brokered) -> None:
    account, shown = world.plane.account(), world.writer()
    world.key()
    identity, binding = world.bound(account)
    scope = f"{account.id}/encryptionscopes/s1"
    held = world.broker.new_data_key(scope, binding, shown)
    bare = world.broker.rewrap(scope, held, binding, None, shown)

    def store(key: WrappedDataKey) -> None:
        with world.plane.world.database.write() as writer:
            writer.put(scope, "tests.scopes", {}, {DATA_KEYS: data_keys_form((key,))})

    store(bare)
    assert world.broker.rewrap(scope, bare, None, None, None).customer == ""
    world.policy[scope] = (("customer-key", scope, scope),)
    refused(lambda: world.broker.rewrap(scope, bare, None, None, None), FaultKind.PERMISSION_DENIED)
    key = CustomerKey(binding.vault_uri, "k1", "", identity.object_id)
    world.policy[scope] += (("encryption-scope", scope, EncryptionScopePolicy(scope, account.id, True, key)),)
    store(held)
    refused(lambda: world.broker.rewrap(scope, held, binding, None, None), FaultKind.PERMISSION_DENIED)
    assert world.broker.rewrap(scope, held, binding, binding, None).customer == held.customer


def test_data_keys_are_made_and_bound_for_those_who_may_write_the_account(world: Brokered) -> None:
    account = world.plane.account()
    ask(world, account)
    (bare,) = world.data_keys(account)
    world.key()
    _, binding = world.bound(account)
    principal, for_vault = vault_caller(world)
    scope = f"{account.id}/encryptionScopes/s1"
    nothing = ArmToken(Secret(world.plane.world.token(principal, ARM)))
    for evidence, kind in (
        (nothing, FaultKind.PERMISSION_DENIED),
        (ArmToken(for_vault.token), FaultKind.UNAUTHENTICATED),
        (CallerToken(nothing.token), FaultKind.UNAUTHENTICATED),
        (key_of(account), FaultKind.UNAUTHENTICATED),
    ):
        for call in (
            lambda shown: world.broker.new_data_key(account.id, None, shown),
            lambda shown: world.broker.new_data_key(scope, binding, shown),
            lambda shown: world.broker.rewrap(account.id, bare, None, binding, shown),
            lambda shown: world.broker.rewrap(account.id, bare, None, None, shown),
        ):
            refused(lambda call=call, evidence=evidence: call(evidence), kind)  # type: ignore[misc]
    with world.plane.world.database.write() as writer:
        now = world.clock.now()
        assign_role(writer, account.id, CONTRIBUTOR, principal.object_id, "ServicePrincipal", now)
    world.base.source.current()
    assert world.broker.new_data_key(account.id, binding, nothing).customer
    assert world.broker.new_data_key(scope, None, nothing).wrapped
    assert (world.audit.records[-1].principal, world.audit.records[-1].resource) == (
        principal.object_id,
        scope.lower(),
    )
    refused(lambda: world.broker.new_data_key(f"{account.id}2", None, nothing), FaultKind.PERMISSION_DENIED)


def test_vault_keys_are_used_for_tokens_with_the_permission_and_in_a_state_to_be_used(world: Brokered) -> None:
    version = world.key()
    principal, _ = world.plane.world.application("signer")
    shown = CallerToken(Secret(world.plane.world.token(principal, VAULT)))
    encrypt = KeyRequest(use="encrypt", algorithm="RSA-OAEP-256", value=b"hello")

    def use(request: KeyRequest = encrypt, evidence: Evidence = shown) -> bytes:
        return world.broker.use_key(version.id, request, evidence, "vault").value

    refused(use, FaultKind.PERMISSION_DENIED)
    world.permit(principal, "keys/encrypt", "keys/decrypt")
    sealed = use()
    decrypt = KeyRequest(use="decrypt", algorithm="RSA-OAEP-256", value=sealed)
    assert use(decrypt) == b"hello"
    refused(lambda: use(KeyRequest(use="sign", algorithm="RS256", value=b"d" * 32)), FaultKind.PERMISSION_DENIED)
    ai = CallerToken(Secret(world.plane.world.token(principal)))
    refused(lambda: use(evidence=ai), FaultKind.UNAUTHENTICATED)
    refused(lambda: use(evidence=key_of(world.plane.account())), FaultKind.UNAUTHENTICATED)
    world.key(expires=world.clock.now() - 1)
    assert refused(use, FaultKind.PERMISSION_DENIED).code == "KeyExpired"
    assert use(decrypt) == b"hello", "what was encrypted before is still decrypted"
    world.key(not_before=world.clock.now() + 9)
    assert refused(use, FaultKind.PERMISSION_DENIED).code == "KeyNotYetValid"
    world.key(enabled=False)
    assert refused(lambda: use(decrypt), FaultKind.PERMISSION_DENIED).code == "KeyDisabled"
    world.key(operations=frozenset({"decrypt"}))
    assert refused(use, FaultKind.PERMISSION_DENIED).code == "KeyOperationForbidden"
    told = [(one.decision, one.principal) for one in world.audit.records if "vaultKeys/decrypt" in one.operation]
    assert told == [("allow", principal.object_id)] * 2 + [("deny", principal.object_id)]


def test_secrets_open_for_tokens_with_the_permission(world: Brokered) -> None:
    version = world.secret()
    principal, _ = world.plane.world.application("reader")
    shown = CallerToken(Secret(world.plane.world.token(principal, VAULT)))
    sealed = world.broker.seal_secret(Secret("value"), version.id)
    assert b"value" not in sealed
    refused(lambda: world.broker.open_secret(sealed, version.id, shown, "vault"), FaultKind.PERMISSION_DENIED)
    world.permit(principal, "secrets/get")
    assert world.broker.open_secret(sealed, version.id, shown, "vault").reveal() == b"value"
    other = world.secret("s2")
    refused(lambda: world.broker.open_secret(sealed, other.id, shown, "vault"), FaultKind.UNAVAILABLE)
    disabled = world.secret(enabled=False)
    fault = refused(lambda: world.broker.open_secret(sealed, disabled.id, shown, "vault"), FaultKind.PERMISSION_DENIED)
    assert fault.code == "SecretDisabled"


def test_secrets_are_backed_up_and_restored_by_those_who_need_not_read_them(world: Brokered) -> None:
    version, other = world.secret(enabled=False), world.secret("s2")
    principal, _ = world.plane.world.application("keeper")
    shown = CallerToken(Secret(world.plane.world.token(principal, VAULT)))
    sealed = world.broker.seal_secret(Secret("value"), version.id)
    refused(lambda: world.broker.back_up_secret(sealed, version.id, shown, "vault"), FaultKind.PERMISSION_DENIED)
    world.permit(principal, "secrets/backup")
    backup = world.broker.back_up_secret(sealed, version.id, shown, "vault")
    assert b"value" not in backup
    refused(lambda: world.broker.open_secret(sealed, version.id, shown, "vault"), FaultKind.PERMISSION_DENIED)
    refused(lambda: world.broker.restore_secret(backup, other.id, shown, "vault"), FaultKind.PERMISSION_DENIED)
    world.permit(principal, "secrets/restore", "secrets/get")
    restored = world.broker.restore_secret(backup, other.id, shown, "vault")
    assert world.broker.open_secret(restored, other.id, shown, "vault").reveal() == b"value"
    # Neither a key's backup nor a sealed value is one, nor the other way round.
    for wrong in (sealed, backup[:-1], b"", b"\x01"):
        refused(lambda wrong=wrong: world.broker.restore_secret(wrong, other.id, shown, "vault"), FaultKind.INVALID)
    world.permit(principal, "keys/restore")
    place = f"{world.vault_id}/keys/k2/versions/{other.version}"
    refused(lambda: world.broker.restore_key("software", backup, place, shown, "vault"), FaultKind.INVALID)


def test_keys_are_backed_up_and_restored_by_those_with_the_permission(world: Brokered) -> None:
    version, other = world.key(enabled=False), f"{world.vault_id}/keys/k2/versions/{'3' * 32}"
    principal, shown = vault_caller(world)
    world.permit(principal, "keys/restore")
    refused(lambda: world.broker.back_up_key(version.id, shown, "vault"), FaultKind.PERMISSION_DENIED)
    world.permit(principal, "keys/backup")
    backup = world.broker.back_up_key(version.id.upper(), shown, "vault")
    refused(lambda: world.broker.restore_key("software", backup, other, shown, "vault"), FaultKind.PERMISSION_DENIED)
    world.permit(principal, "keys/restore")
    restored = world.broker.restore_key("software", backup, other, shown, "vault")
    with world.plane.world.database.read() as reader:
        document = reader.get(version.id)
    assert document is not None
    stored = stored_key(document.private)
    assert stored is not None
    assert restored.public == stored.public
    elsewhere = f"{world.vault_id}2/keys/k2/versions/{'3' * 32}"
    refused(lambda: world.broker.restore_key("software", backup, elsewhere, shown, "vault"), FaultKind.NOT_FOUND)
    for wrong in (backup[:-1] + b"\x00", stored.handle, b""):
        refused(
            lambda wrong=wrong: world.broker.restore_key("software", wrong, other, shown, "vault"), FaultKind.INVALID
        )
    told = [(one.operation.rsplit("/", 1)[-1], one.decision, one.principal) for one in world.audit.records[:4]]
    assert told == [
        (word, decision, principal.object_id)
        for word, decision in [("backup", "deny"), ("backup", "allow"), ("restore", "deny"), ("restore", "allow")]
    ]


def test_keys_are_made_for_those_who_may_create_or_rotate_them(world: Brokered) -> None:
    known = world.key().item_id
    principal, shown = vault_caller(world)

    def make(item_id: str, spec: KeySpec, evidence: Evidence = shown, provider: str = "software") -> Any:
        return world.broker.make_key(provider, spec, f"{item_id}/versions/{'5' * 32}", evidence, "vault")

    rsa, curve = KeySpec(type="RSA", size=2048), KeySpec(type="EC", curve="P-256")
    world.permit(principal, "keys/import", "keys/get")
    refused(lambda: make(known, rsa), FaultKind.PERMISSION_DENIED)
    world.permit(principal, "keys/rotate")
    assert make(known, rsa).public.n
    refused(lambda: make(known, curve), FaultKind.PERMISSION_DENIED)
    refused(lambda: make(f"{world.vault_id}/keys/k2", rsa), FaultKind.PERMISSION_DENIED)
    world.permit(principal, "keys/create")
    assert make(f"{world.vault_id}/keys/k2", curve).public.crv == "P-256"
    refused(lambda: make(known, rsa, provider="absent"), FaultKind.UNSUPPORTED)
    refused(lambda: make(known, rsa, key_of(world.plane.account())), FaultKind.UNAUTHENTICATED)
    for nowhere in (f"{world.vault_id}2/keys/k2", f"{world.vault_id}/keys/a/b", f"{world.vault_id}/keys/", "x"):
        refused(lambda nowhere=nowhere: make(nowhere, rsa), FaultKind.NOT_FOUND)


def test_keys_are_taken_in_for_those_who_may_import_them(world: Brokered) -> None:
    principal, shown = vault_caller(world)
    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    point = numbers.public_numbers
    private = {
        name: Secret(value.to_bytes(32))
        for name, value in (("x", point.x), ("y", point.y), ("d", numbers.private_value))
    }

    def take() -> Any:
        version_id = f"{world.vault_id}/keys/k2/versions/{'5' * 32}"
        return world.broker.take_key("software", KeySpec(type="EC", curve="P-256"), private, version_id, shown, "vault")

    world.permit(principal, "keys/create")
    refused(take, FaultKind.PERMISSION_DENIED)
    world.permit(principal, "keys/import")
    assert take().public.x == point.x.to_bytes(32)


def test_what_was_shown_to_arm_makes_keys_there_and_does_nothing_else(world: Brokered) -> None:
    version, (principal, for_vault) = world.key(), vault_caller(world)
    world.permit(principal, "keys/create", "keys/backup", "keys/sign")
    shown = ArmToken(Secret(world.plane.world.token(principal, ARM)))

    def make(evidence: Evidence = shown) -> Any:
        spec = KeySpec(type="EC", curve="P-256")
        return world.broker.make_key("software", spec, f"{version.item_id}/versions/{'5' * 32}", evidence, "management")

    refused(make, FaultKind.PERMISSION_DENIED)  # the vault's permissions are not ARM's
    with world.plane.world.database.write() as writer:
        assign_role(writer, GROUP, CONTRIBUTOR, principal.object_id, "ServicePrincipal", world.clock.now())
    world.base.source.current()
    assert make().public.x
    assert (world.audit.records[-1].credential, world.audit.records[-1].principal) == ("token", principal.object_id)
    refused(lambda: make(ArmToken(for_vault.token)), FaultKind.UNAUTHENTICATED)
    refused(lambda: make(CallerToken(shown.token)), FaultKind.UNAUTHENTICATED)
    refused(lambda: world.broker.back_up_key(version.id, shown, "vault"), FaultKind.UNAUTHENTICATED)
    refused(lambda: ask(world, world.plane.account(), evidence=shown), FaultKind.UNAUTHENTICATED)


def test_when_nobody_asks_the_stored_policy_makes_the_version_that_is_due(world: Brokered) -> None:
    version = world.key()
    rotate = {"actions": [{"action": "Rotate", "after_create": "P30D"}], "created": 0.0, "updated": 0.0}

    def make(size: int = 2048) -> Any:
        spec = KeySpec(type="RSA", size=size)
        version_id = f"{version.item_id}/versions/{'5' * 32}"
        return world.broker.make_key("software", spec, version_id, None, "jobs vault-rotation")

    def store(**properties: Any) -> None:
        with world.plane.world.database.write() as writer:
            writer.put(version.item_id, "tests.keys", {"properties": {"current": version.version, **properties}})

    refused(make, FaultKind.PERMISSION_DENIED)
    world.clock.advance(30 * 86_400 + 1)
    for kept in ({}, {"rotation": {**rotate, "actions": []}}, {"rotation": rotate, "current": "9" * 32}):
        store(**kept)
        refused(make, FaultKind.PERMISSION_DENIED)
    store(rotation=rotate)
    assert make().public.n
    assert (world.audit.records[-1].decision, (world.audit.records[-1].because or {})["evidence"]) == (
        "allow",
        "policy",
    )
    refused(lambda: make(3072), FaultKind.PERMISSION_DENIED)
    world.key(created=world.clock.now())
    refused(make, FaultKind.PERMISSION_DENIED)


def test_a_key_in_use_or_to_be_recovered_is_not_destroyed(world: Brokered) -> None:
    version, database = world.key(), world.plane.world.database

    def destroy() -> None:
        world.broker.destroy_key("software", stored.handle, version.id)

    with database.read() as reader:
        document = reader.get(version.id)
    assert document is not None
    stored = stored_key(document.private)
    assert stored is not None
    refused(destroy, FaultKind.CONFLICT)
    with database.write() as writer:
        writer.move(document, State.SOFT_DELETED, purge_at=0.0)
    refused(destroy, FaultKind.CONFLICT)
    refused(lambda: world.broker.destroy_key("software", stored.handle, f"{version.id}0"), FaultKind.UNAVAILABLE)
    with database.write() as writer:
        restored = StoredKey(provider="software", handle=b"another", public=stored.public)
        writer.put(document.id, document.type, {}, {"key": restored.to_private()})
    destroy()  # of before the version was restored from a backup
    with database.write() as writer:
        writer.remove(document)
    destroy()
    told = [(one.outcome, one.resource) for one in world.audit.records if one.operation.endswith("vaultKeys/destroy")]
    assert [outcome for outcome, _ in told] == ["failed:Conflict"] * 2 + ["failed:Unavailable", "success", "success"]
    world.audit.healthy = False
    refused(destroy, FaultKind.UNAVAILABLE)


@pytest.mark.parametrize(
    "purpose",
    [
        "broker/",
        "broker/job-grants/1",
        "broker/key-handles/1",
        "broker/receipts/1",
        "broker/request-receipts/1",
        "broker/tree-heads/1",
    ],
)
def test_the_brokers_own_keys_are_given_to_nobody(world: Brokered, purpose: str) -> None:
    refused(lambda: world.broker.purpose_key(purpose), FaultKind.PERMISSION_DENIED)


def test_receipts_verify_with_the_published_key_and_only_so(world: Brokered) -> None:
    signature = world.broker.sign(b"account a1 was destroyed")
    Ed25519PublicKey.from_public_bytes(world.broker.receipt_key()).verify(signature, b"account a1 was destroyed")
    assert world.another().receipt_key() == world.broker.receipt_key()
    refused(lambda: world.broker.sign(b"x" * 70_000), FaultKind.TOO_LARGE)


def test_receipts_of_requests_have_a_key_of_their_own(world: Brokered) -> None:
    receipt = Receipt(
        iss="https://x", iat=1, jti="i", method="GET", path="/p", request="A" * 43, body=False, status=200, outcome="success",
        account="", policy=3, stored="none",
    )  # fmt: skip
    public = world.broker.request_receipt_key()
    assert request_receipts.verify(world.broker.sign_receipt(receipt), public) == receipt
    assert world.another().request_receipt_key() == public != world.broker.receipt_key()
    world.broker.seal()
    refused(lambda: world.broker.sign_receipt(receipt), FaultKind.UNAVAILABLE)


def test_sealed_it_does_nothing(world: Brokered) -> None:
    account, shown = world.plane.account(), world.writer()
    first = ask(world, account)
    world.broker.seal()
    assert world.broker.status().sealed
    for call in (
        lambda: ask(world, account),
        lambda: world.broker.purpose_key("x"),
        lambda: world.broker.sign(b""),
        lambda: world.broker.sign_tree_head("platform", 1, b"r" * 32, 0.0, []),
        world.broker.tree_head_key,
        lambda: world.broker.new_data_key(account.id, None, shown),
        lambda: world.broker.random("software", 4),
    ):
        refused(call, FaultKind.UNAVAILABLE)
    assert not world.broker.unseal(Secret(b"")).sealed
    assert revealed(ask(world, account)) == revealed(first)


def test_a_lease_ends(world: Brokered) -> None:
    account = world.plane.account()
    ask(world, account)
    assert len(world.broker._open_keys) == 1
    world.plane.world.manual.advance(world.plane.settings.keys.lease_s)
    world.broker.sweep()
    assert len(world.broker._open_keys) == 0
    ask(world, account)
    world.plane.delete(account)
    world.broker.sweep()
    assert len(world.broker._open_keys) == 0
    refused(lambda: ask(world, account), FaultKind.NOT_FOUND)
