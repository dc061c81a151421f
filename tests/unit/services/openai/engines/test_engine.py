"""Engines: an operator's server behind its own credential, and a built-in model that the supervisor starts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stockade.kernel.faults import Fault, FaultKind
from stockade.services.openai.engines.engine import BuiltInEngine, UpstreamEngine, engine_for
from stockade.settings import Limits, Model, Upstream
from stockade.upstream import pool as pool_module
from tests.factories.engine import Peer, answers, engine, reply, says_and_closes

MODEL = Model(name="small")


@contextlib.asynccontextmanager
async def supervisor(path: Path, *said: object) -> AsyncIterator[list[object]]:
    """Answer each request for an engine with the next of `said` (the last one for ever)."""
    asked: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(json.loads(await reader.readline()))
        answer = said[min(len(asked), len(said)) - 1]
        writer.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield asked
    finally:
        server.close()
        await server.wait_closed()


async def text(one: BuiltInEngine | UpstreamEngine) -> bytes:
    return await (await one.post("/chat/completions", b"{}")).read(1000, 30.0)


async def test_built_in_model_is_started_once_for_all_who_ask_at_once(tmp_path: Path) -> None:
    async with (
        engine(answers(reply(b"ok")), unix_socket=tmp_path / "e") as running,
        supervisor(tmp_path / "s", {"socket": str(tmp_path / "e")}) as asked,
    ):
        one = BuiltInEngine(MODEL, str(tmp_path / "s"), Limits())
        assert await asyncio.gather(*(text(one) for _ in range(5))) == [b"ok"] * 5
        assert asked == [{"engine": "small"}]
        assert {request.line for request in running.requests} == {"POST /v1/chat/completions HTTP/1.1"}
        one.close()


async def test_model_that_is_no_longer_there_is_asked_for_again_once(tmp_path: Path) -> None:
    said = [{"socket": str(tmp_path / "gone")}, {"socket": str(tmp_path / "new")}]
    async with engine(answers(reply(b"ok")), unix_socket=tmp_path / "new"), supervisor(tmp_path / "s", *said) as asked:
        one = BuiltInEngine(MODEL, str(tmp_path / "s"), Limits())
        assert await text(one) == b"ok"
        assert len(asked) == 2
        one.close()


async def test_model_that_crashes_on_a_request_is_unavailable_and_not_asked_again(tmp_path: Path) -> None:
    async with (
        engine(says_and_closes(b""), unix_socket=tmp_path / "e") as running,
        supervisor(tmp_path / "s", {"socket": str(tmp_path / "e")}),
    ):
        one = BuiltInEngine(MODEL, str(tmp_path / "s"), Limits())
        with pytest.raises(Fault) as caught:
            await text(one)
        assert caught.value.kind is FaultKind.UNAVAILABLE
        assert len(running.requests) == 1
        one.close()


async def test_busy_model_is_not_started_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 1)
    asked_engine, go_on = asyncio.Event(), asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        asked_engine.set()
        await go_on.wait()
        await peer.send(reply(b"ok"))

    async with (
        engine(talk, unix_socket=tmp_path / "e"),
        supervisor(tmp_path / "s", {"socket": str(tmp_path / "e")}) as asked,
    ):
        one = BuiltInEngine(MODEL, str(tmp_path / "s"), Limits(upstream_connect_timeout_s=0.05))
        first = asyncio.create_task(text(one))
        await asked_engine.wait()
        with pytest.raises(Fault) as caught:
            await text(one)
        assert caught.value.kind is FaultKind.UNAVAILABLE
        go_on.set()
        assert await first == b"ok", "who was being served still is"
        assert len(asked) == 1
        one.close()


@pytest.mark.parametrize("said", [{"error": "no memory"}, {}, b"", b"nonsense\n"])
async def test_model_that_cannot_be_started_is_unavailable(tmp_path: Path, said: object) -> None:
    async with supervisor(tmp_path / "s", said):
        one = BuiltInEngine(MODEL, str(tmp_path / "s"), Limits())
        for _ in range(2):
            with pytest.raises(Fault) as caught:
                await text(one)
            assert (caught.value.kind, caught.value.retry_after_s) == (FaultKind.UNAVAILABLE, 5)


async def test_without_a_supervisor_the_model_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        await text(BuiltInEngine(MODEL, str(tmp_path / "none"), Limits()))
    assert caught.value.kind is FaultKind.UNAVAILABLE


async def test_operators_server_gets_its_own_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ENGINE_KEY", "sk-engine")
    async with engine(answers(reply(b"ok"))) as running:
        upstream = Upstream(url=f"http://127.0.0.1:{running.port}/v1", model="real", credential_env="TEST_ENGINE_KEY")
        one = engine_for(Model(name="m", upstream=upstream), "", Limits())
        assert isinstance(one, UpstreamEngine)
        assert one.model_name == "real"
        assert await text(one) == b"ok"
        assert running.requests[0].headers["authorization"] == "Bearer sk-engine"
        one.close()


@pytest.mark.parametrize(
    "upstream",
    [
        Upstream(url="ftp://x"),
        Upstream(url="http://user:password@x/v1"),
        Upstream(url="https://x", ca_file="/none/at/all.pem"),
        Upstream(url="http://127.0.0.1:9/v1", credential_env="TEST_ENGINE_KEY_UNSET"),
        Upstream(url="http://127.0.0.1:9/v1"),
    ],
)
async def test_server_that_cannot_be_used_as_configured_is_unavailable(upstream: Upstream) -> None:
    one = engine_for(Model(name="m", upstream=upstream), "", Limits())
    with pytest.raises(Fault) as caught:
        await one.post("/chat/completions", b"{}")
    assert caught.value.kind is FaultKind.UNAVAILABLE
    assert "password" not in str(caught.value)
