"""A customer's key with Azure's unmodified clients: made in the vault, bound to an account, taken away in every way and given back.

How fast it is gone is measured by `python -m benchmarks.revocation`; here that it is gone, within the five seconds that are promised, and that
nothing is lost when it is back.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import openai
import pytest
from azure.core.exceptions import HttpResponseError

from stockade.policy.stranded import HEADER
from tests.factories.azure import Account, Azure
from tests.factories.customer_key_live import KeptKey, Way, settled, vault_names
from tests.factories.downloads import DownloadTarget, upload
from tests.live import Live, wait_for

PROMISED_S = 5.0
CONTENT = b'{"custom_id": "a", "note": "canary-%s"}\n' * 2000
WAYS = (
    "key disabled",
    "key expired",
    "key deleted",
    "role removed",
    "vault's network closed",
    "vault deleted",
    "identity removed",
)


@pytest.fixture(scope="module", autouse=True)
def names() -> Iterator[None]:
    with vault_names():
        yield


@pytest.fixture(scope="module")
def account(azure: Azure) -> Account:
    return azure.new_account(capacities={"chat": 1000})


@pytest.fixture(scope="module")
def kept(live: Live, account: Account, client_environment: Mapping[str, str]) -> Iterator[KeptKey]:
    made = KeptKey(live, account.name)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(account: Account, kept: KeptKey) -> Iterator[openai.AzureOpenAI]:
    with openai.AzureOpenAI(
        azure_endpoint=account.endpoint, api_key=account.key1, api_version="2025-03-01-preview", max_retries=0
    ) as made:
        yield made


@pytest.fixture(scope="module")
def file_id(client: openai.AzureOpenAI, kept: KeptKey) -> str:
    """A file that was kept under the platform's key, before the customer's was bound."""
    made = client.files.create(file=("lines.jsonl", CONTENT), purpose="batch")
    shown = kept.bind()
    assert shown.properties.encryption.key_vault_properties.key_name == "k1"
    return made.id


def refusal(client: openai.AzureOpenAI, file_id: str) -> str:
    """Return the code with which the file is refused; "" when it is not."""
    try:
        client.files.content(file_id)
    except openai.PermissionDeniedError as refused:
        return str(json.loads(refused.response.text)["error"]["code"])
    return ""


def test_what_was_kept_before_is_read_under_the_customers_key(
    client: openai.AzureOpenAI, file_id: str, kept: KeptKey
) -> None:
    assert client.files.content(file_id).content == CONTENT
    status = kept.status()
    assert (status["state"], status["keyVersion"]) == ("Available", kept.version)
    assert status["dataKeys"][0]["customerKeyId"] == f"{kept.uri}/keys/k1/{kept.version}"


@pytest.mark.parametrize("name", WAYS)
def test_without_the_key_nothing_is_answered_and_with_it_nothing_is_lost(
    client: openai.AzureOpenAI, file_id: str, kept: KeptKey, name: str
) -> None:
    way: Way = next(one for one in kept.ways() if one.name == name)
    gone_at = way.take()
    try:
        wait_for(lambda: refusal(client, file_id) == "CustomerManagedKeyUnavailable", "the refusal")
        assert time.monotonic() - gone_at < PROMISED_S
        with pytest.raises(openai.PermissionDeniedError, match="customer-managed key"):
            client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hello"}], max_tokens=1)
        with pytest.raises(openai.PermissionDeniedError):
            client.files.create(file=("more.jsonl", b"{}\n"), purpose="batch")
    finally:
        way.give()
    settled(kept)
    assert client.files.content(file_id).content == CONTENT
    client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hello"}], max_tokens=1)


async def test_a_download_under_way_is_cut_and_not_ended(
    live: Live, account: Account, file_id: str, kept: KeptKey
) -> None:
    assert file_id
    size = 8 * 1024 * 1024
    large = await asyncio.to_thread(upload, live, account.name, account.key1, size)
    download = await DownloadTarget(live, account.name, account.key1, large, size).open()
    way = next(one for one in kept.ways() if one.name == "role removed")
    gone_at = await asyncio.to_thread(way.take)
    try:
        await download.ended()
        assert not download.whole
        assert download.ended_at - gone_at < PROMISED_S
    finally:
        download.close()
        await asyncio.to_thread(way.give)
    await asyncio.to_thread(settled, kept)


def test_a_rotation_is_followed_in_the_background(client: openai.AzureOpenAI, file_id: str, kept: KeptKey) -> None:
    kept.version = str(kept.keys.rotate_key("k1").properties.version)
    wait_for(lambda: kept.status()["dataKeys"][0]["customerKeyId"].endswith(kept.version), "the re-wrapping")
    assert client.files.content(file_id).content == CONTENT


def test_what_is_wrong_is_told_by_the_unmodified_client_and_by_the_command_line(kept: KeptKey, live: Live) -> None:
    with pytest.raises(HttpResponseError, match="CustomerManagedKeyPreflightFailed") as refused:
        kept.bind(keyName="none")
    assert refused.value.status_code == 400
    assert refused.value.error is not None
    assert [one.code for one in refused.value.error.details or ()] == ["KeyNotFound"]
    name = kept.account.rsplit("/", 1)[-1]
    assert "is not in the vault" in live.stockade("keys", "check", name, "--key", f"{kept.vault_name}/none", fails=6)


def test_moving_back_and_purging_leave_nothing_but_a_receipt(
    client: openai.AzureOpenAI, file_id: str, kept: KeptKey, live: Live, tmp_path: Path, azure: Azure, account: Account
) -> None:
    told: list[str] = []
    kept.keys.update_key_properties(
        "k1",
        kept.version,
        enabled=False,
        raw_response_hook=lambda reply: told.append(reply.http_response.headers.get(HEADER, "")),
    )
    assert f"{account.name} (KeyDisabled)" in told[-1], "whoever takes it away is told whose data that is"
    kept.keys.update_key_properties("k1", kept.version, enabled=True)
    kept.arm("PATCH", kept.account, {"properties": {"encryption": {"keySource": "Microsoft.CognitiveServices"}}})
    kept.keys.begin_delete_key("k1").result()
    with pytest.raises(HttpResponseError):  # a vault that keys are bound from cannot be purged before its time
        kept.keys.purge_deleted_key("k1")
    assert client.files.content(file_id).content == CONTENT, "the customer's key is not needed any more"
    azure.cognitive.accounts.begin_delete(account.group, account.name).result()
    azure.cognitive.deleted_accounts.begin_purge(azure.location, account.group, account.name).result()
    found = json.loads(live.stockade("keys", "receipts", "--format", "json"))
    receipt = next(one for one in found if one["properties"]["accountId"].endswith(account.name))
    file = tmp_path / f"{uuid.uuid4()}.json"
    file.write_text(json.dumps(receipt))
    public = receipt["properties"]["publicKey"]
    assert "1 data keys were destroyed" in live.stockade("keys", "verify-receipt", str(file), "--key", public)
