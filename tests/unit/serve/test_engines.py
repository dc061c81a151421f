"""Starting engines on demand: once for many, not too often, and never anything that was not asked for by name."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from stockade.serve import engines
from stockade.serve.engines import Engines, NotStarted
from stockade.serve.questions import Questions
from stockade.settings import Settings

FAKE = """
import json, os, socket, sys, threading
path, behaviour, starts = sys.argv[1:]
with open(starts, "a") as file:
    file.write(json.dumps({"pid": os.getpid(), "environment": dict(os.environ)}) + "\\n")
if behaviour == "ends":
    sys.exit(3)
if behaviour == "misconfigured":
    sys.stderr.write("the model file is damaged\\n")
    sys.exit(78)
if behaviour == "hangs":
    threading.Event().wait()
if os.path.exists(path):
    os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
while True:
    connection, _ = server.accept()
    connection.recv(4096)
    idle = 10_000 if behaviour == "idle" else 0
    body = json.dumps({"status": "ok", "idleSeconds": idle}).encode()
    connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%s" % (len(body), body))
    connection.close()
"""


class Fakes:
    """Engines whose processes are a few lines of Python, and what is known of their starts."""

    def __init__(self, folder: Path, behaviour: str) -> None:
        self.settings = Settings(data_dir=folder)
        self._starts, self._behaviour = folder / "starts", behaviour
        script = folder / "fake.py"
        script.write_text(FAKE)

        def command(name: str, socket: Path) -> Sequence[str]:
            return (sys.executable, str(script), str(socket), self._behaviour, str(self._starts))

        environment = {**os.environ, "VLLM_API_KEY": "canary", "STOCKADE_CLIENT_SECRET": "canary"}
        self.engines = Engines(self.settings, frozenset({"one", "two"}), command, environment)
        answers = {"engine": ("socket", self.engines.answer)}
        self.questions = Questions(self.settings.supervisor_socket, answers, engines.ANSWER_TIMEOUT_S)

    @property
    def starts(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._starts.read_text().splitlines()] if self._starts.exists() else []

    async def ask(self, line: bytes) -> dict[str, str]:
        reader, writer = await asyncio.open_unix_connection(str(self.settings.supervisor_socket))
        writer.write(line + b"\n")
        answer: dict[str, str] = json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()
        return answer


@pytest.fixture
async def fakes(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Fakes]:
    found = Fakes(tmp_path, getattr(request, "param", "works"))
    found.engines.open()
    await found.questions.open()
    yield found
    found.questions.close()
    await found.engines.close()


def running(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except ProcessLookupError:
        return False
    return True


async def test_many_who_ask_at_once_share_one_start(fakes: Fakes) -> None:
    answers = await asyncio.gather(*(fakes.ask(b'{"engine": "one"}') for _ in range(20)))
    assert len({answer["socket"] for answer in answers}) == 1
    assert len(fakes.starts) == 1


async def test_each_engine_has_a_process_and_a_socket_of_its_own(fakes: Fakes) -> None:
    one, two = await asyncio.gather(fakes.ask(b'{"engine": "one"}'), fakes.ask(b'{"engine": "two"}'))
    assert one["socket"] != two["socket"]
    assert len({start["pid"] for start in fakes.starts}) == 2


async def test_an_engine_sees_nobodys_credentials(fakes: Fakes) -> None:
    await fakes.ask(b'{"engine": "one"}')
    assert "canary" not in json.dumps(fakes.starts)
    assert "PATH" in json.dumps(fakes.starts)


async def test_a_crashed_engine_is_started_again_when_it_is_next_wanted(fakes: Fakes) -> None:
    await fakes.ask(b'{"engine": "one"}')
    os.kill(int(str(fakes.starts[0]["pid"])), 9)
    assert "socket" in await fakes.ask(b'{"engine": "one"}')
    assert len(fakes.starts) == 2


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"null", b'{"engine": "three"}', b'{"engine": ["one"]}', b'{"engine": "../one"}', b"\xff"]
)
async def test_what_is_not_a_known_name_starts_nothing(fakes: Fakes, line: bytes) -> None:
    assert set(await fakes.ask(line)) == {"error"}
    assert fakes.starts == []


@pytest.mark.parametrize("fakes", ["ends"], indirect=True)
async def test_what_keeps_failing_is_not_tried_for_a_while(fakes: Fakes) -> None:
    for _ in range(engines.STARTS_PER_MINUTE):
        assert "ended while it was starting" in (await fakes.ask(b'{"engine": "one"}'))["error"]
    assert "try again later" in (await fakes.ask(b'{"engine": "one"}'))["error"]
    assert len(fakes.starts) == engines.STARTS_PER_MINUTE


@pytest.mark.parametrize("fakes", ["misconfigured"], indirect=True)
async def test_what_an_engine_says_is_in_the_log_and_not_in_the_answer(
    fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await fakes.ask(b'{"engine": "one"}')
    assert "missing or not the reviewed ones" in answer["error"]
    assert "damaged" not in answer["error"]
    await fakes.engines.close()
    assert "the model file is damaged" in caplog.text


@pytest.mark.parametrize("fakes", ["hangs"], indirect=True)
async def test_an_engine_that_does_not_come_up_is_ended(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "START_TIMEOUT_S", 1.0)
    with pytest.raises(NotStarted, match="not ready within"):
        await fakes.engines.socket_of("one")
    assert not running(fakes.starts[0]["pid"])


@pytest.mark.parametrize("fakes", ["idle"], indirect=True)
async def test_an_idle_engine_is_ended_and_comes_back(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    await fakes.engines.socket_of("one")
    await fakes.engines.end_idle()
    assert not running(fakes.starts[0]["pid"])
    await fakes.engines.socket_of("one")
    assert len(fakes.starts) == 2


async def test_a_used_engine_is_not_ended(fakes: Fakes) -> None:
    await fakes.engines.socket_of("one")
    await fakes.engines.end_idle()
    assert running(fakes.starts[0]["pid"])


async def test_closing_ends_every_engine(fakes: Fakes) -> None:
    await fakes.engines.socket_of("one")
    await fakes.engines.close()
    assert not running(fakes.starts[0]["pid"])


def test_long_folders_get_sockets_elsewhere(tmp_path: Path) -> None:
    deep = Settings(data_dir=tmp_path / ("d" * 100))
    assert len(os.fsencode(deep.supervisor_socket)) < 100
    assert deep.socket_dir != Settings(data_dir=tmp_path / ("e" * 100)).socket_dir
