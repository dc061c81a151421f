"""Private listeners follow the snapshot: what is approved stands, what is not is gone, what cannot stand says why."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from stockade.policy.snapshot import PrivateEndpointPolicy, Snapshot
from stockade.serve import private, private_states, tls
from stockade.serve.private import PrivateListeners
from stockade.settings import Listen, Settings
from tests.live import free_ports

ACCOUNT = "/subscriptions/s/resourcegroups/g/providers/microsoft.cognitiveservices/accounts/a1"


def connection(name: str, address: str | None, status: str = "Approved") -> PrivateEndpointPolicy:
    return PrivateEndpointPolicy(
        f"{ACCOUNT}/privateendpointconnections/{name}", ACCOUNT, status, address, f"/endpoints/{name}"
    )


def snapshot(*connections: PrivateEndpointPolicy) -> Snapshot:
    return Snapshot().with_changes(1, {one.id: (("private-endpoints", "", one),) for one in connections})


class WebSockets:
    """WebSocket listeners that say whose they are and close."""

    async def listen(self, address: Any) -> asyncio.Server:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(str(address.private_endpoint).rpartition("/")[2].encode())
            writer.close()

        return await asyncio.start_server(serve, sock=address.socket, ssl=address.tls)

    async def stop(self, server: asyncio.Server, *, sessions: bool) -> None:
        server.close()
        await server.wait_closed()


class Told:
    """A gateway that answers with the name of the connection it was told; /slow waits until it may."""

    def __init__(self) -> None:
        self.may_end, self.waiting = asyncio.Event(), asyncio.Event()
        self.websockets = WebSockets()

    async def handle(self, scope: Any, proto: Any, private_endpoint: str | None = None) -> None:
        if scope.path == "/slow":
            self.waiting.set()
            await self.may_end.wait()
        proto.response_str(200, [], str(private_endpoint).rpartition("/")[2])


class World:
    def __init__(self, folder: Path, networks: Sequence[str]) -> None:
        port, websocket_port = free_ports(2)
        listen = Listen(private_port=port, websocket_port=websocket_port, private_networks=tuple(networks))
        self.settings = Settings(data_dir=folder, listen=listen)
        self.settings.run_dir.mkdir(parents=True)
        tls.prepare(self.settings)
        self.gateway = Told()
        self.listeners = PrivateListeners(self.settings, self.gateway)

    def follow(self, *connections: PrivateEndpointPolicy) -> dict[str, str]:
        """Follow a snapshot and return the state, or the reason, by connection."""
        self.listeners.follow(snapshot(*connections))
        return {one.connection.rpartition("/")[2]: one.reason or one.state for one in self.listeners.states()}

    async def connect(self, address: str, port: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=self.settings.ca_file)
        return await asyncio.open_connection(
            address, port or self.settings.listen.private_port, ssl=context, server_hostname="localhost"
        )

    async def ask(self, address: str, path: str = "/") -> str:
        """Return the connection that answers at an address; OSError when nothing does."""
        reader, writer = await self.connect(address)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n\r\n")[2].decode()

    async def closed(self, address: str) -> None:
        """Return once nobody listens there."""
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection(address, self.settings.listen.private_port)
                except ConnectionRefusedError:
                    return
                writer.close()
                await asyncio.sleep(0.02)


@pytest.fixture
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    found = World(tmp_path, getattr(request, "param", ("127.0.0.0/8", "::1/128")))
    yield found
    found.gateway.may_end.set()
    assert await found.listeners.close(30)


async def test_each_approved_connection_has_a_listener_that_knows_whose_it_is(world: World) -> None:
    found = world.follow(connection("one", "127.20.0.4"), connection("two", "127.20.0.5"), connection("six", "::1"))
    assert found == {"one": "listening", "two": "listening", "six": "listening"}
    assert [await world.ask(address) for address in ("127.20.0.4", "127.20.0.5", "::1")] == ["one", "two", "six"]
    with pytest.raises(OSError):
        await world.ask("127.20.0.6")


@pytest.mark.parametrize("status", ["Pending", "Rejected", "Disconnected", "approved", ""])
async def test_what_is_not_approved_has_none(world: World, status: str) -> None:
    assert world.follow(connection("one", "127.20.0.4", status)) == {}
    with pytest.raises(OSError):
        await world.ask("127.20.0.4")


async def test_a_listener_goes_with_its_approval_and_comes_back_with_it(world: World) -> None:
    one, two = connection("one", "127.20.0.4"), connection("two", "127.20.0.5")
    for _ in range(3):
        world.follow(one, two)
        assert await world.ask("127.20.0.4") == "one"
        world.follow(connection("one", "127.20.0.4", "Rejected"), two)
        await world.closed("127.20.0.4")
        assert await world.ask("127.20.0.5") == "two"
    world.follow(two)
    world.follow()
    await world.closed("127.20.0.5")


async def test_a_listener_that_is_gone_leaves_nothing_behind(world: World) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def once() -> None:
        world.follow(connection("one", "127.20.0.4"))
        await world.ask("127.20.0.4")
        world.follow()
        await asyncio.gather(*world.listeners._stopping)

    await once()
    before = descriptors()
    for _ in range(5):
        await once()
    assert descriptors() <= before + 1


async def test_an_address_that_moves_is_followed(world: World) -> None:
    world.follow(connection("one", "127.20.0.4"))
    world.follow(connection("one", "127.20.0.9"))
    await world.closed("127.20.0.4")
    assert await world.ask("127.20.0.9") == "one"


async def test_an_address_passes_to_another_connection(world: World) -> None:
    world.follow(connection("one", "127.20.0.4"))
    assert await world.ask("127.20.0.4") == "one"
    world.follow()
    async with asyncio.timeout(30):
        while world.follow(connection("two", "127.20.0.4")) != {"two": "listening"}:
            world.listeners._retry_at = 0.0
            await asyncio.sleep(0.02)
    assert await world.ask("127.20.0.4") == "two"


@pytest.mark.parametrize("world", [("127.20.0.0/16", "192.0.2.0/24", "0.0.0.0/0")], indirect=True)
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("192.0.2.7", "not an address of this machine"),
        ("0.0.0.0", "not the address of one machine"),
        ("224.0.0.1", "not the address of one machine"),
        ("::", "not the address of one machine"),
        ("::1", "none of settings.listen.private_networks"),
        ("localhost", "not an address"),
        ("", "not an address"),
        ("127.20.0.4:80", "not an address"),
    ],
)
async def test_an_address_that_cannot_be_listened_on_says_why(world: World, address: str, reason: str) -> None:
    found = world.follow(connection("one", address), connection("two", "127.20.0.5"))
    assert reason in found["one"]
    assert found["two"] == "listening"
    assert await world.ask("127.20.0.5") == "two"


@pytest.mark.parametrize("world", [("10.0.0.0/8",)], indirect=True)
async def test_only_the_operators_networks_are_listened_on(world: World) -> None:
    assert "private_networks" in world.follow(connection("one", "127.20.0.4"))["one"]
    with pytest.raises(OSError):
        await world.ask("127.20.0.4")


async def test_a_taken_port_is_tried_again_and_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.20.0.4", world.settings.listen.private_port), reuse_port=True):
        assert "is in use" in world.follow(connection("one", "127.20.0.4"))["one"]
        world.listeners._retry_at = 0.0
        assert "is in use" in world.follow(connection("one", "127.20.0.4"))["one"]
    assert caplog.text.count("a private endpoint is not listened for") == 1
    world.listeners._retry_at = 0.0
    assert world.follow(connection("one", "127.20.0.4")) == {"one": "listening"}


async def test_an_address_claimed_twice_is_nobodys(world: World) -> None:
    world.follow(connection("one", "127.20.0.4"))
    found = world.follow(connection("one", "127.20.0.4"), connection("two", "127.20.0.4"))
    assert all("nobody's" in reason for reason in found.values()) and len(found) == 2
    await world.closed("127.20.0.4")


async def test_there_is_an_end_to_how_many_are_listened_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "MAX_LISTENERS", 1)
    found = world.follow(connection("one", "127.20.0.4"), connection("two", "127.20.0.5"))
    assert sorted(found.values())[1] == "there are 1 private listeners already" or "listening" in found.values()
    assert len(world.listeners._listeners) == 1


async def test_websockets_have_their_port_there_too(world: World) -> None:
    port = world.settings.listen.websocket_port
    for _ in range(2):
        world.follow(connection("one", "127.20.0.4"), connection("two", "127.20.0.5"))
        assert [one.websocket_port for one in world.listeners.states()] == [port, port]
        for name, address in (("one", "127.20.0.4"), ("two", "127.20.0.5")):
            reader, writer = await world.connect(address, port)
            assert await reader.read() == name.encode()
            writer.close()
        world.listeners.reload()
        world.follow()
        await asyncio.gather(*world.listeners._stopping)
        with pytest.raises(ConnectionRefusedError):
            await world.connect("127.20.0.4", port)


async def test_a_taken_websocket_port_takes_no_more_than_that(world: World) -> None:
    port = world.settings.listen.websocket_port
    with socket.create_server(("127.20.0.4", port)):
        found = world.follow(connection("one", "127.20.0.4"))
        assert f"WebSockets are not listened for: its port {port} is in use" in found["one"]
        assert await world.ask("127.20.0.4") == "one"
        (state,) = world.listeners.states()
        assert (state.state, state.websocket_port) == ("listening", 0)
    world.listeners._retry_at = 0.0
    assert world.follow(connection("one", "127.20.0.4")) == {"one": "listening"}


async def test_a_websocket_listener_that_does_not_come_up_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: object, address: Any) -> None:
        address.socket.close()
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(WebSockets, "listen", fails)
        world.follow(connection("one", "127.20.0.4"))
        (listener,) = world.listeners._listeners.values()
        assert listener._websockets is not None
        await asyncio.gather(listener._websockets, return_exceptions=True)
    world.listeners._retry_at = 0.0
    world.follow(connection("one", "127.20.0.4"))
    reader, writer = await world.connect("127.20.0.4", world.settings.listen.websocket_port)
    assert await reader.read() == b"one"
    writer.close()


async def test_a_full_disk_takes_no_listener_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(private_states, "write", full)
        world.follow(connection("one", "127.20.0.4"))
    assert await world.ask("127.20.0.4") == "one"
    assert private_states.read(world.settings) is None
    world.listeners._retry_at = 0.0
    world.follow(connection("one", "127.20.0.4"))
    assert private_states.read(world.settings) == world.listeners.states()


async def test_a_server_that_ended_is_started_again(world: World) -> None:
    world.follow(connection("one", "127.20.0.4"))
    await world.ask("127.20.0.4")
    (listener,) = world.listeners._listeners.values()
    listener._server.stop()  # type: ignore[no-untyped-call]
    await listener._serving
    world.follow(connection("one", "127.20.0.4"))
    assert await world.ask("127.20.0.4") == "one"


async def test_a_new_certificate_is_shown_and_what_had_begun_is_finished(world: World, tmp_path: Path) -> None:
    world.follow(connection("one", "127.20.0.4"))
    reader, writer = await world.connect("127.20.0.4")
    first = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await world.gateway.waiting.wait()
    world.settings.certificate_file.unlink()
    tls.prepare(world.settings)
    world.listeners.reload()
    async with asyncio.timeout(30):
        while True:  # not one connection is turned away meanwhile
            _, other = await world.connect("127.20.0.4")
            shown = other.get_extra_info("ssl_object").getpeercert(binary_form=True)
            other.close()
            if shown != first:
                break
    world.gateway.may_end.set()
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_closing_waits_for_what_had_begun_and_no_longer_than_it_is_told(world: World) -> None:
    world.follow(connection("one", "127.20.0.4"))
    asking = asyncio.create_task(world.ask("127.20.0.4", "/slow"))
    await world.gateway.waiting.wait()
    assert not await world.listeners.close(0.3)
    world.gateway.may_end.set()
    assert await asking == "one"


async def test_states_are_told_to_whoever_asks_from_outside(world: World) -> None:
    assert private_states.read(world.settings) is None
    world.follow(connection("one", "127.20.0.4"), connection("two", "192.0.2.1"))
    found = private_states.read(world.settings)
    assert found == world.listeners.states()
    assert [(one.address, one.state, one.port > 0) for one in found or ()] == [
        ("127.20.0.4", "listening", True),
        ("192.0.2.1", "waiting", False),
    ]
    await world.listeners.close(5)
    assert private_states.read(world.settings) is None
