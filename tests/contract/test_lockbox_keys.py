"""An account that a Lockbox statement protects, through what becomes of accounts: keys that nobody else has, a customer's key around it, deletion,
restoration, a purge, and another account of its name. With the command line, Azure's own management client and OpenAI's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import openai
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.factories.azure import Account, Azure
from tests.factories.customer_key_live import KeptKey, vault_names
from tests.live import Live

CONTENT = b'{"custom_id": "1"}\n' * 50
REFUSED = "LockboxCallerNotNamed"


@pytest.fixture(autouse=True, scope="module")
def names(client_environment: Mapping[str, str]) -> Iterator[None]:
    with vault_names():
        yield


@pytest.fixture(scope="module")
def account(azure: Azure) -> Account:
    return azure.new_account(capacities={"chat": 1000})


def client(account: Account, key: str) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(
        azure_endpoint=account.endpoint, api_key=key, api_version="2025-03-01-preview", max_retries=0
    )


def refusal(told: openai.AzureOpenAI, file_id: str) -> str:
    with pytest.raises(openai.PermissionDeniedError) as refused:
        told.files.content(file_id)
    return str(json.loads(refused.value.response.text)["error"]["code"])


def test_a_protected_account_through_all_that_becomes_of_it(
    live: Live, azure: Azure, account: Account, tmp_path: Path
) -> None:
    with client(account, account.key1) as before:
        old = before.files.create(file=("old.jsonl", CONTENT), purpose="batch").id
    pem = tmp_path / "approver.pem"
    generated = ec.generate_private_key(ec.SECP256R1())
    pem.write_bytes(generated.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    pem.chmod(0o600)
    mine = tmp_path / "key"
    mine.write_text(live.stockade("keys", "regenerate", account.name, "Key1", "--forget", "--force"))
    protect = ("lockbox", "protect", "--account", account.id, "--key", f"file:{pem}", "--yes")
    callers = ("--approver-key", f"file:{pem}", "--callers", f"keys={mine}")
    shown = live.stockade(*protect, *callers)
    assert "who signs tokens with the platform's own token service" in shown
    pinned, other = client(account, mine.read_text().strip()), client(account, account.key2)
    with pinned, other:
        kept = pinned.files.create(file=("new.jsonl", CONTENT), purpose="batch").id
        assert {pinned.files.content(one).content for one in (old, kept)} == {CONTENT}
        assert refusal(other, kept) == REFUSED
        said = other.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
        assert said.choices, "what keeps nothing is not the statement's business"
        with pytest.raises(openai.PermissionDeniedError) as stored:
            other.responses.create(model="chat", input="Hi", max_output_tokens=16)
        assert json.loads(stored.value.response.text)["error"]["code"] == REFUSED
        assert other.responses.create(model="chat", input="Hi", max_output_tokens=16, store=False).output

        assert "only its holder has it" in live.stockade("keys", "show", account.name, "--reveal")
        assert account.key2 not in live.stockade("env", "--account", account.name)

        customers = KeptKey(live, account.id)
        customers.bind()
        assert pinned.files.content(kept).content == CONTENT
        assert refusal(other, kept) == REFUSED
        live.stockade(
            *protect, "--threshold", "1", "--contact", "customer@example.com", "--jobs", "--callers", f"keys={mine}"
        )
        third = pinned.files.create(file=("third.jsonl", CONTENT), purpose="batch").id
        customers.arm("PATCH", account.id, {"properties": {"encryption": {"keySource": "Microsoft.CognitiveServices"}}})
        customers.close()

        azure.cognitive.accounts.begin_delete(account.group, account.name).result()
        azure.cognitive.accounts.begin_create(
            account.group, account.name, {"location": azure.location, "properties": {"restore": True}}
        ).result()
        assert {pinned.files.content(one).content for one in (old, kept, third)} == {CONTENT}
        assert refusal(other, third) == REFUSED

        azure.cognitive.accounts.begin_delete(account.group, account.name).result()
        azure.cognitive.deleted_accounts.begin_purge(azure.location, account.group, account.name).result()
    receipts = json.loads(live.stockade("keys", "receipts", "--format", "json"))
    receipt = next(one for one in receipts if one["properties"]["accountId"].endswith(account.name))
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(receipt))
    told = live.stockade("keys", "verify-receipt", str(file), "--key", receipt["properties"]["publicKey"])
    assert "3 data keys were destroyed" in told, "one from before, and one that each statement began"
    azure.cognitive.accounts.begin_create(
        account.group,
        account.name,
        {
            "kind": "OpenAI",
            "sku": {"name": "S0"},
            "location": azure.location,
            "properties": {"customSubDomainName": account.name},
        },
    ).result()
    keys = azure.cognitive.accounts.list_keys(account.group, account.name)
    with client(account, keys.key2) as anew:
        made = anew.files.create(file=("x.jsonl", CONTENT), purpose="batch").id
        assert anew.files.content(made).content == CONTENT, "another account of that name begins without a statement"
