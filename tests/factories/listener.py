"""The real data-plane listener, as a process of its own, over a `DataPlane`'s directory; and a client that sends raw bytes over TLS."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stockade.serve import tls
from stockade.settings import DATA_DIR_VARIABLE
from tests.factories.data_plane import DataPlane
from tests.live import wait_for

PATIENCE_S = 30.0


@dataclass
class Reply:
    """One reply as it came: the head's first line and headers, and the body as framed."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One TLS connection. Whatever the server does is waited for at most `PATIENCE_S`."""

    def __init__(self, port: int, authority: Path) -> None:
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = ssl.create_default_context(cafile=authority).wrap_socket(plain, server_hostname="localhost")
        self._buffer = b""

    def send(self, data: bytes) -> bool:
        """Send; False when the server has closed the connection."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def more(self) -> bytes:
        try:
            return self._socket.recv(65_536)
        except TimeoutError:
            raise
        except OSError:
            return b""

    def until_closed(self) -> bytes:
        """Return everything until the server closes."""
        while data := self.more():
            self._buffer += data
        return self._buffer

    def until(self, mark: bytes) -> bytes:
        """Return everything up to a mark; what the server said before closing, when it never comes."""
        while mark not in self._buffer:
            data = self.more()
            if not data:
                break
            self._buffer += data
        return self._buffer

    def reply(self) -> Reply | None:
        """Return the next reply with a declared length; None when the server closes instead."""
        head, found, _ = self.until(b"\r\n\r\n").partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        end = len(head) + 4 + int(headers.get("content-length", "0"))
        while len(self._buffer) < end:
            data = self.more()
            if not data:
                break
            self._buffer += data
        body, self._buffer = self._buffer[len(head) + 4 : end], self._buffer[end:]
        return Reply(int(first.split()[1]), headers, body)

    def close(self) -> None:
        self._socket.close()


class Listener:
    """A running listener and its workers."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane, self.port = plane, plane.settings.listen.data_port
        tls.prepare(plane.settings)
        self.log = plane.settings.data_dir / "listener.log"
        environment = {**os.environ, DATA_DIR_VARIABLE: str(plane.settings.data_dir)}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stockade.serve.listener", "data", "--parent", str(os.getpid())],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(self.is_up, "the listener answers")

    def is_up(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"the listener ended: {self.log.read_text()}")
        with contextlib.suppress(OSError), self.wire() as wire:
            wire.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            reply = wire.reply()
            return reply is not None and reply.status == 200
        return False

    @contextlib.contextmanager
    def wire(self) -> Iterator[Wire]:
        wire = Wire(self.port, self.plane.settings.ca_file)
        try:
            yield wire
        finally:
            wire.close()

    def workers(self) -> list[int]:
        """Return the pids of the processes that serve."""
        return [
            int(pid) for pid in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        ]

    def resident_bytes(self) -> int:
        """Return the memory of all workers."""
        total = 0
        for pid in self.workers():
            status = Path(f"/proc/{pid}/status").read_text()
            total += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024
        return total

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            raise
