"""A rule that shuts a caller out ends what the caller has open, on every worker, and nobody else's.

How fast is measured by `python -m benchmarks.cut_off`; here what ends, how it ends and what goes on.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.factories.azure import OPENAI_USER, Azure, bearer
from tests.factories.streams import (
    POUR,
    Stream,
    TalkingEngine,
    Target,
    change,
    data_workers,
    new_account,
    talking_engine,
    workers_of,
)
from tests.live import Live, finish, start, wait_for

RULES = ("127.0.0.1", "127.0.0.2")


def acls(*addresses: str) -> dict[str, Any]:
    return {"defaultAction": "Deny", "ipRules": [{"value": address} for address in addresses]}


@pytest.fixture(scope="module")
def engine() -> Iterator[TalkingEngine]:
    with talking_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine: TalkingEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = start(tmp_path_factory.mktemp("cut-off") / "data", "--workers", "2", settings=engine.settings)
    yield live
    finish(live)


@pytest.fixture(scope="module")
def azure(server: Live) -> Iterator[Azure]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield Azure(server)


async def cut(victims: Target, others: list[Target], act: Callable[[], object], says: str) -> None:
    """Open streams, act, and see those of the victims end with an error that says why while the others go on."""
    workers = data_workers(victims.live)
    assert len(workers) == 2
    with ExitStack() as stack:
        ending = await victims.open_on_every_worker(workers)
        going_on = [stream for other in others for stream in await other.open_on_every_worker(workers)]
        for stream in (*ending, *going_on):
            stack.callback(stream.close)
        assert workers_of(ending, workers) == workers_of(going_on, workers) == workers
        await asyncio.to_thread(act)
        await asyncio.gather(*(stream.ended() for stream in ending))
        for stream in ending:
            assert says in json.dumps(stream.last_event["error"]), stream.last_event
            assert b"[DONE]" not in stream.received
        await asyncio.gather(*(stream.another_event() for stream in going_on))
        with pytest.raises(AssertionError, match=r"HTTP/1\.1 (401|403)"):
            await victims.open()
        for other in others:
            again = await other.open()
            again.close()


async def test_an_address_that_is_no_longer_admitted(server: Live) -> None:
    keys = new_account(server, "cut-address", networkAcls=acls(*RULES))
    own = {"api-key": keys["key1"]}
    await cut(
        Target(server, "cut-address", own),
        [Target(server, "cut-address", own, source="127.0.0.2")],
        lambda: change(server, "cut-address", networkAcls=acls("127.0.0.2")),
        "Virtual Network/Firewall rules",
    )


async def test_public_access_disabled(server: Live) -> None:
    keys, other = new_account(server, "cut-public"), new_account(server, "cut-public-not")
    await cut(
        Target(server, "cut-public", {"api-key": keys["key1"]}),
        [Target(server, "cut-public-not", {"api-key": other["key1"]})],
        lambda: change(server, "cut-public", publicNetworkAccess="Disabled"),
        "Public access is disabled",
    )


async def test_a_key_that_was_regenerated(server: Live) -> None:
    keys = new_account(server, "cut-key")
    regenerate = f"{server.account_id('cut-key')}/regenerateKey"
    await cut(
        Target(server, "cut-key", {"api-key": keys["key1"]}),
        [Target(server, "cut-key", {"api-key": keys["key2"]})],
        lambda: server.request("POST", regenerate, {"keyName": "Key1"}).raise_for_status(),
        "invalid subscription key",
    )


async def test_a_role_that_was_taken_away(server: Live, azure: Azure) -> None:
    new_account(server, "cut-role")
    account = server.account_id("cut-role")
    callers = [azure.new_principal() for _ in range(2)]
    roles = [azure.assign(OPENAI_USER, account, caller.object_id) for caller in callers]
    victims, others = (Target(server, "cut-role", bearer(azure.token(caller))) for caller in callers)
    await cut(
        victims, [others], lambda: azure.authorization.role_assignments.delete_by_id(roles[0]), "PermissionDenied"
    )


async def test_keys_that_are_no_longer_taken(server: Live, azure: Azure) -> None:
    keys = new_account(server, "cut-local-auth")
    caller = azure.new_principal()
    azure.assign(OPENAI_USER, server.account_id("cut-local-auth"), caller.object_id)
    await cut(
        Target(server, "cut-local-auth", {"api-key": keys["key2"]}),
        [Target(server, "cut-local-auth", bearer(azure.token(caller)))],
        lambda: change(server, "cut-local-auth", disableLocalAuth=True),
        "AuthenticationTypeDisabled",
    )


async def test_a_control_that_reports_ends_nothing(server: Live) -> None:
    keys = new_account(server, "cut-report", networkAcls=acls(*RULES), stockade={"controls": {"network": "report"}})
    target = Target(server, "cut-report", {"api-key": keys["key1"]})
    streams = await target.open_on_every_worker(data_workers(server))
    await asyncio.to_thread(change, server, "cut-report", networkAcls=acls("127.0.0.2"))
    for _ in range(20):  # for as long as looks take that would have ended them
        await asyncio.gather(*(stream.another_event() for stream in streams))
    await asyncio.to_thread(change, server, "cut-report", stockade=None)
    await asyncio.gather(*(stream.ended() for stream in streams))
    for stream in streams:
        stream.close()


async def test_a_client_that_does_not_read_holds_nobody_up_and_is_given_up(server: Live, engine: TalkingEngine) -> None:
    keys = new_account(server, "cut-deaf")
    target = Target(server, "cut-deaf", {"api-key": keys["key1"]})
    with ExitStack() as stack:
        deaf: list[Stream] = []
        for _ in range(8):
            deaf.append(await target.open(POUR, reads=False))
            stack.callback(deaf[-1].close)
        streams = await target.open_on_every_worker(data_workers(server))
        for stream in streams:
            stack.callback(stream.close)
        assert engine.talking >= len(deaf) + len(streams)
        await asyncio.to_thread(change, server, "cut-deaf", publicNetworkAccess="Disabled")
        await asyncio.gather(*(stream.ended() for stream in streams))
        for stream in streams:
            assert "Public access is disabled" in json.dumps(stream.last_event)
        # The engine sees that nobody wants its words, though the deaf have said nothing.
        await asyncio.to_thread(wait_for, lambda: not engine.talking, "no stream is read from the engine", 60)


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_the_next_request_on_an_open_connection_is_refused(server: Live, *, http2: bool) -> None:
    name = f"keep-alive-{2 if http2 else 1}"
    keys = new_account(server, name, networkAcls=acls(*RULES))
    url = f"{server.data}/{name}/openai/models?api-version=2024-10-21"
    trust = ssl.create_default_context(cafile=server.ca)
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(
        http1=not http2, http2=http2, verify=trust, limits=limits, headers={"api-key": keys["key1"]}
    ) as client:
        first = client.get(url)
        assert (first.status_code, first.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
        own = first.extensions["network_stream"].get_extra_info("client_addr")
        change(server, name, networkAcls=acls("127.0.0.2"))
        refused = client.get(url)
        assert refused.status_code == 403
        assert refused.headers["policy-id"] == "ThrowExceptionDueToTrafficDenied"
        assert refused.extensions["network_stream"].get_extra_info("client_addr") == own, "it was a new connection"
        change(server, name, networkAcls=acls(*RULES))
        assert client.get(url).status_code == 200
