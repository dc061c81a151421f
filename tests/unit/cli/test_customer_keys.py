"""What the commands for customers' own keys ask ARM and print of its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockade.cli import customer_keys, outcome
from stockade.cli.arm import Account
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys import receipts
from stockade.settings import Settings

ACCOUNT = Account("/accounts/a1", "a1", "OpenAI", "local", "", {}, local_auth=True)
SIGNING = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
PUBLIC = receipts.to_text(SIGNING.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


class Arm:
    """Answers with what a test puts in; `asked` is what it was asked."""

    subscription = "/subscriptions/s"

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str, Any]] = []

    def account(self, reference: str) -> Account:
        assert reference == "a1"
        return ACCOUNT

    def accounts(self) -> list[Account]:
        return [ACCOUNT, Account("/accounts/a2", "a2", "OpenAI", "local", "", {}, local_auth=True)]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path, body))
        answer = self.answers[path.rsplit("/", 1)[-1].partition("?")[0]]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Arm:
    made = Arm()
    monkeypatch.setattr(customer_keys, "running_settings", Settings)
    monkeypatch.setattr(customer_keys, "connect", lambda _: made)
    return made


def status(**changes: Any) -> Any:
    rewrap = {"state": "Current", "done": 1, "of": 1, "lastRewrap": None}
    return {
        "keySource": "Microsoft.CognitiveServices",
        "state": "Available",
        "dataKeys": [],
        "rewrap": rewrap,
        **changes,
    }


def test_a_key_that_could_not_be_bound_ends_with_what_to_do(arm: Arm, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"code": "KeyDisabled", "message": "It is [off].", "help": "Turn it on.", "command": "az keyvault"}
    arm.answers["checkEncryption"] = {"keySource": "Microsoft.KeyVault", "ready": False, "problems": [problem]}
    with pytest.raises(typer.Exit) as ended:
        customer_keys.check("a1", key="vault1/k1", identity="c")
    assert ended.value.exit_code == outcome.CONFLICT
    said = capsys.readouterr().out
    assert all(text in said for text in ("KeyDisabled", "It is [off].", "Turn it on.", "az keyvault"))
    sent = arm.asked[0][2]["encryption"]["keyVaultProperties"]
    assert sent == {
        "keyVaultUri": Settings().vault_uri("vault1") + "/", "keyName": "k1", "identityClientId": "c",
    }  # fmt: skip


def test_a_key_that_could_be_bound(arm: Arm, capsys: pytest.CaptureFixture[str]) -> None:
    ready = {
        "keySource": "Microsoft.KeyVault",
        "ready": True,
        "problems": [],
        "keyName": "k1",
        "keyVaultUri": "https://v",
    }
    arm.answers["checkEncryption"] = [
        ready,
        {"keySource": "Microsoft.CognitiveServices", "ready": True, "problems": []},
    ]
    customer_keys.check("a1")
    assert "k1 in https://v is ready for a1" in capsys.readouterr().out
    assert arm.asked[0][2] == {}
    customer_keys.check("a1")
    assert "platform's key" in capsys.readouterr().out


def test_status_of_either_kind(arm: Arm, capsys: pytest.CaptureFixture[str]) -> None:
    key = {
        "keySource": "Microsoft.KeyVault", "keyName": "k1", "keyVaultUri": "https://v", "keyVersion": "ab", "followsNewestVersion": False,
        "statelessInference": "blocked", "state": "Unavailable", "problems": [{"code": "KeyDisabled", "message": "m", "help": "h"}],
    }  # fmt: skip
    arm.answers["encryptionStatus"] = [status(**key), status()]
    customer_keys.encryption("a1")
    said = capsys.readouterr().out
    assert "Version ab (pinned)" in said
    assert "KeyDisabled: m" in said
    customer_keys.encryption("a1")
    assert "a1: the platform's key" in capsys.readouterr().out


def test_rewrapping_goes_on_after_one_that_cannot_be(arm: Arm, capsys: pytest.CaptureFixture[str]) -> None:
    arm.answers["rewrapDataKeys"] = [Fault(FaultKind.CUSTOMER_KEY_UNAVAILABLE, "gone"), status()]
    with pytest.raises(typer.Exit):
        customer_keys.rewrap("")
    said = capsys.readouterr()
    assert "[1/2] a1: gone" in said.err
    assert "[2/2] a2: 1 of 1 data keys" in said.out


def test_what_hangs_on_a_key(arm: Arm, capsys: pytest.CaptureFixture[str]) -> None:
    one = {"id": "/accounts/a1", "state": "Live", "keyVersions": ["ab"], "keeps": {"items": 2, "bytes": 3}}
    arm.answers["dependents"] = {"value": [one], "notShown": 4}
    customer_keys.dependents("https://v.example/keys/k1")
    said = capsys.readouterr().out
    assert "/accounts/a1" in said
    assert "And 4 that you may not see" in said
    assert arm.asked[0][1].endswith("/dependents?key=https%3A%2F%2Fv.example%2Fkeys%2Fk1")


def test_a_receipt_is_checked_with_a_key_or_the_platforms(
    arm: Arm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = receipts.statement("r1", "/a", "i", "2026-01-01T00:00:00Z", [], 3, 9)
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps({"statement": text, "signature": receipts.to_text(SIGNING.sign(text.encode()))}))
    customer_keys.verify_receipt(file, key=PUBLIC)
    assert arm.asked == [], "no platform is asked"
    arm.answers["receiptKey"] = {"publicKey": PUBLIC}
    customer_keys.verify_receipt(file)
    assert capsys.readouterr().out.count("Valid.") == 2
    for wrong in ("AA", "!"):
        with pytest.raises(Fault):
            customer_keys.verify_receipt(file, key=wrong)
    for content in ("[]", "{", '{"statement": "x"}'):
        file.write_text(content)
        with pytest.raises(Fault):
            customer_keys.verify_receipt(file, key=PUBLIC)


@pytest.mark.parametrize("key", ["k1", "/k1", "v/"])
def test_a_key_without_its_vault_is_refused(key: str) -> None:
    with pytest.raises(typer.BadParameter):
        customer_keys.key_uri(Settings(), key)


def test_a_keys_address_taken_apart() -> None:
    assert customer_keys.key_properties("https://v/keys/k/ab") == {
        "keyVaultUri": "https://v/", "keyName": "k", "keyVersion": "ab",
    }  # fmt: skip
    with pytest.raises(typer.BadParameter):
        customer_keys.key_properties("https://v/secrets/k")
