"""Which ports are free, and what counts as an answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockade.serve import probe
from stockade.settings import Listen, Settings
from tests.factories.certificates import certificates
from tests.live import free_ports


@pytest.fixture
def settings() -> Settings:
    data, control, metadata = free_ports(3)
    return Settings(listen=Listen(data_port=data, control_port=control, metadata_port=metadata))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as taken:
        # As Granian's workers do: a second server that did the same would be let in beside them.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken


def test_free_ports_are_free(settings: Settings) -> None:
    assert probe.ports_in_use(settings) == []


def test_a_port_is_in_use_also_when_it_could_be_shared(listener: socket.socket) -> None:
    taken, free = listener.getsockname()[1], free_ports(2)
    for position in range(3):
        ports = [*free[:position], taken, *free[position:]]
        settings = Settings(listen=Listen(data_port=ports[0], control_port=ports[1], metadata_port=ports[2]))
        assert probe.ports_in_use(settings) == [taken]


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(ValueError, match=host):
        probe.ports_in_use(Settings(listen=Listen(host=host)))


def test_listeners_on_every_address_are_reached_on_loopback() -> None:
    assert [probe.reachable_host(host) for host in ("0.0.0.0", "::", "", "10.0.0.1")] == [
        "127.0.0.1",
        "::1",
        "127.0.0.1",
        "10.0.0.1",
    ]


@pytest.mark.parametrize(("status", "healthy", "answers"), [(200, True, True), (503, True, False), (503, False, True)])
async def test_who_says_that_it_is_not_healthy_answers_where_that_is_expected(
    tmp_path: Path, status: int, healthy: bool, answers: bool
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d Said\r\ncontent-length: 0\r\n\r\n" % status)
        writer.close()

    context = certificates(tmp_path).server_context()
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    assert await probe.answers("127.0.0.1", port, healthy=healthy) is answers
    server.close()


async def test_what_does_not_speak_tls_is_no_answer(listener: socket.socket) -> None:
    assert not await probe.answers("127.0.0.1", listener.getsockname()[1], timeout_s=0.2)
    assert not await probe.answers("127.0.0.1", free_ports(1)[0])
