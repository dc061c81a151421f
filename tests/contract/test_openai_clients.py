"""The unmodified `openai` package against a running server: both clients, sync and async, by key and by token, streamed and whole."""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from azure.identity import get_bearer_token_provider
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from stockade.services.openai.engines.embedded.generator import SLOTS
from tests.factories.azure import API_VERSION, DATA_SCOPE, OPENAI_USER, Account, Azure, descendants
from tests.live import Live, wait_for

pytestmark = pytest.mark.usefixtures("client_environment")

TIMEOUT_S = 60
HELLO = [{"role": "user", "content": "Say hello."}]
DETERMINED = {"temperature": 0, "seed": 7, "max_tokens": 8}
SIZE = 384
CALLS_PER_CAPACITY = 6


@pytest.fixture(scope="module")
def account(azure: Azure) -> Account:
    return azure.new_account(capacities={"chat": 1000, "embed": 1000})


@pytest.fixture(scope="module")
def token_provider(azure: Azure, account: Account) -> Callable[[], str]:
    """Tokens of a principal that has the role Cognitive Services OpenAI User on the account."""
    principal = azure.new_principal()
    azure.assign(OPENAI_USER, account.id, principal.object_id)
    return get_bearer_token_provider(azure.credential(principal.client_id, principal.client_secret), DATA_SCOPE)


def options(account: Account, **more: object) -> dict[str, object]:
    return {
        "azure_endpoint": account.endpoint,
        "api_version": API_VERSION,
        "max_retries": 0,
        "timeout": TIMEOUT_S,
        **more,
    }


@pytest.fixture(scope="module")
def clients(account: Account, token_provider: Callable[[], str]) -> Iterator[Mapping[str, OpenAI]]:
    """One client of each sort for the whole file: making one reads every authority of the machine."""
    own = {"base_url": f"{account.endpoint}openai/v1/", "max_retries": 0, "timeout": TIMEOUT_S}
    with (
        AzureOpenAI(**options(account, api_key=account.key1)) as azure_key,
        AzureOpenAI(**options(account, azure_ad_token_provider=token_provider)) as azure_token,
        OpenAI(**own, api_key=account.key1) as own_key,
        OpenAI(**own, api_key=token_provider) as own_token,
    ):
        yield {
            "AzureOpenAI": azure_key,
            "AzureOpenAI with a token": azure_token,
            "OpenAI": own_key,
            "OpenAI with a token": own_token,
        }


@pytest.fixture
def client(clients: Mapping[str, OpenAI]) -> OpenAI:
    return clients["AzureOpenAI"]


@pytest.fixture(params=["AzureOpenAI", "OpenAI with a token"])
def either(request: pytest.FixtureRequest, clients: Mapping[str, OpenAI]) -> OpenAI:
    """Azure's way and OpenAI's own, which sends whatever it has as a bearer value."""
    return clients[request.param]


@pytest.fixture(params=["AzureOpenAI", "AzureOpenAI with a token", "OpenAI", "OpenAI with a token"])
def each(request: pytest.FixtureRequest, clients: Mapping[str, OpenAI]) -> OpenAI:
    return clients[request.param]


def test_a_chat_is_answered(each: OpenAI) -> None:
    answer = each.chat.completions.create(model="chat", messages=HELLO, **DETERMINED)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_chat_has_the_words_of_a_whole_one_in_their_order(either: OpenAI) -> None:
    whole = either.chat.completions.create(model="chat", messages=HELLO, **DETERMINED)
    chunks = list(either.chat.completions.create(model="chat", messages=HELLO, stream=True, **DETERMINED))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(pieces) == whole.choices[0].message.content
    assert sum(1 for piece in pieces if piece) > 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_stream_tells_its_usage_only_when_asked(client: OpenAI) -> None:
    asked = {"stream": True, **DETERMINED}
    plain = list(client.chat.completions.create(model="chat", messages=HELLO, **asked))
    assert all(chunk.usage is None for chunk in plain)
    *_, last = client.chat.completions.create(
        model="chat", messages=HELLO, stream_options={"include_usage": True}, **asked
    )
    assert last.choices == []
    assert last.usage is not None
    assert 0 < last.usage.completion_tokens <= DETERMINED["max_tokens"]


def test_a_stream_is_events_that_end_with_done(client: OpenAI) -> None:
    create = client.chat.completions.with_streaming_response.create
    with create(model="chat", messages=HELLO, stream=True, **DETERMINED) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line for line in response.iter_lines() if line]
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    assert [json.loads(event.removeprefix("data: "))["object"] for event in events[:-1]] == [
        "chat.completion.chunk"
    ] * (len(events) - 1)


def test_a_completion_is_answered_whole_and_streamed(either: OpenAI) -> None:
    asked = {"model": "chat", "prompt": "The capital of France is", **DETERMINED}
    whole = either.completions.create(**asked)
    pieces = either.completions.create(stream=True, **asked)
    assert whole.choices[0].text
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text


