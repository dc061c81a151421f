from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import AzureStore, GCSStore, S3Store

from stockade.content import objects
from stockade.content.objects import LocalBodies, RemoteBodies, open_bodies
from stockade.kernel.faults import Fault, FaultKind
from stockade.settings import Content, Settings


def opened(tmp_path: Path, **content: Any) -> Any:
    return open_bodies(Settings(data_dir=tmp_path, content=Content(**content)))


async def give(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.mark.parametrize(
    "url",
    ["http://h/b", "s3://", "file://host/path", "file:///", "s3://b?x=1", "s3://k:s@b", "b/prefix"],
    ids=["http", "no bucket", "a host", "the root", "query", "credential", "no scheme"],
)
def test_a_url_that_names_no_store_is_said_so_at_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"content[.]url"):
        opened(tmp_path, url=url)


@pytest.mark.parametrize(
    "content",
    [
        {"url": "s3://b", "credential_file": "/nowhere/credential"},
        {"url": "s3://b", "ca_file": "/nowhere/ca.pem"},
        {"url": "file:///dev/null/content"},
    ],
    ids=["credential", "authority", "folder"],
)
def test_files_that_the_settings_name_and_that_are_not_there_are_named(tmp_path: Path, content: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^content: .*/(nowhere|dev)/"):
        opened(tmp_path, **content)


def test_files_lie_below_the_data_directory_or_where_the_settings_say(tmp_path: Path) -> None:
    assert isinstance(opened(tmp_path), LocalBodies)
    assert (tmp_path / "content").is_dir()
    opened(tmp_path, url=(tmp_path / "else where").as_uri())
    assert (tmp_path / "else where").is_dir()


def test_each_kind_of_store_is_given_what_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Google's nothing more can be shown: there is no stand-in for it here."""
    monkeypatch.setenv("KEPT", '{"access_key_id": "k", "secret_access_key": "s"}')
    s3 = opened(tmp_path, url="s3://b/p/q", region="eu-west-1", endpoint="http://127.0.0.1:9", credential_env="KEPT")
    assert isinstance(s3._store, S3Store)
    assert s3._store.prefix == "p/q"
    assert s3._store.config == {
        "bucket": "b",
        "region": "eu-west-1",
        "endpoint": "http://127.0.0.1:9",
        "access_key_id": "k",
        "secret_access_key": "s",
    }
    assert s3._store.client_options == {"timeout": "30s", "connect_timeout": "5s", "allow_http": "true"}
    monkeypatch.setenv("KEPT", '{"account_name": "n", "account_key": "a2V5"}')
    azure = opened(tmp_path, url="az://c", endpoint="https://blob.example", credential_env="KEPT")
    assert isinstance(azure._store, AzureStore)
    assert azure._store.client_options is not None
    assert azure._store.client_options["allow_http"] == "false"
    monkeypatch.setenv("KEPT", '{"skip_signature": "true"}')
    google = opened(tmp_path, url="gs://b/p", endpoint="https://gcs.example", credential_env="KEPT", timeout_s=7)
    assert isinstance(google._store, GCSStore)
    assert google._store.config == {"bucket": "b", "base_url": "https://gcs.example", "skip_signature": "true"}
    assert google._store.client_options is not None
    assert google._store.client_options["timeout"] == "7s"


@pytest.mark.parametrize("text", ["", "[]", "not json"])
def test_a_credential_that_is_none_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "credential"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"credential in .* is not a JSON object") as caught:
        opened(tmp_path, url="s3://b", credential_file=str(file))
    assert "not json" not in str(caught.value)


def test_an_option_that_the_store_has_not_is_refused_without_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", '{"no_such_option": "hush"}')
    with pytest.raises(ValueError, match="does not take these settings") as caught:
        opened(tmp_path, url="s3://b", credential_env="KEPT")
    assert "hush" not in str(caught.value)


async def test_what_the_store_says_is_for_the_log_without_signatures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise GenericError("PUT https://h/c?sig=hush&x=1 : no space left on device (28)\n\nDebug source:\nhush")

    monkeypatch.setattr(obstore, "put_async", fail)
    with caplog.at_level(logging.WARNING), pytest.raises(Fault) as caught:
        await opened(tmp_path).put("aa/b", give(b"x"))
    assert (caught.value.kind, caught.value.retry_after_s) == (FaultKind.UNAVAILABLE, 5)
    assert "no space left" in caplog.text
    assert "hush" not in caplog.text + str(caught.value)
    assert caught.value.__cause__ is None


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """A server that takes connections and never answers."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for writer in held:
        writer.close()
    server.close()


CALLS: dict[str, Callable[[RemoteBodies], Any]] = {
    "put": lambda bodies: bodies.put("aa/b", give(b"x")),
    "put in parts": lambda bodies: bodies.put("aa/b", give(bytes(objects.PART_BYTES + 1))),
    "get": lambda bodies: bodies.get("aa/b", 0, 1, 1),
    "delete": lambda bodies: bodies.delete("aa/b"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_store_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: str, call: Callable[[RemoteBodies], Any]
) -> None:
    monkeypatch.setenv("KEPT", '{"access_key_id": "k", "secret_access_key": "s"}')
    bodies = opened(tmp_path, url="s3://b", region="r", endpoint=silent, credential_env="KEPT", timeout_s=0.2)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(Fault) as caught:
        await call(bodies)
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert asyncio.get_running_loop().time() - begun < 3


async def test_a_store_that_is_not_there_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", '{"access_key_id": "k", "secret_access_key": "s"}')
    bodies = opened(
        tmp_path, url="s3://b", region="r", endpoint="http://127.0.0.1:1", credential_env="KEPT", timeout_s=0.2
    )
    with pytest.raises(Fault) as caught:
        await bodies.get("aa/b", 0, 1, 1)
    assert caught.value.kind is FaultKind.UNAVAILABLE
