from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from stockade.keys.stored import LOCKBOX, forgotten_keys, statement_form, without_copies
from stockade.keys.subscription import DIGEST_PURPOSE, KeyDigester, is_well_formed
from stockade.lockbox.statement import Callers
from stockade.settings import Limits, Settings
from tests.factories.arm import ACCOUNTS, Arm
from tests.factories.lockbox import Signer, a_statement, signed

A1 = f"{ACCOUNTS}/a1"


def owner_of(arm: Arm, key: str) -> object:
    digest = KeyDigester(arm.root_key.derive(DIGEST_PURPOSE)).digest(key.encode())
    return arm.snapshot().only("key", digest)


def test_two_keys_from_the_start_and_both_in_force(arm: Arm) -> None:
    arm.account()
    keys = arm.ok("POST", f"{A1}/listKeys")
    assert set(keys) == {"key1", "key2"}
    assert all(is_well_formed(key) for key in keys.values())
    first, second = owner_of(arm, keys["key1"]), owner_of(arm, keys["key2"])
    assert (first.slot, second.slot) == ("Key1", "Key2")
    assert first.account_id == A1.lower()


def test_keys_are_not_in_the_stored_document(arm: Arm) -> None:
    arm.account()
    keys = arm.ok("POST", f"{A1}/listKeys")
    with arm.database.read() as reader:
        stored = str(reader.get(A1))
    assert keys["key1"] not in stored
    shown = str(arm.ok("GET", A1))
    assert keys["key1"] not in shown and keys["key2"] not in shown and "sealed" not in shown


def test_changes_of_the_account_leave_the_keys_alone(arm: Arm) -> None:
    arm.account()
    keys = arm.ok("POST", f"{A1}/listKeys")
    arm.account(tags={"a": "b"})
    arm.ok("PATCH", A1, {"properties": {"publicNetworkAccess": "Disabled"}})
    assert arm.ok("POST", f"{A1}/listKeys") == keys


@pytest.mark.parametrize(
    ("sent", "changed", "kept"), [("Key1", "key1", "key2"), ("key2", "key2", "key1"), ("KEY1", "key1", "key2")]
)
def test_regenerating_one_key_ends_it_at_once_and_leaves_the_other(
    arm: Arm, sent: str, changed: str, kept: str
) -> None:
    arm.account()
    before = arm.ok("POST", f"{A1}/listKeys")
    after = arm.ok("POST", f"{A1}/regenerateKey", {"keyName": sent})
    assert after[changed] != before[changed]
    assert after[kept] == before[kept]
    assert arm.ok("POST", f"{A1}/listKeys") == after
    assert owner_of(arm, before[changed]) is None
    assert owner_of(arm, after[changed]) is not None
    assert owner_of(arm, before[kept]) is not None


def test_regeneration_is_recorded_before_it_happens(arm: Arm) -> None:
    arm.account()
    arm.audit.records.clear()
    arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key1"})
    phases = [(record.phase, record.operation) for record in arm.audit.records]
    action = "Microsoft.CognitiveServices/accounts/regenerateKey/action"
    assert phases == [("intent", action), ("outcome", action)]


@pytest.mark.parametrize("body", [{}, {"keyName": "Key3"}, {"keyName": 1}, {"keyName": ""}])
def test_unknown_key_names_are_refused(arm: Arm, body: dict[str, object]) -> None:
    arm.account()
    before = arm.ok("POST", f"{A1}/listKeys")
    arm.fails(400, "InvalidKeyName", "POST", f"{A1}/regenerateKey", body)
    assert arm.ok("POST", f"{A1}/listKeys") == before