def test_embeddings_come_as_the_client_asks_for_them(either: OpenAI) -> None:
    by_default = either.embeddings.create(model="embed", input=["a cat", "a kitten"])
    as_floats = either.embeddings.create(model="embed", input=["a cat", "a kitten"], encoding_format="float")
    assert [item.index for item in by_default.data] == [0, 1]
    assert all(len(item.embedding) == SIZE for item in by_default.data)
    for one, other in zip(by_default.data, as_floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert by_default.data[0].embedding != by_default.data[1].embedding


def test_embeddings_travel_as_base64_unless_floats_are_wanted(client: OpenAI) -> None:
    # What the client does by default is to ask for base64 and decode it; asked for by name it hands over the text.
    raw = client.embeddings.create(model="embed", input="a cat", encoding_format="base64").data[0].embedding
    assert isinstance(raw, str)
    decoded = struct.unpack(f"<{SIZE}f", base64.b64decode(raw))
    floats = client.embeddings.with_raw_response.create(model="embed", input="a cat", encoding_format="float")
    sent = json.loads(floats.http_response.content)["data"][0]["embedding"]
    assert decoded == pytest.approx(sent, abs=1e-6)


def test_models_are_listed_and_say_what_they_are(either: OpenAI) -> None:
    found = {model.id: model for model in either.models.list()}
    assert {"smollm2-135m-instruct", "all-minilm-l6-v2"} <= set(found)
    one = either.models.retrieve("smollm2-135m-instruct")
    assert one.id == "smollm2-135m-instruct"
    assert "built-in" in found["smollm2-135m-instruct"].model_dump()["description"]


async def test_the_asynchronous_azure_client_does_the_same(account: Account, token_provider: Callable[[], str]) -> None:
    async with AsyncAzureOpenAI(**options(account, azure_ad_token_provider=token_provider)) as client:
        await converse(client)


async def test_the_asynchronous_openai_client_does_the_same(account: Account) -> None:
    base_url = f"{account.endpoint}openai/v1/"
    async with AsyncOpenAI(base_url=base_url, api_key=account.key1, max_retries=0, timeout=TIMEOUT_S) as client:
        await converse(client)


async def converse(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="chat", messages=HELLO, **DETERMINED)
    stream = await client.chat.completions.create(model="chat", messages=HELLO, stream=True, **DETERMINED)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == whole.choices[0].message.content
    embedded = await client.embeddings.create(model="embed", input="a cat")
    assert len(embedded.data[0].embedding) == SIZE


# What is refused, as the client's own exceptions


def test_a_wrong_key_is_an_authentication_error(account: Account) -> None:
    with (
        AzureOpenAI(**options(account, api_key="0" * 32)) as client,
        pytest.raises(openai.AuthenticationError, match="invalid subscription key") as refused,
    ):
        client.chat.completions.create(model="chat", messages=HELLO)
    assert refused.value.code == "401"
    assert "retry-after" not in refused.value.response.headers
    assert refused.value.response.headers["x-stockade-decision"]


def test_a_wrong_key_as_bearer_is_an_authentication_error(account: Account) -> None:
    with (
        OpenAI(base_url=f"{account.endpoint}openai/v1/", api_key="0" * 32, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="invalid subscription key"),
    ):
        client.models.list()


def test_a_token_without_a_role_is_an_authentication_error_with_azures_code(azure: Azure, account: Account) -> None:
    token = azure.token(azure.new_principal())
    with (
        AzureOpenAI(**options(account, azure_ad_token=token)) as client,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        client.chat.completions.create(model="chat", messages=HELLO)
    assert refused.value.code == "PermissionDenied"


def test_a_key_where_keys_are_off_is_a_permission_error(azure: Azure) -> None:
    made = azure.new_account()
    azure.cognitive.accounts.begin_update(made.group, made.name, {"properties": {"disableLocalAuth": True}}).result()
    with (
        AzureOpenAI(**options(made, api_key=made.key1)) as client,
        pytest.raises(openai.PermissionDeniedError) as refused,
    ):
        client.models.list()
    assert refused.value.code == "AuthenticationTypeDisabled"


def test_a_missing_deployment_is_a_not_found_error(either: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        either.chat.completions.create(model="nowhere", messages=HELLO)
    assert refused.value.code == "DeploymentNotFound"


def test_an_unknown_account_is_a_not_found_error(account: Account) -> None:
    other = account.endpoint.replace(account.name, "nobody-has-this-name")
    with (
        AzureOpenAI(**{**options(account, api_key=account.key1), "azure_endpoint": other}) as client,
        pytest.raises(openai.NotFoundError, match="Resource not found") as refused,
    ):
        client.models.list()
    assert refused.value.code == "404"


@pytest.mark.parametrize(
    "wrong",
    [{"messages": "no list"}, {"messages": []}, {"messages": HELLO, "temperature": "hot"}],
    ids=["no list", "no messages", "no number"],
)
def test_a_request_the_model_cannot_read_is_a_bad_request_error(wrong: dict[str, object], client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="chat", **wrong)


def test_an_operation_the_model_does_not_have_is_a_bad_request_error(either: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        either.embeddings.create(model="chat", input="a cat")
    assert refused.value.code == "OperationNotSupported"


@pytest.fixture
def small(azure: Azure) -> Iterator[AzureOpenAI]:
    """A client of a deployment with one unit of capacity."""
    made = azure.new_account(capacities={"embed": 1})
    with AzureOpenAI(**options(made, api_key=made.key1)) as client:
        yield client


def use_up(client: OpenAI) -> tuple[int, openai.RateLimitError]:
    """Call until refused. Twice the minute's allowance may pass when a minute ends meanwhile, never more."""
    for count in range(2 * CALLS_PER_CAPACITY + 1):
        try:
            client.embeddings.create(model="embed", input="a cat")
        except openai.RateLimitError as refused:
            return count, refused
    raise AssertionError("the allowance was never used up")


def test_a_used_up_allowance_is_a_rate_limit_error_that_says_when_to_come_back(small: AzureOpenAI) -> None:
    answered, refused = use_up(small)
    assert answered >= CALLS_PER_CAPACITY
    assert refused.code == "429"
    headers = refused.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert int(headers["retry-after-ms"]) == 1000 * int(headers["retry-after"])
    assert f"retry after {headers['retry-after']} second" in refused.message


def test_the_client_waits_as_long_as_it_is_told_and_tries_again(
    small: AzureOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    _, refused = use_up(small.with_options(max_retries=1))
    told = int(refused.response.headers["retry-after"])
    # The second refusal may come a second after the first, and so name one second less.
    assert waits and told <= waits[-1] <= told + 2


# What does not go to plan


def test_a_stream_that_nobody_reads_any_more_is_given_up(client: OpenAI) -> None:
    story = [{"role": "user", "content": "Tell a very long story about a lighthouse, with many chapters."}]
    long = {"model": "chat", "messages": story, "max_tokens": 1500, "temperature": 0, "stream": True}
    patient = client.with_options(timeout=30)
    for _ in range(SLOTS + 1):
        stream = patient.chat.completions.create(**long)
        assert next(iter(stream)).choices
        stream.close()
    # The model works on so many texts at a time: only when it has dropped those does it get to this one in time.
    assert patient.chat.completions.create(model="chat", messages=HELLO, **DETERMINED).choices


def engine_pid(live: Live, model: str) -> int:
    [pid] = [pid for pid, line in descendants(live.pid).items() if f"--model {model}" in line]
    return pid


def test_an_engine_that_dies_in_a_stream_ends_it_with_an_error_and_is_started_again(live: Live, client: OpenAI) -> None:
    story = [{"role": "user", "content": "Tell a very long story about a lighthouse, with many chapters."}]
    stream = client.chat.completions.create(model="chat", messages=story, max_tokens=1500, temperature=0, stream=True)
    next(iter(stream))
    before = engine_pid(live, "smollm2-135m-instruct")
    os.kill(before, signal.SIGKILL)
    with pytest.raises(openai.APIError):
        list(stream)
    # A request that meets the dying engine gets a 503, which the client by default tries again.
    patient = client.with_options(max_retries=openai.DEFAULT_MAX_RETRIES)
    assert patient.chat.completions.create(model="chat", messages=HELLO, **DETERMINED).choices
    assert engine_pid(live, "smollm2-135m-instruct") != before


def test_an_engine_that_dies_at_work_is_a_clean_503_at_worst_and_is_started_again(live: Live, client: OpenAI) -> None:
    callers = 12
    client.embeddings.create(model="embed", input="a cat")
    before = engine_pid(live, "all-minilm-l6-v2")
    idle = connections_of(before)

    def call(_: int) -> openai.APIStatusError | None:
        try:
            client.embeddings.create(model="embed", input="a cat")
        except openai.APIStatusError as failure:
            return failure
        return None

    with ThreadPoolExecutor(callers) as pool:
        os.kill(before, signal.SIGSTOP)
        try:
            results = pool.map(call, range(callers))
            # More than the idle ones: at least one request is on a connection that cannot have been closed for its age.
            wait_for(lambda: connections_of(before) > idle, "requests have reached the engine")
        finally:
            os.kill(before, signal.SIGKILL)
        failures = [failure for failure in results if failure is not None]
    for failure in failures:
        assert isinstance(failure, openai.InternalServerError)
        assert (failure.status_code, failure.code) == (503, "ServiceUnavailable")
        assert 1 <= int(failure.response.headers["retry-after"]) <= 60
    patient = client.with_options(max_retries=openai.DEFAULT_MAX_RETRIES)
    assert len(patient.embeddings.create(model="embed", input="a cat").data[0].embedding) == SIZE
    assert engine_pid(live, "all-minilm-l6-v2") != before


def connections_of(engine: int) -> int:
    """Return how many connections to an engine are open, those it has not taken yet included (Linux's /proc tells)."""
    arguments = Path(f"/proc/{engine}/cmdline").read_bytes().split(b"\0")
    path = arguments[arguments.index(b"--socket") + 1].decode()
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(path)]
    return sum(1 for line in lines if line[3] != "00010000")  # that flag marks the listener
