"""What ends a request from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stockade.gateway import running
from stockade.gateway.running import EndedBy, Running
from stockade.kernel.faults import Fault, FaultKind
from stockade.kernel.verdict import Deny
from stockade.policy.snapshot import Snapshot

NOW = Snapshot(1)
CLOSED = Deny("network", Fault(FaultKind.NETWORK_DENIED, "closed"))


def running_with(
    request_timeout_s: float,
    policy: Callable[[], Snapshot] = lambda: NOW,
    again: Callable[[Any, Snapshot], Deny | None] = lambda *_: None,
) -> Running[Any]:
    return Running(request_timeout_s, policy, again)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LOOK_S", 0.005)


class Proto:
    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def client_disconnect(self) -> None:
        await self.gone.wait()


class Request:
    def __init__(self) -> None:
        self.snapshot: Snapshot | None = NOW
        self.denied: Deny | None = None
        self.peer = "127.0.0.1:1"
        self.proto: Any = Proto()
        self.client_due: float | None = None
        self.clocked = False
        self.ended_by: EndedBy = ""
        self.watch: asyncio.Task[None] | None = None
        self.longest_s: float | None = None
        self.began = asyncio.get_running_loop().time()
        self.task: asyncio.Task[Any] | None = asyncio.create_task(asyncio.Event().wait())

    async def end(self) -> EndedBy:
        assert self.task is not None
        await asyncio.wait([self.task], timeout=10)
        assert self.task.cancelled()
        return self.ended_by


async def test_slow_client_is_ended_although_the_request_has_time() -> None:
    requests, slow = running_with(100), Request()
    slow.client_due = asyncio.get_running_loop().time() + 0.01
    requests.enter(slow, asyncio.get_running_loop())
    assert await slow.end() == "slow-client"


async def test_deadline_ends_what_takes_too_long() -> None:
    requests, long = running_with(0.01), Request()
    requests.enter(long, asyncio.get_running_loop())
    assert await long.end() == "deadline"
    requests.leave(long)


async def test_client_that_has_gone_ends_its_request_and_nobody_elses() -> None:
    requests, left, stays = running_with(100), Request(), Request()
    for request in (left, stays):
        requests.enter(request, asyncio.get_running_loop())
    left.proto.gone.set()
    assert await left.end() == "disconnect"
    assert stays.task is not None
    assert not stays.task.done()
    requests.leave(stays)
    stays.task.cancel()


async def test_peers_are_those_with_a_request_under_way() -> None:
    requests, request = running_with(100), Request()
    requests.enter(request, asyncio.get_running_loop())
    assert requests.peers() == {"127.0.0.1:1"}
    requests.leave(request)
    assert requests.peers() == frozenset()
    assert request.task is not None
    request.task.cancel()


async def test_policy_that_would_not_admit_a_request_any_more_ends_it_and_nobody_elses() -> None:
    now, looked = [NOW], asyncio.Event()

    def policy() -> Snapshot:
        looked.set()
        return now[0]

    requests = running_with(100, policy, lambda request, _: CLOSED if request is shut_out else None)
    shut_out, stays = Request(), Request()
    for request in (shut_out, stays):
        requests.enter(request, asyncio.get_running_loop())
    await asyncio.wait_for(looked.wait(), 10)
    assert shut_out.task is not None
    assert stays.task is not None
    assert not shut_out.task.done()
    now[0] = Snapshot(2)
    assert await shut_out.end() == "policy"
    assert shut_out.denied is CLOSED
    assert not stays.task.done()
    assert stays.snapshot is now[0]
    for request in (shut_out, stays):
        requests.leave(request)
    stays.task.cancel()


async def test_a_request_whose_admission_depends_on_the_clock_is_decided_on_without_a_change_of_policy() -> None:
    asked = asyncio.Event()

    def again(request: Any, _: Snapshot) -> Deny | None:
        asked.set()
        return CLOSED if request.clocked else None

    requests, clocked, stays = running_with(100, again=again), Request(), Request()
    clocked.clocked = True
    for request in (clocked, stays):
        requests.enter(request, asyncio.get_running_loop())
    assert await clocked.end() == "policy"
    assert asked.is_set()
    assert stays.task is not None
    assert not stays.task.done()
    for request in (clocked, stays):
        requests.leave(request)
    stays.task.cancel()


async def test_request_goes_on_while_policy_cannot_be_read() -> None:
    looks = asyncio.Semaphore(0)

    def away() -> Snapshot:
        looks.release()
        raise Fault(FaultKind.UNAVAILABLE, "away")

    requests, request = running_with(100, away, lambda *_: CLOSED), Request()
    requests.enter(request, asyncio.get_running_loop())
    for _ in range(3):
        await asyncio.wait_for(looks.acquire(), 10)
    assert request.task is not None
    assert not request.task.done()
    requests.leave(request)
    request.task.cancel()


async def test_session_has_a_time_of_its_own_and_no_watch_on_its_client() -> None:
    loop, running = asyncio.get_running_loop(), running_with(0.01)
    request, session = Request(), Request()
    session.longest_s = 0.1
    running.enter(request, loop)
    running.enter(session, loop)
    assert await request.end() == "deadline"
    assert session.ended_by == ""
    assert session.watch is None
    assert await session.end() == "deadline"