def test_keys_are_not_listed_while_local_authentication_is_off_but_can_be_replaced(arm: Arm) -> None:
    arm.account(properties={"disableLocalAuth": True})
    assert "disableLocalAuth" in arm.fails(400, "BadRequest", "POST", f"{A1}/listKeys")
    assert is_well_formed(arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key1"})["key1"])


def test_usage_tells_when_a_key_was_made_and_who_uses_it(arm: Arm) -> None:
    arm.account()
    keys = arm.ok("POST", f"{A1}/listKeys")
    made = arm.ok("POST", f"{A1}/listKeyUsage")["value"]
    assert [(slot["keyName"], slot["lastUsed"], slot["callers"]) for slot in made] == [
        ("Key1", None, []),
        ("Key2", None, []),
    ]
    arm.clock.advance(60)
    arm.use_key(keys["key1"], A1)
    arm.clock.advance(60)
    arm.use_key(keys["key1"], A1, address="2001:db8::9", client="")
    usage = arm.ok("POST", f"{A1}/listKeyUsage")["value"]
    assert usage[0]["lastUsed"] == "2027-01-15T08:02:00.0000000Z"
    assert usage[0]["callers"][0]["address"] == "2001:db8::9"
    assert usage[0]["callers"][1] == {
        "address": "203.0.113.7",
        "client": "curl/8",
        "count": 3,
        "firstSeen": "2027-01-15T08:00:00.0000000Z",
        "lastSeen": "2027-01-15T08:01:00.0000000Z",
    }
    assert usage[1]["callers"] == []
    assert not any(key in str(usage) for key in keys.values())


def test_a_regenerated_key_has_a_new_date_and_no_history(arm: Arm) -> None:
    arm.account()
    arm.use_key(arm.ok("POST", f"{A1}/listKeys")["key1"], A1)
    arm.clock.advance(3600)
    arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key1"})
    usage = arm.ok("POST", f"{A1}/listKeyUsage")["value"]
    assert (usage[0]["createdAt"], usage[0]["callers"]) == ("2027-01-15T09:00:00.0000000Z", [])
    assert usage[1]["createdAt"] == "2027-01-15T08:00:00.0000000Z"


def test_guard_refuses_a_key_in_use_unless_forced(tmp_path: Path) -> None:
    arm = Arm(tmp_path, Settings(data_dir=tmp_path, limits=Limits(key_rotation_guard_minutes=15)))
    arm.account()
    keys = arm.ok("POST", f"{A1}/listKeys")
    arm.use_key(keys["key1"], A1)
    arm.clock.advance(14 * 60)
    message = arm.fails(409, "KeyInUse", "POST", f"{A1}/regenerateKey", {"keyName": "Key1"})
    assert "203.0.113.7 (curl/8)" in message
    assert arm.ok("POST", f"{A1}/listKeys") == keys
    arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key2"})  # the quiet one
    assert arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key1", "force": True})["key1"] != keys["key1"]


def test_guard_ends_when_the_key_has_been_quiet_long_enough(tmp_path: Path) -> None:
    arm = Arm(tmp_path, Settings(data_dir=tmp_path, limits=Limits(key_rotation_guard_minutes=15)))
    arm.account()
    arm.use_key(arm.ok("POST", f"{A1}/listKeys")["key1"], A1)
    arm.clock.advance(15 * 60)
    arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key1"})


def test_callers_may_bring_their_own_guard_and_unmodified_clients_have_none(arm: Arm) -> None:
    arm.account()
    arm.use_key(arm.ok("POST", f"{A1}/listKeys")["key1"], A1)
    arm.fails(409, "KeyInUse", "POST", f"{A1}/regenerateKey", {"keyName": "Key1", "ifUnusedForMinutes": 5})
    arm.fails(400, "BadRequest", "POST", f"{A1}/regenerateKey", {"keyName": "Key1", "ifUnusedForMinutes": -1})
    arm.fails(400, "BadRequest", "POST", f"{A1}/regenerateKey", {"keyName": "Key1", "force": "yes"})
    arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key1"})


def test_a_sealed_key_cannot_be_moved_to_another_slot(arm: Arm) -> None:
    arm.account()
    with arm.database.write() as writer:
        document = writer.get(A1)
        assert document is not None
        keys = document.private["keys"]
        swapped = {**document.private, "keys": {"Key1": keys["Key2"], "Key2": keys["Key1"]}}
        writer.put(
            document.id, document.type, document.body, swapped, subscription=document.subscription, resource_group="rg1"
        )
    assert arm.send("POST", f"{A1}/listKeys").status == 503


def test_a_key_that_is_forgotten_is_shown_once_and_kept_by_nobody(arm: Arm) -> None:
    arm.account()
    before = arm.ok("POST", f"{A1}/listKeys")
    shown = arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key1", "forget": True})
    assert (shown["key2"], is_well_formed(shown["key1"])) == (before["key2"], True)
    assert owner_of(arm, shown["key1"]) is not None
    with arm.database.read() as reader:
        document = reader.get(A1)
    assert document is not None
    slot = document.private["keys"]["Key1"]
    assert set(slot) == {"digest", "createdAt", "sha256"}
    assert slot["sha256"] == hashlib.sha256(shown["key1"].encode()).hexdigest()
    assert forgotten_keys(document.private) == {slot["sha256"]}
    assert arm.ok("POST", f"{A1}/listKeys") == {"key2": before["key2"]}
    both = arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key2", "forget": True})
    assert set(both) == {"key2"}
    assert "regenerateKey" in arm.fails(409, "KeysNotKept", "POST", f"{A1}/listKeys")
    again = arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key2"})
    assert arm.ok("POST", f"{A1}/listKeys") == again, "one that is regenerated as usual is kept again"
    arm.fails(400, "BadRequest", "POST", f"{A1}/regenerateKey", {"keyName": "Key2", "forget": "yes"})


def test_where_a_statement_names_keys_none_is_kept(arm: Arm) -> None:
    arm.account()
    shown = arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key1", "forget": True})
    sha = hashlib.sha256(shown["key1"].encode()).hexdigest()

    def protect(**changes: Any) -> None:
        told = a_statement(Signer().approver, **changes)
        with arm.database.write() as writer:
            document = writer.get(A1)
            assert document is not None
            private = without_copies({**document.private, LOCKBOX: statement_form(signed(told))})
            writer.put(document.id, document.type, document.body, private)

    protect(callers=Callers(keys=(sha,)))
    arm.fails(409, "KeysNotKept", "POST", f"{A1}/listKeys")
    for slot in ("Key1", "Key2"):
        fresh = arm.ok("POST", f"{A1}/regenerateKey", {"keyName": slot})
        assert set(fresh) == {slot.lower()}
        assert owner_of(arm, fresh[slot.lower()]) is not None
    assert arm.ok("POST", f"{A1}/listKeyUsage")["value"][0]["keyName"] == "Key1"
    protect(callers=Callers(platform=True))
    assert set(arm.ok("POST", f"{A1}/regenerateKey", {"keyName": "Key1"})) == {"key1"}
    assert set(arm.ok("POST", f"{A1}/listKeys")) == {"key1"}
