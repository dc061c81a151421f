"""A canary is given to a server in everything that a caller says and a model answers, and looked for in everything that the server has written.

On an account that keeps nothing it is nowhere; on one that keeps it, it is nowhere in clear. On the same server: what a broker that goes away does to
those who read.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import requests
from openai import AzureOpenAI

from tests.factories.azure import descendants
from tests.factories.canary import canary, where
from tests.live import Live, finish, start, wait_for

VERSION = "2025-04-01-preview"
LINES = 10_000


@dataclass
class Ground:
    live: Live
    temporary: Path

    def account(self, name: str, **properties: Any) -> AzureOpenAI:
        """Create an account with a chat deployment, and return a client of it."""
        path = self.live.account_id(name)
        body = {
            "location": self.live.location,
            "kind": "OpenAI",
            "sku": {"name": "S0"},
            "properties": {"customSubDomainName": name, **properties},
        }
        created = self.live.request("PUT", path, body)
        assert created.status_code in (200, 201), created.text
        deployment = {
            "sku": {"name": "Standard", "capacity": 1000},
            "properties": {"model": {"format": "OpenAI", "name": "smollm2-135m-instruct", "version": "1"}},
        }
        deployed = self.live.request("PUT", f"{path}/deployments/chat", deployment)
        assert deployed.status_code in (200, 201), deployed.text
        keys = self.live.request("POST", f"{path}/listKeys").json()
        endpoint = created.json()["properties"]["endpoint"]
        return AzureOpenAI(
            azure_endpoint=endpoint, api_key=keys["key1"], api_version=VERSION, max_retries=0, timeout=60
        )


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("nothing")
    temporary = folder / "temporary"
    temporary.mkdir()
    live = start(folder / "data", "--workers", "1", variables={"TMPDIR": str(temporary), "STOCKADE_LOG_LEVEL": "debug"})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in live.environment.items():
            patch.setenv(name, value)
        yield Ground(live, temporary)
    finish(live)


def everything(client: AzureOpenAI, marker: str) -> None:
    """Say the canary in every place there is for it: taken, refused, broken and streamed."""
    said = {"model": "chat", "messages": [{"role": "user", "content": f"Repeat: {marker}"}], "max_tokens": 3}
    client.chat.completions.create(**{**said, "max_tokens": 20, "user": marker})  # type: ignore[call-overload]
    list(client.chat.completions.create(**said, stream=True))  # type: ignore[call-overload]
    _tried(lambda: client.chat.completions.create(**said, store=True, metadata={marker: marker}))  # type: ignore[call-overload]
    made = client.responses.create(
        model="chat", input=marker, instructions=marker, max_output_tokens=2, metadata={"a": marker}
    )
    _tried(
        lambda: client.responses.create(model="chat", input=marker, previous_response_id=made.id, max_output_tokens=2)
    )
    list(client.responses.create(model="chat", input=marker, stream=True, max_output_tokens=2))
    _tried(lambda: client.responses.create(model="chat", input=[{"type": marker}]))  # type: ignore[misc, list-item]
    _tried(
        lambda: client.responses.create(model="chat", input=marker, max_output_tokens=1, extra_body={"unknown": marker})
    )
    _tried(lambda: client.files.create(file=(f"{marker}.jsonl", marker.encode() * LINES), purpose="batch"))
    _tried(lambda: client.files.create(file=(f"{marker}.jsonl", marker.encode()), purpose=marker))  # type: ignore[arg-type]
    _tried(
        lambda: client.batches.create(
            input_file_id="file-none", endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": marker}
        )
    )
    # What a client of one's own might send.
    key = {"api-key": str(client.api_key)}
    base = str(client.base_url)
    for body in (f'{{"messages": "{marker}"}}', f'{{"{marker}": ', f'"{marker}"'):
        refused = requests.post(
            f"{base}deployments/chat/chat/completions?api-version={VERSION}",
            data=body,
            headers={**key, "content-type": "application/json"},
            timeout=30,
        )
        assert refused.status_code == 400


def _tried(call: Any) -> None:
    try:
        call()
    except (openai.BadRequestError, openai.NotFoundError):
        return


def written(ground: Ground, marker: bytes) -> list[str]:
    """Return where the canary is, once the records of the last request are there too."""
    live = ground.live
    refused = requests.get(f"{live.data}/nowhere-{os.urandom(4).hex()}/openai/models", timeout=30)
    last = refused.headers["apim-request-id"]
    wait_for(lambda: last in (live.data_dir / "audit" / "audit.jsonl").read_text(), "the last record is written")
    return [*where(marker, live.data_dir, ground.temporary), *where(marker, live.log_file.parent / "nothing")] + (
        [str(live.log_file)] if marker in live.log_file.read_bytes() else []
    )


def test_account_whose_storage_is_off_leaves_no_trace_of_what_was_said(ground: Ground) -> None:
    client, marker = ground.account("keeps-no-content", stockade={"content": {"store": "off"}}), canary()
    everything(client, marker.decode())
    assert list(client.files.list()) == []
    assert list(client.chat.completions.list()) == []
    assert written(ground, marker) == []


def test_what_is_kept_is_nowhere_in_clear(ground: Ground) -> None:
    client, marker = ground.account("keeps-content"), canary()
    everything(client, marker.decode())
    [file] = client.files.list()
    assert file.filename == f"{marker.decode()}.jsonl"
    assert client.files.content(file.id).read() == marker * LINES
    [kept] = client.chat.completions.list()
    assert kept.metadata == {marker.decode(): marker.decode()}  # type: ignore[attr-defined]
    assert written(ground, marker) == []


def test_the_look_finds_a_canary_that_was_written(ground: Ground) -> None:
    """A look that finds nothing would let everything pass."""
    client, marker = ground.account("named"), canary()
    name = marker.decode()
    assert ground.live.request("PATCH", ground.live.account_id("named"), {"tags": {"name": name}}).status_code == 200
    assert any("stockade.db" in place for place in written(ground, marker))
    client.close()


def test_broker_that_is_killed_comes_back_and_nothing_is_given_out_in_part_as_if_it_were_whole(ground: Ground) -> None:
    client, live = ground.account("broken"), ground.live
    content = os.urandom(1024 * 1024) * 24
    file = client.files.create(file=("big", content), purpose="user_data")
    [broker] = [pid for pid, line in descendants(live.pid).items() if "serve.broker" in line]
    with client.files.with_streaming_response.content(file.id) as reply:
        pieces = reply.iter_bytes(1024)
        taken = [next(pieces)]
        os.kill(broker, signal.SIGKILL)
        try:
            taken += pieces
            whole = True
        except httpx2.RemoteProtocolError:  # cut: the length that was promised did not come
            whole = False
        assert b"".join(taken) == content if whole else content.startswith(b"".join(taken))

    def back() -> bool:
        try:
            return client.files.content(file.id).read() == content
        except (openai.InternalServerError, httpx2.RemoteProtocolError):
            return False

    wait_for(back, "the broker is there again")
