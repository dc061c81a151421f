"""The unmodified `openai` package keeps things on a running server: files of any size, responses, stored completions; by key and by identity."""

from __future__ import annotations

import fcntl
import hashlib
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import openai
import pytest
from azure.identity import get_bearer_token_provider
from openai import AzureOpenAI, OpenAI

from tests.factories.azure import DATA_SCOPE, Account, Azure, descendants
from tests.live import Live, wait_for

pytestmark = pytest.mark.usefixtures("client_environment")

VERSION = "2025-04-01-preview"
TIMEOUT_S = 60
MIB = 1024 * 1024
BIG = 60 * MIB


@pytest.fixture(scope="module")
def account(azure: Azure) -> Account:
    return azure.new_account(capacities={"chat": 1000})


@pytest.fixture(scope="module")
def clients(account: Account, azure: Azure) -> Iterator[dict[str, OpenAI]]:
    """One of each sort. The identity is a Cognitive Services OpenAI Contributor."""
    principal = azure.new_principal()
    azure.assign("Cognitive Services OpenAI Contributor", account.id, principal.object_id)
    token = get_bearer_token_provider(azure.credential(principal.client_id, principal.client_secret), DATA_SCOPE)
    dated = {"azure_endpoint": account.endpoint, "api_version": VERSION, "max_retries": 0, "timeout": TIMEOUT_S}
    v1 = {"base_url": f"{account.endpoint}openai/v1/", "max_retries": 0, "timeout": TIMEOUT_S}
    with (
        AzureOpenAI(api_key=account.key1, **dated) as by_key,
        AzureOpenAI(azure_ad_token_provider=token, **dated) as by_token,
        OpenAI(api_key=account.key1, **v1) as on_v1,
    ):
        yield {"key": by_key, "token": by_token, "v1": on_v1}


@pytest.mark.parametrize("by", ["key", "token", "v1"])
def test_file_goes_round(clients: dict[str, OpenAI], by: str, tmp_path: Path) -> None:
    client = clients[by]
    lines = b'{"custom_id": "1"}\n' * 5000
    (tmp_path / "lines.jsonl").write_bytes(lines)
    made = client.files.create(
        file=tmp_path / "lines.jsonl",
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 7200},
    )
    assert (made.filename, made.bytes, made.purpose, made.status) == ("lines.jsonl", len(lines), "batch", "processed")
    assert made.expires_at == made.created_at + 7200
    assert client.files.retrieve(made.id) == made
    assert made in client.files.list(purpose="batch").data
    assert client.files.content(made.id).read() == lines
    part = client.files.with_raw_response.content(made.id, extra_headers={"range": "bytes=19-37"})
    assert (part.status_code, part.content) == (206, lines[19:38])
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(made.id)
    assert caught.value.body["message"] == f"No such File object: {made.id}"  # type: ignore[index]


class Memory:
    """The most that the data plane's workers have held between two looks, over what they held at first."""

    def __init__(self, live: Live) -> None:
        self._workers = [pid for pid, line in descendants(live.pid).items() if " data " in f"{line} "]
        self._stop, self._most = threading.Event(), 0
        self._began = self._now()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        return self._most - self._began

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            self._most = max(self._most, self._now())

    def _now(self) -> int:
        total = 0
        for pid in self._workers:
            status = Path(f"/proc/{pid}/status").read_text()
            total += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024
        return total


