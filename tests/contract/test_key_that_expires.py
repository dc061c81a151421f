"""A customer's key that expires changes no document, so nothing tells of it: the data plane has to look at the clock."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

from stockade.gateway.app import Gateway
from stockade.policy.snapshot import AccountPolicy, Snapshot
from tests.factories import customer_key
from tests.factories.data_plane import CHAT, HELLO, Account, Answer, DataPlane, Scope, ask
from tests.factories.engine import Peer, engine

STREAM = HELLO[:-1] + b',"stream":true}'
EVENT = b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n'


class Ground:
    """An account whose key expires a minute from now, if it `expires`; its snapshot stands still."""

    def __init__(self, folder: Path, url: str = "", *, expires: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.plane = DataPlane(folder, url)
        self.account: Account = self.plane.account()
        self.gateway: Gateway = self.plane.gateway()
        now = self.plane.clock.now()
        until = now + 60 if expires else None
        there = customer_key.snapshot(versions=(customer_key.version(created=now - 60, expires=until),))
        known = self.gateway.policy()
        policy: AccountPolicy = known.only("account", self.account.id)
        owned = dict(known._owned)
        mine = tuple(
            (
                index,
                key,
                dataclasses.replace(policy, customer_key=customer_key.customer_key()) if value is policy else value,
            )
            for index, key, value in owned[self.account.id]
        )
        self.snapshot = known.with_changes(known.generation + 1, {**there._owned, **owned, self.account.id: mine})
        gateway: Any = self.gateway
        gateway._source.current = gateway._running._policy = lambda: self.snapshot

    async def chat(self) -> Answer:
        return await ask(self.gateway, self.account.path(), ("api-key", self.account.key))


def remembered(snapshot: Snapshot) -> int:
    return sum(isinstance(name, tuple) and name[0] == "admitted" for name in snapshot.memo)


async def test_admission_is_not_remembered_past_the_key(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    for _ in range(2):
        assert (await ground.chat()).status == 503  # admitted, and no engine is there
    assert remembered(ground.snapshot) == 0
    ground.plane.clock.advance(61)
    refused = await ground.chat()
    assert (refused.status, refused.code) == (403, "CustomerManagedKeyUnavailable")


async def test_request_under_way_ends_with_the_key_and_another_goes_on(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def holds(peer: Peer) -> None:
        await peer.request()
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n"
        await peer.send(head + b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
        begun.set()
        await peer.closed()

    async with engine(holds) as running:
        for folder, expires in (("ends", True), ("lasts", False)):
            begun.clear()
            ground = Ground(tmp_path / folder, f"http://127.0.0.1:{running.port}/v1", expires=expires)
            answer = Answer([STREAM])
            sent = [("api-key", ground.account.key), ("content-type", "application/json")]
            asked = asyncio.create_task(
                ground.gateway.__rsgi__(Scope(ground.account.path(CHAT), "POST", headers=sent), answer)
            )
            await asyncio.wait_for(begun.wait(), 10)
            ground.plane.clock.advance(61)
            done, _ = await asyncio.wait([asked], timeout=1)
            assert bool(done) == expires
            assert (b"CustomerManagedKeyUnavailable" in answer.body) == expires
            asked.cancel()
            await asyncio.wait([asked])
