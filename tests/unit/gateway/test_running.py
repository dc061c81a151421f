"""What ends a request from outside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stockade.gateway import running
from stockade.gateway.running import EndedBy, Running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOOK_S", 0.005)


class Proto:
    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def client_disconnect(self) -> None:
        await self.gone.wait()


class Request:
    def __init__(self, *, reads_body: bool = False) -> None:
        self.peer = "127.0.0.1:1"
        self.proto: Any = Proto()
        self.reads_body = reads_body
        self.ended_by: EndedBy = ""
        self.watch: asyncio.Task[None] | None = None
        self.began = asyncio.get_running_loop().time()
        self.task: asyncio.Task[Any] | None = asyncio.create_task(asyncio.Event().wait())

    async def end(self) -> EndedBy:
        assert self.task is not None
        await asyncio.wait([self.task], timeout=10)
        assert self.task.cancelled()
        return self.ended_by


async def test_slow_body_is_ended_although_the_request_has_time() -> None:
    requests, slow = Running(0.01, 100), Request(reads_body=True)
    requests.enter(slow, asyncio.get_running_loop())
    assert await slow.end() == "slow-body"


async def test_deadline_ends_what_takes_too_long() -> None:
    requests, long = Running(100, 0.01), Request()
    requests.enter(long, asyncio.get_running_loop())
    assert await long.end() == "deadline"
    requests.leave(long)


async def test_client_that_has_gone_ends_its_request_and_nobody_elses() -> None:
    requests, left, stays = Running(100, 100), Request(), Request()
    for request in (left, stays):
        requests.enter(request, asyncio.get_running_loop())
    left.proto.gone.set()
    assert await left.end() == "disconnect"
    assert stays.task is not None
    assert not stays.task.done()
    requests.leave(stays)
    stays.task.cancel()


async def test_peers_are_those_with_a_request_under_way() -> None:
    requests, request = Running(100, 100), Request()
    requests.enter(request, asyncio.get_running_loop())
    assert requests.peers() == {"127.0.0.1:1"}
    requests.leave(request)
    assert requests.peers() == frozenset()
    assert request.task is not None
    request.task.cancel()