def test_large_file_goes_through_workers_that_do_not_hold_it(
    live: Live, clients: dict[str, OpenAI], account: Account, tmp_path: Path
) -> None:
    client, big = clients["v1"], tmp_path / "big.bin"
    block = hashlib.sha256(b"big").digest() * (MIB // 32)
    with big.open("wb") as file:
        for number in range(BIG // MIB):
            file.write(number.to_bytes(4, "big") + block[4:])
    for _ in range(4):  # so that both workers have what one transfer takes, which stays the same
        warm = client.files.create(file=bytes(16 * MIB), purpose="user_data")
        client.files.content(warm.id).read()
        client.files.delete(warm.id)
    with Memory(live) as memory:
        made = client.files.create(file=big, purpose="user_data")
        assert made.bytes == BIG
        digest = hashlib.sha256()
        with client.files.with_streaming_response.content(made.id) as reply:
            for piece in reply.iter_bytes():
                digest.update(piece)
        assert digest.digest() == hashlib.sha256(big.read_bytes()).digest()
        with stalled_download(account, f"openai/v1/files/{made.id}/content") as lies_unread:
            before = -1
            while before != (
                before := lies_unread()
            ):  # the server has given out what it gives to someone who does not read
                time.sleep(0.3)
    client.files.delete(made.id)
    assert memory.grown < 40 * MIB, f"grown by {memory.grown / MIB:.0f} MiB"


@contextmanager
def stalled_download(account: Account, path: str) -> Iterator[Callable[[], int]]:
    """Begin a download and read a little of it; yield what tells how many bytes lie in the client's own system by now."""
    place = urlsplit(account.endpoint)
    assert place.hostname is not None
    with (
        socket.create_connection((place.hostname, place.port or 443), 30) as plain,
        ssl.create_default_context().wrap_socket(plain, server_hostname=place.hostname) as connection,
    ):
        head = f"GET {place.path}{path} HTTP/1.1\r\nhost: {place.netloc}\r\napi-key: {account.key1}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        yield lambda: struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(4)))[0]


def test_client_that_goes_away_in_an_upload_leaves_nothing(
    live: Live, clients: dict[str, OpenAI], account: Account
) -> None:
    place = urlsplit(account.endpoint)
    assert place.hostname is not None
    form = b'--mark\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--mark\r\n'
    form += b'content-disposition: form-data; name="file"; filename="gone"\r\n\r\n'
    head = (
        f"POST {place.path}openai/v1/files HTTP/1.1\r\nhost: {place.netloc}\r\napi-key: {account.key1}\r\n"
        f"content-type: multipart/form-data; boundary=mark\r\ncontent-length: {BIG}\r\n\r\n"
    )

    def stored() -> int:
        return sum(path.stat().st_size for path in (live.data_dir / "content").rglob("*") if path.is_file())

    before, bytes_before = {file.id for file in clients["key"].files.list()}, stored()
    with (
        socket.create_connection((place.hostname, place.port or 443), 30) as plain,
        ssl.create_default_context().wrap_socket(plain, server_hostname=place.hostname) as connection,
    ):
        connection.sendall(head.encode() + form + bytes(10 * MIB))

    def told() -> bool:
        lines = [line for file in (live.data_dir / "audit").glob("*.jsonl") for line in file.read_text().splitlines()]
        return any('"Files_Create"' in line and account.id in line and '"status":400' in line for line in lines)

    wait_for(told, "the upload's end is in the record")
    assert {file.id for file in clients["key"].files.list()} == before
    wait_for(lambda: stored() < bytes_before + MIB, "what came of it has gone from the store")


@pytest.mark.parametrize("by", ["key", "token", "v1"])
def test_responses_are_made_and_gone_on_from(clients: dict[str, OpenAI], by: str) -> None:
    client = clients[by]
    first = client.responses.create(
        model="chat", input="Say hello.", instructions="Be brief.", max_output_tokens=8, metadata={"by": by}
    )
    assert (first.object, first.model, first.metadata, first.store) == ("response", "chat", {"by": by}, True)  # type: ignore[attr-defined]
    assert first.output_text
    assert first.usage is not None
    assert first.usage.output_tokens <= 8
    second = client.responses.create(
        model="chat", input=[{"role": "user", "content": "Again."}], previous_response_id=first.id, max_output_tokens=8
    )
    assert client.responses.retrieve(second.id) == second
    [item] = client.responses.input_items.list(second.id)
    assert (item.type, item.role, item.content[0].text) == ("message", "user", "Again.")  # type: ignore[union-attr]
    client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="chat", input="And again.", previous_response_id=second.id)
    assert caught.value.code == "previous_response_not_found"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    client.responses.delete(second.id)


def test_streamed_response_is_there_when_it_says_so(clients: dict[str, OpenAI]) -> None:
    client = clients["key"]
    with client.responses.stream(model="chat", input="Reply with yes.", temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text
    kept = client.responses.retrieve(final.id)
    assert (kept.output_text, kept.status) == (text, "completed")
    client.responses.delete(final.id)


def test_what_is_not_offered_is_refused(clients: dict[str, OpenAI]) -> None:
    client = clients["v1"]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="chat", input="x", background=True)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "background")
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="chat", input="x", tools=[{"type": "web_search"}])
    assert caught.value.param == "tools[0].type"
    made = client.responses.create(model="chat", input="x", max_output_tokens=1)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(made.id)
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=b"x", purpose="nonsense")  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["key", "token", "v1"])
def test_completions_are_stored(clients: dict[str, OpenAI], by: str) -> None:
    client = clients[by]
    asked = {"model": "chat", "messages": [{"role": "user", "content": f"Say {by}."}], "max_tokens": 4, "store": True}
    made = client.chat.completions.create(**asked, metadata={"By": by})  # type: ignore[call-overload]
    streamed = list(client.chat.completions.create(**asked, stream=True, metadata={"By": by}))  # type: ignore[call-overload]
    listed = list(
        client.chat.completions.list(metadata={"By": by}, limit=1)
    )  # one a page: the client asks for the next
    assert [one.id for one in listed] == [made.id, streamed[0].id]
    assert listed[0].choices[0].message.content == made.choices[0].message.content
    assert [message.content for message in client.chat.completions.messages.list(made.id)] == [f"Say {by}."]
    changed = client.chat.completions.update(made.id, metadata={"By": "nobody"})
    assert changed.metadata == {"By": "nobody"}  # type: ignore[attr-defined]
    for one in listed:
        assert client.chat.completions.delete(one.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made.id)
