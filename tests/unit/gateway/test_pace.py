"""How far a download may run ahead of who takes it, on real connections of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stockade.gateway.pace import WINDOW_BYTES, Pace, Paced

MIB = 1024 * 1024


class Connection:
    """Both ends of one: `ours` was accepted here."""

    def __init__(self, ours: socket.socket, client: socket.socket) -> None:
        self.ours, self.client = ours, client
        host, port = client.getsockname()
        self.peer, self.port = f"{host}:{port}", ours.getsockname()[1]

    def transfer(self, size: int) -> None:
        """Send bytes to the client, which takes them."""
        sending = threading.Thread(target=self.ours.sendall, args=(bytes(size),))
        sending.start()
        while size:
            size -= len(self.client.recv(min(size, MIB)))
        sending.join()


@contextmanager
def connected() -> Iterator[Connection]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        ours, _ = listening.accept()
        with ours:
            yield Connection(ours, client)


@pytest.fixture
def connection() -> Iterator[Connection]:
    with connected() as made:
        yield made


async def waits(paced: Paced) -> bool:
    try:
        await asyncio.wait_for(paced.room(0), 0.05)
    except TimeoutError:
        return True
    return False


async def test_more_is_given_only_when_the_client_has_taken_what_was_given(connection: Connection) -> None:
    paced = Pace().enter(connection.peer, connection.port)
    await paced.room(WINDOW_BYTES + MIB)
    assert await waits(paced)
    connection.transfer(MIB // 2)
    assert await waits(paced)
    connection.transfer(MIB)
    assert not await waits(paced)
    paced.leave()


async def test_what_others_send_on_the_connection_does_not_count_for_later(connection: Connection) -> None:
    connection.transfer(3 * MIB)
    paced = Pace().enter(connection.peer, connection.port)
    connection.transfer(3 * MIB)  # replies that nobody paces
    await paced.room(0)
    await paced.room(WINDOW_BYTES + 1)
    assert await waits(paced)
    paced.leave()


async def test_downloads_of_one_connection_share_what_it_holds(connection: Connection) -> None:
    pace = Pace()
    one, other = (pace.enter(connection.peer, connection.port) for _ in range(2))
    await one.room(WINDOW_BYTES + MIB)
    assert await waits(other)
    one.leave()
    assert await waits(other)
    connection.transfer(WINDOW_BYTES + MIB)
    assert not await waits(other)
    other.leave()
    with connected() as another:
        fresh = pace.enter(another.peer, another.port)
        assert not await waits(fresh)
        fresh.leave()


async def test_nobody_waits_for_a_connection_that_is_not_found(connection: Connection) -> None:
    paced = Pace().enter("127.0.0.1:1", connection.port)
    await paced.room(100 * MIB)
    assert not await waits(paced)
    paced.leave()


async def test_client_that_has_gone_is_not_waited_for_for_ever(connection: Connection) -> None:
    """Nothing is taken any more: whoever times downloads ends it."""
    paced = Pace().enter(connection.peer, connection.port)
    await paced.room(WINDOW_BYTES + MIB)
    connection.client.close()
    assert await waits(paced)
    paced.leave()
