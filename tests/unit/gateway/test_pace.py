"""What becomes of bytes that a client has not taken when its download is cut."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from stockade.gateway.pace import Pace


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection that is full of bytes nobody has read."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        server.setblocking(False)
        with server:
            yield server, client


def fill(server: socket.socket) -> int:
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += server.send(b"x" * 65_536)
    return sent


def read_all(client: socket.socket) -> int:
    client.settimeout(10)
    received = 0
    while data := client.recv(65_536):
        received += len(data)
    return received


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "ended"])
def test_a_cut_takes_back_what_was_not_taken(ends: tuple[socket.socket, socket.socket], cut: bool) -> None:
    server, client = ends
    host, port = client.getsockname()
    paced = Pace().enter(f"{host}:{port}", server.getsockname()[1])
    sent = fill(server)
    if cut:
        paced.cut()
    paced.leave()
    server.close()
    if not cut:
        assert read_all(client) == sent
        return
    with pytest.raises(ConnectionResetError):
        read_all(client)
