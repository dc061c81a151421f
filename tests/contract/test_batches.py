"""Batches with the unmodified `openai` package: a file goes up, its lines are answered by the account's own deployment, the output comes down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from azure.identity import get_bearer_token_provider
from openai import AzureOpenAI, OpenAI

from tests.factories.azure import API_VERSION, DATA_SCOPE, OPENAI_USER, Account, Azure
from tests.factories.customer_key_live import KeptKey, settled, vault_names
from tests.live import Live, wait_for

OPENAI_CONTRIBUTOR = "Cognitive Services OpenAI Contributor"

pytestmark = pytest.mark.usefixtures("client_environment")


@pytest.fixture(scope="module")
def account(azure: Azure) -> Account:
    return azure.new_account(capacities={"embed": 1000})


@pytest.fixture(scope="module")
def client(account: Account) -> Iterator[AzureOpenAI]:
    with AzureOpenAI(
        azure_endpoint=account.endpoint,
        api_key=account.key1,
        api_version=API_VERSION,
        max_retries=0,
        timeout=30,
    ) as found:
        yield found


def line(custom_id: str, url: str = "/embeddings", **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": "embed", **body}}


def upload(client: OpenAI, *rows: dict[str, Any]) -> str:
    text = "\n".join(json.dumps(row) for row in rows).encode()
    return client.files.create(file=("in.jsonl", text), purpose="batch").id


def ended(client: OpenAI, batch_id: str) -> Any:
    def look() -> Any:
        found = client.batches.retrieve(batch_id)
        return found if found.status in ("completed", "failed", "expired", "cancelled") else None

    return wait_for(look, "the batch has ended", 60)


def rows(client: OpenAI, file_id: str) -> list[Any]:
    return [json.loads(row) for row in client.files.content(file_id).text.splitlines()]


def test_a_batch_is_answered_by_the_accounts_deployment(client: AzureOpenAI) -> None:
    file_id = upload(client, line("a", input="hello"), line("b", input=["one", "two"]), line("bad", input=7))
    batch = client.batches.create(
        input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h", metadata={"for": "a test"}
    )
    assert batch.status == "validating"
    found = ended(client, batch.id)
    assert (found.status, found.metadata, found.model) == ("completed", {"for": "a test"}, "embed")
    assert (found.request_counts.total, found.request_counts.completed, found.request_counts.failed) == (3, 2, 1)
    assert found.usage.input_tokens > 0
    output = {row["custom_id"]: row["response"] for row in rows(client, found.output_file_id)}
    assert {name: len(response["body"]["data"]) for name, response in output.items()} == {"a": 1, "b": 2}
    (failed,) = rows(client, found.error_file_id)
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("bad", 400)
    file = client.files.retrieve(found.output_file_id)
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert [one.id for one in client.batches.list()] == [batch.id]
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_a_bad_file_says_where(client: AzureOpenAI) -> None:
    file_id = upload(client, line("a", input="x"), line("a", input="x"), line("c", url="/chat/completions"))
    batch = client.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")
    found = ended(client, batch.id)
    assert found.status == "failed"
    assert [(error.code, error.line) for error in found.errors.data] == [
        ("duplicate_custom_id", 2),
        ("url_mismatch", 3),
    ]


def test_a_batch_is_cancelled_within_seconds_and_by_the_other_client_too(account: Account, client: AzureOpenAI) -> None:
    file_id = upload(client, *(line(f"c{number}", input="hello " * 100) for number in range(3000)))
    with OpenAI(base_url=f"{account.endpoint}openai/v1/", api_key=account.key1, max_retries=0, timeout=30) as other:
        batch = other.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")
        wait_for(lambda: other.batches.retrieve(batch.id).status == "in_progress", "the batch is in progress")
        assert other.batches.cancel(batch.id).status == "cancelling"
        found = wait_for(lambda: (b := other.batches.retrieve(batch.id)).status == "cancelled" and b, "cancelled", 20)
    assert 0 <= found.request_counts.completed < 3000
    kept = rows(client, found.output_file_id) if found.output_file_id else []
    assert len({row["custom_id"] for row in kept}) == len(kept) == found.request_counts.completed


def test_without_the_customers_key_a_batch_stands_still_and_with_it_it_goes_on(
    live: Live, account: Account, client: AzureOpenAI
) -> None:
    with vault_names():
        kept = KeptKey(live, account.name)
        try:
            kept.bind()
            file_id = upload(client, *(line(f"c{number}", input="hello " * 50) for number in range(150)))
            batch = client.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")
            wait_for(lambda: client.batches.retrieve(batch.id).request_counts.completed, "lines are answered")
            way = next(one for one in kept.ways() if one.name == "key disabled")
            way.take()
            wait_for(lambda: refused(client, batch.id), "the batch is refused")
            job = f"batches/{batch.id}"
            wait_for(lambda: json.loads(live.stockade("jobs", "show", job, "--format", "json"))["why"], "it waits")
            way.give()
            settled(kept)
            found = ended(client, batch.id)
        finally:
            kept.close()
    assert (found.status, found.request_counts.completed) == ("completed", 150)
    assert len({row["custom_id"] for row in rows(client, found.output_file_id)}) == 150


def refused(client: OpenAI, batch_id: str) -> bool:
    try:
        client.batches.retrieve(batch_id)
    except openai.PermissionDeniedError:
        return True
    return False


def test_an_identity_needs_the_role_to_start_a_batch_and_its_job_goes_on_with_it(
    azure: Azure, account: Account
) -> None:
    principal = azure.new_principal()
    credential = azure.credential(principal.client_id, principal.client_secret)
    with AzureOpenAI(
        azure_endpoint=account.endpoint,
        azure_ad_token_provider=get_bearer_token_provider(credential, DATA_SCOPE),
        api_version=API_VERSION,
        max_retries=0,
        timeout=30,
    ) as client:
        azure.assign(OPENAI_USER, account.id, principal.object_id)
        with pytest.raises(openai.AuthenticationError, match="files/write"):
            upload(client, line("a", input="hello"))
        azure.assign(OPENAI_CONTRIBUTOR, account.id, principal.object_id)
        file_id = upload(client, line("a", input="hello"))
        batch = client.batches.create(input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h")
        assert ended(client, batch.id).status == "completed"


def test_what_cannot_be_a_batch_is_refused_in_openais_words(client: AzureOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id="file-none", endpoint="/v1/embeddings", completion_window="24h")
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(input_file_id="file-none", endpoint="/v1/moderations", completion_window="24h")
    assert refused.value.param == "endpoint"
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
