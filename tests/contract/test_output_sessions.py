"""What a model says in a realtime session, over real TLS: redacted event by event under the policy in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection

from tests.factories.realtime import RealtimeServer
from tests.factories.websocket import Sessions, event, sessions

PARTS = ("See https:", "//evil.ex", "ample/?d=c2VjcmV0", " and https://good.example/", " http")


async def leak(server: RealtimeServer, connection: ServerConnection, asked: dict[str, Any]) -> None:
    """Answer every request for a response with a link."""
    if asked["type"] != "response.create":
        return
    ids = {"event_id": "e", "response_id": "r1", "item_id": "i1", "output_index": 0, "content_index": 0}
    for part in PARTS:
        await connection.send(json.dumps({"type": "response.output_text.delta", "delta": part, **ids}))
    await connection.send(json.dumps({"type": "response.output_text.done", "text": "".join(PARTS), **ids}))
    await connection.send(json.dumps({"type": "response.done", "response": {"id": "r1"}}))


async def said(connection: Any) -> tuple[str, str]:
    """Ask for a response; return its text in pieces put together, and as the event at its end has it."""
    await connection.send(json.dumps({"type": "response.create"}))
    pieces, whole = "", ""
    while True:
        found = await event(connection)
        match found["type"]:
            case "response.output_text.delta":
                pieces += found["delta"]
            case "response.output_text.done":
                whole = found["text"]
            case "response.done":
                return pieces, whole


def switch(running: Sessions, mode: str) -> None:
    running.plane.change(running.account, stockade={"controls": {"output": mode}})


async def test_session_is_redacted_under_the_mode_in_force(tmp_path: Path) -> None:
    redacted = "See [link removed: host not allowed] and https://good.example/ http"
    async with sessions(
        tmp_path,
        leak,
        restrictOutboundNetworkAccess=True,
        allowedFqdnList=["good.example"],
        stockade={"controls": {"output": "enforce"}},
    ) as running:
        async with running.session() as connection:
            assert await said(connection) == (redacted, redacted)
            switch(running, "report")
            assert await said(connection) == ("".join(PARTS), "".join(PARTS))
            switch(running, "enforce")
            assert await said(connection) == (redacted, redacted)
        (record,) = await running.recorded()
    told = [(one["rule"], one["host"], one["action"]) for one in record["reported"]]
    evil = running.plane.hidden("evil.example")
    assert ("output", evil, "redacted") in told
    assert ("output", evil, "passed") in told
    assert "c2VjcmV0" not in json.dumps(record)
