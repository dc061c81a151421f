"""A running gateway connects to nobody but its engine, its name server and what a list allows, whatever requests carry.

`tests/docs/test_one_way_out.py` asks the source.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stockade.settings import Listen
from tests.factories.certificates import certificates
from tests.factories.data_plane import VERSION, Account, DataPlane
from tests.factories.egress import IMAGE_TYPE, PNG, egress_settings
from tests.factories.engine import answers, engine, reply
from tests.factories.listener import Listener
from tests.factories.names import has, name_server
from tests.live import free_ports
from tests.outside import ROOT

LIMIT_S = 110


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the interpreter saw while every operation ran with hostile bodies."""
    folder = tmp_path_factory.mktemp("watched")
    done = subprocess.run(
        [sys.executable, "-m", "tests.factories.watched", str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_only_the_one_way_out_connects_and_only_where_it_may(watched: dict[str, Any]) -> None:
    connects = {(one["from"], one["to"]) for one in watched["seen"] if one["event"] == "socket.connect"}
    assert connects == {("egress/dial.py", f"({to},)") for to in watched["allowed"]["egress/dial.py"]}


def test_only_name_servers_are_sent_to_and_nothing_else_leaves(watched: dict[str, Any]) -> None:
    others = {(one["event"], one["from"], one["to"]) for one in watched["seen"] if one["event"] != "socket.connect"}
    names = {("socket.sendto", "dns", f"({to},)") for to in watched["allowed"]["dns"]}
    # The test's own name server answers in the same process.
    assert {one for one in others if not one[1].startswith("tests/")} == names


def test_no_name_but_the_listed_one_is_asked_for(watched: dict[str, Any]) -> None:
    assert watched["allowed"]["names"] == ["listed.example"]


def test_nobody_comes_to_the_canary(watched: dict[str, Any]) -> None:
    assert watched["canary"] == []


def test_the_operations_were_really_served(watched: dict[str, Any]) -> None:
    """Otherwise nothing was tried."""
    statuses = watched["statuses"]
    assert {"200", "400"} <= set(statuses["openai.ChatCompletions_Create"])
    assert watched["fetched"] > 0
    served = [name for name, found in statuses.items() if "200" in found]
    assert len(served) > len(statuses) * 0.8, sorted(set(statuses) - set(served))


async def test_a_real_worker_fetches_what_is_listed_and_touches_nothing_else(tmp_path: Path) -> None:
    """The same over the wire: the listener's own process, on the loop it really runs on."""
    made = certificates(tmp_path, ["listed.example"])
    touched: list[str] = []

    async def canary(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        touched.append("connected")
        writer.close()

    trap = await asyncio.start_server(canary, "127.0.0.1", 0)
    trapped = trap.sockets[0].getsockname()[1]
    async with (
        engine(answers(reply(b'{"choices":[]}'))) as model,
        engine(answers(reply(PNG, IMAGE_TYPE)), tls=made.server_context()) as far,
        name_server(listed__example=has("127.0.0.1")) as names,
    ):
        (tmp_path / "data").mkdir()
        plane = DataPlane(
            tmp_path / "data",
            f"http://127.0.0.1:{model.port}/v1",
            listen=Listen(data_port=free_ports(1)[0], websocket_port=0, workers=1),
            egress=egress_settings(made.authority, dns_servers=(names.address,)),
        )
        entry = f"https://listed.example:{far.port}"
        account = plane.account(restrictOutboundNetworkAccess=True, allowedFqdnList=[entry])
        listener = await asyncio.to_thread(Listener, plane)
        try:
            statuses = {}
            for uri in (
                f"{entry}/a.png",
                f"https://127.0.0.1:{trapped}/",
                f"https://listed.example:{far.port}@127.0.0.1:{trapped}/",
            ):
                statuses[uri] = await asyncio.to_thread(_chat, listener, account, uri)
        finally:
            await asyncio.to_thread(listener.stop)
    trap.close()
    assert list(statuses.values()) == [200, 400, 400]
    assert (touched, names.asked.count(("listed.example", "A")), far.connections) == ([], 1, 1)
    assert b"data:image/png;base64," in model.requests[0].body
    assert len(model.requests) == 1


def _chat(listener: Listener, account: Account, uri: str) -> int:
    content = [{"type": "image_url", "image_url": {"url": uri}}]
    body = json.dumps({"messages": [{"role": "user", "content": content}]})
    head = f"POST {account.path()}?{VERSION} HTTP/1.1\r\nhost: localhost\r\napi-key: {account.key}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with listener.wire() as wire:
        wire.send((head + body).encode())
        answer = wire.reply()
    assert answer is not None
    return answer.status
