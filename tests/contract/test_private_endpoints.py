"""Private endpoints on a whole server: made by ARM, answered by a process that runs only when it is wanted.

The addresses are 127.x: on Linux every one of them is this machine, so that nothing has to be set up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from websockets.exceptions import InvalidStatus

from tests.contract.test_cut_off import cut
from tests.factories import names
from tests.factories.audit import logged
from tests.factories.azure import descendants
from tests.factories.private_link import Endpoint, decide, endpoint, network, stands
from tests.factories.realtime import DEPLOYMENT, SETTINGS, SessionTarget, realtime_server_in_a_thread
from tests.factories.streams import TalkingEngine, Target, change, new_account, talking_engine
from tests.live import Live, StartServer, finish, free_ports, start, wait_for

PATH = "openai/models?api-version=2024-10-21"


@dataclass
class World:
    live: Live
    port: int
    subnet: str

    def account(self, name: str, address: str, **properties: Any) -> tuple[str, Endpoint]:
        """Create an account with a private endpoint; return its first key and the endpoint once it is listened for."""
        keys = new_account(self.live, name, **properties)
        made = endpoint(self.live, name, f"pe-{name}", self.subnet, address)
        stands(self.live, address)
        return keys["key1"], made

    def get(self, address: str, account: str, key: str, path: str = "") -> httpx.Response:
        """Ask at an address as the name `localhost`."""
        trust = ssl.create_default_context(cafile=self.live.ca)
        url = f"https://{address}:{self.port}/{path or f'{account}/{PATH}'}"
        with httpx.Client(verify=trust, timeout=30) as client:
            return client.get(url, headers={"api-key": key}, extensions={"sni_hostname": "localhost"})

    def gone(self, address: str) -> None:
        """Return once nobody listens there."""

        def refused() -> bool:
            try:
                self.get(address, "x", "x")
            except httpx.ConnectError:
                return True
            except httpx.TransportError:  # it is just going
                return False
            return False

        wait_for(refused, f"nobody listens at {address}", 60)


@pytest.fixture(scope="module")
def engine() -> Iterator[TalkingEngine]:
    with talking_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def world(engine: TalkingEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    port = free_ports(1)[0]
    with realtime_server_in_a_thread() as voice:
        settings = f"{engine.settings}{SETTINGS.format(url=voice.url)}[listen]\nprivate_port = {port}\n"
        live = start(tmp_path_factory.mktemp("private") / "data", "--workers", "2", settings=settings)
        yield World(live, port, network(live, "private", "127.20.0.0/16"))
        finish(live)


def private_process(live: Live) -> list[int]:
    return [pid for pid, line in descendants(live.pid).items() if "stockade.serve.private" in line]


def test_the_account_answers_there_though_public_access_is_disabled_and_no_other_does(world: World) -> None:
    key, _ = world.account("pe-one", "127.20.0.10", publicNetworkAccess="Disabled")
    other, _ = world.account("pe-two", "127.20.0.11")
    assert world.get("127.20.0.10", "pe-one", key).status_code == 200
    assert world.get("127.20.0.11", "pe-two", other).status_code == 200
    public = requests.get(
        f"{world.live.data}/pe-one/{PATH}", headers={"api-key": key}, verify=str(world.live.ca), timeout=30
    )
    assert public.status_code == 403
    assert "Public access is disabled" in public.text
    unknown = world.get("127.20.0.10", "no-such-account", key)
    for address, account, credential in (
        ("127.20.0.10", "pe-two", other),
        ("127.20.0.10", "pe-two", key),
        ("127.20.0.11", "pe-one", key),
        ("127.20.0.10", "demo-openai", key),
    ):
        refused = world.get(address, account, credential)
        assert (refused.status_code, refused.json()) == (unknown.status_code, unknown.json())
    assert world.get("127.20.0.10", "", key, PATH).status_code == 404  # the regional endpoint is not there either
    assert world.get("127.20.0.10", "pe-one", other).status_code == 401


def test_rejecting_takes_the_listener_away_and_approving_brings_it_back(world: World) -> None:
    key, made = world.account("pe-decided", "127.20.0.12", publicNetworkAccess="Disabled")
    trust = ssl.create_default_context(cafile=world.live.ca)
    with httpx.Client(verify=trust, timeout=30) as client:
        url = f"https://127.20.0.12:{world.port}/pe-decided/{PATH}"
        asked: dict[str, Any] = {"headers": {"api-key": key}, "extensions": {"sni_hostname": "localhost"}}
        assert client.get(url, **asked).status_code == 200
        decide(world.live, made, "Rejected")
        with contextlib.suppress(httpx.TransportError):  # the open connection is refused, or closed already
            assert client.get(url, **asked).status_code == 403
    world.gone("127.20.0.12")
    decide(world.live, made, "Approved")
    stands(world.live, "127.20.0.12")
    assert world.get("127.20.0.12", "pe-decided", key).status_code == 200


def test_deleting_the_endpoint_takes_the_listener_away(world: World) -> None:
    key, made = world.account("pe-deleted", "127.20.0.13")
    assert world.get("127.20.0.13", "pe-deleted", key).status_code == 200
    assert world.live.request("DELETE", made.id, version="2024-05-01").status_code in (200, 202, 204)
    world.gone("127.20.0.13")


def test_the_address_of_a_caller_is_its_own(world: World) -> None:
    key, _ = world.account("pe-record", "127.20.0.14")
    answer = world.get("127.20.0.14", "pe-record", key)
    wanted = answer.headers["apim-request-id"]

    def record() -> dict[str, Any] | None:
        return next((one for one in logged(world.live.data_dir) if one["id"] == wanted), None)

    found = wait_for(record, "the record of the request is written")
    assert found["callerAddress"].startswith("127.")
    assert found["resource"].lower() == world.live.account_id("pe-record").lower()


def test_status_shows_where_each_stands_and_why_one_does_not(world: World) -> None:
    world.account("pe-status", "127.20.0.15")
    outside = network(world.live, "elsewhere", "10.254.0.0/16")
    new_account(world.live, "pe-elsewhere")
    endpoint(world.live, "pe-elsewhere", "pe-elsewhere", outside, "10.254.0.9")

    def told() -> dict[str, Any] | None:
        shown = json.loads(world.live.stockade("status", "--format", "json"))["private"]
        found = {one["address"]: one for one in shown}
        return found if "10.254.0.9" in found else None

    found = wait_for(told, "the other endpoint is seen")
    assert (found["127.20.0.15"]["state"], found["127.20.0.15"]["port"]) == ("listening", world.port)
    assert found["10.254.0.9"]["state"] == "waiting"
    assert "private_networks" in found["10.254.0.9"]["reason"]
    screen = world.live.stockade("status")
    assert f"https://127.20.0.15:{world.port} for pe-status" in screen
    assert "10.254.0.9 for pe-elsewhere is not listened on: it is in none of" in screen
    doctor = world.live.stockade("doctor", "pe-elsewhere", fails=1)
    assert "10.254.0.9 is not listened on" in doctor
    assert "listen.private_networks" in doctor


def test_a_crashed_process_is_started_again(world: World) -> None:
    key, _ = world.account("pe-crash", "127.20.0.16")
    (before,) = private_process(world.live)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: private_process(world.live) not in ([], [before]), "the process is started again", 60)

    def answers() -> bool:
        try:
            return world.get("127.20.0.16", "pe-crash", key).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, "the listener stands again", 60)


async def test_a_rejected_connection_ends_its_streams_and_no_others(world: World) -> None:
    key, made = world.account("pe-cut", "127.20.0.18")
    endpoint(world.live, "pe-cut", "pe-cut-2", world.subnet, "127.20.0.19")
    stands(world.live, "127.20.0.19")
    own = {"api-key": key}
    public = Target(world.live, "pe-cut", own)
    private, other = (
        Target(world.live, "pe-cut", own, host=address, port=world.port) for address in ("127.20.0.18", "127.20.0.19")
    )
    with ExitStack() as stack:
        ending = [await private.open() for _ in range(4)]
        going_on = [await target.open() for target in (other, public) for _ in range(3)]
        for stream in (*ending, *going_on):
            stack.callback(stream.close)
        await asyncio.to_thread(decide, world.live, made, "Rejected")
        await asyncio.gather(*(stream.ended() for stream in ending))
        for stream in ending:
            assert "Virtual Network/Firewall rules" in json.dumps(stream.last_event)
        await asyncio.gather(*(stream.another_event() for stream in going_on))


async def test_disabling_public_access_ends_public_streams_and_no_private_ones(world: World) -> None:
    key, _ = world.account("pe-public", "127.20.0.20")
    own = {"api-key": key}
    private = Target(world.live, "pe-public", own, host="127.20.0.20", port=world.port)
    streams = [await private.open() for _ in range(3)]
    other = new_account(world.live, "pe-public-not")["key1"]
    await cut(
        Target(world.live, "pe-public", own),
        [Target(world.live, "pe-public-not", {"api-key": other})],
        lambda: change(world.live, "pe-public", publicNetworkAccess="Disabled"),
        "Public access is disabled",
    )
    await asyncio.gather(*(stream.another_event() for stream in streams))
    for stream in streams:
        stream.close()


async def test_sessions_come_by_a_private_endpoint_too_and_end_with_it(world: World) -> None:
    key, made = world.account("pe-voice", "127.20.0.21", publicNetworkAccess="Disabled")
    other, _ = world.account("pe-voice-2", "127.20.0.22")
    for account in ("pe-voice", "pe-voice-2"):
        done = world.live.request("PUT", f"{world.live.account_id(account)}/deployments/voice", DEPLOYMENT)
        assert done.status_code in (200, 201), done.text
    private = SessionTarget(world.live, "pe-voice", key, host="127.20.0.21")
    with ExitStack() as stack:
        ending, going_on = await private.open(), await SessionTarget(world.live, "pe-voice-2", other).open()
        stack.callback(ending.close)
        stack.callback(going_on.close)
        for refused, status in (
            (SessionTarget(world.live, "pe-voice", key), 403),
            (SessionTarget(world.live, "pe-voice-2", other, host="127.20.0.21"), 404),
        ):
            with pytest.raises(InvalidStatus) as caught:
                await refused.open()
            assert caught.value.response.status_code == status
        await asyncio.to_thread(decide, world.live, made, "Rejected")
        await ending.ended()
        assert ending.connection.close_code == 1008
        assert "Virtual Network/Firewall rules" in str(ending.connection.close_reason)
        seen = going_on.events
        await asyncio.to_thread(wait_for, lambda: going_on.events > seen, "the other session goes on")
    with pytest.raises((OSError, InvalidStatus)):
        await private.open()


# The last one on the shared server: while a certificate is taken over, the public listeners turn some callers away.
def test_a_new_certificate_reaches_the_listeners(world: World) -> None:
    world.account("pe-certificate", "127.20.0.17")

    def shown() -> bytes:
        with ssl.create_default_context(cafile=world.live.ca).wrap_socket(
            socket.create_connection(("127.20.0.17", world.port), 30), server_hostname="localhost"
        ) as connection:
            return connection.getpeercert(binary_form=True) or b""

    before = shown()
    for name in ("server.pem", "server.key"):
        (world.live.data_dir / "tls" / name).unlink()
    wait_for(lambda: shown() != before, "the new certificate is shown", 60)


def test_without_an_endpoint_there_is_no_process_and_with_one_there_is_for_as_long_as_the_server_runs(
    live_server: StartServer,
) -> None:
    port = free_ports(1)[0]
    live = live_server("--workers", "1", settings=f"[listen]\nprivate_port = {port}\n")
    assert private_process(live) == []
    assert json.loads(live.stockade("status", "--format", "json"))["private"] == []
    subnet = network(live, "later", "127.21.0.0/16")
    endpoint(live, "demo-openai", "pe-later", subnet, "127.21.0.4")
    stands(live, "127.21.0.4")
    (process,) = private_process(live)
    live.stop()
    assert not Path(f"/proc/{process}").exists()
    assert not (live.data_dir / "run" / "private.json").exists()
    live.start_again()
    stands(live, "127.21.0.4")
    live.kill()
    wait_for(lambda: not private_process_left(port), "the private listener ends with its supervisor", 60)
    live.start_again()
    stands(live, "127.21.0.4")


def private_process_left(port: int) -> bool:
    try:
        socket.create_connection(("127.21.0.4", port), 5).close()
    except OSError:
        return False
    return True


async def test_the_doctor_says_what_dns_has_to_change(live_server: StartServer) -> None:
    port = free_ports(1)[0]
    live = live_server("--workers", "1", settings=f"[listen]\nprivate_port = {port}\n")
    subnet = network(live, "doctor", "127.22.0.0/16")
    endpoint(live, "demo-openai", "pe-doctor", subnet, "127.22.0.4")
    stands(live, "127.22.0.4")
    change(live, "demo-openai", publicNetworkAccess="Disabled")
    # From here on it has a domain, whose names nothing on this machine resolves.
    live.stop()
    with (live.data_dir / "settings.toml").open("a") as file:
        file.write('[names]\ndomain = "ai.example"\n')
    live.start_again()
    stands(live, "127.22.0.4")
    name = "demo-openai.ai.ai.example"

    async def doctor(answer: names.Answer, fails: int) -> list[dict[str, Any]]:
        async with names.name_server(**{name.replace(".", "__"): answer}) as server:
            printed = await asyncio.to_thread(
                live.stockade, "doctor", "demo-openai", "--server", server.address, "--format", "json", fails=fails
            )
        told = json.loads(printed)
        assert told["healthy"] == (fails == 0)
        found: list[dict[str, Any]] = told["accounts"]["demo-openai"]
        return found

    wrong = [one for one in await doctor(names.has("127.0.0.1"), 1) if one["level"] == "wrong"]
    assert len(wrong) == 1
    assert "Public access is disabled" in wrong[0]["message"]
    assert any(f"address=/{name}/127.22.0.4" in line for line in wrong[0]["advice"])
    assert any("A record has to be 127.22.0.4" in line for line in wrong[0]["advice"])
    found = await doctor(names.has("127.22.0.4"), 0)
    assert any(f"TLS at 127.22.0.4:{port} is accepted for {name}" in one["message"] for one in found)
    assert any("by chance" in one["message"] for one in await doctor(names.has("127.22.0.4", "127.0.0.1"), 1))
