"""What happens between the socket and the pipeline."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from stockade.management.app import ArmApp
from stockade.settings import Limits, Settings
from tests.factories.control_plane import RG, ControlPlane

IDENTITY = f"{RG}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/abc"


async def exchange(app: ArmApp, plane: ControlPlane, *messages: Any, **scope: Any) -> list[Any]:
    """Send one PUT whose body arrives in these messages, and then nothing more; return what was sent back."""
    sent: list[Any] = []
    waiting = list(messages)

    async def receive() -> Any:
        if waiting:
            return waiting.pop(0)
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {plane.owner.object_id}".encode()), (b"content-type", b"application/json")]
    await app(
        {
            "type": "http",
            "http_version": "1.1",
            "method": "PUT",
            "scheme": "https",
            "path": IDENTITY,
            "raw_path": IDENTITY.encode(),
            "query_string": b"api-version=2024-11-30",
            "headers": headers,
            "client": ("192.0.2.1", 5),
            "server": ("localhost", 8444),
            **scope,
        },
        receive,
        send,
    )
    return sent


def chunk(body: bytes, *, more: bool = False) -> Any:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_pieces_is_put_together(plane: ControlPlane) -> None:
    app = ArmApp(plane.pipeline, plane.settings, lambda peer, forwarded: f"{peer}/{forwarded}")
    start, body = await exchange(app, plane, chunk(b'{"location":', more=True), chunk(b'"local"}'))
    assert start["status"] == 201
    assert json.loads(body["body"])["name"] == "abc"
    assert plane.audit.records[-1].caller_address == "192.0.2.1/"


async def test_a_body_that_does_not_arrive_is_given_up(plane: ControlPlane) -> None:
    app = ArmApp(plane.pipeline, Settings(limits=Limits(body_timeout_s=0.05)))
    start, body = await exchange(app, plane, chunk(b'{"location":', more=True))
    assert start["status"] == 408
    assert json.loads(body["body"])["error"]["code"] == "RequestTimeout"
    assert plane.send("GET", IDENTITY).status_code == 404


async def test_an_endless_body_is_cut_off_at_the_limit(plane: ControlPlane) -> None:
    app = ArmApp(plane.pipeline, plane.settings)
    pieces = [chunk(b" " * 1024 * 1024, more=True) for _ in range(100)]
    start, _ = await exchange(app, plane, *pieces)
    assert start["status"] == 413


async def test_a_caller_who_leaves_changes_nothing(plane: ControlPlane) -> None:
    app = ArmApp(plane.pipeline, plane.settings)
    assert await exchange(app, plane, chunk(b'{"location":"local"}', more=True), {"type": "http.disconnect"}) == []
    assert plane.send("GET", IDENTITY).status_code == 404


async def test_a_server_without_raw_paths_will_do(plane: ControlPlane) -> None:
    app = ArmApp(plane.pipeline, plane.settings)
    start, _ = await exchange(app, plane, chunk(b'{"location":"local"}'), raw_path=None)
    assert start["status"] == 201


async def test_a_length_that_is_no_number_is_refused(plane: ControlPlane) -> None:
    app = ArmApp(plane.pipeline, plane.settings)
    bearer = (b"authorization", f"Bearer {plane.owner.object_id}".encode())
    for length in (b"-1", b"x", b"9" * 30):
        start, _ = await exchange(app, plane, chunk(b"{}"), headers=[bearer, (b"content-length", length)])
        assert start["status"] == 413
