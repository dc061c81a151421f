"""Operators' reading: who is let in, what streams, what is told before the first byte. Broker and lender are pretended ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from stockade.content.item import Kind
from stockade.identity.principals import Principal
from stockade.kernel.evidence import ArmToken
from stockade.kernel.faults import Fault, FaultKind
from stockade.keys.lockbox import Lent
from stockade.lockbox.signature import Signed
from stockade.management.lockbox.reading import AT_ONCE, Reading
from stockade.policy.builtin_roles import SUPPORT_ENGINEER
from tests.factories.contents import EVIDENCE, Kept, pieces
from tests.factories.control_plane import SUB, ControlPlane, S, verify
from tests.factories.lockbox_arm import ACCOUNT, Lockbox

MIB = 1024 * 1024
BODY = os.urandom(3 * MIB + 11)


class Broker:
    """The pretended broker, for an event loop."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def grant_access(self, request_id: str, signed: Signed, evidence: ArmToken) -> Lent:
        return self._plane.broker.grant_access(request_id, signed, evidence)


@dataclass
class Desk:
    """A protected account that keeps two files and a response, and the endpoint."""

    box: Lockbox
    kept: Kept
    client: httpx.AsyncClient

    async def get(self, name: str, what: str = "", by: Principal | None = None, **options: Any) -> httpx.Response:
        token = (by or self.box.engineer).object_id
        headers = {"authorization": f"Bearer {token}"}
        return await self.client.get(f"/lockbox/v1/requests/{SUB}/{name}/content{what}", headers=headers, **options)

    def approved(self, *scope: str) -> str:
        name = self.box.file(scope=list(scope or ("files/file-1",)))
        self.box.approve(name)
        return name

    async def keep(self, kind: Kind, name: str, body: bytes | None = None) -> None:
        of = self.kept.contents.of(ACCOUNT, EVIDENCE, "x", "test")
        await of.create(kind, name, {"filename": f"{name}.txt"}, pieces(body) if body is not None else None)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    plane = ControlPlane(tmp_path)
    box = Lockbox(plane).ready()
    kept = Kept(tmp_path, plane.database, clock=plane.clock)
    broker = Broker(plane)
    reading = Reading(plane.platform, plane.database, plane.source, verify, broker, kept.contents)
    transport = httpx.ASGITransport(Starlette(routes=reading.routes), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://localhost:8444") as client:
        found = Desk(box, kept, client)
        await found.keep("files", "file-1", BODY)
        await found.keep("files", "file-2", b"two")
        await found.keep("responses", "resp-1")
        yield found
    plane.close()


def refused(reply: httpx.Response, status: int, code: str) -> str:
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text
    assert reply.headers["x-stockade-decision"]
    return str(reply.json()["error"]["message"])


async def test_what_was_signed_for_is_read(desk: Desk) -> None:
    name = desk.approved()
    reply = await desk.get(name, "/files/file-1")
    assert reply.status_code == 200
    assert reply.content == BODY
    assert reply.headers["content-length"] == str(len(BODY))
    assert reply.headers["cache-control"] == "no-store"
    shown = (await desk.get(name, "/files/file-1", params={"part": "metadata"})).json()
    assert (shown["bytes"], shown["metadata"]) == (len(BODY), {"filename": "file-1.txt"})
    asked_by = desk.kept.lender.asked[-1][3]
    assert asked_by == f"control-plane lockbox {name}"
    last = desk.box.plane.audit.records[-1]
    assert (last.operation, last.outcome) == ("Stockade.Lockbox/requests/content/read/action", "success")
    assert last.because == {"path": "/files/file-1"}


async def test_the_list_holds_what_was_signed_for(desk: Desk) -> None:
    found = (await desk.get(desk.approved("files/*"))).json()["value"]
    assert [(one["id"], one["bytes"]) for one in found] == [("file-2", 3), ("file-1", len(BODY))]
    assert found[0]["metadata"] == {"filename": "file-2.txt"}
    found = (await desk.get(desk.approved("files/file-2", "files/gone", "responses/*"))).json()["value"]
    assert [one["id"] for one in found] == ["file-2", "resp-1"]


async def test_the_customer_is_told_of_the_first_read_before_its_first_byte(desk: Desk) -> None:
    name, box = desk.approved(), desk.box
    desk.kept.lender.refuse()  # nothing is read, and yet it is told
    refused(await desk.get(name, "/files/file-1"), 403, "CustomerManagedKeyUnavailable")
    assert box.recorded(name)[-1] == "Stockade.Lockbox/requests/use"
    first = box.show(name)["stockade"]["firstUsedAt"]
    assert first == "2027-01-15T08:00:00.0000000Z"
    box.plane.clock.advance(60)
    desk.kept.lender.refusal = None
    assert (await desk.get(name, "/files/file-1")).status_code == 200
    assert box.show(name)["stockade"]["firstUsedAt"] == first
    assert [event["event"] for event in box.show(name)["stockade"]["history"]] == ["Created", "Approved", "Used"]


@pytest.mark.parametrize(
    ("status", "code", "spoil"),
    [
        (409, "RequestStatusConflict", lambda desk, name: desk.box.act(name, "revoke", desk.box.alice)),
        (409, "RequestStatusConflict", lambda desk, name: desk.box.act(name, "complete")),
        (409, "RequestStatusConflict", lambda desk, _: desk.box.plane.clock.advance(8 * 3600)),
        (403, "LockboxNotEnabled", lambda desk, _: opt_out(desk.box)),
        (503, "ServiceUnavailable", lambda desk, _: setattr(desk.box.plane.audit, "healthy", False)),
        (403, "AuthorizationFailed", lambda desk, _: no_role(desk.box)),
    ],
    ids=["revoked", "completed", "over", "opted out", "no log", "no role"],
)
async def test_what_ends_reading(desk: Desk, status: int, code: str, spoil: Callable[[Desk, str], Any]) -> None:
    name = desk.approved()
    spoil(desk, name)
    refused(await desk.get(name, "/files/file-1"), status, code)
    assert not any(asked[2] == "read" for asked in desk.kept.lender.asked)


def opt_out(box: Lockbox) -> None:
    box.plane.ok("POST", "/providers/Microsoft.CustomerLockbox/disableLockbox", by=box.root)


def no_role(box: Lockbox) -> None:
    where = f"{S}/providers/Microsoft.Authorization/roleAssignments?$filter=principalId eq '{box.engineer.object_id}'"
    for one in box.plane.ok("GET", where)["value"]:
        box.plane.ok("DELETE", one["id"])


async def test_nobody_else_reads(desk: Desk) -> None:
    name = desk.approved()
    other = desk.box.plane.principal("other", (SUPPORT_ENGINEER, S))
    refused(await desk.get(name, "/files/file-1", by=other), 403, "LockboxRequestOfAnother")
    refused(await desk.get(name, "/files/file-1", by=desk.box.alice), 403, "AuthorizationFailed")
    reply = await desk.client.get(f"/lockbox/v1/requests/{SUB}/{name}/content")
    refused(reply, 401, "AuthenticationFailed")
    refused(await desk.get(desk.box.file(), ""), 409, "RequestStatusConflict")
    for strange in ("11111111-0000-4000-8000-000000000001", "x"):
        refused(await desk.get(strange), 404, "ResourceNotFound")
    refused(await desk.get(name, "/secrets/x"), 404, "ResourceNotFound")
    refused(await desk.get(name, "/files/none"), 404, "ResourceNotFound")


async def test_after_a_restart_of_the_broker_the_customer_signs_again(desk: Desk) -> None:
    name, box = desk.approved(), desk.box
    box.plane.broker.restart()
    assert "signed once more" in refused(await desk.get(name, "/files/file-1"), 409, "ChallengeOver")
    assert box.show(name)["status"] == "Pending"
    assert box.recorded(name)[-1] == "Stockade.Lockbox/requests/reopen"
    refused(await desk.get(name, "/files/file-1"), 409, "RequestStatusConflict")
    box.approve(name)
    assert (await desk.get(name, "/files/file-1")).content == BODY


async def test_few_read_at_once(desk: Desk) -> None:
    name, waiting, all_begun = desk.approved(), asyncio.Event(), asyncio.Event()
    begun: list[int] = []
    lend = desk.kept.lender.object_keys

    async def slow(*arguments: Any) -> Any:
        begun.append(1)
        if len(begun) == AT_ONCE:
            all_begun.set()
        await waiting.wait()
        return await lend(*arguments)

    desk.kept.lender.object_keys = slow  # type: ignore[method-assign]
    reads = [asyncio.create_task(desk.get(name, "/files/file-2")) for _ in range(AT_ONCE)]
    await all_begun.wait()
    refused(await desk.get(name, "/files/file-2"), 429, "TooManyReads")
    waiting.set()
    assert {reply.status_code for reply in await asyncio.gather(*reads)} == {200}
    assert (await desk.get(name, "/files/file-2")).content == b"two"


async def test_what_is_taken_back_meanwhile_is_cut_off(desk: Desk) -> None:
    name = desk.approved()
    lender = desk.kept.lender
    lender.lease_s = 1e-9  # asked for again with every batch
    count = 0
    lend = lender.object_keys

    async def revoked_after_a_while(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > 2:  # the metadata, and the first of two batches
            raise Fault(FaultKind.PERMISSION_DENIED, "The request is over, or was revoked.")
        return await lend(*arguments)

    lender.object_keys = revoked_after_a_while  # type: ignore[method-assign]
    with pytest.raises(AssertionError):  # httpx's own: the body has no end
        await desk.get(name, "/files/file-1")
    assert desk.box.plane.audit.records[-1].outcome == "failed:PermissionDenied"
    for _ in range(AT_ONCE + 1):  # every place is given back
        assert (await desk.get(name, "/files/file-2")).status_code != 429
