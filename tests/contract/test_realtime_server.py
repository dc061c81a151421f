"""Realtime sessions on a whole server: its own processes, its own certificate, and every way in."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from typing import Any

import pytest
import requests
from openai import AsyncAzureOpenAI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.factories.realtime import DEPLOYMENT, SETTINGS, realtime_server
from tests.factories.websocket import PATIENCE_S, end
from tests.live import Live, StartServer, free_ports
from tests.outside import ROOT


@pytest.fixture
def engine_port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def server(live_server: StartServer, engine_port: int) -> Live:
    live = live_server("--workers", "2", settings=SETTINGS.format(url=f"http://127.0.0.1:{engine_port}/v1"))
    made = live.request("PUT", f"{live.account_id('demo-openai')}/deployments/voice", DEPLOYMENT)
    assert made.status_code in (200, 201), made.text
    return live


def example() -> str:
    """Return the program in docs/models.md."""
    text = (ROOT / "docs" / "models.md").read_text().partition("## Realtime sessions")[2]
    return text.partition("```python\n")[2].partition("```")[0].replace("DEPLOYMENT", "voice")


async def test_example_of_the_documentation_runs_with_what_env_prints(server: Live, engine_port: int) -> None:
    async with realtime_server(port=engine_port):
        environment = {**os.environ, **await asyncio.to_thread(server.account, "demo-openai")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            example(),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, complaints = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert printed == b"Hello there.", complaints.decode()


async def test_client_on_a_real_server_is_served_refused_and_cut_off(server: Live, engine_port: int) -> None:
    variables = server.account("demo-openai")
    key, tls = variables["AZURE_OPENAI_API_KEY"], server.trust()
    url = f"wss://localhost:{server.websocket_port}/demo-openai/openai/v1/realtime?model=voice"
    async with realtime_server(port=engine_port):
        assert await said(server, key, tls) == "Hello there."
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, ssl=tls, proxy=None):
                pass
        assert caught.value.response.status_code == 401
        # On every worker: the kernel spreads connections over them.
        connections = [await connect(url, ssl=tls, proxy=None, additional_headers={"api-key": key}) for _ in range(8)]
        closed = {"properties": {"networkAcls": {"defaultAction": "Deny"}}}
        done = await asyncio.to_thread(server.request, "PATCH", server.account_id("demo-openai"), closed)
        assert done.status_code == 200, done.text
        for connection in connections:
            _, code, reason = await end(connection)
            assert (code, reason) == (1008, "Access denied due to Virtual Network/Firewall rules.")


def test_plain_http_is_told_the_port(server: Live) -> None:
    key = server.account("demo-openai")["AZURE_OPENAI_API_KEY"]
    for port, words in (
        (server.ports[0], f"on port {server.websocket_port} of this host"),
        (server.websocket_port, "WebSocket"),
    ):
        answer = requests.get(
            f"https://localhost:{port}/demo-openai/openai/v1/realtime?model=voice",
            headers={"api-key": key},
            verify=str(server.ca),
            timeout=PATIENCE_S,
        )
        assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
        assert words in answer.json()["error"]["message"]


async def said(server: Live, key: str, tls: ssl.SSLContext) -> str:
    text = ""
    async with AsyncAzureOpenAI(
        azure_endpoint=f"{server.data}/demo-openai",
        websocket_base_url=f"wss://localhost:{server.websocket_port}/demo-openai/openai",
        api_key=key,
        api_version="2025-04-01-preview",
    ) as client:
        options: Any = {"ssl": tls}
        async with (
            asyncio.timeout(PATIENCE_S),
            client.realtime.connect(model="voice", websocket_connection_options=options) as connection,
        ):
            await connection.response.create()
            async for found in connection:
                if found.type == "response.output_text.delta":
                    text += found.delta
                elif found.type == "response.done":
                    break
    return text
