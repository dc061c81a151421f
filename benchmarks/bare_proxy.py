"""A proxy with nothing in it: Granian in front, one HTTP client behind, no checks. Which client, the environment says."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import Interfaces, Loops, SSLProtocols

_JSON = [("content-type", "application/json")]
_LIMIT_S = 10.0
_LIMIT_BYTES = 1024 * 1024

Ask = Callable[[bytes], Awaitable[bytes]]


class Proxy:
    """Passes every body to the backend and its answer back."""

    def __init__(self) -> None:
        self._ask: Ask | None = None

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ask = CLIENTS[os.environ["BENCHMARK_CLIENT"]](os.environ["BENCHMARK_BACKEND"])

    async def __rsgi__(self, scope: Any, proto: Any) -> None:
        assert self._ask is not None
        proto.response_bytes(200, _JSON, await self._ask(await proto()))


def application() -> Proxy:
    return Proxy()


def _nothing(url: str) -> Ask:
    async def ask(_: bytes) -> bytes:
        return b'{"answer":"palisade"}'

    return ask


def _ours(url: str) -> Ask:
    from stockade.upstream.pool import Target, UpstreamPool

    pool = UpstreamPool(Target.from_url(url))

    async def ask(body: bytes) -> bytes:
        reply = await pool.request("POST", "/chat/completions", body)
        whole = reply.whole()
        return whole if whole is not None else await reply.read(_LIMIT_BYTES, _LIMIT_S)

    return ask


def _pyreqwest(url: str) -> Ask:
    from pyreqwest.client import ClientBuilder

    client = ClientBuilder().build()

    async def ask(body: bytes) -> bytes:
        request = client.post(f"{url}/chat/completions").header("content-type", "application/json").body_bytes(body)
        return bytes(await (await request.build().send()).bytes())

    return ask


def _aiohttp(url: str) -> Ask:
    import aiohttp

    sessions: list[aiohttp.ClientSession] = []

    async def ask(body: bytes) -> bytes:
        if not sessions:  # a session can only be made inside the loop
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256)))
        headers = {"content-type": "application/json"}
        async with sessions[0].post(f"{url}/chat/completions", data=body, headers=headers) as reply:
            return await reply.read()

    return ask


CLIENTS: dict[str, Callable[[str], Ask]] = {
    "none": _nothing,
    "ours": _ours,
    "pyreqwest": _pyreqwest,
    "aiohttp": _aiohttp,
}


if __name__ == "__main__":
    Granian(
        "benchmarks.bare_proxy:application",
        factory=True,
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        ssl_cert=Path(sys.argv[2]),
        ssl_key=Path(sys.argv[3]),
        ssl_protocol_min=SSLProtocols.tls12,
        websockets=False,
    ).serve()
