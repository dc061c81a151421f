"""Ask a listener of ours whether it answers."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

from stockade.settings import Settings


def reachable_host(host: str) -> str:
    """Return the address at which this machine reaches a listener bound to `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - read, not bound


def ports_in_use(settings: Settings) -> list[int]:
    """Return the ports of ours that something else is listening on.

    The listeners share their ports between workers, so two servers would not notice each other; a plain bind does.
    """
    listen = settings.listen
    wanted = [(listen.host, listen.data_port), (listen.host, listen.control_port), ("127.0.0.1", listen.metadata_port)]
    if listen.websocket_port:
        wanted.append((listen.host, listen.websocket_port))
    return [port for host, port in wanted if not _free(host, port)]


async def answers(
    host: str, port: int, leaf: bytes | None = None, timeout_s: float = 5.0, *, healthy: bool = True
) -> bool:
    """Say whether an HTTPS listener gives a sensible answer. healthy: not if it says that it is not.

    leaf: the certificate (DER) it has to show. That comparison is the check of who answers: names and issuers are the operator's business.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(reachable_host(host), port, ssl=context)
            try:
                shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                if leaf is not None and shown != leaf:
                    return False
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                await writer.drain()
                status = (await reader.readline()).split(b" ", 2)
                return len(status) > 1 and status[1].isdigit() and (int(status[1]) < 500 or not healthy)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _free(host: str, port: int) -> bool:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as failure:
        raise ValueError(f"{host} is not an address of this machine") from failure
    with socket.socket(found[0], found[1]) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(found[4])
        except OSError as failure:
            if failure.errno == errno.EADDRINUSE:
                return False
            raise ValueError(f"cannot listen on {host}:{port}: {failure.strerror}") from failure
    return True
